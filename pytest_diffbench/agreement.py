"""Whether what was seen of a running solution agrees with the demand; what was not seen contradicts nothing."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from pytest_diffbench.demand import denoising_steps
from pytest_diffbench.methods import SAMPLERS, family_problem, sampler_agrees
from pytest_diffbench.records import Observation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.records import Executability
    from pytest_diffbench.wire import Record

PLAIN_LEVEL: Final = 1
"""The level that demands the pipeline as it is, no method in it."""
LEAST_PARAMETERS: Final = 0.75
"""Share of the model's below which a denoiser is another one: those distilled from SD 1.5 and SDXL have 29 to 68 %."""
LEAST_EVALUATIONS: Final = 0.9
"""A plain pipeline makes all of them; PNDM's one repeated step may be left out."""
LEAST_FLOPS: Final = 0.5
"""What a plain pipeline may save by how it is written lies far above."""
_SECOND_ORDER: Final = ("heun",)


def observation(record: Record) -> Observation:
    """The observed part of a process's record."""
    return Observation(**{entry.name: getattr(record, entry.name) for entry in fields(Observation)})


def attributes(record: Record) -> dict[str, Any]:
    """What a pipeline says of itself whether or not a call is observed."""
    names = ("pipeline_class", "scheduler_class", "dtype", "num_inference_steps")
    return {name: getattr(record, name) for name in names}


def running_problems(running: Executability, demand: Demand) -> Iterator[str]:
    """Each way in which the running pipeline's own word contradicts the demand."""
    known = demand.pipeline_classes
    if running.pipeline_class and running.pipeline_class != known[0]:
        yield f"it runs a {running.pipeline_class}; model {demand.model.name!r} needs {known[0]}"
    if problem := family_problem(running.scheduler_class, demand.model.families):
        yield problem
    sampler, steps = demand.demanded_sampler, demand.demanded_steps
    if sampler is not None and not sampler_agrees(running, sampler):
        yield f"it runs {running.scheduler_class}; the task demands {SAMPLERS[sampler][0]}"
    if steps is not None and running.num_inference_steps not in (0, steps):
        yield f"it runs {running.num_inference_steps} steps; the task demands {steps}"
    for name, parameters in demand.methods.items():
        if problem := demand.known_methods[name].running_problem(running, parameters):
            yield problem


def problems(seen: Observation, baseline: Observation, demand: Demand) -> Iterator[str]:
    """Each way in which one observed call contradicts the demand, in one line: what was found, what would be right."""
    if not seen.denoiser_calls:
        return
    yield from _too_few_calls(seen, demand)
    if seen.denoiser_class == baseline.denoiser_class:
        yield from _another_size(seen, baseline)
        yield from _another_model(seen, baseline, demand)
    if demand.task.level == PLAIN_LEVEL and not demand.methods and baseline.denoiser_calls:
        yield from _not_plain(seen, baseline, demand)


def _too_few_calls(seen: Observation, demand: Demand) -> Iterator[str]:
    steps = demand.demanded_steps
    if steps is None or not demand.fixes_calls:
        return
    run = denoising_steps(steps, demand.task.strength)
    needed = 2 * run - 1 if demand.demanded_sampler in _SECOND_ORDER else run
    if seen.denoiser_calls < needed:
        yield (
            f"its denoiser was called {seen.denoiser_calls} times; the {run} steps that the task demands "
            f"take {needed} calls"
        )


def _another_size(seen: Observation, baseline: Observation) -> Iterator[str]:
    area, right = seen.latent_height * seen.latent_width, baseline.latent_height * baseline.latent_width
    # tiles are legal: smaller latents, and as many more of them at every timestep
    if 0 < area < right and _work_a_timestep(seen) < LEAST_EVALUATIONS * _work_a_timestep(baseline):
        yield (
            f"its latents are {seen.latent_height} x {seen.latent_width}; "
            f"the demanded image size takes {baseline.latent_height} x {baseline.latent_width}"
        )


def _work_a_timestep(seen: Observation) -> float:
    timesteps = seen.denoiser_timesteps or seen.denoiser_calls
    return seen.denoiser_evaluations * seen.latent_height * seen.latent_width / max(1, timesteps)


def _another_model(seen: Observation, baseline: Observation, demand: Demand) -> Iterator[str]:
    if 0 < seen.denoiser_parameters < LEAST_PARAMETERS * baseline.denoiser_parameters:
        yield (
            f"its {seen.denoiser_class} has {seen.denoiser_parameters:,} parameters; "
            f"that of model {demand.model.name!r} has {baseline.denoiser_parameters:,}"
        )


def _not_plain(seen: Observation, baseline: Observation, demand: Demand) -> Iterator[str]:
    needed = math.ceil(LEAST_EVALUATIONS * baseline.denoiser_evaluations)
    if demand.guidance > 1 and seen.denoiser_evaluations < needed:
        yield (
            f"its denoiser evaluates {seen.denoiser_evaluations} latents, the baseline's "
            f"{baseline.denoiser_evaluations}: with guidance {demand.guidance:g} every step takes both, "
            "with the prompt and without"
        )
    if 0 < seen.flops < LEAST_FLOPS * baseline.flops:
        yield (
            f"a call takes {seen.flops:.3g} FLOPs, the baseline's {baseline.flops:.3g}: "
            "the task demands the plain pipeline, nothing left out"
        )
