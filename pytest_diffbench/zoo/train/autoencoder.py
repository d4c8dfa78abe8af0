"""The variational autoencoder (Kingma & Welling 2014) that gives Stable Diffusion its latents."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from diffusers import AutoencoderKL

from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.train.language import to_pixels
from pytest_diffbench.zoo.train.loop import fit

_KL_WEIGHT: Final = 1e-7
_CROP_PX: Final = 32
_WHOLE_SHARE: Final = 0.15
"""The last steps see whole drawings; before that, crops teach the same at a quarter of the cost."""

LATENT_DEVIATION: Final = 0.5
"""Not 1: so small an image needs more noise before its layout is open (Chen 2023, On the Importance of Noise Scheduling
for Diffusion Models). Scaling latents does that with Stable Diffusion's own schedule."""


def build_autoencoder() -> AutoencoderKL:
    """An untrained autoencoder of about 0.25 million parameters; a latent has an eighth of an image's numbers."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=drawings.SIDE_PX,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
    )


def train_autoencoder(*, seed: int, steps: int, batch: int = 32, count: int = 30_000) -> AutoencoderKL:
    """An autoencoder trained on `count` drawings, its scaling factor set for the wanted deviation."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build_autoencoder().train()
    _, images = drawings.sample(rng, count)

    def loss_at(step: int) -> torch.Tensor:
        pixels = to_pixels(images[rng.integers(count, size=batch)])
        if step < (1 - _WHOLE_SHARE) * steps:
            top, left = rng.integers(drawings.SIDE_PX - _CROP_PX + 1, size=2)
            pixels = pixels[..., top : top + _CROP_PX, left : left + _CROP_PX]
        posterior = model.encode(pixels).latent_dist
        restored = model.decode(posterior.sample()).sample
        difference = restored - pixels
        loss: torch.Tensor = (
            difference.abs().mean() + 3 * difference.square().mean() + _KL_WEIGHT * posterior.kl().mean()
        )
        return loss

    fit("autoencoder", model.parameters(), loss_at, steps=steps, learning_rate=2e-3)
    model.eval()
    with torch.no_grad():
        latents = model.encode(to_pixels(images[:512])).latent_dist.mode()
    model.register_to_config(scaling_factor=round(LATENT_DEVIATION / latents.std().item(), 5))
    return model
