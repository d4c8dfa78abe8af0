"""A folder of answers that does not fit the tasks: files that lie in the wrong place, and files of no task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_diffbench.providers import NO_ANSWER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_diffbench.records import TaskReport

SHOWN: Final = 3


def misplaced(folder: Path, task: str) -> str:
    """What is wrong where answers to a task, or to those whose ids begin so, lie one folder too deep; '' if nothing is.

    Each would be taken for a name that one of several answers to every task may have.
    """
    deeper = (file for file in folder.glob(f"*/{task}*.py") if not file.parent.name.startswith(task))
    if (file := next(deeper, None)) is None:
        return ""
    return (
        f"diffbench: {file} would be one of several answers to a task {file.parent.name!r}: move answers into {folder} "
        "itself, as <task-id>.py, or as <task-id>/1.py, <task-id>/2.py, …"
    )


def unused(folder: Path, reports: Sequence[TaskReport]) -> list[str]:
    """Where tasks lacked an answer, the answers that belong to none: they may have wrong names."""
    if not any(report.line.startswith(NO_ANSWER) for report in reports):
        return []
    meant = {file.stem for file in folder.glob("*.py")} | {file.parent.name for file in folder.glob("*/*.py")}
    left = sorted(meant - {report.task_id for report in reports})
    shown = ", ".join(left[:SHOWN]) + (", …" if len(left) > SHOWN else "")
    return [f"answers that belong to no task of this run: {len(left)} ({shown})"] if left else []
