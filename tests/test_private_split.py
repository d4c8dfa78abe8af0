"""Siblings of tasks: as many, of the same kind, none of them published; every one a task that can be declared."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_diffbench import cli, private_split
from pytest_diffbench.demand import ExecutabilityDemand, Markers, SpeedDemand, denoising_steps
from pytest_diffbench.errors import SetupError
from tests.agent.demands import demand

if TYPE_CHECKING:
    from pytest_diffbench.demand import Demand

SUITES = Path(__file__).parents[1] / "suites"


def _collected(folder: Path) -> list[Demand]:
    status, collected = cli.collect([str(folder), f"--rootdir={folder}"])
    assert status == 0
    return [demand for _, demand in collected.tasks]


def _kind(demand: Demand) -> tuple[object, ...]:
    task = demand.task
    return (
        task.level,
        task.model,
        task.strength,
        demand.sampler,
        tuple(demand.methods),
        task.scenario is None,
        demand.markers.quality,
        demand.summary,
    )


def _numbers(demand: Demand) -> tuple[object, ...]:
    """What makes two tasks one, as it comes out: a task may leave to its model what another one says."""
    given = repr(sorted((name, sorted(each.items())) for name, each in demand.methods.items()))
    return (
        *_kind(demand)[:5],
        demand.task.fixed_schedule,
        demand.task.difficulty,
        demand.size,
        demand.task.batch,
        demand.steps,
        demand.guidance,
        given,
    )


def test_every_task_of_the_suites_has_a_sibling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All 604, with the same levels, models and methods; none is a public one, none comes twice, and none is void."""
    public = _collected(SUITES)
    assert cli.main(["private-split", str(SUITES), "--seed=7", f"--out={tmp_path / 'mine'}"]) == 0
    assert "604 tasks in 30 files" in capsys.readouterr().out

    private = _collected(tmp_path / "mine")
    assert Counter(map(_kind, private)) == Counter(map(_kind, public))
    assert {_numbers(each) for each in private}.isdisjoint(map(_numbers, public))
    assert len({(each.task.level, *_numbers(each)) for each in private}) == 604
    for each in private:
        run = denoising_steps(each.demanded_steps or each.steps, each.task.strength)
        counted = [given.get(name) for given in each.methods.values() for name in ("gate_step", "warm_up")]
        assert [steps for steps in counted if isinstance(steps, int) and steps >= run] == []
        if any(each.known_methods[name].sampler for name in each.methods):
            assert (each.demanded_steps or 0) < each.steps
    intervals = {given["interval"] for each in private for given in each.methods.values() if "interval" in given}
    assert {2, 3} <= intervals


def test_the_tasks_of_a_scenario_stay_together() -> None:
    """Easy or hard, they are run in one way, under a name of its own; fewer steps to begin with leave less to gain."""
    steps = {"steps": 50, "sampler": "ddim", "scenario": "ddim-50"}
    easy, hard = (
        demand("sd15", Markers(speed=SpeedDemand(target)), level=4, difficulty=name, **steps)
        for name, target in (("easy", 1.5), ("hard", 3.0))
    )
    kept = demand("sd15", Markers(speed=SpeedDemand(3.0)), level=4, fixed_schedule=True, **steps | {"scenario": "kept"})
    for seed in range(8):
        text = "".join(private_split.written([easy, hard, kept], seed).values())
        tasks = [_called(each) for each in re.findall(r"diffbench\((Task\(.*\))\)$", text, re.MULTILINE)]
        targets = [float(each) for each in re.findall(r"at_least=([\d.]+)", text)]

        assert tasks[0]["scenario"] == tasks[1]["scenario"] not in ("ddim-50", tasks[2]["scenario"])
        assert (tasks[0]["steps"], tasks[0]["guidance"]) == (tasks[1]["steps"], tasks[1]["guidance"])
        factor = tasks[0]["steps"] / 50
        assert targets == pytest.approx([max(1.05, 1.5 * factor), 3.0 * factor, 3.0], abs=0.011)


def _called(text: str) -> dict[str, Any]:
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call)
    return {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}


def test_no_sibling_is_a_public_task_that_says_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the model's own guidance, which the public task leaves out: the same task, and so drawn again."""
    monkeypatch.setattr(private_split, "STEPS", (1.0, 1.0))
    monkeypatch.setattr(private_split, "GUIDANCE", (1.0, 1.0))

    with pytest.raises(SetupError, match=r"no sibling of .* could be drawn"):
        private_split.written([demand("sd15", level=1, sampler="ddim", steps=30)], 1)


def test_what_a_task_demands_of_loading_its_sibling_demands() -> None:
    """Every marker is carried over; what rests on a user's own files cannot be."""
    limited = demand("sd15", Markers(executability=ExecutabilityDemand(600)), level=1)
    (text,) = private_split.written([limited], 1).values()
    own = replace(limited, task=replace(limited.task, prompts="prompts.txt"))

    assert "@pytest.mark.executability(timeout_s=600" in text
    with pytest.raises(SetupError, match=r"files of your own \(prompts\)"):
        private_split.written([own], 1)


def test_a_seed_draws_the_same_again_and_another_one_others() -> None:
    """So that whoever holds the seed can repeat the claim."""
    tasks = [demand("sd15", level=2, sampler="ddim", steps=30, methods={"deepcache": {"interval": 3}})]

    assert private_split.written(tasks, 1) == private_split.written(tasks, 1)
    assert private_split.written(tasks, 1) != private_split.written(tasks, 2)


def test_an_authors_words_stay_as_they_are() -> None:
    """What a task says of itself is what its sibling says, with quotes, braces and backslashes."""
    words = 'Keep "it" \\sharp\\, {quick} and """well"""'
    task = replace(demand("sd15", level=1), summary=words)

    (text,) = private_split.written([task], 1).values()

    function = ast.parse(text).body[-1]
    assert isinstance(function, ast.FunctionDef)
    assert ast.get_docstring(function) == words


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Somebody's secret tasks are not lost to a second call."""
    (tmp_path / "kept.py").write_text("")

    with pytest.raises(SetupError, match="is not empty: name another folder"):
        private_split.write([demand("sd15")], 1, tmp_path)
    with pytest.raises(SetupError, match="cannot write"):
        private_split.write([demand("sd15")], 1, tmp_path / "kept.py")
