"""The one folder that a candidate may write to, seen from outside: made, looked through, removed.

Nothing in it is trusted: no link is followed, also none that is made while we look; no file is opened; neither depth
nor modes keep anything from being counted or removed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEPEST: Final = 64
"""Folders within each other, while a candidate lives; every one on the way down takes a descriptor of ours."""
_BLOCK_BYTES: Final = 512
"""The unit of `st_blocks`, whatever the file system's is."""


class TooDeepError(Exception):
    """Folders lie more than `DEEPEST` deep."""


def usage(folder: str, *, most_files: int) -> tuple[int, int]:
    """Bytes and files in a folder, counted no further than the most files.

    Raises:
        TooDeepError: if its folders lie too deep to be counted.
        OSError: if the folder itself is not there.

    """
    used = files = 0
    for entry in _beneath(None, folder, 0):
        files += 1
        used += entry.st_blocks * _BLOCK_BYTES
        if files > most_files:
            break
    return used, files


def remove(folder: str) -> None:
    """Remove a folder that nothing can write to any more; as far as possible where an error stops it.

    What lies deeper is moved up before it is removed, so that no path is too long and no recursion too deep.
    """
    stamp, moved = os.urandom(8).hex(), 0
    try:
        os.chmod(folder, 0o700)  # noqa: PTH101 (this runs in a candidate's start, and pathlib costs milliseconds)
        while entries := list(os.scandir(folder)):
            for entry in entries:
                if not _opened_up(entry):
                    os.unlink(entry.path)  # noqa: PTH108
                    continue
                for inner in list(os.scandir(entry.path)):
                    if _opened_up(inner):  # to move a folder is to write to it, for it names its parent
                        os.rename(inner.path, f"{folder}/{stamp}{moved}")  # noqa: PTH104
                        moved += 1
                    else:
                        os.unlink(inner.path)  # noqa: PTH108
                os.rmdir(entry.path)  # noqa: PTH106
        os.rmdir(folder)  # noqa: PTH106
    except OSError:
        return


def _opened_up(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, which is then ours to change."""
    if not entry.is_dir(follow_symlinks=False):
        return False
    os.chmod(entry.path, 0o700)  # noqa: PTH101
    return True


def _beneath(parent: int | None, name: str, depth: int) -> Iterator[os.stat_result]:
    if depth > DEEPEST:
        raise TooDeepError
    folder = _enter(parent, name)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    yield entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        yield from _beneath(folder, entry.name, depth + 1)
                except OSError:  # it has just gone, or is something else by now
                    continue
    finally:
        os.close(folder)


def _enter(parent: int | None, name: str) -> int:
    """A descriptor to list a folder by; OSError if there is none by this name, or a link."""
    pinned = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        try:
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=pinned)
        except PermissionError:  # made to hide what lies in it, by a process of our own user
            os.chmod(f"/proc/self/fd/{pinned}", 0o700)  # noqa: PTH101
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=pinned)
    finally:
        os.close(pinned)
