"""A plan: which methods are used with which parameters, as data that can be checked before anything runs.

A plan has at most one method of a kind, so that its kinds are its genes: two plans cross by taking each gene from one
of them, and equal plans have equal hashes however they were written down.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field

from diffagent.knowledge.base import KINDS, Choice, Integer, Knowledge, Number, Value
from pytest_diffbench.methods import family_problem

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Mapping

    from pytest_diffbench.demand import Demand

DIGITS: Final = 4
"""Of a number in a plan: what lies closer together is the same plan."""
TRIES: Final = 100


class Applied(BaseModel):
    """A method in a plan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    parameters: dict[str, Value] = Field(default_factory=dict)
    """What is left out is as the knowledge base has it."""


class Plan(BaseModel):
    """What is done to a pipeline; no method at all is the pipeline as it is run today."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    methods: tuple[Applied, ...] = ()

    def get(self, method: str) -> Applied | None:
        """The method of this name, if it is in the plan."""
        return next((applied for applied in self.methods if applied.method == method), None)


@dataclass(frozen=True)
class Subject:
    """What a plan is made for: as much of a task as decides which plans can work."""

    denoiser: str
    conditioning: str
    families: tuple[str, ...]
    """Of the schedulers that draw right."""
    steps: int
    """As it is run today."""
    device_kind: str = "cpu"
    fixed_schedule: bool = False
    """Whether sampler and steps must stay as they are."""

    @classmethod
    def of(cls, demand: Demand, device_kind: str) -> Subject:
        """The subject of a task on a kind of device ('cpu', 'cuda')."""
        model, fixed = demand.model, demand.task.fixed_schedule
        return cls(model.denoiser, model.conditioning, tuple(model.families), demand.steps, device_kind, fixed)


def problems(plan: Plan, subject: Subject, knowledge: Knowledge) -> list[str]:
    """All that keeps a plan from working, each with what would be right; empty where nothing does."""
    unknown = [applied.method for applied in plan.methods if applied.method not in knowledge]
    if unknown:
        return [f"{name!r} is unknown: use {', '.join(knowledge.entries)}" for name in unknown]
    found: list[str] = []
    steps = steps_of(plan, subject, knowledge)
    for applied in plan.methods:
        found += _own_problems(applied, subject, knowledge, steps)
    for index, applied in enumerate(plan.methods):
        for other in plan.methods[index + 1 :]:
            found += _problems_together(applied.method, other.method, knowledge)
    return found


def _own_problems(applied: Applied, subject: Subject, knowledge: Knowledge, steps: int) -> Iterator[str]:
    name, facts = applied.method, knowledge[applied.method].facts
    if subject.denoiser not in facts.denoisers:
        yield f"{name} is for a {' or '.join(facts.denoisers)}; this model's denoiser is a {subject.denoiser}"
    if subject.conditioning not in facts.conditioning:
        yield f"{name} needs {' or '.join(facts.conditioning)}; this model is told a {subject.conditioning}"
    if facts.kind == "sampler" and subject.fixed_schedule:
        yield f"{name}: the task demands that sampler and steps stay as they are"
    if facts.scheduler is not None and (problem := family_problem(facts.scheduler, subject.families)):
        yield f"{name}: {problem}"
    for parameter, value in applied.parameters.items():
        if parameter not in facts.parameters:
            yield f"{name} has no parameter {parameter!r}: it has {', '.join(facts.parameters) or 'none'}"
        elif problem := facts.parameters[parameter].problem(value):
            yield f"{name}.{parameter}: {problem}"
    for parameter, value in knowledge[name].parameters(applied.parameters, subject.device_kind).items():
        known = facts.parameters[parameter]
        if known.below_steps and isinstance(value, int) and value >= steps:
            yield f"{name}.{parameter}: {value} is not below the {steps} steps of an image"


def _problems_together(one: str, other: str, knowledge: Knowledge) -> Iterator[str]:
    if one == other:
        yield f"{one} is there twice"
    elif knowledge[one].facts.kind == knowledge[other].facts.kind:
        yield f"{one} and {other} are both of the kind {knowledge[one].facts.kind}: keep one"
    elif why := knowledge.conflict(one, other):
        yield f"{one} and {other} do not go together: {why}"


def steps_of(plan: Plan, subject: Subject, knowledge: Knowledge) -> int:
    """Denoising steps of an image under a plan."""
    for applied in plan.methods:
        if applied.method in knowledge and knowledge[applied.method].facts.kind == "sampler":
            steps = knowledge[applied.method].parameters(applied.parameters)["steps"]
            return steps if isinstance(steps, int) else subject.steps
    return subject.steps


def canonical(plan: Plan, knowledge: Knowledge, device_kind: str) -> Plan:
    """The same plan as everybody would write it: methods by kind, every parameter, numbers to four digits.

    Of a method that is not known, the parameters stay as they are.
    """

    def completed(applied: Applied) -> Applied:
        if applied.method not in knowledge:
            return applied
        parameters = knowledge[applied.method].parameters(applied.parameters, device_kind)
        known = knowledge[applied.method].facts.parameters
        rounded = {name: round(float(v), DIGITS) if _is_number(known[name], v) else v for name, v in parameters.items()}
        return Applied(method=applied.method, parameters=rounded)

    ordered = sorted(plan.methods, key=lambda applied: (_kind(applied, knowledge), applied.method))
    return Plan(methods=tuple(completed(applied) for applied in ordered))


def _is_number(parameter: object, value: Value) -> bool:
    """Whether 1 and 1.0 are the same for it; what is of a wrong type stays as it is, to be refused."""
    return isinstance(parameter, Number) and isinstance(value, (int, float)) and not isinstance(value, bool)


def digest(plan: Plan, knowledge: Knowledge, device_kind: str) -> str:
    """SHA-256 of the canonical plan: equal for equal plans."""
    text = json.dumps(canonical(plan, knowledge, device_kind).model_dump(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _kind(applied: Applied, knowledge: Knowledge) -> int:
    return KINDS.index(knowledge[applied.method].facts.kind) if applied.method in knowledge else len(KINDS)


def crossed(one: Plan, other: Plan, subject: Subject, knowledge: Knowledge, rng: random.Random) -> Plan | None:
    """A child that takes each kind of method from one parent, as it is; None where no such child could work."""

    def child() -> Plan:
        genes = [rng.choice((one, other)) for _ in KINDS]
        return Plan(methods=tuple(applied for index, parent in enumerate(genes) for applied in _gene(parent, index)))

    def _gene(parent: Plan, kind: int) -> list[Applied]:
        return [applied for applied in parent.methods if _kind(applied, knowledge) == kind]

    return _working(child, subject, knowledge)


def mutated(plan: Plan, subject: Subject, knowledge: Knowledge, rng: random.Random) -> Plan | None:
    """The plan with one method exchanged, left out, taken in, or given one other parameter; None: none works."""

    def child() -> Plan:
        kind = rng.choice(KINDS)
        kept = [applied for applied in plan.methods if knowledge[applied.method].facts.kind != kind]
        own = [applied for applied in plan.methods if applied not in kept]
        choices: list[list[Applied]] = [[Applied(method=entry.name)] for entry in knowledge.of_kind(kind)]
        choices += [[], *([[_varied(own[0], knowledge, rng)]] if own else [])]
        return Plan(methods=(*kept, *rng.choice(choices)))

    own = digest(plan, knowledge, subject.device_kind)
    return _working(child, subject, knowledge, unless=own)


def _varied(applied: Applied, knowledge: Knowledge, rng: random.Random) -> Applied:
    known = knowledge[applied.method].facts.parameters
    if not known:
        return applied
    name = rng.choice(list(known))
    return Applied(method=applied.method, parameters={**applied.parameters, name: drawn(known[name], rng)})


def drawn(parameter: Integer | Number | Choice, rng: random.Random) -> Value:
    """A value of a parameter, all alike likely."""
    if isinstance(parameter, Integer):
        return rng.randint(parameter.low, parameter.high)
    if isinstance(parameter, Number):
        return round(rng.uniform(parameter.low, parameter.high), DIGITS)
    return rng.choice(parameter.choices)


def _working(
    child: Callable[[], Plan], subject: Subject, knowledge: Knowledge, unless: str | None = None
) -> Plan | None:
    for _ in range(TRIES):
        made = child()
        if not problems(made, subject, knowledge) and digest(made, knowledge, subject.device_kind) != unless:
            return canonical(made, knowledge, subject.device_kind)
    return None


def in_words(plan: Plan) -> str:
    """A plan in a line: 'dpm_solver(steps=20) + deepcache(interval=3)', 'as it is' without any method."""

    def told(parameters: Mapping[str, Value]) -> str:
        return ", ".join(f"{name}={value}" for name, value in parameters.items())

    return " + ".join(f"{applied.method}({told(applied.parameters)})" for applied in plan.methods) or "as it is"
