"""Stable Diffusion 1.5, tiny: the genuine pipeline classes and scheduler settings, trained on drawings."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.train.language import WIDTH, build_tokenizer, to_pixels
from pytest_diffbench.zoo.train.loop import fit

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import CLIPModel, CLIPTextModel

EMPTY_CAPTION_SHARE: Final = 0.12
"""How often a caption is left out in training, for classifier-free guidance (Ho & Salimans 2022)."""
EMA_DECAY: Final = 0.998
MIN_SNR_GAMMA: Final = 5.0
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


def min_snr(snr: torch.Tensor) -> torch.Tensor:
    """The weight of each timestep's error by its signal-to-noise ratio. Hang et al. 2023, for epsilon prediction.

    Bounded below: weights near t = 0 would vanish, and the last steps draw the edges.
    """
    return (snr.clamp(max=MIN_SNR_GAMMA) / snr).clamp(min=0.1)


def train_unet(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    autoencoder: AutoencoderKL,
    *,
    seed: int,
    steps: int,
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
    model = torch.nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}).train()
    average = copy.deepcopy(model).eval()
    alphas = build_scheduler().alphas_cumprod
    weights = min_snr(alphas / (1 - alphas))

    def loss_at(_: int) -> torch.Tensor:
        chosen = torch.from_numpy(rng.integers(count, size=batch))
        ids = torch.where(torch.rand(batch, 1) < EMPTY_CAPTION_SHARE, empty, tokens[chosen])
        x_0, noise = latents[chosen], torch.randn(batch, 4, LATENT_SIDE, LATENT_SIDE)
        t = torch.randint(1000, (batch,))
        a = alphas[t, None, None, None]
        x_t = a.sqrt() * x_0 + (1 - a).sqrt() * noise
        predicted = model["unet"](x_t, t, model["text_encoder"](ids).last_hidden_state).sample
        errors = (predicted - noise).square().mean(dim=(1, 2, 3))
        loss: torch.Tensor = (weights[t] * errors).mean()
        return loss

    def after_step(step: int) -> None:
        decay = min(EMA_DECAY, (step + 1) / (step + 10))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)

    fit("unet", model.parameters(), loss_at, steps=steps, learning_rate=learning_rate, after_step=after_step)
    return average["unet"], average["text_encoder"]


def _encode(autoencoder: AutoencoderKL, images: NDArray[np.uint8]) -> torch.Tensor:
    with torch.no_grad():
        parts = [autoencoder.encode(to_pixels(part)).latent_dist.mode() for part in np.array_split(images, 400)]
    scaling_factor: float = autoencoder.config.scaling_factor
    return torch.cat(parts) * scaling_factor


@torch.no_grad()
def clip_score(pipeline: StableDiffusionPipeline, scorer: CLIPModel, *, seed: int, count: int = 128) -> float:
    """The mean CLIP-Score of unseen captions with DDIM, 50 steps, guidance 7.5: what the zoo records of the model."""
    rng = np.random.default_rng(seed)
    tokenizer = build_tokenizer()
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
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
