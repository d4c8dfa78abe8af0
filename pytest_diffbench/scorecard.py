"""`diffbench score`: the figures of a run that is over, or of two runs task by task, from a JSON or from a journal."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_diffbench import benchmark_json, history, scoring
from pytest_diffbench.errors import SetupError
from pytest_diffbench.pairing import paired
from pytest_diffbench.plugin import terminal
from pytest_diffbench.records import task_report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from pytest_diffbench.history import History
    from pytest_diffbench.pairing import Pairing
    from pytest_diffbench.records import TaskReport


def main(chosen: argparse.Namespace, folders: Sequence[Path]) -> int:
    """Print what was asked for; SetupError where a run cannot be read, or two cannot be compared."""
    names = [chosen.run, *([chosen.against] if chosen.against else [])]
    runs = [_read(run, folders) for run in names]
    for name, (reports, lacking) in zip(names, runs, strict=True):
        print(f"{name}: {', '.join(sorted({report.agent for report in reports}))}")
        print("\n".join([*lacking, told(reports, chosen.fast, papers=chosen.paper)]))
    card = scoring.card(runs[0][0], chosen.fast)
    try:
        if len(runs) > 1:
            found = paired(runs[1][0], runs[0][0])
            print("\n".join(_compared(found, chosen.against)))
            card["against"] = asdict(found)
    finally:  # two that cannot be compared have figures of their own
        if chosen.json is not None:
            _write(chosen.json, card)
    return 0


def reports_of(run: str, folders: Iterable[Path]) -> list[TaskReport]:
    """The reports in a pytest-benchmark file, or in the journal of a run (its folder, id, or 'last').

    SetupError where there are none.
    """
    return _read(run, folders)[0]


def _read(run: str, folders: Iterable[Path]) -> tuple[list[TaskReport], list[str]]:
    """The same, and what a run's journal lacks."""
    if Path(run).is_file():
        reports, lacking = _from_file(Path(run)), []
    else:
        found, damaged = history.load(history.find(run, folders))
        reports = found.reports()
        lacking = lacks(found, damaged)
    if not reports:
        raise SetupError(f"diffbench: {run} holds no verdict")
    return reports, lacking


def lacks(found: History, damaged: int) -> list[str]:
    """What is said of a journal that does not hold a whole run."""
    known, tasks = len(found.reports()), max(found.collected, len(found.latest()))
    lines = [f"cut off, or still going on: {known} of its {tasks} tasks have a verdict"] if known < tasks else []
    return lines + ([f"damaged lines of its journal that were left out: {damaged}"] if damaged else [])


def _from_file(file: Path) -> list[TaskReport]:
    # imported here: reading a journal needs none of it
    from pydantic import ValidationError

    try:
        entries: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["diffbench"]
        if newer := [entry["format"] for entry in entries if entry.get("format", 0) > benchmark_json.FORMAT]:
            raise SetupError(f"diffbench: {file} has format {newer[0]}, of a newer pytest-diffbench: update this one")
        told = [{name: each for name, each in entry.items() if name not in benchmark_json.ADDED} for entry in entries]
        return [task_report(entry) for entry in told]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise SetupError(
            f"diffbench: {file} is no file of a run (--benchmark-json=FILE writes one): {reason}"
        ) from error


def told(reports: Sequence[TaskReport], more: Sequence[float] = (), *, papers: bool = False) -> str:
    """A run's table and figures, as its own end had them."""
    width = max(shutil.get_terminal_size().columns, terminal.LEAST_COLUMNS)
    figures = terminal.figures(reports, more, papers=papers)
    return "\n".join([terminal.table(reports, width=width), *figures, *terminal.conditions(reports)])


def _compared(found: Pairing, other: str) -> list[str]:
    ends = f" [{found.interval[0]:+.1%}, {found.interval[1]:+.1%}]" if found.interval is not None else ""
    only = f"only by this {found.second_only}, only by {other} {found.first_only}, neither {found.neither}"
    lines = [
        f"task by task against {other}, {found.tasks} tasks: passed by both {found.both}, {only}",
        f"  S_p {found.difference:+.1%}{ends}, p = {found.p_value:.3g} (exact sign test over scenarios)",
    ]
    if found.achievement_difference is not None:
        lines.append(f"  S_a on hard tasks {found.achievement_difference:+.1%}")
    if found.other_editions:
        lines.append(f"  not compared, for they are not the same tasks in both: {found.other_editions}")
    if found.other_isolation:
        lines.append(f"  not compared, for solutions were kept in by other means: {found.other_isolation}")
    if found.other_devices:
        lines.append(f"  not compared, for they were timed on another device: {found.other_devices}")
    if found.left_out:
        lines.append(f"  not compared, for only one run measured them: {found.left_out}")
    return lines


def _write(file: Path, card: dict[str, object]) -> None:
    from pytest_diffbench.plugin.recorder import write_json

    try:
        write_json(file, card)
    except OSError as error:
        raise SetupError(f"diffbench: cannot write {file}: {error.strerror or error}") from error
