"""Every scheduler on every model that it is offered for, against a sampler that is exact.

Where data are Gaussian, N(mu, s^2) in every number of a latent, the best possible denoiser is known in closed form, and
so is what the probability-flow ODE (Song et al. 2021, arXiv 2011.13456, equation 13) makes of a noise x_T: it keeps how
far that lies from its mean in standard deviations, x_0 = mu + s (x_T - alpha_T mu) / sqrt(alpha_T^2 s^2 + sigma_T^2). A
solver that is right comes closer to that with more steps; one that merely runs does not.
"""

from __future__ import annotations

import math
import types
from functools import cache
from typing import TYPE_CHECKING, Any

import diffusers
import pytest
import torch

from pytest_diffbench import Task, methods
from pytest_diffbench.demand import Markers, resolve
from pytest_diffbench.methods import SAMPLERS
from pytest_diffbench.providers import baseline_source
from pytest_diffbench.zoo.models import FAMILIES
from tests.methods import pipelines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MU, S = 0.3, 0.5
PAIRS = [(model.name, sampler) for model in FAMILIES for sampler in model.samplers]
FEW, MANY = 10, 100
FLOOR = 0.03
"""What is left with any number of steps: of schedules whose noise is not all noise, or whose last step is not to 0."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each model's folder, written once."""

    @cache
    def written(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        pipelines.build(name).save_pretrained(folder)
        return folder

    return written


def _baseline(name: str, sampler: str, folder: Path) -> Any:
    """The pipeline that the project's own baseline builds for a task with this sampler."""
    demand = resolve(
        Task(name, sampler=sampler),
        Markers(),
        task_id="",
        summary="",
        folder=folder,
        known_models={model.name: model for model in FAMILIES},
        known_methods={method.name: method for method in methods.BUILT_IN},
    )
    module = types.ModuleType("baseline")
    exec(compile(baseline_source(demand), "baseline", "exec"), module.__dict__)
    return module.load(str(folder), "cpu")


class _Best:
    """The denoiser that makes no error, in place of a pipeline's own."""

    def __init__(self, pipeline: Any) -> None:
        self._scheduler = pipeline.scheduler
        alphas = pipeline.scheduler.alphas_cumprod.double()
        self._log_snr = (alphas.log() - (1 - alphas).log()) / 2
        self._doubles = pipelines.name_of(pipeline) in ("dit", "pixart_alpha", "pixart_sigma")

    def scales(self, timestep: float) -> tuple[float, float]:
        """Alpha and sigma at a time between two of the schedule's own."""
        low = min(int(timestep), len(self._log_snr) - 2)
        rest = timestep - low
        log_snr = float(self._log_snr[low] * (1 - rest) + self._log_snr[low + 1] * rest)
        alpha = math.sqrt(1 / (1 + math.exp(-2 * log_snr)))
        return alpha, math.sqrt(1 - alpha**2)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        x: Any = args[0] if args else kwargs.get("sample", kwargs.get("hidden_states"))
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        alpha, sigma = self.scales(float(torch.as_tensor(timestep).flatten()[0]))
        epsilon = (x.double() - alpha * MU) * sigma / (alpha**2 * S**2 + sigma**2)
        if self._scheduler.config.prediction_type == "v_prediction":
            epsilon = alpha * epsilon - sigma * (x.double() - sigma * epsilon) / alpha
        told = epsilon.to(x.dtype)
        sample = torch.cat([told, torch.zeros_like(told)], dim=1) if self._doubles else told
        return (sample,) if kwargs.get("return_dict") is False else types.SimpleNamespace(sample=sample)


def _error(pipeline: Any, steps: int) -> tuple[float, float]:
    """Of latents against the exact ones: root mean square over s, and the latents' own deviation over s."""
    name = pipelines.name_of(pipeline)
    model = pipeline.transformer if hasattr(pipeline, "transformer") else pipeline.unet
    best = model.forward = _Best(pipeline)
    noises: list[torch.Tensor] = []
    made: list[torch.Tensor] = []
    prepare, decode = pipeline.scheduler.scale_model_input, pipeline.vae.decode

    def beginning(sample: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not noises:
            noises.append(sample)
        scaled: torch.Tensor = prepare(sample, *args, **kwargs)
        return scaled

    def ending(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        made.append(latents * pipeline.vae.config.scaling_factor)
        return decode(latents, *args, **kwargs)

    pipeline.scheduler.scale_model_input, pipeline.vae.decode = beginning, ending
    pipeline(**pipelines.arguments(name, num_inference_steps=steps, guidance_scale=1.0))
    pipeline.scheduler.scale_model_input, pipeline.vae.decode = prepare, decode
    exact = _exact(pipeline, noises[0].double(), best)
    error = float(((made[0] - exact) ** 2).mean().sqrt()) / S
    return error, float(made[0].std()) / S


def _exact(pipeline: Any, x: torch.Tensor, best: _Best) -> torch.Tensor:
    """Where the ODE ends that begins with `x`, in whichever of the two scales the scheduler keeps its latents."""
    scheduler = pipeline.scheduler
    if float(scheduler.init_noise_sigma) == 1:
        alpha, sigma = best.scales(float(scheduler.timesteps[0]))
        return MU + S * (x - alpha * MU) / math.sqrt(alpha**2 * S**2 + sigma**2)
    largest = float(scheduler.sigmas[0])
    return MU + S * (x - MU) / math.sqrt(S**2 + largest**2)


@pytest.mark.parametrize(("name", "sampler"), PAIRS)
def test_a_sampler_comes_to_where_the_exact_one_ends(name: str, sampler: str, folders: Callable[[str], Path]) -> None:
    """As the project's own baselines set it up: closer with more steps, and close with many."""
    pipeline = _baseline(name, sampler, folders(name))
    assert type(pipeline.scheduler).__name__ == SAMPLERS[sampler][0]
    (few, _), (many, spread) = _error(pipeline, FEW), _error(pipeline, MANY)

    assert many < max(few, FLOOR)
    assert many < 2 * FLOOR
    assert spread == pytest.approx(1, abs=0.15)  # of some hundred numbers


@pytest.mark.parametrize("scheduler", ["EulerDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler"])
def test_what_dit_is_not_offered_runs_and_is_wrong(scheduler: str, folders: Callable[[str], Path]) -> None:
    """Its pipeline never scales its noise: the images are flat, with any number of steps."""
    pipeline = _baseline("dit", "ddim", folders("dit"))
    pipeline.scheduler = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config)

    error, spread = _error(pipeline, MANY)
    assert error > 0.3
    assert spread < 0.1
