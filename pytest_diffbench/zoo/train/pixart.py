"""PixArt, tiny: a DiT that reads text by cross-attention; alpha begins where DiT ended, Sigma where alpha did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
)

from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.train import denoiser, dit, t5
from pytest_diffbench.zoo.train.language import WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusers import AutoencoderKL, DiTTransformer2DModel
    from transformers import T5EncoderModel

ALPHA_PHASES: Final = (denoiser.layout(3000), denoiser.details(2000))
SIGMA_PHASES: Final = (denoiser.layout(500), denoiser.details(900))


def build_scheduler() -> DPMSolverMultistepScheduler:
    """PixArt's own scheduler, with every value spelled out that the published file has."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=0.0001,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="epsilon",
        solver_order=2,
        solver_type="midpoint",
        algorithm_type="dpmsolver++",
        lower_order_final=True,
        timestep_spacing="linspace",
    )


def build_transformer() -> PixArtTransformer2DModel:
    """An untrained denoiser of about 0.9 million parameters: DiT's width and depth, one modulation for all blocks.

    Its cross-attention begins silent. Otherwise what it says of a text is noise at first, and the quickest way to less
    error is to shut it up: the text's projection died within a few hundred steps, and captions were never followed.
    """
    transformer = PixArtTransformer2DModel(
        sample_size=denoiser.LATENT_SIDE,
        patch_size=2,
        in_channels=4,
        out_channels=8,
        num_layers=dit.LAYERS,
        num_attention_heads=dit.HEADS,
        attention_head_dim=dit.HEAD_WIDTH,
        cross_attention_dim=dit.HEADS * dit.HEAD_WIDTH,
        caption_channels=WIDTH,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        use_additional_conditions=False,
    )
    for silent in (transformer.proj_out, *(block.attn2.to_out[0] for block in transformer.transformer_blocks)):
        torch.nn.init.zeros_(silent.weight)
        torch.nn.init.zeros_(silent.bias)
    return transformer


def begin_with(transformer: PixArtTransformer2DModel, trained: DiTTransformer2DModel) -> PixArtTransformer2DModel:
    """`transformer` with DiT's patches, self-attention and feed-forward (Chen et al. 2024, section 2.2)."""
    weights, own = trained.state_dict(), transformer.state_dict()
    for name in own:
        if name.startswith("pos_embed.proj") or ".attn1." in name or ".ff." in name:
            own[name] = weights[name]
    transformer.load_state_dict(own)
    return transformer


def train_transformer(
    name: str,
    transformer: PixArtTransformer2DModel,
    text_encoder: T5EncoderModel,
    autoencoder: AutoencoderKL,
    *,
    seed: int,
    phases: Sequence[denoiser.Phase],
    learning_rate: float,
    count: int,
) -> None:
    """Train the denoiser in place; the text encoder stays as it is (Chen et al. 2024, section 2.3)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    captions, images = drawings.sample(rng, count)
    tokens, masks = t5.tokens(captions)
    empty, empty_mask = (part[0] for part in t5.tokens([""]))
    alone = {"resolution": None, "aspect_ratio": None}

    def predict(x_t: torch.Tensor, t: torch.Tensor, chosen: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
        ids = torch.where(dropped[:, None], empty, tokens[chosen])
        mask = torch.where(dropped[:, None], empty_mask, masks[chosen])
        with torch.no_grad():
            states = text_encoder(ids, attention_mask=mask).last_hidden_state
        predicted: torch.Tensor = transformer(
            x_t, states, timestep=t, added_cond_kwargs=alone, encoder_attention_mask=mask
        ).sample
        return predicted

    denoiser.train(
        name,
        transformer.train(),
        predict,
        denoiser.encode(autoencoder, images),
        build_scheduler().alphas_cumprod,
        rng=rng,
        phases=phases,
        learning_rate=learning_rate,
    )


def assemble(
    pipeline_class: type[PixArtAlphaPipeline | PixArtSigmaPipeline],
    text_encoder: T5EncoderModel,
    autoencoder: AutoencoderKL,
    transformer: PixArtTransformer2DModel,
) -> PixArtAlphaPipeline | PixArtSigmaPipeline:
    """The finished pipeline, of either class."""
    return pipeline_class(
        tokenizer=t5.build_tokenizer(),
        text_encoder=text_encoder,
        vae=autoencoder,
        transformer=transformer,
        scheduler=build_scheduler(),
    )
