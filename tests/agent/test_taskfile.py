"""A task written as a test file demands what the task did."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from diffagent import taskfile

from pytest_diffbench import Task
from pytest_diffbench.demand import (
    Demand,
    ExecutabilityDemand,
    LatencyDemand,
    Markers,
    QualityDemand,
    SpeedDemand,
    resolve,
)
from pytest_diffbench.zoo.models import FAMILIES
from pytest_diffbench.zoo.weights import TINY
from tests.agent.demands import KNOWN, demand

ALL = Markers(
    speed=SpeedDemand(1.75),
    quality=QualityDemand(0.03, strict=True),
    executability=ExecutabilityDemand(60.0),
)
CASES: list[Demand] = [
    demand("sd15", ALL, level=4, steps=40, sampler="euler", guidance=5.5, batch=2, difficulty="hard", scenario="a"),
    demand("dit", Markers(latency=LatencyDemand(at_most_of_baseline=0.5, percentile=90)), level=5),
    demand("sdxl", strength=0.6),
    demand("sd21", level=3, methods={"half_precision": {"dtype": "bfloat16"}, "deepcache": {"interval": 3}}),
]


def _made(text: str, folder: Path) -> Any:
    """The function that a test file holds."""
    file = folder / "test_it.py"
    file.write_text(text)
    found = importlib.util.spec_from_file_location("test_it", file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return getattr(module, taskfile.TEST)


def _again(text: str, folder: Path) -> Demand:
    marks = {mark.name: mark for mark in _made(text, folder).pytestmark}

    def declared(name: str, kind: Any, otherwise: Any) -> Any:
        return kind(*marks[name].args, **marks[name].kwargs) if name in marks else otherwise

    return resolve(
        marks["diffbench"].args[0],
        Markers(
            declared("speed", SpeedDemand, None),
            declared("latency", LatencyDemand, None),
            declared("quality", QualityDemand, QualityDemand()),
            declared("executability", ExecutabilityDemand, ExecutabilityDemand()),
        ),
        task_id="test_it",
        summary="Do it.",
        folder=folder,
        known_models={model.name: model for model in FAMILIES},
        known_methods=KNOWN,
    )


@pytest.mark.parametrize("task", CASES, ids=lambda task: task.model.name)
def test_nothing_is_lost_on_the_way(task: Demand, tmp_path: Path) -> None:
    """Model, how it is run, methods with their parameters, and every marker."""
    found = _again(taskfile.written(task, summary="A generation."), tmp_path)

    assert replace(found, folder=task.folder, task=task.task) == task
    assert found.task.method_parameters() == task.task.method_parameters()
    assert replace(found.task, methods=()) == replace(task.task, methods=())


@pytest.fixture
def own(tmp_path: Path) -> Demand:
    """A task on a model of one's own, its files beside it."""
    here = tmp_path / "mine"
    here.mkdir()
    (here / "model").symlink_to(TINY / "sd15")
    files = {"baseline": "baseline.py", "prompts": "prompts.txt", "scorer": "scorer"}
    for name in files.values():
        (here / name).touch()
    return resolve(
        Task("./model", **files),  # type: ignore[arg-type]
        Markers(),
        task_id="mine",
        summary="Ours.",
        folder=here,
        known_models={},
        known_methods=KNOWN,
    )


def test_paths_of_ones_own_are_found_from_anywhere(own: Demand, tmp_path: Path) -> None:
    """A generation lies in a folder of its own."""
    made = _made(taskfile.written(own, summary="A generation."), tmp_path).pytestmark
    task = next(mark.args[0] for mark in made if mark.name == "diffbench")

    assert Path(task.baseline) == own.folder / "baseline.py"
    assert Path(task.model).samefile(TINY / "sd15")


def test_a_file_that_is_kept_beside_the_task_says_where_from_there(own: Demand, tmp_path: Path) -> None:
    """So that a repository can be moved."""
    kept = own.folder / "tests"
    kept.mkdir()
    text = taskfile.written(own, summary="Ours must stay fast.", relative_to=kept)

    assert "baseline='./../baseline.py'" in text
    assert str(tmp_path) not in text.replace(str(TINY), "")
