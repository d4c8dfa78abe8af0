"""Stable Diffusion XL, tiny: two text encoders, conditioning by size, attention only where latents are small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.train import denoiser
from pytest_diffbench.zoo.train.language import (
    LOUDNESS,
    WIDTH,
    build_projecting_encoder,
    build_text_encoder,
    build_tokenizer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

TIME_ID_WIDTH: Final = 8
TIME_IDS: Final = 6
"""Original height and width, top and left of the crop, target height and width."""
SIDES_PX: Final = (32, 48, 64, 96, 128)
"""Sizes that are stated in training; they mean nothing to drawings, so the model learns to let them be."""
PHASES: Final = (denoiser.layout(1400), denoiser.details(900))


def build_scheduler() -> EulerDiscreteScheduler:
    """Stable Diffusion XL's own scheduler, with every value spelled out."""
    scheduler = EulerDiscreteScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        interpolation_type="linear",
        use_karras_sigmas=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    # not Euler's own, yet in the published file, for samplers that are made from it
    scheduler.register_to_config(clip_sample=False, set_alpha_to_one=False, skip_prk_steps=True)
    return scheduler


def build_unet() -> UNet2DConditionModel:
    """An untrained denoiser of about 1.3 million parameters; no attention at the highest resolution."""
    return UNet2DConditionModel(
        sample_size=denoiser.LATENT_SIDE,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 48, 48),
        norm_num_groups=8,
        attention_head_dim=(2, 4, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_ID_WIDTH,
        projection_class_embeddings_input_dim=TIME_IDS * TIME_ID_WIDTH + WIDTH,
        transformer_layers_per_block=(1, 1, 2),
        cross_attention_dim=2 * WIDTH,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )


def build_encoders() -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Two untrained text encoders; of both, the last but one state is read."""
    tokenizer = build_tokenizer()
    return build_text_encoder(tokenizer, layers=2), build_projecting_encoder(tokenizer, layers=3)


def train_unet(
    unet: UNet2DConditionModel,
    encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection],
    autoencoder: AutoencoderKL,
    *,
    seed: int,
    phases: Sequence[denoiser.Phase],
    learning_rate: float,
    count: int,
) -> None:
    """Train denoiser and both text encoders together, in place."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    captions, images = drawings.sample(rng, count)
    tokens = build_tokenizer()(captions, padding="max_length", return_tensors="pt")["input_ids"]
    model = torch.nn.ModuleDict({"unet": unet, "first": encoders[0], "second": encoders[1]}).train()
    # the last layer of the first encoder, and its norm, are never read
    for unread in (encoders[0].encoder.layers[-1], encoders[0].final_layer_norm):
        unread.requires_grad_(requires_grad=False)
    for name, weight in unet.named_parameters():
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            weight.data.mul_(LOUDNESS)

    def predict(x_t: torch.Tensor, t: torch.Tensor, chosen: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
        ids = tokens[chosen]
        first = model["first"](ids, output_hidden_states=True)
        second = model["second"](ids, output_hidden_states=True)
        states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        kept = 1 - dropped.float()  # without a negative prompt the pipeline gives zeros
        sides = torch.from_numpy(rng.choice(SIDES_PX, (len(t), 2))).float()
        crops = torch.from_numpy(rng.integers(8, size=(len(t), 2))).float()
        told = {
            "text_embeds": second.text_embeds * kept[:, None],
            "time_ids": torch.cat([sides[:, :1].repeat(1, 2), crops, sides[:, 1:].repeat(1, 2)], dim=1),
        }
        predicted: torch.Tensor = model["unet"](x_t, t, states * kept[:, None, None], added_cond_kwargs=told).sample
        return predicted

    denoiser.train(
        "sdxl",
        model,
        predict,
        denoiser.encode(autoencoder, images),
        build_scheduler().alphas_cumprod,
        rng=rng,
        phases=phases,
        learning_rate=learning_rate,
    )


def assemble(
    encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection],
    autoencoder: AutoencoderKL,
    unet: UNet2DConditionModel,
) -> StableDiffusionXLPipeline:
    """The finished pipeline."""
    return StableDiffusionXLPipeline(
        vae=autoencoder,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=build_tokenizer(),
        tokenizer_2=build_tokenizer(),
        unet=unet,
        scheduler=build_scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
