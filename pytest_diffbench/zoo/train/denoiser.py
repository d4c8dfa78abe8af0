"""How every denoiser of the zoo learns: to tell the noise in the latents of drawings, whatever else it is told."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from pytest_diffbench.zoo.train.language import to_pixels
from pytest_diffbench.zoo.train.loop import fit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diffusers import AutoencoderKL
    from numpy.typing import NDArray

EMPTY_SHARE: Final = 0.12
"""How often a caption or a class is left out in training, for classifier-free guidance (Ho & Salimans 2022)."""
EMA_DECAY: Final = 0.998
LATENT_SIDE: Final = 16
BATCH: Final = 64


@dataclass(frozen=True)
class Phase:
    """A part of a denoiser's training: which timesteps it favours, and how."""

    name: str
    steps: int
    favoured: tuple[int, int]
    """Timesteps, from the first to before the second."""
    share: float
    """Of a batch that is drawn from the favoured timesteps; the rest is drawn from all."""
    most_weight: float
    """Where the weight of errors stops to grow with the noise: 1 / SNR at most this."""


def layout(steps: int) -> Phase:
    """Where a shape lies is decided at high noise and learned late."""
    return Phase("layout", steps=steps, favoured=(600, 1000), share=0.4, most_weight=30.0)


def details(steps: int) -> Phase:
    """Which shape it is comes only afterwards, at less noise."""
    return Phase("details", steps=steps, favoured=(0, 1000), share=0.0, most_weight=6.0)


def error_weight(snr: torch.Tensor, most: float) -> torch.Tensor:
    """The weight of each timestep's error in epsilon by its signal-to-noise ratio: 1 / sqrt(SNR), bounded.

    Halfway between errors in epsilon (all alike), of which what an image shows is but a small part at high noise, and
    errors in x_0 (1 / SNR; Salimans & Ho 2022, section 4).
    """
    return (1 / snr).clamp(min=0.1, max=most).sqrt()


def sample_timesteps(phase: Phase, count: int) -> torch.Tensor:
    """Random timesteps, those that the phase favours more often than the others."""
    favoured = torch.rand(count) < phase.share
    return torch.where(favoured, torch.randint(*phase.favoured, (count,)), torch.randint(1000, (count,)))


def encode(autoencoder: AutoencoderKL, images: NDArray[np.uint8]) -> torch.Tensor:
    """The latents of drawings as a denoiser sees them: (count, 4, 16, 16)."""
    with torch.no_grad():
        parts = [
            autoencoder.encode(to_pixels(part)).latent_dist.mode()
            for part in np.array_split(images, math.ceil(len(images) / 100))
        ]
    scaling_factor: float = autoencoder.config.scaling_factor
    return torch.cat(parts) * scaling_factor


def train(
    name: str,
    model: torch.nn.Module,
    predict: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    latents: torch.Tensor,
    alphas: torch.Tensor,
    *,
    rng: np.random.Generator,
    phases: Sequence[Phase],
    learning_rate: float,
    v_prediction: bool = False,
) -> None:
    """Train `model` in place; it ends as the exponential moving average of its weights.

    `predict(x_t, t, chosen, dropped)` asks it about noisy latents (count, 4, 16, 16); `chosen` are the drawings that
    they were made from, and `dropped` says for which of them nothing else may be told. `alphas` are the scheduler's
    cumulative products. With `v_prediction` it predicts v (Salimans & Ho 2022, appendix D), else the noise.
    """
    snr = latents.var() * alphas / (1 - alphas)
    for phase in phases:
        weights = error_weight(snr, phase.most_weight) * (alphas if v_prediction else 1)  # an error in v is larger
        average = copy.deepcopy(model)

        def loss_at(_: int, *, phase: Phase = phase, weights: torch.Tensor = weights) -> torch.Tensor:
            chosen = torch.from_numpy(rng.integers(len(latents), size=BATCH))
            x_0, noise = latents[chosen], torch.randn(BATCH, *latents.shape[1:])
            t = sample_timesteps(phase, BATCH)
            a = alphas[t, None, None, None]
            x_t = a.sqrt() * x_0 + (1 - a).sqrt() * noise
            target = a.sqrt() * noise - (1 - a).sqrt() * x_0 if v_prediction else noise
            predicted = predict(x_t, t, chosen, torch.rand(BATCH) < EMPTY_SHARE)
            errors = (predicted[:, : latents.shape[1]] - target).square().mean(dim=(1, 2, 3))
            loss: torch.Tensor = (weights[t] * errors).mean()
            return loss

        def after_step(step: int, *, average: torch.nn.Module = average) -> None:
            decay = min(EMA_DECAY, (step + 1) / (step + 10))
            with torch.no_grad():
                for mean, value in zip(average.parameters(), model.parameters(), strict=True):
                    mean.lerp_(value, 1 - decay)

        fit(
            f"{name}, {phase.name}",
            (parameter for parameter in model.parameters() if parameter.requires_grad),
            loss_at,
            steps=phase.steps,
            learning_rate=learning_rate,
            after_step=after_step,
        )
        model.load_state_dict(average.state_dict())
    model.eval()
