"""A task as a test file of its own: what an agent measures its candidates with, and what keeps a result true."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_diffbench import Task
    from pytest_diffbench.demand import Demand, Markers

TEST: Final = "test_candidate"
STAGES: Final = ("executability", "speed", "quality")
_PATHS: Final = ("baseline", "prompts", "scorer", "images")


def written(demand: Demand, *, summary: str, relative_to: Path | None = None, stages: Sequence[str] = STAGES) -> str:
    """The text of a test file that demands the same, or as much of it as these stages see.

    Paths of the task's own files become absolute, unless the file will lie in the folder `relative_to`.
    """
    markers, task = demand.markers, _placed(demand, relative_to)
    lines = [_docstring(summary), "", "import pytest", "", "from pytest_diffbench import Task", "", ""]
    if "quality" not in stages and (markers.speed or markers.latency):
        task = replace(task, level=None)  # whose level would demand the speed that is not looked at
    lines.append(f"@pytest.mark.diffbench({_declaration(task)})")
    lines += _speed_and_quality(markers) if "quality" in stages else []
    if markers.executability.timeout_s is not None:
        lines.append(f"@pytest.mark.executability(timeout_s={markers.executability.timeout_s!r})")
    lines += [f"def {TEST}({', '.join(stages)}):", f"    {_docstring(demand.summary or summary)}", ""]
    return "\n".join(lines)


def _docstring(text: str) -> str:
    return f'"""{text}"""' if not ("\\" in text or '"""' in text or text.endswith('"')) else repr(text)


def _speed_and_quality(markers: Markers) -> list[str]:
    lines = []
    if markers.speed is not None:
        lines.append(f"@pytest.mark.speed(at_least={markers.speed.at_least!r})")
    if markers.latency is not None:
        latency = markers.latency
        told = {"at_most_s": latency.at_most_s, "at_most_of_baseline": latency.at_most_of_baseline}
        limits = ", ".join(f"{name}={value!r}" for name, value in told.items() if value is not None)
        lines.append(f"@pytest.mark.latency({limits}, percentile={latency.percentile!r})")
    strict = ", strict=True" if markers.quality.strict else ""
    return [*lines, f"@pytest.mark.quality(max_loss={markers.quality.max_loss!r}{strict})"]


def _placed(demand: Demand, folder: Path | None) -> Task:
    def moved(name: str) -> str:
        path = (demand.folder / name).resolve()
        return f"./{os.path.relpath(path, folder)}" if folder is not None else str(path)

    task = demand.task
    own = {name: moved(value) for name in _PATHS if (value := getattr(task, name)) is not None}
    if demand.model.folder is not None:
        own["model"] = moved(task.model)
    return replace(task, **own)  # type: ignore[arg-type]


def _declaration(task: Task) -> str:
    """A task as the call that makes it, what it leaves open left out."""
    first, *others = fields(task)
    said = [repr(getattr(task, first.name))]
    for field in others:
        value = getattr(task, field.name)
        if field.name != "_" and value != field.default:
            said.append(f"{field.name}={task.method_parameters() if field.name == 'methods' else value!r}")
    return f"Task({', '.join(said)})"
