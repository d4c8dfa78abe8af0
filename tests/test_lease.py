"""A device belongs to one process at a time, and to nobody once that process is gone."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_diffbench.devices import Device, lease
from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("locks")


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of lock files that no other test shares."""
    folder = tmp_path / "locks"
    monkeypatch.setenv("DIFFBENCH_LOCKS", str(folder))
    return folder


A, B, C = (Device("cpu", name, "a core") for name in "ABC")
AT_ONCE_S = 0.0
PATIENT_S = 120.0

HOLDER = """
import sys
from pytest_diffbench.devices import Device, lease

with lease([Device("cpu", name, "a core") for name in sys.argv[1:]]) as device:
    print(device.index, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def _process(*names: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that takes one of the named devices, says which, and holds it until its input is closed."""
    command = [sys.executable, "-c", HOLDER, *names]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _taken(process: subprocess.Popen[str]) -> str:
    """Which device a process holds; waits until it holds one."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _first_to_hold(one: subprocess.Popen[str], another: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """Which of two processes holds the device that both want; waits until one does."""
    assert one.stdout is not None
    assert another.stdout is not None
    ready, _, _ = select.select([one.stdout, another.stdout], [], [], PATIENT_S)
    holder = one if one.stdout in ready else another
    assert _taken(holder) == "A"
    return holder


def _release(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(PATIENT_S)


def test_two_processes_never_hold_the_same_device() -> None:
    """While another process holds the only device there is none to be had; when it gives it back there is."""
    with _process("A") as other:
        assert _taken(other) == "A"
        with pytest.raises(SetupError), lease([A], timeout_s=AT_ONCE_S):
            pass
        _release(other)

        with lease([A], timeout_s=AT_ONCE_S) as device:
            assert device == A


def test_a_process_waits_until_a_device_becomes_free() -> None:
    """Of two processes one gets the device; the other does not give up, and takes it when the first lets go."""
    with _process("A") as one, _process("A") as another:
        holder = _first_to_hold(one, another)
        _release(holder)

        assert _taken(another if holder is one else one) == "A"


def test_a_killed_holder_frees_its_device() -> None:
    """SIGKILL leaves no lock behind: the kernel frees it, no clean-up of ours has to run."""
    with _process("A") as other:
        assert _taken(other) == "A"
        other.kill()
        other.wait(PATIENT_S)

        with lease([A], timeout_s=AT_ONCE_S) as device:
            assert device == A


def test_another_device_is_taken_where_one_is_held() -> None:
    """Two processes on two devices do not wait for each other."""
    with _process("A", "B") as other:
        assert _taken(other) == "A"

        with lease([A, B], timeout_s=AT_ONCE_S) as device:
            assert device == B


@pytest.mark.parametrize(("preferred", "expected"), [(0, A), (1, B), (2, C), (4, B)], ids=["0", "1", "2", "beyond"])
def test_the_preferred_device_comes_first(preferred: int, expected: Device) -> None:
    """Each worker starts with a device of its own; a number beyond the devices starts over."""
    with lease([A, B, C], preferred=preferred) as device:
        assert device == expected


def test_behind_the_preferred_device_comes_the_next() -> None:
    """Where the preferred device is held, the search goes on behind it and round to the first."""
    with lease([B]), lease([C]), lease([A, B, C], preferred=1, timeout_s=AT_ONCE_S) as device:
        assert device == A


def test_waiting_in_vain_names_the_devices_and_the_time() -> None:
    """The message says how long was waited, and for what."""
    message = r"no device became free within 0\.2 s: cpu:B, cpu:A"

    with lease([A]), lease([B]), pytest.raises(SetupError, match=message), lease([A, B], preferred=1, timeout_s=0.2):
        pass


def test_a_lease_ends_with_an_error_inside() -> None:
    """Whatever goes wrong while a device is held, it is given back."""
    with pytest.raises(KeyError), lease([A]):
        raise KeyError

    with lease([A], timeout_s=AT_ONCE_S) as device:
        assert device == A


def test_locks_lie_where_the_environment_says(locks: Path) -> None:
    """DIFFBENCH_LOCKS names the folder; each device has one lock file there, whatever its name holds."""
    with lease([A]), lease([Device("cuda", "MIG-GPU/1/2", "a slice")]):
        names = {file.name for file in locks.iterdir()}

    assert names == {"cpu:A.lock", "cuda:MIG-GPU_1_2.lock"}


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no lock file can be made, the message names the file and the variable to set."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DIFFBENCH_LOCKS", str(tmp_path / "file"))

    with pytest.raises(SetupError, match=r"cpu:A\.lock .*another folder in DIFFBENCH_LOCKS"), lease([A]):
        pass
