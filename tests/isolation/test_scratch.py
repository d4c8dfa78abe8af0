"""A candidate's folder is counted and removed whatever it has put there, and nothing outside it is touched."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_diffbench.isolation import scratch

DEEP = 3000
"""Deeper than Python recurses, than a process has descriptors, and than a path may be long."""


def _nest(folder: Path, depth: int, mode: int = 0o700) -> None:
    inside = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", mode, dir_fd=inside)
        deeper = os.open("d", os.O_PATH, dir_fd=inside)
        os.close(inside)
        inside = deeper
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inside))
    os.close(inside)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The candidate's."""
    made = tmp_path / "scratch"
    made.mkdir()
    return made


def test_bytes_and_files_are_counted(folder: Path) -> None:
    """What takes room on the disk, not what a file says that it is long."""
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/full").write_bytes(b"x" * 100_000)
    os.truncate(os.open(folder / "a/sparse", os.O_CREAT | os.O_WRONLY), 2**30)

    used, files = scratch.usage(str(folder), most_files=100)

    assert files == 4
    assert 100_000 <= used < 200_000


def test_counting_ends_at_the_limit(folder: Path) -> None:
    """A hundred thousand files more delay nobody."""
    for number in range(20):
        (folder / str(number)).touch()

    assert scratch.usage(str(folder), most_files=5)[1] == 6


def test_links_are_counted_and_not_followed(folder: Path, tmp_path: Path) -> None:
    """Neither those in it, nor one in its own place."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(9):
        (outside / str(number)).touch()
    (folder / "link").symlink_to(outside)
    (tmp_path / "instead").symlink_to(outside)

    assert scratch.usage(str(folder), most_files=100)[1] == 1
    with pytest.raises(OSError, match="Not a directory"):
        scratch.usage(str(tmp_path / "instead"), most_files=100)


def test_a_folder_that_becomes_a_pipe_or_a_link_stops_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between being listed and being entered it is replaced: a pipe would be waited at, a link followed."""
    (folder / "pipe").mkdir()
    (folder / "link").mkdir()
    enter = scratch._enter

    def replaced(parent: int | None, name: str) -> int:
        if parent is not None:
            (folder / name).rmdir()
            os.mkfifo(folder / name) if name == "pipe" else (folder / name).symlink_to("/usr")
        return enter(parent, name)

    monkeypatch.setattr(scratch, "_enter", replaced)

    assert scratch.usage(str(folder), most_files=100)[1] == 2


def test_folders_too_deep_to_be_counted_are_told(folder: Path) -> None:
    """One descriptor a level is all that they can take."""
    _nest(folder, scratch.DEEPEST - 1)
    assert scratch.usage(str(folder), most_files=DEEP)[1] == scratch.DEEPEST

    _nest(folder / "d" / "d", 0)
    _nest(folder / Path(*"d" * (scratch.DEEPEST - 1)), 2)
    with pytest.raises(scratch.TooDeepError):
        scratch.usage(str(folder), most_files=DEEP)


def test_whatever_is_there_is_removed(folder: Path, tmp_path: Path) -> None:
    """Deep, closed, linked, and with names that look like those that removal gives."""
    outside = tmp_path / "outside"
    outside.write_text("stays")
    _nest(folder, DEEP)
    _nest(folder / "d", 0)
    (folder / "link").symlink_to(outside)
    (folder / "to a folder").symlink_to(tmp_path)
    (folder / "0").mkdir(0o000)
    os.mkfifo(folder / "pipe")

    scratch.remove(str(folder))

    assert not folder.exists()
    assert outside.read_text() == "stays"
    assert stat.S_IMODE(outside.stat().st_mode) != 0o700


AS_A_USER = """
import os, sys
from pathlib import Path
from pytest_diffbench.isolation import scratch
os.setgid(65534), os.setuid(65534)
folder = Path(sys.argv[1]) / "scratch"
(folder / "open").mkdir(parents=True)
for closed in ("a", "open/b"):
    (folder / closed).mkdir(0o300)
    (folder / closed / "file").write_bytes(b"x" * 50_000)
used, files = scratch.usage(str(folder), most_files=99)
assert (used > 100_000, files) == (True, 5), (used, files)
(folder / "open/none").mkdir(0o000)
(folder / "open/b/inner").mkdir()
(folder / "open/b/inner").chmod(0o000)
(folder / "open/b").chmod(0o500)
folder.chmod(0o000)
scratch.remove(str(folder))
assert not folder.exists()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become the user that modes keep out")
def test_closed_folders_hide_nothing_from_their_user() -> None:
    """Of a harness that is an ordinary user: a solution with its id can close folders to it."""
    with tempfile.TemporaryDirectory() as folder:  # the folders around tmp_path are root's alone
        Path(folder).chmod(0o777)
        subprocess.run([sys.executable, "-c", AS_A_USER, folder], check=True, timeout=60, cwd=folder)
