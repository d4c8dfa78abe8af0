"""The edition of a task: the same for the same task, another where anything that decides is another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_diffbench import Task, edition
from pytest_diffbench.demand import Markers, QualityDemand, SpeedDemand
from pytest_diffbench.zoo import supply
from tests.agent.demands import demand

if TYPE_CHECKING:
    import pytest

    from pytest_diffbench.zoo.supply import Weights

DEMANDED = demand("sd15", Markers(speed=SpeedDemand(2.0)), level=4)


def _weights() -> Weights:
    return supply.Zoo().supply(DEMANDED.model)


def test_whatever_decides_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demand, its target and tolerance, weights, scorer, baseline, and the judge's own rules."""
    weights = _weights()
    first = edition.of_task(DEMANDED, weights, "baseline")
    others = [
        edition.of_task(replace(DEMANDED, task=Task("sd15", level=4, steps=20), steps=20), weights, "baseline"),
        edition.of_task(replace(DEMANDED, markers=Markers(speed=SpeedDemand(2.1))), weights, "baseline"),
        edition.of_task(
            replace(DEMANDED, markers=replace(DEMANDED.markers, quality=QualityDemand(0.04))), weights, "baseline"
        ),
        edition.of_task(DEMANDED, replace(weights, revision="other"), "baseline"),
        edition.of_task(DEMANDED, replace(weights, scorer_revision="other"), "baseline"),
        edition.of_task(DEMANDED, weights, "another baseline"),
    ]
    monkeypatch.setattr(edition, "JUDGE", 0)
    others.append(edition.of_task(DEMANDED, weights, "baseline"))

    assert len({first, *others}) == 1 + len(others)


def test_where_a_task_lies_is_not_in_it() -> None:
    """The same task in another checkout is the same task."""
    moved = replace(DEMANDED, folder=Path("/elsewhere"))

    assert edition.of_task(moved, _weights(), "baseline") == edition.of_task(DEMANDED, _weights(), "baseline")


def test_a_run_is_its_set_of_tasks() -> None:
    """In whatever order they were run."""
    assert edition.of_run(["a", "b"]) == edition.of_run(["b", "a"]) != edition.of_run(["a"])
