"""Plans as data: what cannot work is said, equal plans are equal, and children are made of their parents alone."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from diffagent.knowledge import known
from diffagent.knowledge.base import KINDS
from diffagent.plan import Applied, Plan, Subject, canonical, crossed, digest, drawn, in_words, mutated, problems
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

UNET = Subject("unet", "text", ("variance-preserving", "sigma-scaled", "distilled"), steps=50)
DIT = Subject("transformer", "class", ("variance-preserving", "distilled"), steps=50)
FLOW = Subject("transformer", "text", ("flow",), steps=50)
SEEDS = st.integers(0, 2**32)


def _plan(*methods: tuple[str, dict[str, Any]] | str) -> Plan:
    pairs = [(method, {}) if isinstance(method, str) else method for method in methods]
    return Plan(methods=tuple(Applied(method=name, parameters=parameters) for name, parameters in pairs))


@st.composite
def plans(draw: st.DrawFn, subject: Subject = UNET) -> Plan:
    """Plans that work, each method with some of its parameters."""
    rng = random.Random(draw(SEEDS))
    for _ in range(1000):
        chosen = []
        for kind in KINDS:
            entries = known().of_kind(kind)
            if entries and rng.random() < 0.5:
                entry = rng.choice(entries)
                own = entry.facts.parameters
                given_ = {name: drawn(parameter, rng) for name, parameter in own.items() if rng.random() < 0.7}
                chosen.append((entry.name, given_))
        plan = _plan(*chosen)
        if not problems(plan, subject, known()):
            return plan
    raise AssertionError("no plan works")


@pytest.mark.parametrize(
    ("plan", "subject", "said"),
    [
        (_plan("deepcash"), UNET, "'deepcash' is unknown: use ddim"),
        (_plan("deepcache"), DIT, "deepcache is for a unet; this model's denoiser is a transformer"),
        (_plan("tgate"), DIT, "tgate needs text; this model is told a class"),
        (_plan("ddim"), FLOW, "ddim: DDIMScheduler is a variance-preserving scheduler"),
        (_plan(("deepcache", {"interval": 9})), UNET, "deepcache.interval: 9 is no whole number from 2 to 5"),
        (_plan(("deepcache", {"interval": True})), UNET, "True is no whole number"),
        (_plan(("deepcache", {"depth": 1})), UNET, "deepcache has no parameter 'depth': it has interval, branch"),
        (_plan(("half_precision", {"dtype": "int8"})), UNET, "'int8' is none of 'float16', 'bfloat16'"),
        (_plan("ddim", "unipc"), UNET, "ddim and unipc are both of the kind sampler: keep one"),
        (_plan("unipc"), replace(UNET, fixed_schedule=True), "unipc: the task demands that sampler and steps stay as"),
        (_plan("tgate", "block_reuse"), UNET, "do not go together: both keep what attention gave"),
        (_plan("tgate", "tgate"), UNET, "tgate is there twice"),
        (
            _plan(("tgate", {"gate_step": 12}), ("unipc", {"steps": 10})),
            UNET,
            "12 is not below the 10 steps of an image",
        ),
        (_plan("tgate", ("unipc", {"steps": 10})), UNET, "tgate.gate_step: 10 is not below the 10 steps"),
    ],
)
def test_what_cannot_work_is_said_before_it_runs(plan: Plan, subject: Subject, said: str) -> None:
    """Each fault by itself, with what would be right."""
    found = problems(plan, subject, known())

    assert len(found) == 1
    assert said in found[0]


def test_all_faults_are_said_at_once() -> None:
    """Whoever mends a plan wants to mend it once."""
    plan = _plan("deepcache", "tgate", ("unipc", {"steps": 99}))

    assert len(problems(plan, DIT, known())) == 3


def test_nothing_at_all_is_a_plan() -> None:
    """The pipeline as it is."""
    assert problems(Plan(), UNET, known()) == []
    assert in_words(Plan()) == "as it is"


@given(plans(), SEEDS)
def test_equal_plans_have_equal_hashes(plan: Plan, seed: int) -> None:
    """In another order, with defaults written out, through JSON, with noise behind the fourth digit."""
    shuffled = list(canonical(plan, known(), "cpu").methods)
    random.Random(seed).shuffle(shuffled)
    again = Plan.model_validate_json(Plan(methods=tuple(map(_nudged, shuffled))).model_dump_json())

    assert digest(again, known(), "cpu") == digest(plan, known(), "cpu")


def _nudged(applied: Applied) -> Applied:
    moved = {name: _otherwise(v) if isinstance(v, float) else v for name, v in applied.parameters.items()}
    return Applied(method=applied.method, parameters=moved)


def _otherwise(value: float) -> float:
    """As a file or a model may write it: a whole number without its point."""
    return int(value) if value.is_integer() else value + 1e-7


def test_a_whole_number_is_the_number_that_it_is() -> None:
    """JSON and TOML files of others write 0 for 0.0."""
    one, other = (
        Plan(methods=(Applied(method="guidance_window", parameters={"start": start, "stop": 1}),)) for start in (0, 0.0)
    )

    assert digest(one, known(), "cpu") == digest(other, known(), "cpu")
    assert canonical(one, known(), "cpu").model_dump_json() == canonical(other, known(), "cpu").model_dump_json()


@given(plans(), plans())
def test_different_plans_have_different_hashes(one: Plan, other: Plan) -> None:
    """Unless they are the same when everything is written out."""
    same = canonical(one, known(), "cpu") == canonical(other, known(), "cpu")

    assert (digest(one, known(), "cpu") == digest(other, known(), "cpu")) is same


@given(plans(), plans(), SEEDS)
def test_a_child_is_made_of_its_parents_alone(one: Plan, other: Plan, seed: int) -> None:
    """Each method, with its very parameters, comes from one of them, and the child works."""
    child = crossed(one, other, UNET, known(), random.Random(seed))
    genes = _genes(one, other)

    assert child is not None
    assert problems(child, UNET, known()) == []
    assert all(applied in genes for applied in child.methods)


def _genes(*parents: Plan) -> Sequence[Applied]:
    return [applied for parent in parents for applied in canonical(parent, known(), "cpu").methods]


@given(plans(), SEEDS)
def test_a_mutant_differs_in_one_method(plan: Plan, seed: int) -> None:
    """It works, is another plan, and all but one kind of method is as it was."""
    mutant = mutated(plan, UNET, known(), random.Random(seed))

    assert mutant is not None
    assert problems(mutant, UNET, known()) == []
    assert digest(mutant, known(), "cpu") != digest(plan, known(), "cpu")
    before, after = (_by_kind(canonical(each, known(), "cpu")) for each in (plan, mutant))
    assert sum(before.get(kind) != after.get(kind) for kind in KINDS) == 1


def _by_kind(plan: Plan) -> dict[str, Applied]:
    return {known()[applied.method].facts.kind: applied for applied in plan.methods}


@given(plans(DIT), SEEDS)
def test_mutants_stay_within_what_the_model_can_do(plan: Plan, seed: int) -> None:
    """No DeepCache and no T-GATE on a DiT."""
    mutant = mutated(plan, DIT, known(), random.Random(seed))

    assert mutant is not None
    assert not {"deepcache", "tgate"} & {applied.method for applied in mutant.methods}


@pytest.mark.parametrize(
    "text",
    [
        '{"methods": [{"method": "ddim", "steps": 20}]}',
        '{"methods": [{"parameters": {}}]}',
        '{"method": []}',
        '{"methods": [{"method": "ddim", "parameters": {"steps": [20]}}]}',
    ],
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    """A language model's slips are found when its reply is read."""
    with pytest.raises(ValidationError):
        Plan.model_validate_json(text)


def test_a_method_that_is_not_known_stays_as_it_is() -> None:
    """A task may demand what nobody here recommends: such a plan has a hash too."""
    plan = Plan(methods=(Applied(method="heun", parameters={"steps": 9}), Applied(method="deepcache")))

    assert canonical(plan, known(), "cpu").get("heun") == Applied(method="heun", parameters={"steps": 9})
    assert digest(plan, known(), "cpu") != digest(Plan(methods=plan.methods[1:]), known(), "cpu")
