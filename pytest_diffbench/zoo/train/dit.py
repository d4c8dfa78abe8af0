"""DiT, tiny: a transformer that draws by class, one class for each colour and shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.train import denoiser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusers import AutoencoderKL

NULL_CLASS: Final = 1000
"""What `DiTPipeline` names where it guides, however many classes there are."""
LAYERS: Final = 6
HEADS: Final = 4
HEAD_WIDTH: Final = 22
PHASES: Final = (denoiser.layout(1500), denoiser.details(900))


def build_scheduler() -> DDIMScheduler:
    """DiT's own scheduler, with every value spelled out."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.0001,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="epsilon",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=0,
        timestep_spacing="leading",
    )


def build_transformer() -> DiTTransformer2DModel:
    """An untrained denoiser of about 1.5 million parameters, a third of them the classes that nothing is drawn of."""
    transformer = DiTTransformer2DModel(
        sample_size=denoiser.LATENT_SIDE,
        patch_size=2,
        in_channels=4,
        out_channels=8,
        num_layers=LAYERS,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=NULL_CLASS,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )
    for block in transformer.transformer_blocks:  # each block begins as the identity (Peebles & Xie 2023, section 3.2)
        torch.nn.init.zeros_(block.norm1.linear.weight)
        torch.nn.init.zeros_(block.norm1.linear.bias)
    torch.nn.init.zeros_(transformer.proj_out_2.weight)
    torch.nn.init.zeros_(transformer.proj_out_2.bias)
    return transformer


def train_transformer(
    transformer: DiTTransformer2DModel,
    autoencoder: AutoencoderKL,
    *,
    seed: int,
    phases: Sequence[denoiser.Phase],
    learning_rate: float,
    count: int,
) -> None:
    """Train the denoiser in place; of its output the half that is a variance stays what it was."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    captions, images = drawings.sample(rng, count, caption=lambda scene, _: scene.label)
    numbers = {label: number for number, label in enumerate(drawings.LABELS)}
    classes = torch.tensor([numbers[caption] for caption in captions])
    transformer.eval()  # every block would leave out classes of its own

    def predict(x_t: torch.Tensor, t: torch.Tensor, chosen: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
        told = torch.where(dropped, NULL_CLASS, classes[chosen])
        predicted: torch.Tensor = transformer(x_t, timestep=t, class_labels=told).sample
        return predicted

    denoiser.train(
        "dit",
        transformer,
        predict,
        denoiser.encode(autoencoder, images),
        build_scheduler().alphas_cumprod,
        rng=rng,
        phases=phases,
        learning_rate=learning_rate,
    )


def assemble(autoencoder: AutoencoderKL, transformer: DiTTransformer2DModel) -> DiTPipeline:
    """The finished pipeline."""
    return DiTPipeline(
        transformer=transformer,
        vae=autoencoder,
        scheduler=build_scheduler(),
        id2label=dict(enumerate(drawings.LABELS)),
    )
