"""Append-only and crash-safe: what `append` has accepted survives kill -9 and the loss of power.

A run has a folder, and in it one file for each process that writes; no process ever writes to the file of another, or
opens one again. A line is the CRC-32 of its JSON in eight hexadecimal digits, a space, the JSON, a line feed: what is
torn or damaged shows, and costs one record. Images lie beside, by the digest of their bytes, and are on the disk before
the record that names them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pytest_diffbench.errors import SetupError
from pytest_diffbench.records import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pytest_diffbench.records import Plain

PATTERN: Final = "journal-*.jsonl"
IMAGES: Final = "images"
_CRC_DIGITS: Final = 8


@dataclass(frozen=True)
class Entry:
    """One record of a journal."""

    kind: str
    at: str
    """When it was written: UTC, ISO 8601."""
    body: Mapping[str, Plain]


@dataclass(frozen=True)
class Contents:
    """What the files of a folder hold."""

    entries: tuple[Entry, ...]
    """In the order of their time; those of one file in the order of the file."""
    damaged: int = 0
    """Lines that are whole but not what was written; the unfinished last line of a file is none of them."""


class Disk:
    """The calls to the file system that durability rests on; tests put a failing or a forgetful one in its place."""

    def make_folder(self, folder: Path) -> None:
        """Make one folder; its parent is there."""
        folder.mkdir()

    def create(self, file: Path) -> int:
        """A descriptor of a new, empty file, which is only ever appended to."""
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, descriptor: int, data: bytes) -> int:
        """Append; the number of bytes that were taken."""
        return os.write(descriptor, data)

    def sync_data(self, descriptor: int) -> None:
        """Return once the file's content, and its length, is on the disk."""
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut a file back."""
        os.ftruncate(descriptor, size)

    def close(self, descriptor: int) -> None:
        """Give a descriptor back."""
        os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file its final name."""
        old.replace(new)

    def sync_folder(self, folder: Path) -> None:
        """Return once the names in a folder are on the disk."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Journal:
    """One process's file in a run's folder; both are made with the first record."""

    def __init__(self, folder: Path, writer: str, disk: Disk | None = None) -> None:
        self.folder = folder
        self._writer = writer
        self._disk = disk or Disk()
        self._descriptor: int | None = None
        self._size = 0

    def append(self, kind: str, body: Mapping[str, object]) -> None:
        """Write a record and return once it is on the disk; SetupError, and no trace of it, where that is impossible.

        After a failure a new file is begun: a system that once could not write a file's pages promises nothing of
        what it writes there later.
        """
        line = encode(Entry(kind, datetime.now(UTC).isoformat(), plain_body(body)))
        with self._explained():
            descriptor = self._open() if self._descriptor is None else self._descriptor
            try:
                _write_whole(self._disk, descriptor, line)
                self._disk.sync_data(descriptor)
            except BaseException:
                self._abandon(descriptor)
                raise
            self._size += len(line)

    def keep(self, images: Sequence[NDArray[np.uint8]]) -> list[str]:
        """The names of files that hold these images; they are on the disk when it returns. SetupError where not."""
        folder = self.folder / IMAGES
        names = []
        with self._explained():
            self._make_folders(folder)
            for image in images:
                data = png(image)
                name = f"{hashlib.sha256(data).hexdigest()}.png"
                if not (folder / name).exists():
                    self._write_file(folder / name, data)
                names.append(name)
            self._disk.sync_folder(folder)  # also for files that another process has named but perhaps not synced
        return names

    def close(self) -> None:
        """Nothing more will be written."""
        if self._descriptor is not None:
            self._disk.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        self._make_folders(self.folder)
        file = self.folder / f"journal-{self._writer}-{os.getpid()}-{os.urandom(4).hex()}.jsonl"
        descriptor = self._disk.create(file)
        try:
            with contextlib.suppress(OSError):  # a file system without locks; it only tells that somebody writes here
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._disk.sync_folder(self.folder)
        except BaseException:
            self._disk.close(descriptor)
            raise
        self._descriptor, self._size = descriptor, 0
        return descriptor

    def _abandon(self, descriptor: int) -> None:
        """Take back what was not acknowledged, and never write to this file again."""
        with contextlib.suppress(OSError):
            self._disk.truncate(descriptor, self._size)
        self._descriptor = None
        with contextlib.suppress(OSError):
            self._disk.close(descriptor)

    def _write_file(self, file: Path, data: bytes) -> None:
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        descriptor = self._disk.create(temporary)
        try:
            try:
                _write_whole(self._disk, descriptor, data)
                self._disk.sync_data(descriptor)
            finally:
                self._disk.close(descriptor)
            self._disk.rename(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)

    def _make_folders(self, folder: Path) -> None:
        """Each one with its name on the disk before anything lies in it."""
        if folder.is_dir():
            return
        self._make_folders(folder.parent)
        with contextlib.suppress(FileExistsError):  # another worker's
            self._disk.make_folder(folder)
        self._disk.sync_folder(folder.parent)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SetupError(
                f"diffbench: cannot write the journal in {self.folder} ({error.strerror or error}): "
                "make room there, or name another folder with --diffbench-journal"
            ) from error


def _write_whole(disk: Disk, descriptor: int, data: bytes) -> None:
    taken = disk.write(descriptor, data)
    if taken != len(data):
        raise OSError(errno.ENOSPC, f"only {taken} of {len(data)} bytes were taken")


def plain_body(body: Mapping[str, object]) -> dict[str, Plain]:
    """A record's content as strict JSON holds it."""
    return {name: plain(value) for name, value in body.items()}


