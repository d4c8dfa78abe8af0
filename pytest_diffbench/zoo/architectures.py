"""The real architectures, by the settings that are published with their weights: to be counted, or filled at random."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import diffusers
import torch
from accelerate import init_empty_weights
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_diffbench.zoo.models import Model

CLIP_TOKENS: Final = 77
LATENT_CHANNELS: Final = 4
PIXELS_A_LATENT: Final = 8
PATTERN: Final = 2**20
"""Random numbers that are repeated: to draw five billion takes minutes."""
RANDOM_DEVIATION: Final = 0.02
"""Of random weights: small enough that sixty layers of them overflow nothing in float16."""


@dataclass(frozen=True)
class Architecture:
    """One published model, all but its weights."""

    denoiser_class: str
    denoiser: Mapping[str, Any]
    text_tokens: int = CLIP_TOKENS
    """How many states of the text a denoiser reads, padding included."""
    text_encoders: tuple[Mapping[str, Any], ...] = ()
    autoencoder: Mapping[str, Any] = field(default_factory=dict)

    def build_denoiser(self) -> torch.nn.Module:
        """The denoiser, on whatever device is the default one, for inference."""
        with torch.no_grad():
            return getattr(diffusers, self.denoiser_class)(**self.denoiser).eval()  # type: ignore[no-any-return]

    def denoiser_inputs(self, batch: int, size_px: int) -> dict[str, Any]:
        """What a denoiser is called with at one step, beside its timestep; on the default device, empty."""
        side = size_px // PIXELS_A_LATENT
        sample = torch.empty(batch, LATENT_CHANNELS, side, side)
        if self.denoiser_class == "UNet2DConditionModel":
            width = self.denoiser["cross_attention_dim"]
            found: dict[str, Any] = {
                "sample": sample,
                "encoder_hidden_states": torch.empty(batch, self.text_tokens, width),
            }
            if "addition_embed_type" in self.denoiser:
                pooled = self.text_encoders[-1]["projection_dim"]
                sizes = {"text_embeds": torch.empty(batch, pooled), "time_ids": torch.empty(batch, 6)}
                found["added_cond_kwargs"] = sizes
            return found
        if self.denoiser_class == "DiTTransformer2DModel":
            return {"hidden_states": sample, "class_labels": torch.empty(batch, dtype=torch.long)}
        return {
            "hidden_states": sample,
            "encoder_hidden_states": torch.empty(batch, self.text_tokens, self.denoiser["caption_channels"]),
            "encoder_attention_mask": torch.ones(batch, self.text_tokens),
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        }


_UNET: Final[Mapping[str, Any]] = {
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (320, 640, 1280, 1280),
}
_TRANSFORMER: Final[Mapping[str, Any]] = {
    "num_layers": 28,
    "patch_size": 2,
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "in_channels": 4,
    "out_channels": 8,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "norm_elementwise_affine": False,
}
_PIXART: Final[Mapping[str, Any]] = {
    **_TRANSFORMER,
    "caption_channels": 4096,
    "cross_attention_dim": 1152,
    "num_embeds_ada_norm": 1000,
    "norm_type": "ada_norm_single",
    "norm_eps": 1e-6,
    "use_additional_conditions": False,
}
_AUTOENCODER: Final[Mapping[str, Any]] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": LATENT_CHANNELS,
    "scaling_factor": 0.18215,
}
_AUTOENCODER_XL: Final[Mapping[str, Any]] = {**_AUTOENCODER, "scaling_factor": 0.13025}
_CLIP_L: Final[Mapping[str, Any]] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
_CLIP_H: Final[Mapping[str, Any]] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 512,
}
_CLIP_BIG_G: Final[Mapping[str, Any]] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
_T5_XXL: Final[Mapping[str, Any]] = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "dropout_rate": 0.0,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": False,
    "use_cache": False,
}

ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "sd15": Architecture(
        "UNet2DConditionModel",
        {**_UNET, "sample_size": 64, "attention_head_dim": 8, "cross_attention_dim": 768},
        text_encoders=(_CLIP_L,),
        autoencoder=_AUTOENCODER,
    ),
    "sd21": Architecture(
        "UNet2DConditionModel",
        {
            **_UNET,
            "sample_size": 96,
            "attention_head_dim": (5, 10, 20, 20),
            "cross_attention_dim": 1024,
            "use_linear_projection": True,
        },
        text_encoders=(_CLIP_H,),
        autoencoder=_AUTOENCODER,
    ),
    "sdxl": Architecture(
        "UNet2DConditionModel",
        {
            **_UNET,
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": (5, 10, 20),
            "transformer_layers_per_block": (1, 2, 10),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        text_encoders=(_CLIP_L, _CLIP_BIG_G),
        autoencoder=_AUTOENCODER_XL,
    ),
    "dit": Architecture(
        "DiTTransformer2DModel",
        {**_TRANSFORMER, "sample_size": 32, "num_embeds_ada_norm": 1000, "norm_type": "ada_norm_zero"},
        autoencoder=_AUTOENCODER,
    ),
    "pixart_alpha": Architecture(
        "PixArtTransformer2DModel",
        {**_PIXART, "sample_size": 64},
        text_tokens=120,
        text_encoders=(_T5_XXL,),
        autoencoder=_AUTOENCODER,
    ),
    "pixart_sigma": Architecture(
        "PixArtTransformer2DModel",
        {**_PIXART, "sample_size": 128},
        text_tokens=300,
        text_encoders=(_T5_XXL,),
        autoencoder=_AUTOENCODER_XL,
    ),
}
"""By the names of the zoo; settings as in the `config.json` files beside the weights on the Hugging Face hub."""


def build(
    model: Model, architecture: Architecture, dtype: torch.dtype = torch.float16, *, with_text: bool = True
) -> Any:
    """A genuine pipeline of this architecture with random weights, in memory, and tokenizers of a few words.

    A tokenizer pads, so that the text takes the work that it takes with the published vocabulary. Without text encoders
    it is called with embeddings.
    """
    # imported here: counting needs no tokenizers
    from pytest_diffbench.zoo.train import dit, pixart, sd15, sd21, sdxl

    with init_empty_weights():
        denoiser = architecture.build_denoiser()
        autoencoder = diffusers.AutoencoderKL(**architecture.autoencoder)
        encoders = _text_encoders(architecture) if with_text else []
    for part in (denoiser, autoencoder, *encoders):
        _fill(part, dtype)
    encoders += [None] * (len(architecture.text_encoders) - len(encoders))
    if model.name == "sdxl":
        pipeline: Any = sdxl.assemble((encoders[0], encoders[1]), autoencoder, denoiser)
    elif model.name == "dit":
        pipeline = dit.assemble(autoencoder, denoiser)
    elif architecture.denoiser_class == "PixArtTransformer2DModel":
        pipeline = pixart.assemble(getattr(diffusers, model.pipeline_classes[0]), encoders[0], autoencoder, denoiser)
    else:
        scheduler = sd21.build_scheduler() if model.name == "sd21" else sd15.build_scheduler()
        pipeline = sd15.assemble(encoders[0], autoencoder, denoiser, scheduler)
    for part in pipeline.components.values():
        if isinstance(part, CLIPTokenizer):
            part.model_max_length = CLIP_TOKENS
    return pipeline


def write(model: Model, folder: Path, architecture: Architecture, dtype: torch.dtype = torch.float16) -> None:
    """Fill `folder` with such a pipeline, as its publisher would."""
    build(model, architecture, dtype).save_pretrained(folder)
    if model.conditioning == "class":
        from pytest_diffbench.zoo.train import dit

        dit.name_classes(folder)


def _text_encoders(architecture: Architecture) -> list[Any]:
    settings = architecture.text_encoders
    if architecture.denoiser_class == "PixArtTransformer2DModel":
        return [T5EncoderModel(T5Config(**settings[0]))]
    first = [CLIPTextModel(CLIPTextConfig(**each)) for each in settings[:1]]
    return [*first, *(CLIPTextModelWithProjection(CLIPTextConfig(**each)) for each in settings[1:])]


def _fill(part: torch.nn.Module, dtype: torch.dtype) -> None:
    """Give the weights of a module memory and random values; what is computed from its settings it has already."""
    pattern = torch.randn(PATTERN, generator=torch.Generator().manual_seed(0)).mul_(RANDOM_DEVIATION).to(dtype)
    filled: dict[int, torch.nn.Parameter] = {}
    for name, weight in list(part.named_parameters(remove_duplicate=False)):  # tied ones stay tied
        owner, _, own = name.rpartition(".")
        if id(weight) not in filled:
            if weight.dim() > 1:
                values = pattern.repeat(math.ceil(weight.numel() / PATTERN))[: weight.numel()].reshape(weight.shape)
            else:  # of norms, and biases
                values = torch.full(weight.shape, float(own == "weight"), dtype=dtype)
            filled[id(weight)] = torch.nn.Parameter(values, requires_grad=False)
        part.get_submodule(owner).register_parameter(own, filled[id(weight)])
    part.to(dtype)
