"""What an observed call says against a solution, and all that says nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench import Task, agreement, methods
from pytest_diffbench.demand import Demand, LatencyDemand, Markers, SpeedDemand, resolve
from pytest_diffbench.records import Executability, Observation
from pytest_diffbench.wire import Record
from pytest_diffbench.zoo import models

FREE: Final = methods.Method("skip_steps", "skips", {}, lambda *_: None, lambda *_: None)
"""A method of somebody else's, of which is not known whether it calls the denoiser at every step."""
MARKERS: Final = {
    4: Markers(speed=SpeedDemand(at_least=1.8)),
    5: Markers(latency=LatencyDemand(at_most_s=0.9)),
}
HALF: Final = {"half_precision": {"dtype": "bfloat16"}}


def _demand(level: int | None = 1, **more: object) -> Demand:
    return resolve(
        Task("sd15", level=level, **more),  # type: ignore[arg-type]
        MARKERS.get(level or 0, Markers()),
        task_id="test_it",
        summary="Do it.",
        folder=Path(),
        known_models={model.name: model for model in models.FAMILIES},
        known_methods={method.name: method for method in (*methods.BUILT_IN, FREE)},
    )


PNDM: Final = Observation("UNet2DConditionModel", 51, 102, 50, 2, 64, 64, 860_000_000, 7e13)
"""Stable Diffusion 1.5 as it is: 50 steps of PNDM, one of them repeated."""


def _problems(seen: Observation, demand: Demand, baseline: Observation = PNDM) -> list[str]:
    return list(agreement.problems(seen, baseline, demand))


def _called(calls: int, batch: int = 2, **more: object) -> Observation:
    """So many calls, each at a timestep of its own."""
    seen = replace(PNDM, denoiser_calls=calls, denoiser_evaluations=calls * batch, denoiser_timesteps=calls)
    flops = PNDM.flops * calls * batch / PNDM.denoiser_evaluations
    return replace(replace(seen, denoiser_batch=batch, flops=flops), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "demand", "problem"),
    [
        (_called(25), _demand(1), "called 25 times; the 50 steps that the task demands take 50 calls"),
        (_called(49), _demand(1), "called 49 times; the 50 steps"),
        (_called(19), _demand(2, methods={"dpm_solver": {"steps": 20}}), "called 19 times; the 20 steps"),
        (_called(25), _demand(3, methods={"ddim": {"steps": 30}} | HALF), "called 25 times; the 30 steps"),
        (_called(50), _demand(1, sampler="heun"), "called 50 times; the 50 steps that the task demands take 99 calls"),
        (replace(PNDM, latent_height=32), _demand(4), "its latents are 32 x 64; the demanded image size takes 64 x 64"),
        (_called(15, latent_height=32, latent_width=32), _demand(5), "its latents are 32 x 32"),
        (
            replace(PNDM, denoiser_parameters=579_000_000),
            _demand(4),
            "its UNet2DConditionModel has 579,000,000 parameters; that of model 'sd15' has 860,000,000",
        ),
        (_called(51, batch=1), _demand(1), "evaluates 51 latents, the baseline's 102: with guidance 7.5 every step"),
        (
            replace(PNDM, flops=3e13),
            _demand(1),
            "a call takes 3e+13 FLOPs, the baseline's 7e+13: the task demands the plain pipeline",
        ),
    ],
)
def test_a_contradiction_is_named_with_what_would_be_right(seen: Observation, demand: Demand, problem: str) -> None:
    """Missing calls, a smaller size, a smaller model, no guidance, skipped work: each in the words of its own."""
    assert problem in _problems(seen, demand)[0]


