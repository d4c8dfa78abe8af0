"""What a run may spend: money for language models and device seconds for measurements, in all its processes together.

Who is about to spend reserves first, and what is reserved counts as spent until the bill is there; a reservation ends
with its process. So two workers never spend the same dollar, and a run that is resumed knows what it has spent.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Final

from pytest_diffbench import journal
from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

FOLDER: Final = "agent"
"""In a run's folder: what its agents asked and spent."""
_LOCK: Final = "spending.lock"


class Purse(StrEnum):
    """What is spent."""

    USD = "usd"
    DEVICE_S = "device_s"


_MONEY: Final[Mapping[Purse, tuple[str, str]]] = {
    Purse.USD: ("${:.2f}", "--diffbench-budget-usd"),
    Purse.DEVICE_S: ("{:.0f} device seconds", "--diffbench-budget-device-s"),
}


class BudgetSpent(SetupError):
    """There is no more to spend; whoever searches stops, and gives what was found so far."""


@dataclass
class Bill:
    """What a reservation turned out to cost."""

    amount: float = 0.0


class Budget:
    """Limits and what was spent; without a folder in this process only, without a limit it merely counts."""

    def __init__(self, folder: Path | None = None, limits: Mapping[Purse, float] | None = None) -> None:
        self._folder = folder
        self._limits = dict(limits or {})
        self._mine: list[tuple[Purse, float]] = []
        self._open: dict[int, tuple[Purse, float]] = {}
        self._guard = threading.Lock()
        self._number = 0

    @cached_property
    def _journal(self) -> journal.Journal | None:
        if self._folder is None:
            return None
        return journal.Journal(self._folder, f"spending-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")

    @contextlib.contextmanager
    def reserved(self, purse: Purse, estimate: float) -> Iterator[Bill]:
        """Room for `estimate`, until the bill is settled at the end of the block; BudgetSpent where there is none."""
        bill = Bill()
        number = self._reserve(purse, estimate)
        try:
            yield bill
        finally:
            with self._guard:
                self._note(number, purse, bill.amount, settled=True)

    def spent(self, purse: Purse) -> float:
        """By all processes together so far, what is reserved not counted."""
        return self._committed(purse)[0]

    def limit(self, purse: Purse) -> float | None:
        """The most that may be spent; None: no end."""
        return self._limits.get(purse)

    def _reserve(self, purse: Purse, estimate: float) -> int:
        with self._guard, self._locked():
            limit = self._limits.get(purse)
            if limit is not None:
                spent, open_ = self._committed(purse)
                if spent + open_ + estimate > limit:
                    said, option = _MONEY[purse]
                    raise BudgetSpent(
                        f"diffbench: the budget of {said.format(limit)} is spent ({said.format(spent + open_)}, and "
                        f"the next step takes about {said.format(estimate)}): give more with {option}"
                    )
            self._number += 1
            self._note(self._number, purse, estimate, settled=False)
            return self._number

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Between looking and reserving nobody else reserves."""
        if self._folder is None or not self._limits:
            yield
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            stream = (self._folder / _LOCK).open("w")
        except OSError as error:
            raise SetupError(f"diffbench: cannot write {self._folder}: {error.strerror or error}") from error
        with stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _note(self, number: int, purse: Purse, amount: float, *, settled: bool) -> None:
        if self._journal is not None:
            kind = "settled" if settled else "reserved"
            if settled or self._limits:
                self._journal.append(kind, {"number": number, "purse": purse, "amount": amount})
        if settled:
            self._open.pop(number, None)
            self._mine.append((purse, amount))
        else:
            self._open[number] = (purse, amount)

    def _committed(self, purse: Purse) -> tuple[float, float]:
        """Settled bills, and open reservations of processes that live."""
        if self._folder is None:
            spent, waits = (
                sum(amount for each, amount in entries if each is purse)
                for entries in (self._mine, self._open.values())
            )
            return spent, waits
        living = set(journal.writers(self._folder))
        spent = open_ = 0.0
        for file in sorted(self._folder.glob(journal.PATTERN)):
            waiting: dict[object, float] = {}
            for entry in _entries(file):
                if entry.body.get("purse") != purse:
                    continue
                amount = float(str(entry.body["amount"]))
                if entry.kind == "reserved":
                    waiting[entry.body["number"]] = amount
                elif entry.kind == "settled":
                    waiting.pop(entry.body["number"], None)
                    spent += amount
            open_ += sum(waiting.values()) if file.name in living else 0.0
        return spent, open_


def _of(purse: Purse, amounts: Iterable[tuple[Purse, float]]) -> float:
    return sum(amount for each, amount in amounts if each is purse)


def _entries(file: Path) -> Iterator[journal.Entry]:
    for line in file.read_bytes().split(b"\n"):
        yield from journal.decode(line)[0]
