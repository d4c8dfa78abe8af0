"""Real architectures with random weights: genuine pipelines that the library itself loads and runs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from pytest_diffbench.zoo.architectures import ARCHITECTURES, Architecture, build, write
from pytest_diffbench.zoo.models import DIT, FAMILIES, SD15, Model

if TYPE_CHECKING:
    from pathlib import Path

EVERY_MODEL = pytest.mark.parametrize("model", FAMILIES, ids=lambda model: model.name)


def _narrow(architecture: Architecture) -> Architecture:
    """The same with few channels and layers: what is large takes minutes."""
    denoiser = dict(architecture.denoiser)
    if "block_out_channels" in denoiser:
        depth = len(denoiser["block_out_channels"])
        denoiser["block_out_channels"] = (32, 64, 64, 64)[:depth]
        several = isinstance(denoiser["attention_head_dim"], tuple)
        denoiser["attention_head_dim"] = (2, 4, 4, 4)[:depth] if several else 4
        if "transformer_layers_per_block" in denoiser:
            denoiser["transformer_layers_per_block"] = (1, 1, 2)
    else:
        denoiser |= {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16}
    if "caption_channels" in denoiser:
        denoiser["cross_attention_dim"] = 32
    return replace(
        architecture,
        denoiser=denoiser,
        text_encoders=tuple(_shallow(encoder) for encoder in architecture.text_encoders),
        autoencoder={**architecture.autoencoder, "block_out_channels": (32,) * 4, "layers_per_block": 1},
    )


def _shallow(encoder: Any) -> dict[str, Any]:
    depth = "num_layers" if "num_layers" in encoder else "num_hidden_layers"
    return {**encoder, depth: 1, **({"d_ff": 64, "num_heads": 2} if "d_ff" in encoder else {})}


@EVERY_MODEL
def test_the_library_loads_and_runs_it(model: Model, tmp_path: Path) -> None:
    """Any prompt or class gives finite pixels, with the text as long as the real one is."""
    folder = tmp_path / model.name
    write(model, folder, _narrow(ARCHITECTURES[model.name]))

    pipeline: Any = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    told: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np"}
    if model == DIT:
        image = pipeline([0], **told).images[0]
    else:
        binning = {"use_resolution_binning": False} if model.name.startswith("pixart") else {}
        image = pipeline("a fox", height=64, width=64, **binning, **told).images[0]

    assert type(pipeline).__name__ == model.pipeline_classes[0]
    assert np.isfinite(image).all()
    assert image.std() > 0


@EVERY_MODEL
def test_weights_are_finite_and_of_one_kind(model: Model) -> None:
    """Everything has memory, is of the dtype that was asked for, and is no training state."""
    pipeline = build(model, _narrow(ARCHITECTURES[model.name]), torch.bfloat16)

    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    weights = [weight for module in modules for weight in module.parameters()]
    assert len(modules) == 2 + len(ARCHITECTURES[model.name].text_encoders)
    assert {weight.dtype for weight in weights} == {torch.bfloat16}
    assert {weight.device.type for weight in weights} == {"cpu"}
    assert not any(weight.requires_grad for weight in weights)
    assert all(weight.isfinite().all() for weight in weights)
    assert sum(weight.std().item() > 0 for weight in weights if weight.dim() > 1) == sum(w.dim() > 1 for w in weights)


def test_without_text_it_runs_on_embeddings() -> None:
    """As on a GPU where a text encoder would only take room."""
    pipeline = build(SD15, _narrow(ARCHITECTURES["sd15"]), torch.float32, with_text=False)
    pipeline.set_progress_bar_config(disable=True)
    states = torch.randn(1, ARCHITECTURES["sd15"].text_tokens, ARCHITECTURES["sd15"].denoiser["cross_attention_dim"])
    told = {"height": 64, "width": 64, "num_inference_steps": 1, "output_type": "np"}

    assert pipeline.text_encoder is None
    image = pipeline(prompt_embeds=states, negative_prompt_embeds=states, **told).images[0]
    assert math.isfinite(image.sum())
