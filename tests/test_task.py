"""What a task's author writes: names, defaults, and nothing that changes afterwards."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from pytest_diffbench import Task
from pytest_diffbench.demand import QualityDemand
from pytest_diffbench.task import DEFAULT_MAX_LOSS, DIFFICULTIES, LEVELS

if TYPE_CHECKING:
    from pytest_diffbench.task import MethodDemands


def test_a_task_leaves_everything_but_its_model_to_the_models_own_defaults() -> None:
    """Only the model is needed; what is not said is None, no method demanded, nothing fixed, requests travel alone."""
    said = {"model": "sd15", "batch": 1, "methods": (), "fixed_schedule": False}

    task = dataclasses.asdict(Task("sd15"))
    assert {name: value for name, value in task.items() if value is not None} == said


def test_everything_but_the_model_is_given_by_name() -> None:
    """A second positional argument is refused: nobody can tell a level from a step count."""
    with pytest.raises(TypeError, match="positional"):
        Task("sd15", 4)  # type: ignore[call-arg]


def test_a_task_cannot_be_changed() -> None:
    """A task is a value: what was collected is what is run."""
    task = Task("sd15")

    with pytest.raises(dataclasses.FrozenInstanceError):
        task.level = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        pytest.param((), {}, id="none"),
        pytest.param("unipc", {"unipc": {}}, id="one name"),
        pytest.param(["unipc", "half_precision"], {"unipc": {}, "half_precision": {}}, id="names"),
        pytest.param({"unipc": {"steps": 20}}, {"unipc": {"steps": 20}}, id="with parameters"),
    ],
)
def test_methods_may_be_given_in_any_form(methods: MethodDemands, expected: dict[str, dict[str, object]]) -> None:
    """A name, several names or a mapping mean the same; a single name is not taken for its letters."""
    task = Task("sd15", methods=methods)

    assert task.method_parameters() == expected


def test_methods_keep_the_order_of_their_declaration() -> None:
    """Methods are applied in the order in which the author wrote them."""
    task = Task("sd15", methods={"unipc": {}, "half_precision": {}, "ddim": {}})

    assert list(task.method_parameters()) == ["unipc", "half_precision", "ddim"]


def test_changing_the_parameters_that_were_read_leaves_the_task_alone() -> None:
    """`method_parameters` gives copies."""
    task = Task("sd15", methods={"unipc": {"steps": 20}})

    task.method_parameters()["unipc"]["steps"] = 1

    assert task.method_parameters() == {"unipc": {"steps": 20}}


def test_the_thresholds_are_the_papers() -> None:
    """Five levels, three difficulties, and at most 5 % of quality lost unless a task says otherwise."""
    quality = QualityDemand()

    assert (list(LEVELS), DIFFICULTIES) == ([1, 2, 3, 4, 5], ("easy", "medium", "hard"))
    assert quality == QualityDemand(max_loss=DEFAULT_MAX_LOSS, strict=False)
    assert quality.max_loss == 0.05
