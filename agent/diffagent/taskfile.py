"""A task as a test file of its own: what an agent measures its candidates with, and what keeps a result true."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pytest_diffbench.declaration import PATHS, docstring, of_loading, of_markers, of_task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_diffbench import Task
    from pytest_diffbench.demand import Demand

TEST: Final = "test_candidate"
STAGES: Final = ("executability", "speed", "quality")


def written(demand: Demand, *, summary: str, relative_to: Path | None = None, stages: Sequence[str] = STAGES) -> str:
    """The text of a test file that demands the same, or as much of it as these stages see.

    Paths of the task's own files become absolute, unless the file will lie in the folder `relative_to`.
    """
    markers, task = demand.markers, _placed(demand, relative_to)
    lines = [docstring(summary), "", "import pytest", "", "from pytest_diffbench import Task", "", ""]
    if "quality" not in stages and (markers.speed or markers.latency):
        task = replace(task, level=None)  # whose level would demand the speed that is not looked at
    lines.append(f"@pytest.mark.diffbench({of_task(task)})")
    lines += of_markers(markers) if "quality" in stages else of_loading(markers)
    lines += [f"def {TEST}({', '.join(stages)}):", f"    {docstring(demand.summary or summary)}", ""]
    return "\n".join(lines)


def _placed(demand: Demand, folder: Path | None) -> Task:
    def moved(name: str) -> str:
        path = (demand.folder / name).resolve()
        return f"./{os.path.relpath(path, folder)}" if folder is not None else str(path)

    task = demand.task
    own = {name: moved(value) for name in PATHS if (value := getattr(task, name)) is not None}
    if demand.model.folder is not None:
        own["model"] = moved(task.model)
    return replace(task, **own)  # type: ignore[arg-type]
