"""`diffbench score`: the figures of a run that is over, or of two runs task by task, from a JSON or from a journal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_diffbench import benchmark_json, history, paper, scoring
from pytest_diffbench.errors import SetupError
from pytest_diffbench.pairing import paired
from pytest_diffbench.plugin import terminal
from pytest_diffbench.records import task_report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from pytest_diffbench.pairing import Pairing
    from pytest_diffbench.records import TaskReport


def main(chosen: argparse.Namespace, folders: Iterable[Path]) -> int:
    """Print what was asked for; SetupError where a run cannot be read, or two cannot be compared."""
    runs = [reports_of(run, folders) for run in (chosen.run, *([chosen.against] if chosen.against else []))]
    for name, reports in zip((chosen.run, chosen.against), runs, strict=False):
        print(f"{name}: {', '.join(sorted({report.agent for report in reports}))}")
        print("\n".join(_lines(reports, chosen.fast)))
    if chosen.paper:
        print("\n".join(_papers()))
    if len(runs) > 1:
        print("\n".join(_compared(paired(runs[1], runs[0]), chosen.against)))
    if chosen.json is not None:
        _write(chosen.json, scoring.card(runs[0]))
    return 0


def reports_of(run: str, folders: Iterable[Path]) -> list[TaskReport]:
    """The reports in a pytest-benchmark file, or in the journal of a run (its folder, id, or 'last').

    SetupError where there are none.
    """
    reports = _from_file(Path(run)) if Path(run).is_file() else history.load(history.find(run, folders))[0].reports()
    if not reports:
        raise SetupError(f"diffbench: {run} holds no verdict")
    return reports


def _from_file(file: Path) -> list[TaskReport]:
    # imported here: reading a journal needs none of it
    from pydantic import ValidationError

    try:
        entries: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["diffbench"]
        told = [{name: each for name, each in entry.items() if name not in benchmark_json.ADDED} for entry in entries]
        return [task_report(entry) for entry in told]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise SetupError(
            f"diffbench: {file} is no file of a run (--benchmark-json=FILE writes one): {reason}"
        ) from error


def _lines(reports: Sequence[TaskReport], more: Sequence[float]) -> list[str]:
    width = max(shutil.get_terminal_size().columns, terminal.LEAST_COLUMNS)
    lines = [terminal.table(reports, width=width)]
    shares = [(p, scoring.fast_p(reports, p)) for p in sorted({*scoring.FAST, *more})]
    told = ", ".join(f"{p:g}x {share:.1%}" for p, share in shares if share is not None)
    lines += [f"good and more than so many times as fast: {told}"] if told else []
    lines.append(f"edition of these tasks: {scoring.edition_of(reports) or 'unknown'}")
    return lines


def _papers() -> list[str]:
    width = max(map(len, paper.PASS_RATES))
    lines = [f"{paper.MARK}:", f"  {'S_p in %':<{width}}" + "".join(f"{name:>8}" for name in paper.COLUMNS)]
    lines += [
        f"  {name:<{width}}" + "".join(f"{rate:8.2f}" for rate in rates) for name, rates in paper.PASS_RATES.items()
    ]
    return lines


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
    if found.left_out:
        lines.append(f"  not compared, for only one run measured them: {found.left_out}")
    return lines


def _write(file: Path, card: dict[str, object]) -> None:
    from pytest_diffbench.plugin.recorder import write_json

    try:
        write_json(file, card)
    except OSError as error:
        raise SetupError(f"diffbench: cannot write {file}: {error.strerror or error}") from error
