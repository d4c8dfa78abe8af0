"""What a run's journal says of its tasks: which are known, which were cut off, and what was measured of each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_diffbench import journal
from pytest_diffbench.errors import SetupError
from pytest_diffbench.records import Cause, TaskReport, Verdict, plain, task_report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_diffbench.journal import Entry

FOLDER: Final = ".diffbench"
LAST: Final = "last"
MOST_STARTS: Final = 2
"""So many tries at a task may end with the death of their process; it is not tried again."""


def attempt_key(facts: Mapping[str, object]) -> str:
    """The digest of everything that a verdict depends on; any fact that differs makes it another."""
    text = json.dumps(plain(facts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Attempt:
    """All tries at one task with one solution, under the same conditions; evidence is the last try's."""

    key: str
    nodeid: str
    facts: Mapping[str, Any]
    """What the key was made of."""
    started: Mapping[str, Any]
    """What a report of the task begins with."""
    unfinished: int = 0
    """Tries that have a beginning and no end: their process died."""
    plans: list[Mapping[str, Any]] = field(default_factory=list)
    pairs: list[Mapping[str, Any]] = field(default_factory=list)
    stages: list[Mapping[str, Any]] = field(default_factory=list)
    verdict: Mapping[str, Any] | None = None

    def report(self) -> TaskReport | None:
        """The task's report as it was written; None where the last try was cut off."""
        return task_report(self.verdict) if self.verdict is not None else None


class History:
    """The attempts of a run; what is read is never changed."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.headers: list[Mapping[str, Any]] = []
        """What each process said of the run when it began to write."""
        self.attempts: dict[str, Attempt] = {}
        """By key, in the order of their last change."""
        self.finished_at = ""
        """When the last verdict was written."""
        self._strays: dict[str, Mapping[str, Any]] = {}
        """Verdicts by node id of tasks that could not even begin."""
        self._solutions: dict[tuple[str, str], Mapping[str, Any]] = {}
        for entry in entries:
            self._take(entry)

    def _take(self, entry: Entry) -> None:
        body: Mapping[str, Any] = entry.body
        if entry.kind == "run":
            self.headers.append(body)
        elif entry.kind == "solution":
            self._solutions[body["nodeid"], body["prompt_sha256"]] = body
        elif entry.kind == "start":
            tries = self.attempts.pop(body["key"], None)
            unfinished = tries.unfinished if tries is not None else 0
            begun = Attempt(body["key"], body["nodeid"], body["facts"], body["started"], unfinished + 1)
            self.attempts[begun.key] = begun
            self._strays.pop(begun.nodeid, None)
        elif entry.kind == "verdict":
            self._end(body, entry.at)
        elif entry.kind == "known":
            self._confirm(body["key"])
        elif (attempt := self.attempts.get(body.get("key", ""))) is not None:
            if entry.kind == "end":
                attempt.unfinished -= 1
            parts = {"plans": attempt.plans, "pair": attempt.pairs, "stage": attempt.stages}
            if entry.kind in parts:
                parts[entry.kind].append(body)

    def _confirm(self, key: str) -> None:
        """The run has come by this attempt again: it stands, whatever was tried or failed to begin in between."""
        attempt = self.attempts.pop(key, None)
        if attempt is not None:
            self.attempts[key] = attempt
            self._strays.pop(attempt.nodeid, None)

    def _end(self, body: Mapping[str, Any], at: str) -> None:
        report, attempt = body["report"], self.attempts.get(body["key"])
        self.finished_at = at
        if attempt is None:
            self._strays[report["nodeid"]] = report
            return
        attempt.verdict = report
        if report["cause"] != Cause.QUARANTINED:  # which is no try
            attempt.unfinished -= 1

    def known(self, key: str) -> TaskReport | None:
        """The verdict on exactly this attempt; None where there is none, or where it was no fault of the solution."""
        attempt = self.attempts.get(key)
        if attempt is None or attempt.verdict is None or attempt.verdict["verdict"] == Verdict.INFRA:
            return None
        return replace(task_report(attempt.verdict), resumed=True)

    def unfinished(self, key: str) -> int:
        """Tries at it whose process died."""
        return self.attempts[key].unfinished if key in self.attempts else 0

    def solution(self, nodeid: str, prompt_sha256: str) -> Mapping[str, Any] | None:
        """What a provider once answered to this prompt for this task."""
        return self._solutions.get((nodeid, prompt_sha256))

    def latest(self) -> list[Attempt]:
        """The last attempt at each task, by node id."""
        found = {attempt.nodeid: attempt for attempt in self.attempts.values()}
        for nodeid, report in self._strays.items():
            found[nodeid] = Attempt("", nodeid, {}, {}, verdict=report)
        return [found[nodeid] for nodeid in sorted(found)]

    @property
    def collected(self) -> int:
        """How many tasks the run was to measure; 0 where an older version wrote it, which did not say."""
        return max((int(header.get("tasks", 0)) for header in self.headers), default=0)

    def reports(self) -> list[TaskReport]:
        """The last verdict on each task that has one, by node id."""
        return [report for attempt in self.latest() if (report := attempt.report()) is not None]


def load(folder: Path) -> tuple[History, int]:
    """A run's history, and the number of its damaged lines; SetupError where a file cannot be read."""
    contents = journal.read(folder)
    return History(contents.entries), contents.damaged


def find(run: str, runs: Iterable[Path]) -> Path:
    """The folder of a run: a path, or its id or `last` in the first of these folders of runs that has it.

    SetupError, which names the runs that are there, where it is none.
    """
    places = [Path(run), *(folder / run for folder in runs)]
    for place in places:
        if next(iter(place.glob(journal.PATTERN)), None) is not None:
            return place.resolve()
    there = sorted({file.parent.name for folder in runs for file in folder.glob(f"*/{journal.PATTERN}")} - {LAST})
    shown = ", ".join(there[-5:]) or "none is there"
    raise SetupError(
        f"diffbench: {run!r} is no run that anything was measured in: give a folder, {LAST!r}, or an id ({shown})"
    )
