"""`diffbench score`: the same figures from a JSON, from a journal, and for two runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_diffbench import benchmark_json, cli, paper, scoring
from pytest_diffbench.journal import Journal
from pytest_diffbench.records import Cause, Quality, RequestSet, Speed, Stage, StageReport, TaskReport, Verdict, plain

if TYPE_CHECKING:
    from pathlib import Path

SPEED = Speed((2.0, 2.1), (1.0, 1.0), "BCCB", 2.05, 1.9, 2.2, demanded_speedup=2.0)
QUALITY = Quality((30.0,), (29.7,), 29.7, 0.01, 0.05)


def _reports(passed: int, agent: str = "one") -> list[TaskReport]:
    return [
        TaskReport(
            f"suite.py::test[{number}]",
            f"task-{number}",
            agent,
            Verdict.PASS if number < passed else Verdict.FAIL,
            4,
            "hard",
            cause=None if number < passed else Cause.RELATIVE_SPEED,
            speed=SPEED,
            quality=QUALITY,
            model="sd15",
            scenario=f"{number}",
            task_edition=f"{number}",
        )
        for number in range(4)
    ]


def _file(folder: Path, reports: list[TaskReport], name: str = "run.json") -> str:
    file = folder / name
    file.write_text(json.dumps({"benchmarks": [], "diffbench": [benchmark_json.summary(each) for each in reports]}))
    return str(file)


def _score(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = cli.main(["score", *arguments])
    said = capsys.readouterr()
    return status, said.out + said.err


def test_a_file_and_a_journal_give_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of a run that was cut off, whose file nobody wrote."""
    reports = _reports(3)
    run = Journal(tmp_path / ".diffbench" / "2026-11-27-000000-abcdef", "main")
    for report in reports:
        run.append("verdict", {"key": "", "report": plain(report)})
    run.close()
    _, from_file = _score(capsys, _file(tmp_path, reports))
    status, from_journal = _score(capsys, "2026-11-27-000000-abcdef", "--journal", str(tmp_path / ".diffbench"))

    assert status == 0
    assert from_file.splitlines()[1:] == from_journal.splitlines()[1:]
    assert "75.0%" in from_file
    assert "edition of these 4 tasks: " in from_file


def test_figures_can_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a run's own JSON holds them."""
    file = tmp_path / "score.json"
    _score(capsys, _file(tmp_path, _reports(3)), "--json", str(file), "--fast", "2.04")
    found = json.loads(file.read_text())

    assert found == plain(scoring.card(_reports(3), [2.04]))
    assert found["fast_p"]["2.04"] == 1.0
    assert found["paper"]["mark"] == paper.MARK
    assert found["levels"]["4"]["pass_rate"] == 0.75
    assert found["fast_p"]["2.0"] == 1.0


def test_two_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the first it is said how much more it passed."""
    files = _file(tmp_path, _reports(3, "new"), "new.json"), _file(tmp_path, _reports(1, "old"), "old.json")
    status, said = _score(capsys, *files)

    assert status == 0
    assert "4 tasks: passed by both 1, only by this 2, only by" in said
    assert "S_p +50.0%" in said


def test_a_comparison_is_kept_beside_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And where two runs cannot be compared, the first one's figures are kept all the same."""
    files = _file(tmp_path, _reports(3, "new"), "new.json"), _file(tmp_path, _reports(1, "old"), "old.json")
    public = [replace(report, requests=RequestSet.PUBLIC) for report in _reports(3)]
    file = tmp_path / "score.json"
    _score(capsys, *files, "--json", str(file))
    against = json.loads(file.read_text())["against"]
    status, _ = _score(capsys, files[0], _file(tmp_path, public, "public.json"), "--json", str(tmp_path / "other.json"))

    assert (against["both"], against["second_only"], against["difference"]) == (1, 2, 0.5)
    assert status == 1
    assert json.loads((tmp_path / "other.json").read_text())["all"]["passed"] == 3


