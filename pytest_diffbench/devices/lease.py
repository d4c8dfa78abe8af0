"""Exclusive use of one device, by a lock that the kernel frees when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_diffbench.devices.inventory import Device

_POLL_S: Final = 0.05


def lock_folder() -> Path:
    """Where the lock files lie: one place for the machine, so that two runs on it keep out of each other's way."""
    return Path(os.environ.get("DIFFBENCH_LOCKS") or Path(tempfile.gettempdir()) / "diffbench-leases")


@contextlib.contextmanager
def lease(devices: Sequence[Device], *, preferred: int = 0, timeout_s: float | None = None) -> Iterator[Device]:
    """Hold one of the devices, the preferred one if it is free; wait for the first that becomes free.

    SetupError where none does within `timeout_s`, or where no lock file can be made.
    """
    start = preferred % len(devices)
    order = [*devices[start:], *devices[:start]]
    began = time.monotonic()
    while True:
        for device in order:
            descriptor = _try_lock(device)
            if descriptor is None:
                continue
            try:
                yield device
            finally:
                os.close(descriptor)
            return
        if timeout_s is not None and time.monotonic() - began > timeout_s:
            names = ", ".join(device.name for device in order)
            raise SetupError(f"diffbench: no device became free within {timeout_s:g} s: {names}")
        time.sleep(_POLL_S)


def _try_lock(device: Device) -> int | None:
    folder = lock_folder()
    file = folder / (device.name.replace("/", "_") + ".lock")
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o1777)  # other users of this machine lease here too
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        with contextlib.suppress(PermissionError):  # another user's file already is what it should be
            os.fchmod(descriptor, 0o666)
    except OSError as error:
        raise SetupError(
            f"diffbench: cannot open the lock file {file} ({error}); name another folder in DIFFBENCH_LOCKS"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
