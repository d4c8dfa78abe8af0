"""What a run looks like to the person who started it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Final

from _pytest.pathlib import bestrelpath
from rich import box
from rich.console import Console
from rich.table import Table

from pytest_diffbench import paper, scoring
from pytest_diffbench.records import RequestSet, Verdict
from pytest_diffbench.task import LEVELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from pytest_diffbench.records import TaskReport
    from pytest_diffbench.scoring import Score


LEAST_COLUMNS: Final = 110
"""A narrower table would lose its last column, which holds the reasons; a narrow terminal breaks its lines."""


def brief(task: TaskReport) -> str:
    """A passed task in brackets: ' (2.03x, CLIP -0.6 %)'."""
    facts = []
    if task.speed is not None:
        facts.append(f"{task.speed.speedup:.2f}x")
    if task.quality is not None and task.quality.loss is not None:
        facts.append(f"CLIP {round(-100 * task.quality.loss, 1) + 0.0:+.1f} %")  # no "-0.0"
        if task.quality.step_control is not None and task.quality.step_control.suffices:
            facts.append("fewer steps suffice")
    return f" ({', '.join(facts)})" if facts else ""


def summarise(
    reporter: pytest.TerminalReporter, reports: Sequence[TaskReport], saved: Path | None, *, more: Sequence[str]
) -> None:
    """Print the table by level, tasks that could not be measured, what `more` says, and where the file went."""
    agents = sorted({report.agent for report in reports})
    reporter.section(f"diffbench: {', '.join(agents)}")
    reporter.write_line(table(reports, width=max(reporter._tw.fullwidth, LEAST_COLUMNS)))  # noqa: SLF001 (the width has no other door)
    for line in [*figures(reports), *conditions(reports)]:
        reporter.write_line(line)
    for line in more:
        reporter.write_line(line.removeprefix("diffbench: "))
    if any(report.requests is RequestSet.PUBLIC for report in reports):
        kind, option = "public, so there is no score", "--diffbench-requests=public "
    else:
        kind, option = "secret", ""
    seed = next((report.seed for report in reports if report.seed is not None), None)
    again = f"; the same requests again: {option}--diffbench-seed={seed}" if seed is not None else ""
    reporter.write_line(f"requests: {kind}{again}")
    reporter.write_line(
        f"measurements: {saved}" if saved is not None else "measurements: not kept; add --benchmark-json=FILE"
    )


def conditions(reports: Sequence[TaskReport]) -> list[str]:
    """What figures hold under: devices, isolation and its limits; and whether they are about real models at all."""
    devices = sorted({report.device for report in reports if report.device})
    isolation = sorted({report.isolation for report in reports})
    lines = [f"timed on {', '.join(devices) or 'nothing'}; isolation: {', '.join(isolation)}"]
    if limits := sorted({report.limits for report in reports if report.limits}):
        lines.append(f"limits: {', or '.join(limits)}")
    if any(report.harness_check for report in reports):
        lines.append(
            "harness check, no claim about real models: no GPU has shown yet that tiny ones rank plans as they do"
        )
    return lines


def journal(reporter: pytest.TerminalReporter, reports: Sequence[TaskReport], *, folder: str, problem: str) -> None:
    """Say where the run is kept, and how much of it was known before."""
    resumed = sum(report.resumed for report in reports)
    if resumed:
        reporter.write_line(f"resumed: {resumed} of {len(reports)} tasks were known, and not measured again")
    if folder:
        shown = bestrelpath(reporter.startpath, Path(folder))
        reporter.write_line(f"journal: {shown} (diffbench show {shown})")
    if problem:
        reporter.write_line(f"a verdict is not in the journal: {problem}", red=True)


def figures(reports: Sequence[TaskReport], more: Sequence[float] = (), *, papers: bool = False) -> list[str]:
    """What the table has no room for: tasks that are not counted, S_a's interval, `fast_p`, the paper's, the edition.

    What says nothing of a single task is left out for one; the paper's stands there on demand, or for as many tasks.
    """
    lines = [f"  {report.nodeid}: {report.line}" for report in reports if report.verdict is Verdict.INFRA]
    lines = ["not measured, and not counted:", *lines] if lines else []
    if later := {report.task_id for report in scoring.without_first(reports)}:
        tasks = "1 task" if len(later) == 1 else f"{len(later)} tasks"
        lines.append(f"not counted, for only later answers than the first are known: {tasks}")
    whole, levels = scoring.score(reports), scoring.by_level(reports)
    if whole.achievement is not None and whole.achievement_interval is not None:
        ends = _interval(whole.achievement_interval)
        lines.append(f"S_a of the hard tasks: {_percent(whole.achievement)}, 95 %: {ends}")
    shares = [(p, scoring.fast_p(reports, p)) for p in sorted({*scoring.FAST, *more})]
    told = ", ".join(f"{p:g}x {share:.1%}" for p, share in shares if share is not None)
    if told and (whole.tasks > 1 or more):
        lines.append(f"good and more than so many times as fast: {told}")
    rows = [levels.get(level) for level in LEVELS]
    as_many = all(row is not None and row.tasks + row.infra >= n for row, n in zip(rows, paper.TASKS, strict=True))
    if papers or (as_many and not whole.public):
        ours = [row.pass_rate if row is not None else None for row in rows]
        lines += paper.lines([*ours, whole.pass_rate])
    count = len({report.task_id for report in reports if report.task_edition})
    if edition := scoring.edition_of(reports):
        which = "this task" if count == 1 else f"these {count} tasks"
        lines.append(f"edition of {which}: {edition} (results of another edition are not comparable)")
    return lines


def table(reports: Sequence[TaskReport], *, width: int) -> str:
    """Pass rate S_p, achievement S_a, median speed-up and failure classes, a row a level."""
    grid = Table(box=box.SIMPLE, pad_edge=False)
    grid.add_column("level", no_wrap=True)
    batched = any(report.batch > 1 for report in reports)
    levels, whole = scoring.by_level(reports), scoring.score(reports)
    tried = [f"pass@{whole.attempts}"] if whole.attempts > 1 else []
    told = ["95 %"] if whole.pass_rate_interval is not None else []
    headings = ("tasks", "passed", "S_p", *told, *tried, "S_a hard", "speed-up", *(["batched"] if batched else []))
    for heading in headings:
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("why not passed")
    for level, row in levels.items():
        grid.add_row(
            f"{level} {LEVELS[level]}" if level is not None else "your own",
            *_cells(row, told=told, tried=tried, batched=batched),
        )
    if len(levels) > 1:
        grid.add_section()
        grid.add_row("all", *_cells(whole, told=told, tried=tried, batched=batched))
    stream = io.StringIO()
    Console(file=stream, width=width).print(grid)
    return "\n".join(line.rstrip() for line in stream.getvalue().strip("\n").splitlines())


def _cells(row: Score, *, told: Sequence[str], tried: Sequence[str], batched: bool) -> list[str]:
    reasons = [f"{count} {cause}" for cause, count in row.failures.items()]
    if row.infra:
        reasons.append(f"({row.infra} not measured)")
    return [
        str(row.tasks),
        str(row.passed),
        _percent(row.pass_rate),
        *([_interval(row.pass_rate_interval)] if told else []),
        *([_percent(row.pass_at)] if tried else []),
        _percent(row.achievement),
        _factor(row.median_speedup),
        *([_factor(row.median_throughput)] if batched else []),
        ", ".join(reasons),
    ]


def _interval(ends: tuple[float, float] | None) -> str:
    return f"{100 * ends[0]:.0f}-{100 * ends[1]:.0f}" if ends is not None else "-"


def _percent(share: float | None) -> str:
    return f"{share:.1%}" if share is not None else "-"


def _factor(value: float | None) -> str:
    return f"{value:.2f}x" if value is not None else "-"
