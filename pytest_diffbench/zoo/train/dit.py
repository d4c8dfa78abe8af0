"""DiT, tiny: a transformer that draws by class, one class for each colour and shape."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.train import denoiser

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from diffusers import AutoencoderKL
    from numpy.typing import NDArray

NULL_CLASS: Final = 1000
"""What `DiTPipeline` names where it guides, however many classes there are."""
LAYERS: Final = 6
HEADS: Final = 4
HEAD_WIDTH: Final = 22
PHASES: Final = (denoiser.details(3500),)
SIZES: Final = ("medium", "large")


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


def portraits(rng: np.random.Generator, count: int) -> tuple[list[int], NDArray[np.uint8]]:
    """Classes and drawings (count, height, width, 3) with the shape in the middle, as photographs of ImageNet have it.

    A class says nothing of place and size: what it does not say, so small a model would have to learn nonetheless.
    """
    scenes = [
        replace(drawings.sample_scene(rng), place="in the centre", size=str(rng.choice(SIZES))) for _ in range(count)
    ]
    return [drawings.LABELS.index(s.label) for s in scenes], np.stack([drawings.draw(s, rng) for s in scenes])


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
    labels, images = portraits(rng, count)
    classes = torch.tensor(labels)
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


def name_classes(folder: Path) -> None:
    """Write the classes' names where the published DiT has them: the library reads them, and never writes them."""
    file = folder / "model_index.json"
    index = json.loads(file.read_text())
    index["id2label"] = dict(enumerate(drawings.LABELS))
    file.write_text(json.dumps(index, indent=2) + "\n")


def assemble(autoencoder: AutoencoderKL, transformer: DiTTransformer2DModel) -> DiTPipeline:
    """The finished pipeline."""
    return DiTPipeline(
        transformer=transformer,
        vae=autoencoder,
        scheduler=build_scheduler(),
        id2label=dict(enumerate(drawings.LABELS)),
    )
