"""What the journal has accepted is there again: after a cut at any byte, a flipped bit, a failing disk, a power cut."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench import journal
from pytest_diffbench.errors import SetupError
from pytest_diffbench.journal import IMAGES, Disk, Entry, Journal, decode, encode, read, sweep, writers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TEXT = st.text(st.characters(), max_size=20)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)
ENTRIES = st.builds(Entry, TEXT, TEXT, st.dictionaries(TEXT, PLAIN, max_size=4))


def _image(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)


class Unsynced(Disk):
    """For tests that look at the form only, a thousand times."""

    def sync_data(self, descriptor: int) -> None:
        """Leave it to the system."""

    def sync_folder(self, folder: Path) -> None:
        """Leave it to the system."""


def _numbers(folder: Path) -> list[object]:
    return [entry.body["number"] for entry in read(folder).entries]


def _written(folder: Path, count: int = 5) -> Path:
    """A journal of a few records of different length; its file."""
    written = Journal(folder, "w")
    for number in range(count):
        written.append("pair", {"number": number, "text": "line\nfeed ü \ud800" * number})
    written.close()
    return next(folder.glob(journal.PATTERN))


# -- the form ----------------------------------------------------------------------------------------------------------


@given(st.lists(ENTRIES, max_size=4))
def test_what_is_written_is_read(entries: Sequence[Entry]) -> None:
    """Any text, half characters and line feeds too, and any number comes back; a line holds no line feed."""
    lines = [encode(entry) for entry in entries]

    assert all(line.count(b"\n") == 1 and line.endswith(b"\n") for line in lines)
    assert [decode(line[:-1]) for line in lines] == [([entry], 0) for entry in entries]


@given(st.binary(max_size=80))
def test_any_bytes_can_be_read(line: bytes) -> None:
    """Whatever stands in a file, reading it is no error, and makes up no record."""
    found, damaged = decode(line)

    assert not found
    assert damaged == (1 if line else 0)


def test_numbers_that_json_lacks_are_null(tmp_path: Path) -> None:
    """A NaN does not keep the rest of its record from being kept."""
    written = Journal(tmp_path, "w")
    written.append("pair", {"number": float("nan"), "seconds": np.float64(1.5)})

    assert read(tmp_path).entries[0].body == {"number": None, "seconds": 1.5}


def test_a_cut_at_any_byte_costs_what_lies_behind_it(tmp_path: Path) -> None:
    """Every record that is whole before the cut loads, nothing else does, and what is appended later loads too."""
    file = _written(tmp_path / "whole")
    data = file.read_bytes()
    ends = list(itertools.accumulate(len(line) for line in data.splitlines(keepends=True)))
    cut = tmp_path / "cut"
    for offset in range(len(data) + 1):
        cut.mkdir()
        (cut / file.name).write_bytes(data[:offset])
        later = Journal(cut, "w", Unsynced())
        later.append("pair", {"number": "later"})
        later.close()
        whole = sum(end - 1 <= offset for end in ends)  # the line feed is no part of a record
        assert _numbers(cut) == [*range(whole), "later"], offset
        assert read(cut).damaged == 0
        shutil.rmtree(cut)


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF, None], ids=str)
def test_a_damaged_byte_costs_one_record(tmp_path: Path, flip: int | None) -> None:
    """Wherever it lies, also where lines meet; a byte that becomes a line feed (None) costs no more."""
    file = _written(tmp_path)
    data = file.read_bytes()
    lines = data.splitlines(keepends=True)
    owners = [number for number, line in enumerate(lines) for _ in line]
    for offset, byte in enumerate(data):
        changed = 0x0A if flip is None else byte ^ flip
        file.write_bytes(data[:offset] + bytes([changed]) + data[offset + 1 :])
        left = _numbers(tmp_path)
        assert [number for number in range(5) if number not in left] in ([], [owners[offset]]), offset
        assert left == sorted(left, key=str)


def test_records_of_several_processes_are_in_the_order_of_their_time(tmp_path: Path) -> None:
    """Each process has a file of its own, which nobody else opens."""
    one, other = Journal(tmp_path, "gw0"), Journal(tmp_path, "gw1")
    for number in range(6):
        (one, other)[number % 2].append("pair", {"number": number})

    assert _numbers(tmp_path) == list(range(6))
    assert len(list(tmp_path.glob(journal.PATTERN))) == 2


def test_a_clock_that_is_set_back_changes_no_order(tmp_path: Path) -> None:
    """The records of one file stay in the order in which they were written."""
    entries = [Entry("pair", at, {"number": n}) for n, at in enumerate(["2026-01-02", "2025-12-31", "2026-01-03"])]
    (tmp_path / "journal-w.jsonl").write_bytes(b"".join(map(encode, entries)))

    assert _numbers(tmp_path) == [0, 1, 2]


def test_who_still_writes_is_known(tmp_path: Path) -> None:
    """As long as a journal is open its file is locked; the kernel frees that when the process dies."""
    assert writers(tmp_path) == []
    written = Journal(tmp_path, "w")
    written.append("pair", {})
    assert len(writers(tmp_path)) == 1
    written.close()

    assert writers(tmp_path) == []


def test_images_are_named_by_their_content(tmp_path: Path) -> None:
    """The name is the digest of the file; the same image is kept once; what a killed process left is swept away."""
    written = Journal(tmp_path, "w")
    names = written.keep([_image(1), _image(2), _image(1)])
    (tmp_path / IMAGES / ".half.png.123").write_bytes(b"half")
    sweep(tmp_path)

    assert names[0] == names[2] != names[1]
    assert sorted(file.name for file in (tmp_path / IMAGES).iterdir()) == sorted(set(names))
    _check_images(tmp_path, names)


def _check_images(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        content = (folder / IMAGES / name).read_bytes()
        assert f"{hashlib.sha256(content).hexdigest()}.png" == name


# -- a disk that fails -------------------------------------------------------------------------------------------------


def _work(folder: Path, disk: Disk, acknowledged: Callable[[int], None]) -> int:
    """What a run does: records, and records that name images; the number of failures that were reported."""
    written = Journal(folder, "w", disk)
    failures = 0
    for number in range(6):
        try:
            images = written.keep([_image(number), _image(number + 100)]) if number % 2 else []
            written.append("pair", {"number": number, "images": images})
        except SetupError:
            failures += 1
        else:
            acknowledged(number)
    written.close()
    return failures


def _check(folder: Path, acknowledged: Sequence[int]) -> None:
    """Everything acknowledged is there once and in order, and every image that is named is whole."""
    entries = read(folder).entries
    found = [entry.body["number"] for entry in entries]
    assert [number for number in found if number in acknowledged] == list(acknowledged)
    assert len(found) == len(set(map(str, found)))
    for entry in entries:
        names: Any = entry.body["images"]
        _check_images(folder, names)


def test_a_failure_says_what_to_do(tmp_path: Path) -> None:
    """The folder, what the system said, and the option that names another."""
    (tmp_path / "runs").write_text("a file where a folder must be")

    with pytest.raises(SetupError, match=r"journal in .*runs.today \(Not a directory\).*--diffbench-journal"):
        Journal(tmp_path / "runs" / "today", "w").append("pair", {})


@dataclass
class FailingDisk(Disk):
    """Fails at one call, of those that can fail: with an error, or by taking only some of the bytes."""

    fails_at: int
    error: int | None
    calls: int = 0

    def _fails(self) -> bool:
        self.calls += 1
        return self.calls - 1 == self.fails_at

    def _call(self) -> None:
        if self._fails():
            raise OSError(self.error or errno.EIO, os.strerror(self.error or errno.EIO))

    def make_folder(self, folder: Path) -> None:
        """A call that can fail, as are those below."""
        self._call()
        super().make_folder(folder)

    def create(self, file: Path) -> int:
        """Fails in its turn."""
        self._call()
        return super().create(file)

    def write(self, descriptor: int, data: bytes) -> int:
        """Fails in its turn."""
        if not self._fails():
            return super().write(descriptor, data)
        taken = super().write(descriptor, data[: len(data) // 2])
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        return taken

    def sync_data(self, descriptor: int) -> None:
        """Fails in its turn."""
        self._call()
        super().sync_data(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Fails in its turn."""
        self._call()
        super().rename(old, new)

    def sync_folder(self, folder: Path) -> None:
        """Fails in its turn."""
        self._call()
        super().sync_folder(folder)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, None], ids=["EIO", "ENOSPC", "short write"])
