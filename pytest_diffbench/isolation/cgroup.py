"""A memory limit that the kernel keeps, where this process may make control groups."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
PREFIX: Final = "diffbench-"
_count = itertools.count()


class Cgroup:
    """One group with a limit."""

    def __init__(self, folder: Path, *, unified: bool, memory_bytes: int) -> None:
        """Make it; OSError where that is not allowed."""
        self._folder = folder
        self._unified = unified
        folder.mkdir()
        try:
            (folder / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(memory_bytes))
            if unified:
                with contextlib.suppress(OSError):  # without swap there is no such file
                    (folder / "memory.swap.max").write_text("0")
        except OSError:
            folder.rmdir()
            raise

    def join(self, pid: int) -> None:
        """Move a process in, with whatever it starts from now on; OSError where it is gone.

        The kernel waits for all of its cores to take notice, and so does the caller: some 15 ms.
        """
        (self._folder / "cgroup.procs").write_text(str(pid))

    def holds(self, pid: int) -> bool:
        """Whether a process is in it."""
        try:
            return str(pid) in (self._folder / "cgroup.procs").read_text().split()
        except OSError:
            return False

    def ran_out(self) -> bool:
        """Whether the kernel ended a process in it for its memory."""
        name = "memory.events" if self._unified else "memory.oom_control"
        try:
            lines = (self._folder / name).read_text().splitlines()
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)

    def close(self) -> None:
        """Remove it, once everything in it has ended."""
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            try:
                self._folder.rmdir()
            except FileNotFoundError:
                return
            except OSError:  # the last of its processes is still on its way out
                time.sleep(0.005)
            else:
                return


def memory_group(memory_bytes: int) -> Cgroup | None:
    """A group beneath this process's own; None where there is none, or it may not have one."""
    for unified, own in _own_groups():
        _sweep(own)
        with contextlib.suppress(OSError):
            if unified and "memory" not in (own / "cgroup.subtree_control").read_text().split():
                continue
            name = f"{PREFIX}{os.getpid()}-{next(_count)}"
            return Cgroup(own / name, unified=unified, memory_bytes=memory_bytes)
    return None


def _own_groups() -> list[tuple[bool, Path]]:
    """This process's groups that can limit memory: (version 2?, folder)."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                found.append((False, ROOT / "memory" / path.lstrip("/")))
            elif not controllers:
                found.append((True, ROOT / path.lstrip("/")))
    return found


def _sweep(own: Path) -> None:
    """Remove the empty groups of harnesses that were killed."""
    with contextlib.suppress(OSError):
        for folder in own.glob(f"{PREFIX}*"):
            if not Path("/proc", folder.name.removeprefix(PREFIX).partition("-")[0]).exists():
                with contextlib.suppress(OSError):
                    folder.rmdir()
