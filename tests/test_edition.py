"""The edition of a task: the same for the same task, another where anything that decides is another."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_diffbench import Task, edition
from pytest_diffbench.demand import Markers, QualityDemand, SpeedDemand
from pytest_diffbench.zoo import supply
from tests import judge_rules
from tests.agent.demands import demand

if TYPE_CHECKING:
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


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other Pythons write the same syntax tree otherwise")
def test_whoever_changes_the_judge_thinks_of_its_number() -> None:
    """Results of before and after a change of its rules must not be ranked together; this cannot be found out later."""
    now, then = judge_rules.found(), judge_rules.recorded()

    assert now == then, f"see {judge_rules.__file__}"


def test_how_the_judge_is_written_down_is_none_of_its_rules() -> None:
    """Comments, docstrings and layout may change; a number may not."""
    one = 'X = 1\n"""What it is."""\n\n\ndef f(a):\n    """Of a."""\n    return a  # back\n'
    same = "X   = 1\ndef f(a):\n    return (a)\n"

    assert judge_rules.digest(one) == judge_rules.digest(same)
    assert judge_rules.digest(one) != judge_rules.digest(one.replace("X = 1", "X = 2"))


def test_what_the_test_itself_demands_is_in_it() -> None:
    """Its stages, its own assertions, metrics of the user's; other prompts are another task too."""
    weights = _weights()
    others = {edition.of_task(DEMANDED, weights, "", asserted) for asserted in ({"stages": ["speed"]}, {"test": "x"})}
    prompts = replace(weights, prompts=lambda _, count: [f"{number}" for number in range(count)])

    assert len({*others, edition.of_task(DEMANDED, weights, ""), edition.of_task(DEMANDED, prompts, "")}) == 4


def test_other_thresholds_make_another_task() -> None:
    """A lenient regrade is never ranked with the verdicts that it came from; of an unknown task it is unknown."""
    lenient, strict = Markers(speed=SpeedDemand(1.1)), Markers(speed=SpeedDemand(3.0))

    assert len({"abc", edition.regraded("abc", lenient), edition.regraded("abc", strict)}) == 3
    assert edition.regraded("", lenient) == ""


def test_where_a_task_lies_is_not_in_it() -> None:
    """The same task in another checkout is the same task."""
    moved = replace(DEMANDED, folder=Path("/elsewhere"))

    assert edition.of_task(moved, _weights(), "baseline") == edition.of_task(DEMANDED, _weights(), "baseline")


def test_a_run_is_its_set_of_tasks() -> None:
    """In whatever order they were run."""
    assert edition.of_run(["a", "b"]) == edition.of_run(["b", "a"]) != edition.of_run(["a"])
