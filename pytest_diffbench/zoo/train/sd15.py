"""Stable Diffusion 1.5, tiny: the genuine pipeline classes and scheduler settings, trained on drawings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.train import denoiser
from pytest_diffbench.zoo.train.language import WIDTH, build_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusers import AutoencoderKL, SchedulerMixin
    from transformers import CLIPTextModel

PHASES: Final = (denoiser.layout(2400), denoiser.details(1400))


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
        sample_size=denoiser.LATENT_SIDE,
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


def train_unet(
    name: str,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    autoencoder: AutoencoderKL,
    *,
    seed: int,
    phases: Sequence[denoiser.Phase],
    learning_rate: float,
    count: int,
    v_prediction: bool = False,
) -> None:
    """Train denoiser and text encoder together, in place."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = build_tokenizer()
    captions, images = drawings.sample(rng, count)
    tokens = tokenizer(captions, padding="max_length", return_tensors="pt")["input_ids"]
    empty = tokenizer("", padding="max_length", return_tensors="pt")["input_ids"][0]
    model = torch.nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}).train()

    def predict(x_t: torch.Tensor, t: torch.Tensor, chosen: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
        ids = torch.where(dropped[:, None], empty, tokens[chosen])
        predicted: torch.Tensor = model["unet"](x_t, t, model["text_encoder"](ids).last_hidden_state).sample
        return predicted

    denoiser.train(
        name,
        model,
        predict,
        denoiser.encode(autoencoder, images),
        build_scheduler().alphas_cumprod,
        rng=rng,
        phases=phases,
        learning_rate=learning_rate,
        v_prediction=v_prediction,
    )


def assemble(
    text_encoder: CLIPTextModel,
    autoencoder: AutoencoderKL,
    unet: UNet2DConditionModel,
    scheduler: SchedulerMixin | None = None,
) -> StableDiffusionPipeline:
    """The finished pipeline, of 1.5 where no other scheduler is given."""
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=build_tokenizer(),
        unet=unet,
        scheduler=scheduler or build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