@pytest.mark.parametrize(
    ("seen", "demand"),
    [
        (_called(50), _demand(1)),  # PNDM without the repeated step
        (_called(102, batch=1), _demand(1)),  # with and without the prompt one after the other
        (_called(20), _demand(2, methods={"dpm_solver": {"steps": 20}})),
        (_called(20), _demand(3, methods={"dpm_solver": {"steps": 20}} | HALF)),
        (_called(99), _demand(1, sampler="heun")),
        (_called(15), _demand(4)),  # the steps are free
        (_called(15, batch=1), _demand(5)),  # so is guidance
        (replace(PNDM, denoiser_evaluations=70), _demand(4)),  # a guidance window
        (_called(51, batch=1), _demand(2, methods=HALF)),  # the guards on images look at guidance there
        (_called(51, batch=1, flops=PNDM.flops), _demand(1, guidance=1.0)),
        (_called(10), _demand(2, methods=["skip_steps"])),
        (_called(10), _demand(None, methods={"dpm_solver": {"steps": 20}})),  # a task of the user's own
        (replace(PNDM, flops=1e13), _demand(2, methods=HALF)),
        (replace(PNDM, flops=0.0), _demand(1)),
        (replace(PNDM, denoiser_parameters=0), _demand(4)),  # packed
        (replace(PNDM, denoiser_parameters=774_000_000), _demand(4)),  # some of it fused away
        (replace(PNDM, denoiser_class="SanaTransformer2DModel", denoiser_parameters=1, latent_height=8), _demand(4)),
        (replace(PNDM, latent_height=0, latent_width=0), _demand(4)),
        (replace(PNDM, latent_height=128), _demand(4)),
        (_called(204, latent_height=32, latent_width=32, denoiser_timesteps=50), _demand(4)),  # four tiles a step
    ],
)
def test_what_is_legal_contradicts_nothing(seen: Observation, demand: Demand) -> None:
    """Honest ways of doing what is demanded, and what cannot be compared, are not held against a solution."""
    assert _problems(seen, demand) == []


def test_a_batch_needs_no_more_calls() -> None:
    """A baseline that answers one request after the other does not make more calls right."""
    one_by_one = replace(PNDM, denoiser_calls=204, denoiser_evaluations=408)

    assert _problems(_called(51, batch=8), _demand(1, batch=4), one_by_one) == []


_NAMES = st.sampled_from(["", "UNet2DConditionModel", "FluxTransformer2DModel"])
_COUNTS = st.integers(0, 2**32 - 1)
_ANY = st.builds(
    Observation, _NAMES, *[_COUNTS] * 6, st.integers(0, 2**64 - 1), st.floats(0, allow_nan=False, allow_infinity=False)
)
_DEMANDS = [_demand(1), _demand(1, guidance=0.0, batch=3), _demand(2, methods=HALF), _demand(4), _demand(None)]


@given(_ANY, st.sampled_from(_DEMANDS))
@settings(deadline=None)
def test_what_was_not_observed_contradicts_nothing(baseline: Observation, demand: Demand) -> None:
    """A solution of which nothing was seen has no problem, whatever its baseline did."""
    assert _problems(Observation(flops=1.0), demand, baseline) == []


@given(_ANY, _ANY, st.sampled_from(_DEMANDS))
@settings(deadline=None)
def test_any_record_can_be_compared(seen: Observation, baseline: Observation, demand: Demand) -> None:
    """No number that a hostile process can send breaks the comparison, or its words."""
    assert all(problem.isprintable() for problem in _problems(seen, demand, baseline))


@given(_ANY, st.sampled_from(_DEMANDS))
@settings(deadline=None)
def test_the_baseline_agrees_with_itself(seen: Observation, demand: Demand) -> None:
    """A solution that does what the baseline does has no problem but too few calls: steps need no baseline."""
    enough = replace(seen, denoiser_calls=max(seen.denoiser_calls, demand.steps))

    assert _problems(enough, demand, enough) == []


def test_the_observed_part_of_a_record_is_taken_over() -> None:
    """Every observed field travels from the wire into the report, under its own name."""
    record = Record("StableDiffusionPipeline", "PNDMScheduler", "float32", 50, "UNet", 1, 2, 3, 4, 5, 6, 7, 8.0)

    assert agreement.observation(record) == Observation("UNet", 1, 2, 3, 4, 5, 6, 7, 8.0)


def test_flops_of_both_arms_are_at_hand() -> None:
    """`executability.flops` in a test's own words; None where they could not be counted, or nothing was observed."""
    both = Executability(1, 1, 1, observed=PNDM, baseline_observed=replace(PNDM, flops=8e13))

    assert (both.flops, both.baseline_flops) == (7e13, 8e13)
    assert replace(both, observed=Observation()).flops is None
    assert (Executability(1, 1, 1).flops, Executability(1, 1, 1).baseline_flops) == (None, None)
