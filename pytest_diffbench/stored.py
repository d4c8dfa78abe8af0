"""What the `diffbench` command does with a run that is over, or was cut off: show it, regrade it, export it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_diffbench import benchmark_json, history, scorecard, scoring
from pytest_diffbench.errors import SetupError
from pytest_diffbench.records import Verdict
from pytest_diffbench.regrade import Thresholds, regrade
from pytest_diffbench.wording import verdict_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from pytest_diffbench.history import Attempt, History
    from pytest_diffbench.records import TaskReport


def main(chosen: argparse.Namespace) -> int:
    """Carry out one of the subcommands; its exit status. SetupError where the run or its files cannot be used."""
    if chosen.command == "score":
        return scorecard.main(chosen, _folders_of_runs(chosen.journal))
    if chosen.command == "durations":
        return _durations(scorecard.reports_of(chosen.run, _folders_of_runs(chosen.journal)), chosen.out)
    folder = history.find(chosen.run, _folders_of_runs(chosen.journal))
    found, damaged = history.load(folder)
    print(f"run {folder.name} ({folder})")
    for line in scorecard.lacks(found, damaged):
        print(line)
    if chosen.command == "show":
        return _show(found)
    if chosen.command == "regrade":
        return _regrade(found, chosen)
    _export(found, found.reports(), Path(chosen.benchmark_json))
    return 0


def _folders_of_runs(chosen: str | None) -> list[Path]:
    """As chosen, else those of this folder and the folders around it, the nearest first."""
    if chosen is not None:
        return [Path(chosen)]
    here = Path.cwd()
    return [folder / history.FOLDER for folder in (here, *here.parents)]


def _durations(reports: Sequence[TaskReport], out: Path) -> int:
    """Seconds by task, those of what was tried again among them."""
    seconds = {
        each.task_id: round(sum(stage.elapsed_s for stage in each.stages) * (1 + each.undecided_runs), 1)
        for each in reports
        if each.verdict is not Verdict.INFRA
    }
    try:
        out.write_text(json.dumps(dict(sorted(seconds.items())), indent=1) + "\n")
    except OSError as error:
        raise SetupError(f"diffbench: cannot write {out}: {error.strerror or error}") from error
    print(f"{out}: {len(seconds)} tasks, {sum(seconds.values()) / 3600:.2f} hours on one device")
    return 0


def _show(found: History) -> int:
    for attempt in found.latest():
        print(f"  {attempt.nodeid}  {_line(attempt)}")
    _summarise(found.reports())
    return 0


def _line(attempt: Attempt) -> str:
    report = attempt.report()
    if report is None:
        pairs = sum(not pair["timed_again"] for pair in attempt.pairs)
        ended = [stage["report"] for stage in attempt.stages if stage["report"]["verdict"] != Verdict.INFRA]
        passed = ", ".join(report["stage"] for report in ended) or "none"
        return f"cut off after {pairs} pairs (stages that ended: {passed})"
    return " | ".join(part for part in (_ending(report), verdict_line(report)) if part)


def _ending(report: TaskReport) -> str:
    cause = f" ({report.cause})" if report.cause is not None else ""
    told = report.line and (report.speed is None or report.verdict is Verdict.PASS)
    return f"{report.verdict}{cause}" + (f": {report.line}" if told else "")


def _summarise(reports: Sequence[TaskReport]) -> None:
    if reports:
        print(scorecard.told(reports))


def _regrade(found: History, chosen: argparse.Namespace) -> int:
    thresholds = Thresholds(chosen.speed_at_least, chosen.latency_at_most_s, chosen.max_loss, chosen.strict)
    before, after = found.reports(), list(_regraded(found, thresholds))
    for old, new in zip(before, after, strict=True):
        changed = "" if _ending(old) == _ending(new) else f", was {_ending(old)}"
        print(f"  {new.nodeid}  {_ending(new)}{changed} | {verdict_line(new)}")
    print(f"{sum(_ending(old) != _ending(new) for old, new in zip(before, after, strict=True))} verdicts changed")
    _summarise(after)
    if chosen.benchmark_json is not None:
        _export(found, after, Path(chosen.benchmark_json))
    return 0


def _regraded(found: History, thresholds: Thresholds) -> Iterator[TaskReport]:
    for attempt in found.latest():
        report = regrade(attempt, thresholds)
        if report is not None:
            yield report


def _export(found: History, reports: Sequence[TaskReport], file: Path) -> None:
    from pytest_benchmark.plugin import pytest_benchmark_generate_json

    from pytest_diffbench.plugin.recorder import write_json

    header: dict[str, Any] = dict(found.headers[-1]) if found.headers else {}
    if header.get("machine_info") is None:
        raise SetupError("diffbench: the run knew no pytest-benchmark, so its journal lacks what the file would say")
    entries = [entry for report in reports for entry in benchmark_json.benchmarks(report)]
    content = pytest_benchmark_generate_json(
        config=None,
        benchmarks=[benchmark_json.metadata(entry) for entry in entries],
        include_data=True,
        machine_info=header["machine_info"],
        commit_info=header["commit_info"],
    )
    content["datetime"] = found.finished_at
    content["diffbench"] = [benchmark_json.summary(report) for report in reports]
    content["diffbench_score"] = scoring.card(reports)
    try:
        write_json(file, content)
    except OSError as error:
        raise SetupError(f"diffbench: cannot write {file}: {error.strerror or error}") from error
    measured = sum(report.verdict is not Verdict.INFRA for report in reports)
    print(f"{file}: {len(reports)} tasks, {measured} of them measured")
