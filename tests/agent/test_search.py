"""Optuna as planner: plans that can work, none twice, the known recipes first; what was measured is not forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from diffagent.arms import Arm, Setting
from diffagent.bound import most
from diffagent.knowledge import known
from diffagent.loop import Shape
from diffagent.plan import Plan, Subject, canonical, problems
from diffagent.profile import Part, Profile
from diffagent.space import Space
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench.demand import Markers, SpeedDemand
from pytest_diffbench.providers import baseline_source
from pytest_diffbench.zoo.models import FAMILIES
from tests.agent.demands import demand
from tests.agent.imagined import Imagined

if TYPE_CHECKING:
    from diffagent.fitness import Fitness

HARD = Markers(speed=SpeedDemand(3.0))
TASK = demand("sd15", HARD, level=4)


def _arm(machine: Imagined, name: Any = "search", **more: Any) -> Arm:
    return Arm(name, Setting(machine, "cpu", **more))


def test_the_target_is_reached_and_confirmed() -> None:
    """The plan that passed is measured once more, on other requests, before it is the answer."""
    machine = Imagined(target=3.0)

    best = _arm(machine).loop(TASK).best()

    assert best is not None
    assert best.passes
    assert list(machine.generations[-1].values()) == [best.source]
    assert len({order.seed for order in machine.orders}) == len(machine.orders)


def test_a_target_out_of_reach_takes_the_whole_budget_and_gives_the_best() -> None:
    """Four generations of seven, five finalists once more, the best thoroughly; quality goes before speed."""
    machine = Imagined(target=100.0)

    best = _arm(machine).loop(TASK).best()

    assert [len(generation) for generation in machine.generations] == [7, 7, 7, 7, 5, 1]
    assert [order.quick for order in machine.orders] == [True] * 5 + [False]
    assert best is not None
    assert best.thorough
    assert best.fitness is not None
    assert best.fitness.keeps_quality
    assert best.fitness.speedup is not None
    assert best.fitness.speedup > 3


@pytest.mark.parametrize("name", ["search", "evolution", "random"])
def test_no_plan_is_measured_twice_in_a_search(name: str) -> None:
    """Equal programs are equal plans; the finalists alone are measured again."""
    machine = Imagined(target=100.0)
    _arm(machine, name).loop(TASK).best()
    sources = [source for generation in machine.generations[:4] for source in generation.values()]

    assert len(set(sources)) == len(sources) == 28


def test_the_same_task_is_searched_in_the_same_way() -> None:
    """Seeded by the task; each way to search goes its own, and another attempt too."""
    found = {}
    for name, attempt in (("search", ""), ("again", ""), ("random", ""), ("evolution", ""), ("search", "2")):
        machine = Imagined(100.0)
        arm = _arm(machine, "search" if name == "again" else name, shape=Shape(population=4, generations=2))
        arm.loop(TASK, attempt=attempt).best()
        found[name + attempt] = (machine.generations, [order.seed for order in machine.orders])

    assert found["search"] == found["again"]
    assert len({str(each) for each in found.values()}) == 4


def test_recipes_come_first() -> None:
    """What is known to be worth a try is tried before anything else; chance knows no recipe."""
    recipes = Space(Subject.of(TASK, "cpu"), known()).recipes()
    first = {}
    for name in ("search", "evolution", "random"):
        loop = _arm(Imagined(100.0), name).loop(TASK)
        loop.spent_out(7)
        first[name] = [candidate.idea.plan for candidate in loop.memory.tried]

    assert set(map(str, first["search"])) == set(map(str, first["evolution"]))
    assert {str(plan) for plan in first["search"]} >= {str(canonical(plan, known(), "cpu")) for plan in recipes[:5]}
    assert set(map(str, first["random"])).isdisjoint(map(str, first["search"]))


def test_methods_and_recipes_can_be_left_out() -> None:
    """To see what they are worth: what is left out is never planned."""
    loop = _arm(Imagined(100.0), without=frozenset({"dpm_solver"})).loop(TASK)
    loop.spent_out(14)
    assert not any(candidate.idea.plan.get("dpm_solver") for candidate in loop.memory.tried)

    bare = _arm(Imagined(100.0), without=frozenset({"recipes"})).loop(TASK)
    bare.spent_out(7)
    recipes = {str(canonical(plan, known(), "cpu")) for plan in Space(Subject.of(TASK, "cpu"), known()).recipes()}
    assert recipes.isdisjoint(str(candidate.idea.plan) for candidate in bare.memory.tried)


def test_what_cannot_reach_the_target_is_never_measured() -> None:
    """Amdahl's law by the profile refuses it; chance alone knows no profile."""
    profile = Profile(parts=(Part("deep", "rest", 0.5), Part("outer", "rest", 0.5)))
    machine, careless = Imagined(target=4.0), Imagined(target=3.0)
    loop = _arm(machine, profile=lambda _: profile).loop(demand("sd15", Markers(speed=SpeedDemand(4.0)), level=4))
    loop.spent_out(14)
    chance = _arm(careless, "random", profile=lambda _: profile).loop(TASK)
    chance.spent_out(14)

    subject = Subject.of(TASK, "cpu")
    reach = [min(most(each.idea.plan, profile, subject, known()) for each in by.memory.tried) for by in (loop, chance)]
    assert reach[0] > 3 > reach[1]


