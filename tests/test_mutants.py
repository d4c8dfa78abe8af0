"""The static check over every key attribute: what gets one wrong is caught, what gets all right is never refused.

For every model and use, every sampler, method and a good many combinations are demanded; the answer is the one that the
agent's templates write, and each mutant of it has exactly one attribute wrong.
"""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from diffagent import program
from diffagent.catalogue import METHODS
from diffagent.knowledge import known

from pytest_diffbench import Task, cli, methods, providers
from pytest_diffbench.demand import Markers, resolve
from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.methods import SAMPLERS
from pytest_diffbench.records import Cause
from pytest_diffbench.static_check import check
from pytest_diffbench.zoo.models import FAMILIES
from tests.mutants import mutants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.zoo.models import Model

SUITES = Path(__file__).parents[1] / "suites"
KNOWN = {method.name: method for method in (*methods.BUILT_IN, *METHODS)}
EXAMPLES: dict[str, dict[str, object]] = {
    "ddim": {"steps": 30},
    "dpm_solver": {"steps": 20},
    "unipc": {"steps": 15},
    "half_precision": {"dtype": "bfloat16"},
    "token_merging": {"ratio": 0.5, "max_downsample": 2},
    "deepcache": {"interval": 3, "branch": 0},
    "tgate": {"gate_step": 6, "sp_interval": 1, "fi_interval": 1, "warm_up": 2},
    "guidance_window": {"start": 0.0, "stop": 0.6},
    "block_reuse": {"interval": 2, "warm_up": 1},
}


def _demand(model: Model, strength: float | None, **declared: Any) -> Demand:
    return resolve(
        Task(model.name, strength=strength, **declared),
        Markers(),
        task_id="it",
        summary="Do it.",
        folder=Path(),
        known_models={each.name: each for each in FAMILIES},
        known_methods=KNOWN,
    )


def _uses() -> Iterator[tuple[Model, float | None]]:
    for model in FAMILIES:
        yield model, None
        if model.image_to_image_classes:
            yield model, 0.6


def _demanded() -> Iterator[Demand]:
    """As plain pipelines, one method, and every pair that goes together (levels 1, 2 and 3)."""
    for model, strength in _uses():
        for sampler in model.samplers:
            yield _demand(model, strength, level=1, sampler=sampler, steps=30)
        able = [name for name in EXAMPLES if KNOWN[name].model_problem(model) is None and _draws(name, model)]
        for name in able:
            yield _demand(model, strength, level=2, steps=40, methods={name: EXAMPLES[name]})
            yield _demand(model, strength, level=2, steps=40, methods={name: {}})
        for pair in itertools.combinations(able, 2):
            if _together(*pair):
                yield _demand(model, strength, level=3, steps=40, methods={name: EXAMPLES[name] for name in pair})


def _draws(name: str, model: Model) -> bool:
    return name not in SAMPLERS or name in model.samplers


def _together(one: str, other: str) -> bool:
    knowledge = known()
    kinds = {knowledge[name].facts.kind for name in (one, other)}
    return len(kinds) == 2 and knowledge.conflict(one, other) is None


def _answer(demand: Demand) -> str:
    return program.written(program.demanded(demand), demand, "cpu", known())


def _is_caught(source: str, demand: Demand) -> bool:
    try:
        check(source, demand)
    except SolutionFault as fault:
        return fault.cause is Cause.KEY_ATTRIBUTE
    return False


@pytest.fixture(scope="module")
def shipped() -> list[Demand]:
    """The tasks of the suites."""
    status, collected = cli.collect([str(SUITES)])
    assert status == 0
    return [demand for _, demand in collected.tasks]


def test_what_is_right_is_never_refused(shipped: list[Demand]) -> None:
    """Every worked answer of the suites, and the templates' answer to every demand."""
    for demand in shipped:
        check(providers.Reference().solve(demand, "", "").source, demand)
    count = 0
    for demand in _demanded():
        check(_answer(demand), demand)
        count += 1
    assert count > 250


def test_what_is_wrong_in_one_attribute_is_caught(shipped: list[Demand]) -> None:
    """All of them today; none may be missed so that no attribute as a whole can slip through."""
    caught = 0
    missed: Counter[str] = Counter()
    answers = [(demand, providers.Reference().solve(demand, "", "").source) for demand in shipped]
    for demand, source in [*answers, *((demand, _answer(demand)) for demand in _demanded())]:
        for attribute, mutant in mutants(source, demand):
            if _is_caught(mutant, demand):
                caught += 1
            else:
                missed[attribute] += 1

    assert missed == {}
    assert caught > 6000
