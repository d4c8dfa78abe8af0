"""The memory limit that the kernel keeps: made where that is allowed, gone afterwards, missing without a word else."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_diffbench.isolation import cgroup
from pytest_diffbench.isolation.cgroup import memory_group

if TYPE_CHECKING:
    from pathlib import Path

HUNGRY = "import sys\nsys.stdin.readline()\nheld = b'x' * (200 * 2**20)\nprint(len(held))"


def test_who_needs_more_is_ended_and_it_is_known_why() -> None:
    """The kernel ends the process, and the group tells that it ran out; removing it leaves nothing."""
    group = memory_group(100 * 2**20)
    if group is None:
        pytest.skip("control groups cannot be made here")
    folder = group._folder
    with subprocess.Popen([sys.executable, "-c", HUNGRY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        group.join(process.pid)
        assert group.holds(process.pid)
        said, _ = process.communicate(b"go\n")

    assert (said, process.returncode, group.ran_out()) == (b"", -9, True)
    group.close()
    assert not folder.exists()


def test_without_the_right_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hierarchy, or one that nobody may write to, is no error: the watchdog is there."""
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)

    assert memory_group(2**30) is None


def test_what_a_killed_harness_left_is_swept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Groups of processes that are gone are removed, those of living ones are not."""
    for name in ("diffbench-4194305-0", "diffbench-1-0", "another"):  # above the highest process id
        (tmp_path / name).mkdir()
    cgroup._sweep(tmp_path)

    assert {entry.name for entry in tmp_path.iterdir()} == {"diffbench-1-0", "another"}
