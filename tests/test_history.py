"""What follows from the records of a run: which attempts are known, which died, and which are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_diffbench import history
from pytest_diffbench.errors import SetupError
from pytest_diffbench.history import History, attempt_key
from pytest_diffbench.journal import Entry, Journal
from pytest_diffbench.records import Cause, TaskReport, Verdict, plain

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"nodeid": "test_it.py::test", "solution_sha256": "s", "isolation": "none", "demand": {"steps": 50}}


def _start(key: str = "k", nodeid: str = "test_it.py::test") -> Entry:
    return Entry("start", "", {"key": key, "nodeid": nodeid, "facts": {}, "started": {}})


def _verdict(verdict: Verdict, cause: Cause | None = None, key: str = "k", nodeid: str = "test_it.py::test") -> Entry:
    report = plain(TaskReport(nodeid, "it", "agent", verdict, cause=cause))
    return Entry("verdict", "2026", {"key": key, "report": report})


END = Entry("end", "", {"key": "k", "reason": "broken off"})


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL, Verdict.UNDECIDED, Verdict.CHEAT])
def test_what_is_final_is_known(verdict: Verdict) -> None:
    """Every verdict on the solution, marked as not measured now; INFRA is none."""
    known = History([_start(), _verdict(verdict)]).known("k")

    assert known is not None
    assert (known.verdict, known.resumed) == (verdict, True)
    assert History([_start(), _verdict(Verdict.INFRA)]).known("k") is None
    assert History([_start(), _verdict(verdict)]).known("another") is None


@pytest.mark.parametrize(
    ("entries", "count"),
    [
        ([], 0),
        ([_start()], 1),
        ([_start(), _start()], 2),
        ([_start(), END, _start()], 1),
        ([_start(), _verdict(Verdict.INFRA), _start(), END], 0),
        ([_start(), _start(), _verdict(Verdict.INFRA, Cause.QUARANTINED)], 2),
    ],
)
def test_deaths_are_starts_without_an_end(entries: list[Entry], count: int) -> None:
    """A verdict ends a try, and so does breaking it off in order; to be quarantined is no try at all."""
    assert History(entries).unfinished("k") == count


def test_evidence_is_that_of_the_last_try() -> None:
    """What a try that was cut off had timed is not mixed with the pairs of the next."""
    pair: dict[str, Any] = {"key": "k", "timed_again": ""}
    entries = [_start(), Entry("pair", "", pair), Entry("pair", "", pair), _start(), Entry("pair", "", pair)]

    assert len(History(entries).latest()[0].pairs) == 1


def test_what_a_resumed_run_has_come_by_again_stands() -> None:
    """Whatever failed to begin, or was tried with another solution, in between."""
    known, other = [_start(), _verdict(Verdict.PASS)], [_start("other"), _verdict(Verdict.FAIL, key="other")]
    between = [*other, _verdict(Verdict.INFRA, key="")]
    again = Entry("known", "", {"key": "k"})

    assert [each.verdict for each in History([*known, *between]).reports()] == [Verdict.INFRA]
    assert [each.verdict for each in History([*known, *between, again]).reports()] == [Verdict.PASS]
    assert [each.verdict for each in History([*known, again, *between]).reports()] == [Verdict.INFRA]
    assert History([Entry("known", "", {"key": "nobody's"})]).reports() == []


def test_the_last_attempt_at_a_task_counts() -> None:
    """With another solution it is another attempt, but the same row of the table; one that never began has one too."""
    entries = [
        _start("old"),
        _verdict(Verdict.PASS, key="old"),
        _start("new"),
        _verdict(Verdict.FAIL, Cause.CRASH, key="new"),
        _verdict(Verdict.INFRA, key="", nodeid="test_it.py::test_other"),
    ]
    found = History(entries)

    assert [(report.nodeid[12:], report.verdict) for report in found.reports()] == [
        ("test", Verdict.FAIL),
        ("test_other", Verdict.INFRA),
    ]
    assert found.known("old") is not None


@pytest.mark.parametrize("changed", [{"isolation": "bubblewrap"}, {"solution_sha256": "t"}, {"demand": {"steps": 51}}])
def test_any_other_fact_is_another_attempt(changed: dict[str, object]) -> None:
    """The key is the digest of all facts, in whatever order they are given."""
    assert attempt_key(FACTS) == attempt_key(dict(reversed(FACTS.items())))
    assert attempt_key(FACTS) != attempt_key(FACTS | changed)


def test_a_run_is_found_by_path_id_or_as_the_last(tmp_path: Path) -> None:
    """What holds no journal is no run; the error names those that there are."""
    run = tmp_path / "runs" / "2026-01-01-000000-abcdef"
    written = Journal(run, "w")
    written.append("run", {"seed": 1})
    (tmp_path / "runs" / "last").symlink_to(run.name)

    for name in (str(run), run.name, "last"):
        assert history.find(name, [tmp_path / "none", tmp_path / "runs"]) == run
    with pytest.raises(SetupError, match=r"'tests' is no run .*2026-01-01-000000-abcdef"):
        history.find("tests", [tmp_path / "runs"])


def test_damaged_lines_are_counted(tmp_path: Path) -> None:
    """And cost nothing else."""
    (tmp_path / "journal-w.jsonl").write_text("0123abcd nonsense\n")
    Journal(tmp_path, "w").append("run", {"seed": 1})

    found, damaged = history.load(tmp_path)
    assert (len(found.headers), damaged) == (1, 1)
