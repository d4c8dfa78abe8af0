"""Stable Diffusion 1.5, tiny: the genuine pipeline classes and scheduler settings, trained on drawings."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from pytest_diffbench.methods import SAMPLERS
from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.train.language import WIDTH, build_tokenizer, to_pixels
from pytest_diffbench.zoo.train.loop import fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from transformers import CLIPModel, CLIPTextModel

EMPTY_CAPTION_SHARE: Final = 0.12
"""How often a caption is left out in training, for classifier-free guidance (Ho & Salimans 2022)."""
EMA_DECAY: Final = 0.998
LATENT_SIDE: Final = 16


def build_scheduler() -> PNDMScheduler:
    """Stable Diffusion 1.5's own scheduler, with every value spelled out."""
    scheduler = PNDMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        set_alpha_to_one=False,
        skip_prk_steps=True,
        steps_offset=1,
        timestep_spacing="leading",
    )
    # not PNDM's own, yet in the published file: a DDIMScheduler made from it would clip latents otherwise
    scheduler.register_to_config(clip_sample=False)
    return scheduler


def build_unet() -> UNet2DConditionModel:
    """An untrained denoiser of about 1.4 million parameters, cross-attending at two resolutions."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 56, 64),
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )


@dataclass(frozen=True)
class Phase:
    """A part of the denoiser's training: which timesteps it favours, and how."""

    name: str
    steps: int
    favoured: tuple[int, int]
    """Timesteps, from the first to before the second."""
    share: float
    """Of a batch that is drawn from the favoured timesteps; the rest is drawn from all."""
    most_weight: float
    """Where the weight of errors stops to grow with the noise: 1 / SNR at most this."""


PHASES: Final = (
    Phase("layout", steps=2400, favoured=(600, 1000), share=0.4, most_weight=30.0),
    Phase("details", steps=1400, favoured=(0, 1000), share=0.0, most_weight=6.0),
)
"""Where a shape lies is decided at high noise and learned late; which shape it is only afterwards, at less noise."""


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


def train_unet(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    autoencoder: AutoencoderKL,
    *,
    seed: int,
    phases: Sequence[Phase],
    learning_rate: float,
    batch: int = 64,
    count: int = 40_000,
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Denoiser and text encoder trained together to predict the noise; their exponential moving averages."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = build_tokenizer()
    captions, images = drawings.sample(rng, count)
    latents = _encode(autoencoder, images)
    tokens = tokenizer(captions, padding="max_length", return_tensors="pt")["input_ids"]
    empty = tokenizer("", padding="max_length", return_tensors="pt")["input_ids"][0]
    model = torch.nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    alphas = build_scheduler().alphas_cumprod
    snr = latents.var() * alphas / (1 - alphas)
    for phase in phases:
        weights = error_weight(snr, phase.most_weight)
        model.train()
        average = copy.deepcopy(model).eval()

        def loss_at(_: int, *, phase: Phase = phase, weights: torch.Tensor = weights) -> torch.Tensor:
            chosen = torch.from_numpy(rng.integers(count, size=batch))
            ids = torch.where(torch.rand(batch, 1) < EMPTY_CAPTION_SHARE, empty, tokens[chosen])
            x_0, noise = latents[chosen], torch.randn(batch, 4, LATENT_SIDE, LATENT_SIDE)
            t = sample_timesteps(phase, batch)
            a = alphas[t, None, None, None]
            x_t = a.sqrt() * x_0 + (1 - a).sqrt() * noise
            predicted = model["unet"](x_t, t, model["text_encoder"](ids).last_hidden_state).sample
            errors = (predicted - noise).square().mean(dim=(1, 2, 3))
            loss: torch.Tensor = (weights[t] * errors).mean()
            return loss

        def after_step(step: int, *, average: torch.nn.Module = average) -> None:
            decay = min(EMA_DECAY, (step + 1) / (step + 10))
            with torch.no_grad():
                for mean, value in zip(average.parameters(), model.parameters(), strict=True):
                    mean.lerp_(value, 1 - decay)

        fit(
            f"unet, {phase.name}",
            model.parameters(),
            loss_at,
            steps=phase.steps,
            learning_rate=learning_rate,
            after_step=after_step,
        )
        model.load_state_dict(average.state_dict())
    return model["unet"].eval(), model["text_encoder"].eval()


def _encode(autoencoder: AutoencoderKL, images: NDArray[np.uint8]) -> torch.Tensor:
    with torch.no_grad():
        parts = [
            autoencoder.encode(to_pixels(part)).latent_dist.mode()
            for part in np.array_split(images, math.ceil(len(images) / 100))
        ]
    scaling_factor: float = autoencoder.config.scaling_factor
    return torch.cat(parts) * scaling_factor


@torch.no_grad()
def clip_score(pipeline: StableDiffusionPipeline, scorer: CLIPModel, sampler: str, *, seed: int, count: int) -> float:
    """The mean CLIP-Score of unseen captions with a sampler, 50 steps, guidance 7.5: what the zoo records of it."""
    rng = np.random.default_rng(seed)
    tokenizer = build_tokenizer()
    pipeline.scheduler = getattr(diffusers, SAMPLERS[sampler][0]).from_config(build_scheduler().config)
    pipeline.set_progress_bar_config(disable=True)
    scores: list[float] = []
    for _ in range(count // 16):
        captions = [drawings.sample_scene(rng, held_out=True).caption for _ in range(16)]
        generators = [torch.Generator().manual_seed(int(rng.integers(2**32))) for _ in captions]
        images = pipeline(captions, num_inference_steps=50, guidance_scale=7.5, generator=generators).images
        tokens = tokenizer(captions, padding=True, return_tensors="pt")
        pixels = to_pixels(np.stack([np.asarray(image) for image in images]))
        embedded = scorer.eval()(**tokens, pixel_values=pixels)
        cosines = (embedded.image_embeds * embedded.text_embeds).sum(dim=-1)
        scores.append(100 * cosines.clamp(min=0).mean().item())
    return sum(scores) / len(scores)


def assemble(
    text_encoder: CLIPTextModel, autoencoder: AutoencoderKL, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    """The finished pipeline."""
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=build_tokenizer(),
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