def test_figures_come_with_what_they_hold_under(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Devices and isolation, as at the end of a run."""
    reports = [replace(report, device="cpu:0 (This)", isolation="landlock") for report in _reports(3)]

    assert "timed on cpu:0 (This); isolation: landlock\n" in _score(capsys, _file(tmp_path, reports))[1]


def test_the_papers_results_are_marked_as_what_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other models, other hardware: under a run of as many tasks, else on demand, and never ranked."""
    file = _file(tmp_path, _reports(3))
    assert paper.MARK not in _score(capsys, file)[1]
    said = _score(capsys, file, "--paper")[1]
    assert paper.MARK in said
    assert "81.59" in said
    assert re.search(r"this run +- +- +- +75.00 +- +75.00", said)
    of_all = [
        replace(_reports(1)[0], nodeid=f"{level}-{number}", task_id=f"{level}-{number}", level=level)
        for level, count in enumerate(paper.TASKS, start=1)
        for number in range(count)
    ]
    assert paper.MARK in _score(capsys, _file(tmp_path, of_all))[1]
    assert paper.MARK not in _score(capsys, _file(tmp_path, of_all[1:]))[1]


def test_a_run_that_was_cut_off_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its figures are of those tasks that were finished: the rest is counted, begun or not, and what cannot be read."""
    run = Journal(tmp_path / "run", "main")
    run.append("run", {"tasks": 604})
    run.append("verdict", {"key": "", "report": plain(_reports(1)[0])})
    run.append("start", {"key": "k", "nodeid": "suite.py::test[9]", "facts": {}, "started": {}})
    run.close()
    written = next((tmp_path / "run").glob("*.jsonl"))
    written.write_bytes(written.read_bytes() + b"0 {torn\n")
    status, said = _score(capsys, str(tmp_path / "run"))

    assert status == 0
    assert "cut off, or still going on: 1 of its 604 tasks have a verdict" in said
    assert "damaged lines of its journal that were left out: 1" in said


def test_a_file_of_a_newer_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its figures may mean something else."""
    entries = [benchmark_json.summary(each) | {"format": benchmark_json.FORMAT + 1} for each in _reports(1)]
    (tmp_path / "run.json").write_text(json.dumps({"diffbench": entries}))

    assert "update this one" in _score(capsys, str(tmp_path / "run.json"))[1]


def test_the_papers_total_is_that_of_its_levels() -> None:
    """Weighted by its numbers of tasks, to what its rounding leaves."""
    for rates in paper.PASS_RATES.values():
        whole = sum(rate * count for rate, count in zip(rates, paper.TASKS, strict=False)) / sum(paper.TASKS)
        assert whole == pytest.approx(rates[-1], abs=0.75)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"diffbench": [{"format": 2}]}', '{"diffbench": 3}'])
def test_a_file_of_another_kind_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    """With the option that writes the right one."""
    (tmp_path / "other.json").write_text(text)
    status, said = _score(capsys, str(tmp_path / "other.json"))

    assert status == 1
    assert "is no file of a run (--benchmark-json=FILE writes one)" in said


def test_an_empty_file_has_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made up."""
    assert _score(capsys, _file(tmp_path, []))[1].endswith("holds no verdict\n")


def test_what_tasks_took_can_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seconds by task, second tries among them; what our own fault broke off says nothing."""
    took = (
        StageReport(Stage.EXECUTABILITY, Verdict.PASS, elapsed_s=2.0),
        StageReport(Stage.SPEED, Verdict.PASS, elapsed_s=8.5),
    )
    reports = [replace(each, stages=took) for each in _reports(3)]
    reports[1] = replace(reports[1], undecided_runs=1)
    reports[2] = replace(reports[2], verdict=Verdict.INFRA)

    status = cli.main(["durations", _file(tmp_path, reports), "--out", str(tmp_path / "durations.json")])

    assert status == 0
    assert json.loads((tmp_path / "durations.json").read_text()) == {"task-0": 10.5, "task-1": 21.0, "task-3": 10.5}
    assert "3 tasks, 0.01 hours" in capsys.readouterr().out
    assert cli.main(["durations", _file(tmp_path, reports), "--out", str(tmp_path / "none" / "x")]) == 1
    assert "cannot write" in capsys.readouterr().err
