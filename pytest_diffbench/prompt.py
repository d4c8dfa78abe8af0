"""A task as text for a solver: one template, holding everything the static check will demand."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_diffbench.demand import denoising_steps
from pytest_diffbench.methods import SAMPLERS, SCHEDULER_FAMILIES
from pytest_diffbench.providers import baseline_source
from pytest_diffbench.requests import MAX_SEED

if TYPE_CHECKING:
    from jinja2 import Template

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.zoo.models import Model

TEMPLATE: Final = Path(__file__).parent / "prompt.md.j2"


def _own_defaults(method: str, device_kind: str) -> dict[str, object]:
    """What a task leaves open and the device decides: a CPU takes many times as long for float16."""
    if method != "half_precision":
        return {}
    return {"dtype": "bfloat16" if device_kind == "cpu" else "float16"}


def _families(model: Model) -> str:
    """The schedulers that a model runs with, in words; '' where any may do."""
    able = [name for name in model.families if name != "distilled"]  # of weights that were made for them
    if {*SCHEDULER_FAMILIES} <= {*model.families}:
        return ""
    return " and ".join(f"the {name} ones ({', '.join(SCHEDULER_FAMILIES[name])})" for name in able)


@cache
def _template() -> Template:
    # imported here: only where a prompt is asked for
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 (the text is no HTML)
    return environment.from_string(TEMPLATE.read_text())


def render(demand: Demand, *, device_kind: str, device_model: str, side_px: int | None = None) -> str:
    """The prompt for one task on one kind of device; `side_px` is that of its images, if a stand-in draws them."""
    sampler = demand.demanded_sampler
    return _template().render(
        demand=demand,
        task=demand.task,
        markers=demand.markers,
        methods=[
            (demand.known_methods[name], {**_own_defaults(name, device_kind), **parameters})
            for name, parameters in demand.methods.items()
        ],
        scheduler=SAMPLERS[sampler][0] if sampler is not None else None,
        baseline_scheduler=SAMPLERS.get(demand.sampler, (demand.sampler,))[0],
        baseline=baseline_source(demand),
        families=_families(demand.model),
        by_class=demand.model.conditioning == "class",
        side_px=side_px or demand.size,
        every_step=demand.fixes_calls,
        run_steps=denoising_steps(demand.steps, demand.task.strength),
        device_kind=device_kind,
        device_model=device_model,
        max_seed=MAX_SEED,
    )
