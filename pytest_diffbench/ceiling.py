"""The most that a method can gain on a real architecture: its denoiser's work with and without it, counted, not run.

Nothing is computed: the denoiser lies on torch's meta device, which knows shapes only. Work is floating-point
operations as `torch.utils.flop_counter` counts them, of the denoiser alone: the rest of a pipeline stays as it is, so
that whoever gains more than this gains it otherwise, or has measured something else. Where a method's own gain is no
work saved (half precision, compilation), there is no ceiling to tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import diffusers
import torch
from torch.utils.flop_counter import FlopCounterMode

from pytest_diffbench.zoo.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_diffbench.methods import Method, Parameters
    from pytest_diffbench.zoo.architectures import Architecture
    from pytest_diffbench.zoo.models import Model

META: Final = torch.device("meta")
FLOPS_A_MULTIPLICATION: Final = 2
"""A multiplication with its addition; papers on transformers count these as one (MAC)."""


@dataclass(frozen=True)
class Denoiser:
    """A real denoiser, counted."""

    parameters: int
    flops: int
    """Of one call for one latent image."""

    @property
    def macs(self) -> int:
        """The same in multiplications with their additions."""
        return self.flops // FLOPS_A_MULTIPLICATION


@dataclass(frozen=True)
class Ceiling:
    """The most that one method, with some parameters, can make a model faster."""

    method: str
    parameters: Parameters
    work_share: float | None = None
    """FLOPs of an image's denoising over those without the method; None where it cannot work."""
    problem: str = ""
    """Why it cannot."""

    @property
    def speedup(self) -> float | None:
        """What that share of the work would take, if time were work."""
        return 1 / self.work_share if self.work_share else None


@dataclass(frozen=True)
class Subject:
    """A real model, as it is run: what methods are counted on; KeyError of one without a published architecture."""

    model: Model
    steps: int
    size_px: int

    def denoiser(self) -> Denoiser:
        """Its denoiser."""
        with META, torch.no_grad():
            module = self._architecture.build_denoiser()
            with FlopCounterMode(display=False) as counter:
                module(**self._architecture.denoiser_inputs(1, self.size_px), timestep=torch.empty(1, dtype=torch.long))
        return Denoiser(sum(weight.numel() for weight in module.parameters()), int(counter.get_total_flops()))

    def ceilings(self, methods: Iterable[Method]) -> Iterator[Ceiling]:
        """The ceiling of every method's own examples, one after the other: each takes some seconds."""
        whole = self.steps * 2 * self.denoiser().flops  # guided: with the prompt, and without
        for method in methods:
            for parameters in method.examples:
                if method.sampler is not None and parameters.get("steps") == self.steps:
                    continue  # as it is run today
                try:
                    share = self._share(method, parameters, whole)
                except ValueError as error:  # as a method says that it cannot work here
                    yield Ceiling(method.name, parameters, problem=str(error))
                else:
                    yield Ceiling(method.name, parameters, share)

    @property
    def _architecture(self) -> Architecture:
        return ARCHITECTURES[self.model.name]

    def _share(self, method: Method, parameters: Parameters, whole: int) -> float:
        if problem := method.model_problem(self.model):
            raise ValueError(problem)
        if method.sampler is not None:
            if method.sampler not in self.model.samplers:
                raise ValueError(f"it runs with {', '.join(self.model.samplers)} only")
            fewer = parameters.get("steps", self.steps)
            assert isinstance(fewer, int)
            return fewer / self.steps
        return self._work(method, parameters) / whole

    def _work(self, method: Method, parameters: Parameters) -> int:
        """FLOPs of one image's denoising with the method at work."""
        assert method.applied is not None
        with META, torch.no_grad():
            module = self._architecture.build_denoiser()
            inputs = self._architecture.denoiser_inputs(2, self.size_px)
        pipeline = _pipeline(self.model, module)
        with method.applied(pipeline, parameters), torch.no_grad(), FlopCounterMode(display=False) as counter:
            _denoise(pipeline, module, inputs, self.steps)
        return int(counter.get_total_flops())


def _pipeline(model: Model, module: torch.nn.Module) -> Any:
    """A pipeline of the genuine class that has nothing but a denoiser and a scheduler."""
    pipeline_class: Any = getattr(diffusers, model.pipeline_classes[0])
    pipeline = pipeline_class.__new__(pipeline_class)
    setattr(pipeline, model.denoiser, module)
    pipeline.scheduler = diffusers.DDIMScheduler()
    return pipeline


def _denoise(pipeline: Any, module: torch.nn.Module, inputs: dict[str, Any], steps: int) -> None:
    """The loop that every pipeline has: the scheduler sees latents of one number, the denoiser those of full size."""
    scheduler, latent = pipeline.scheduler, torch.zeros(1, 1)
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        scheduler.scale_model_input(torch.cat([latent, latent]), timestep)
        module(**inputs, timestep=timestep.to(META).expand(2))
        scheduler.step(latent, timestep, latent)
