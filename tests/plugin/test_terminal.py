"""What a run looks like in a narrow terminal and in a wide one."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from _pytest.terminal import TerminalReporter

from pytest_diffbench import evidence
from pytest_diffbench.plugin.terminal import LEAST_COLUMNS, brief, summarise, table
from pytest_diffbench.records import Cause, Quality, Speed, StepControl, TaskReport, Verdict

SPEED = Speed((2.0,), (1.0,), "B", 2.0, 1.9, 2.1)


def _report(verdict: Verdict, cause: Cause | None = None, batch: int = 1, level: int | None = 1) -> TaskReport:
    task = f"{verdict}-{cause}-{batch}-{level}"
    return TaskReport(f"test_it.py::{task}", task, "agent", verdict, level, cause=cause, speed=SPEED, batch=batch)


def test_the_reasons_are_never_cut_off() -> None:
    """At the least width every column of a table with failures is there, on one line a level."""
    reports = [_report(Verdict.FAIL, Cause.RELATIVE_QUALITY), _report(Verdict.PASS, batch=4)]

    text = table(reports, width=LEAST_COLUMNS)

    row = next(line for line in text.splitlines() if "1 plain pipeline" in line)
    assert "1 relative-quality error" in row
    assert "50.0%" in row
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize(("batch", "shown"), [(1, False), (4, True)])
def test_batches_have_a_column_where_there_are_any(batch: int, shown: bool) -> None:  # noqa: FBT001 (a table's column)
    """Throughput stands apart from latency, and takes no room where nothing travels in batches."""
    assert ("batched" in table([_report(Verdict.PASS, batch=batch)], width=LEAST_COLUMNS)) == shown


def test_a_task_of_ones_own_has_a_row() -> None:
    """What belongs to no level is the user's."""
    assert "your own" in table([_report(Verdict.PASS, level=None)], width=LEAST_COLUMNS)


def test_a_passed_task_is_told_when_fewer_steps_suffice() -> None:
    """Speed-up, change of the score, and the hint, in brackets."""
    control = StepControl(steps=20, elapsed_s=0.5, clip_score=30.0, gain=0.1, gain_low=-0.2)
    quality = Quality((30.0,), (30.3,), 30.3, -0.01, 0.05, step_control=control)
    task = TaskReport("n", "t", "a", Verdict.PASS, speed=SPEED, quality=quality)

    assert brief(task) == " (2.00x, CLIP +1.0 %, fewer steps suffice)"


@pytest.mark.parametrize(("revision", "check"), [("tiny-0123456789ab", evidence.RHO is None), ("0123456789ab", False)])
def test_tiny_results_say_what_they_are(pytestconfig: pytest.Config, revision: str, check: bool) -> None:  # noqa: FBT001 (a table's column)
    """A harness check, until a GPU has shown more; results on other weights are not called so."""
    written = io.StringIO()
    report = replace(_report(Verdict.PASS), model_revision=revision)

    summarise(TerminalReporter(pytestconfig, written), [report], None, more=[])

    assert ("harness check, no claim about real models" in written.getvalue()) is check