@pytest.mark.parametrize("truncates", [True, False], ids=["", "nor can it be cut back"])
def test_whichever_call_fails_nothing_acknowledged_is_lost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: int | None,
    truncates: bool,  # noqa: FBT001 (a table's column)
) -> None:
    """For every N the N-th call fails: that record is reported as not kept, all others are kept, before and after."""
    if not truncates:
        monkeypatch.setattr(Disk, "truncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "no")))
    count = FailingDisk(-1, None)
    _work(tmp_path / "well", count, lambda _: None)
    assert count.calls > 30
    for number in range(count.calls):
        folder = tmp_path / str(number)
        acknowledged: list[int] = []
        failures = _work(folder, FailingDisk(number, error), acknowledged.append)
        assert failures == 1
        assert len(acknowledged) == 5
        _check(folder, acknowledged)
        if truncates:  # no trace of what was reported as not kept
            assert _numbers(folder) == acknowledged
        assert not list((folder / IMAGES).glob(".*"))


# -- a power cut -------------------------------------------------------------------------------------------------------


@dataclass
class Inode:
    """A file, as the system shows it and as the disk has it."""

    seen: bytes = b""
    stored: bytes = b""


@dataclass
class Tree:
    """A folder, as the system shows it and as the disk has it."""

    seen: dict[str, Inode | Tree] = field(default_factory=dict)
    stored: dict[str, Inode | Tree] = field(default_factory=dict)


class SimulatedDisk(Disk):
    """The real calls, and beside them what would be left if the power were cut now.

    What was not synced may be there, or not, or in part (SQLite's crash tests do the same); the simulation forgets
    the kinds of calls named in `forgets`.
    """

    def __init__(self, root: Path, *, forgets: Sequence[str] = ()) -> None:
        self.root = root
        self.tree = Tree()
        self.moments: list[Callable[[], None]] = []
        self.after_call: Callable[[], None] = lambda: None
        self._forgets = forgets
        self._open: dict[int, Inode] = {}

    def _folder(self, path: Path) -> Tree:
        found = self.tree
        for part in path.relative_to(self.root).parts:
            inner = found.seen[part]
            assert isinstance(inner, Tree)
            found = inner
        return found

    def make_folder(self, folder: Path) -> None:
        """Seen at once, stored with its parent; as are all names."""
        super().make_folder(folder)
        self._folder(folder.parent).seen[folder.name] = Tree()
        self.after_call()

    def create(self, file: Path) -> int:
        """Seen at once, stored when synced."""
        descriptor = super().create(file)
        self._open[descriptor] = self._folder(file.parent).seen[file.name] = Inode()
        self.after_call()
        return descriptor

    def write(self, descriptor: int, data: bytes) -> int:
        """Seen at once, stored when synced."""
        taken = super().write(descriptor, data)
        self._open[descriptor].seen += data[:taken]
        self.after_call()
        return taken

    def sync_data(self, descriptor: int) -> None:
        """Seen at once, stored when synced."""
        if "sync_data" not in self._forgets:
            super().sync_data(descriptor)
            self._open[descriptor].stored = self._open[descriptor].seen
        self.after_call()

    def rename(self, old: Path, new: Path) -> None:
        """Seen at once, stored when synced."""
        super().rename(old, new)
        folder = self._folder(new.parent)
        folder.seen[new.name] = folder.seen.pop(old.name)
        self.after_call()

    def sync_folder(self, folder: Path) -> None:
        """Seen at once, stored when synced."""
        if "sync_folder" not in self._forgets:
            super().sync_folder(folder)
            tree = self._folder(folder)
            tree.stored = dict(tree.seen)
        self.after_call()

    def leave(self, place: Path, rng: random.Random | None) -> None:
        """Lay out what a power cut now would leave; without `rng` nothing that was not synced is left."""
        _leave(self.tree, place, rng)


def _leave(tree: Tree, place: Path, rng: random.Random | None) -> None:
    place.mkdir()
    left = dict(tree.stored)
    for name in sorted({*tree.seen, *tree.stored}):
        if rng is not None and rng.random() < 0.5:
            left.pop(name, None)
            if name in tree.seen:
                left[name] = tree.seen[name]
            elif name in tree.stored:
                left[name] = tree.stored[name]
        if name in tree.stored and name in tree.seen:
            left[name] = tree.stored[name]  # its name was synced: nothing can take it away
    for name, thing in left.items():
        if isinstance(thing, Tree):
            _leave(thing, place / name, rng)
        else:
            (place / name).write_bytes(_left_of(thing, rng))


def _left_of(file: Inode, rng: random.Random | None) -> bytes:
    more = file.seen[len(file.stored) :]
    if rng is None or not more:
        return file.stored
    kept = rng.randrange(len(more) + 1)
    return file.stored + more[:kept] + rng.choice([b"", bytes(len(more) - kept)])  # the length may come first: zeros


def _cut_everywhere(tmp_path: Path, rng: random.Random | None, forgets: Sequence[str] = ()) -> int:
    """Do the work, and after every call look at what a power cut would leave; the number of cuts."""
    root = tmp_path / "disk"
    root.mkdir()
    disk = SimulatedDisk(root, forgets=forgets)
    run = root / "runs" / "today"
    acknowledged: list[int] = []
    cuts = itertools.count()

    def cut() -> None:
        left = tmp_path / f"left{next(cuts)}"
        disk.leave(left, rng)
        _check(left / "runs" / "today", acknowledged)

    disk.after_call = cut
    try:
        assert _work(run, disk, acknowledged.append) == 0
        cut()
        assert acknowledged == list(range(6))
    finally:
        for folder in tmp_path.glob("left*"):
            shutil.rmtree(folder)
        shutil.rmtree(root)
    return next(cuts)


def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """After every single call: what was synced holds every acknowledged record, and every image that they name."""
    assert _cut_everywhere(tmp_path, None) > 30


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_what_was_not_synced_may_survive_in_part(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Names without content, content in part, zeros: whatever else a power cut leaves does no harm."""
    _cut_everywhere(tmp_path_factory.mktemp("cut"), random.Random(seed))


@pytest.mark.parametrize("forgotten", [("sync_data",), ("sync_folder",), ("sync_data", "sync_folder")], ids="+".join)
def test_a_writer_that_does_not_sync_is_caught(tmp_path: Path, forgotten: tuple[str, ...]) -> None:
    """The control: with either kind of sync left out the same check fails, as it must."""
    with pytest.raises((AssertionError, FileNotFoundError)):
        _cut_everywhere(tmp_path, None, forgets=forgotten)


# -- a death -----------------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from pytest_diffbench.journal import Journal
written = Journal(Path(sys.argv[1]), "w")
number = int(sys.argv[2])
while True:
    written.append("pair", {"number": number})
    print(number, flush=True)
    number += 1
"""


def test_a_killed_writer_loses_nothing_that_it_has_told(tmp_path: Path) -> None:
    """It says what is kept; killed after any of its words and begun again, all that it said is there, once."""
    told: list[int] = []
    for wanted in (1, 7, 40):
        first = told[-1] + 1 if told else 0
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = [int(process.stdout.readline()) for _ in range(wanted)]
            process.send_signal(signal.SIGKILL)
            said += [int(line) for line in process.stdout.read().splitlines()]
        told += said
        found = _numbers(tmp_path)
        assert found[: len(told)] == told
        told += [int(str(number)) for number in found[len(told) :]]  # written, but it died before it could say so

    assert writers(tmp_path) == []
    assert told == list(range(len(told)))