@pytest.mark.parametrize("name", ["search", "evolution", "random"])
def test_what_is_known_to_be_slower_here_is_never_measured(name: str) -> None:
    """A CPU takes 4 to 17 times as long in float16, where a fifth of all evaluations went. A GPU does not."""
    seen = {}
    for kind in ("cpu", "cuda"):
        loop = Arm(name, Setting(Imagined(100.0), kind)).loop(TASK)  # type: ignore[arg-type]
        loop.spent_out(28)
        plans = [candidate.idea.plan.get("half_precision") for candidate in loop.memory.tried]
        seen[kind] = {str(applied.parameters["dtype"]) for applied in plans if applied is not None}

    assert seen["cpu"] == {"bfloat16"}
    assert "float16" in seen["cuda"]


def test_where_little_is_left_that_could_reach_the_target_mutants_fill_the_generations() -> None:
    """Nearly all that could is near what was tried: TPE alone found four of seven new plans there, then none."""
    profile = Profile(parts=(Part("deep", "rest", 0.75), Part("outer", "rest", 0.25)))
    markers = Markers(speed=SpeedDemand(2.6))
    fixed = demand("sd15", markers, level=4, sampler="ddim", steps=50, fixed_schedule=True)
    machine = Imagined(target=2.6)
    _arm(machine, profile=lambda _: profile).loop(fixed).best()

    assert [len(generation) for generation in machine.generations[:4]] == [7, 7, 7, 7]


def test_mutants_come_from_both_sides_of_the_limit() -> None:
    """The fastest that keep the quality, and of those that are faster still the ones that lose the least."""
    loop = _arm(Imagined(target=100.0)).loop(TASK)
    loop.spent_out(28)

    around = loop.memory.around_the_limit(2)
    within, beyond = around[:2], around[2:]
    fitness = {each.name: each.fitness for each in loop.memory.tried if each.fitness is not None}
    kept = sorted((each.speedup or 0 for each in fitness.values() if each.keeps_quality), reverse=True)
    assert [fitness[each.name].speedup for each in within] == kept[:2]
    assert len(beyond) == 2
    assert all((fitness[each.name].speedup or 0) > kept[0] for each in beyond)
    losses = [each.loss or 0 for each in fitness.values() if not each.keeps_quality and (each.speedup or 0) > kept[0]]
    assert [fitness[each.name].loss for each in beyond] == sorted(losses)[:2]