def encode(entry: Entry) -> bytes:
    """An entry as a line; ASCII, so that no text can hold a line feed or half a character."""
    content = {"kind": entry.kind, "at": entry.at, "body": entry.body}
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")
    return f"{zlib.crc32(text):08x} ".encode("ascii") + text + b"\n"


def decode(line: bytes) -> tuple[list[Entry], int]:
    """The entries of a line without its line feed, and how many more it must have held.

    More than one where a line feed was damaged.
    """
    found: list[Entry] = []
    while line:
        entry, length = _first(line)
        if entry is None:
            return found, 1
        found.append(entry)
        line = line[length + 1 :]
    return found, 0


def _first(line: bytes) -> tuple[Entry | None, int]:
    """The entry that a line begins with, and its length."""
    start = _CRC_DIGITS + 1
    try:
        text = line[start:].decode(
            "latin-1"
        )  # a character a byte, so that positions are the same; it is ASCII if whole
        content, end = json.JSONDecoder().raw_decode(text)
        if zlib.crc32(line[start : start + end]) != int(line[:_CRC_DIGITS], 16) or line[_CRC_DIGITS:start] != b" ":
            return None, 0
        return Entry(content["kind"], content["at"], content["body"]), start + end
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, 0


def read(folder: Path) -> Contents:
    """Everything that a folder's files hold, damaged lines left out; SetupError where a file cannot be read."""
    dated: list[tuple[str, Entry]] = []
    damaged = 0
    for file in sorted(folder.glob(PATTERN)):
        try:
            *lines, tail = file.read_bytes().split(b"\n")
        except OSError as error:
            raise SetupError(f"diffbench: cannot read {file}: {error.strerror or error}") from error
        latest = ""
        for number, line in enumerate([*lines, tail]):
            entries, bad = decode(line)
            damaged += bad if number < len(lines) else 0
            for entry in entries:
                latest = max(latest, entry.at)  # a clock that was set back does not change a file's order
                dated.append((latest, entry))
    return Contents(tuple(entry for _, entry in sorted(dated, key=lambda each: each[0])), damaged)


def writers(folder: Path) -> list[str]:
    """The files of a folder that a living process still writes."""
    return [file.name for file in sorted(folder.glob(PATTERN)) if _is_locked(file)]


def _is_locked(file: Path) -> bool:
    with file.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return False
        return False


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written; nobody may be writing."""
    for file in (folder / IMAGES).glob(".*"):
        with contextlib.suppress(OSError):
            file.unlink()


def png(image: NDArray[np.uint8]) -> bytes:
    """An image as a PNG file, the same bytes for the same image."""
    # imported here: reading a journal needs no image library
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=1)  # between two pairs: fast counts more than small
    return stream.getvalue()
