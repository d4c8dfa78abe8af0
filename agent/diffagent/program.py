"""A plan as a program: the templates of its methods, put together for a task's pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import jinja2

from diffagent.knowledge.base import HERE, Knowledge
from diffagent.plan import Applied, Plan, Subject, canonical, in_words, steps_of
from pytest_diffbench import static_check
from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.methods import SAMPLERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from diffagent.candidate import Idea
    from diffagent.knowledge.base import Entry
    from pytest_diffbench.demand import Demand
    from pytest_diffbench.static_check import Reading

TEMPLATE: Final = "program.jinja"
_BINNED: Final = ("PixArtAlphaPipeline", "PixArtSigmaPipeline")
"""These draw another size than is asked for, unless they are told not to."""


def written(plan: Plan, demand: Demand, device_kind: str, knowledge: Knowledge) -> str:
    """The solution that does what a plan says, for a task on a kind of device ('cpu', 'cuda').

    The plan must work there (`plan.problems`); what it leaves open is as the task demands it, or has it today. Methods
    that are not known are left to whoever demands them to miss.
    """
    subject = Subject.of(demand, device_kind)
    known = Plan(methods=tuple(applied for applied in plan.methods if applied.method in knowledge))
    whole = canonical(known, knowledge, device_kind)
    edits = demand.task.strength is not None
    classes = demand.model.image_to_image_classes if edits else demand.model.pipeline_classes
    said = {macro: _said(whole, macro, knowledge) for macro in ("imports", "scheduler", "dtype", "applied")}
    scheduler = next(iter(said["scheduler"]), _scheduler_of_today(demand))
    diffusers = [classes[0], *([scheduler.partition(".")[0]] if scheduler is not None else [])]
    steps = demand.demanded_steps or steps_of(whole, subject, knowledge)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 (it writes Python, no HTML)
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(
        title=f"{demand.model.name}: {in_words(whole)}.",
        imports=_merged([*said["imports"], f"from diffusers import {', '.join(diffusers)}"]),
        pipeline_class=classes[0],
        dtype=next(iter(said["dtype"]), "torch.float32"),
        scheduler=scheduler,
        applied=said["applied"],
        conditioning=demand.model.conditioning,
        edits=edits,
        steps=steps if steps != demand.steps else "first.num_inference_steps",
        exact_size=classes[0] in _BINNED,
    )


class Templates:
    """The coder that needs no language model: an idea's plan, as the knowledge base's templates write it."""

    abreast: Final = 1
    tries: Final = 1
    """Written again it would be the same."""

    def __init__(self, demand: Demand, device_kind: str, knowledge: Knowledge) -> None:
        self._demand = demand
        self._device_kind = device_kind
        self._knowledge = knowledge

    def written(self, idea: Idea, base: str, failures: Sequence[str]) -> str:
        """The program of the idea's plan; what stands beside it in words, templates cannot write."""
        del base, failures
        return written(idea.plan, self._demand, self._device_kind, self._knowledge)


def demanded(demand: Demand) -> Plan:
    """The plan that does exactly what a task demands, its methods with their parameters."""
    methods = [{"method": name, "parameters": dict(given)} for name, given in demand.methods.items()]
    return Plan.model_validate({"methods": methods})


def read(source: str, knowledge: Knowledge) -> Plan:
    """The plan that a program follows, as far as its text says so; no method where it is no program."""
    try:
        reading = static_check.read(source)
    except SolutionFault:
        return Plan()
    found = [applied for entry in knowledge.entries.values() if (applied := _stated(reading, entry)) is not None]
    first = {knowledge[applied.method].facts.kind: applied for applied in reversed(found)}
    return Plan(methods=tuple(first.values()))


def _stated(reading: Reading, entry: Entry) -> Applied | None:
    """A method as a reading states it; parameters that cannot be read, or are out of range, are left to the default."""
    if entry.facts.kind == "sampler":
        stated: Mapping[str, object] = {"steps": next((each for each in reading.steps if isinstance(each, int)), None)}
        here = entry.facts.scheduler in reading.schedulers
    elif entry.facts.kind == "precision":
        stated = {"dtype": next(iter(reading.dtypes), None)}
        here = entry.facts.parameters["dtype"].problem(stated["dtype"]) is None
    else:
        calls = reading.calls.get(entry.name, [])
        stated, here = (calls[0].keywords if calls else {}), bool(calls)
    known = entry.facts.parameters
    kept = {name: value for name, value in stated.items() if name in known and known[name].problem(value) is None}
    return Applied.model_validate({"method": entry.name, "parameters": kept}) if here else None


def _said(plan: Plan, macro: str, knowledge: Knowledge) -> list[str]:
    """What the templates of a plan's methods give for a macro, those that have it and say anything."""
    found = [knowledge[applied.method].written(macro, applied.parameters) for applied in plan.methods]
    return [text for text in found if text]


def _scheduler_of_today(demand: Demand) -> str | None:
    """How a program sets the scheduler that a task's model is run with; None: a user's own comes with its model."""
    sampler = demand.demanded_sampler or demand.sampler
    if sampler not in SAMPLERS or (demand.model.folder is not None and demand.demanded_sampler is None):
        return None
    exact = ", clip_sample=False" if sampler == "ddim" else ""
    return f"{SAMPLERS[sampler][0]}.from_config(pipeline.scheduler.config{exact})"


def _merged(lines: Iterable[str]) -> Sequence[tuple[str, list[str]]]:
    """Lines `from module import name` as one entry a module, in order."""
    found: dict[str, set[str]] = {}
    for line in (line for text in lines for line in text.splitlines()):
        module, _, names = line.removeprefix("from ").partition(" import ")
        found.setdefault(module, set()).update(name.strip() for name in names.split(","))
    return [(module, sorted(found[module])) for module in sorted(found)]