def test_what_is_slower_than_the_pipeline_as_it_is_is_not_measured_again() -> None:
    """Half the time of the finalists went to plans that nobody would want."""

    class Slow(Imagined):
        def fitness(self, source: str) -> Fitness:
            found = super().fitness(source)
            speedup = 2.0 if "steps=14" in source else 0.5
            return replace(found, speedup=speedup, speedup_low=speedup, speedup_high=speedup, verdict="FAIL")

    machine = Slow(target=100.0)
    best = _arm(machine).loop(TASK).best()

    *generations, finalists = machine.generations[:5]
    faster = [each for generation in generations for each in generation.values() if "steps=14" in each]
    assert best is not None
    assert sorted(finalists.values()) == sorted(faster or [best.source])


def test_where_all_is_slower_the_pipeline_stays_as_it_is() -> None:
    """Who is outrun by it is not judged, and no answer."""

    class Slow(Imagined):
        def fitness(self, source: str) -> Fitness:
            found = super().fitness(source)
            lost: dict[str, Any] = dict.fromkeys(("loss", "loss_low", "loss_high"))
            return replace(found, verdict="FAIL", cause="relative-speed error", stage="speed", speedup=0.5, **lost)

    solution = _arm(Slow(target=2.0), shape=Shape(population=2, generations=1)).solve(TASK, "", "")

    assert solution.source == baseline_source(TASK)
    assert "as it is" in solution.origin


def test_a_search_begins_with_the_program_that_is_given() -> None:
    """It is measured as it is, and the plan that it follows is where the search begins."""
    mine = (
        "def load(model, device): ...\ndef generate(pipeline, requests):\n    return pipeline(num_inference_steps=14)\n"
    )
    mine += "scheduler = UniPCMultistepScheduler.from_config({})\npipeline.scheduler = scheduler\n"
    machine = Imagined(target=100.0)
    loop = _arm(machine, given=mine).loop(TASK)
    loop.spent_out(7)

    first, second, *_ = loop.memory.tried
    assert (first.source, str(first.idea)) == (mine, "as it was given")
    assert second.idea.plan.methods[0].method == "unipc"
    assert second.idea.plan.methods[0].parameters["steps"] == 14


def test_without_anything_that_works_nothing_is_recommended() -> None:
    """Where every measurement is lost to trouble of ours, there is no best; the benchmark still gets an answer."""

    class Broken(Imagined):
        def fitness(self, source: str) -> Any:
            """No device."""
            found = super().fitness(source)
            return type(found)("", "INFRA", line="no device")

    assert _arm(Broken(3.0)).loop(TASK).best() is None
    assert "def generate" in _arm(Broken(3.0)).solve(TASK, "", "").source


def test_what_a_task_demands_is_written_without_a_search() -> None:
    """At levels 2 and 3 there is nothing to look for."""
    machine = Imagined(3.0)
    task = demand("sd15", level=3, sampler="ddim", methods={"unipc": {"steps": 19}, "deepcache": {"interval": 2}})

    solution = _arm(machine).solve(task, "", "")
    assert machine.generations == []
    assert "UniPCMultistepScheduler" in solution.source
    assert "num_inference_steps=19" in solution.source
    assert "deepcache(pipeline, interval=2" in solution.source


@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: model.name)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_what_the_space_suggests_can_be_enqueued_again(model: Any, seed: int) -> None:
    """A plan as Optuna's parameters gives the plan back; methods that cannot work alone are never suggested."""
    subject = Subject.of(demand(model.name), "cpu")
    space = Space(subject, known())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    plan = canonical(space.suggested(study.ask()), known(), "cpu")

    study.enqueue_trial(space.as_parameters(plan))
    again = canonical(space.suggested(study.ask()), known(), "cpu")
    assert again == plan
    assert not any("denoiser is" in found or "told a" in found for found in problems(plan, subject, known()))


@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: model.name)
def test_there_are_recipes_for_every_family(model: Any) -> None:
    """At least three, all of which can work; without a method, those that use it are gone."""
    space = Space(Subject.of(demand(model.name), "cpu"), known())
    recipes = space.recipes()

    assert len(recipes) >= 3
    less = Space(Subject.of(demand(model.name), "cpu"), known().without("dpm_solver")).recipes()
    assert less == [plan for plan in recipes if plan.get("dpm_solver") is None]
    assert all(isinstance(plan, Plan) for plan in less)
