"""What the methods of `diffagent.methods` save in wall time, on models large enough that layers cost more than calls.

Run it as `python benchmarks/methods.py [PAIRS]` (about ten minutes on a core with 5 pairs). A U-Net and a PixArt with
weights of chance, 256 pixels, DDIM with 20 steps, guidance, one thread; the plain pipeline and the accelerated one take
turns, and the order within a pair too. Beside the geometric mean of the ratios stands what the FLOPs of the denoiser
promise.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import torch
from diffagent.methods import block_reuse, deepcache, guidance_window, tgate, token_merging
from diffusers import DDIMScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from pytest_diffbench.zoo.train import autoencoder, language, pixart, sd15, t5

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

LATENT_SIDE = 32
"""Of 256 pixels, with an autoencoder of eight pixels a latent; the one here is not asked."""
STEPS = 20
METHODS: dict[str, tuple[tuple[str, ...], Callable[[Any], AbstractContextManager[Any]]]] = {
    "DeepCache, interval 3": (("unet",), lambda pipeline: deepcache(pipeline, interval=3)),
    "T-GATE, gate at 8": (("unet", "pixart"), lambda pipeline: tgate(pipeline, gate_step=8)),
    "FORA, interval 2": (("unet", "pixart"), lambda pipeline: block_reuse(pipeline, interval=2)),
    "Token Merging, half": (("unet", "pixart"), lambda pipeline: token_merging(pipeline, ratio=0.5)),
    "guidance in the first half": (("unet", "pixart"), lambda pipeline: guidance_window(pipeline, 0.0, 0.5)),
}


def unet() -> Any:
    """Stable Diffusion 1.5's blocks, narrow."""
    model = UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        block_out_channels=(64, 128, 224, 224),
        layers_per_block=2,
        norm_num_groups=8,
        attention_head_dim=8,
        cross_attention_dim=language.WIDTH,
    )
    encoder = language.build_text_encoder(language.build_tokenizer(), layers=2)
    return sd15.assemble(encoder, autoencoder.build_autoencoder(), model)


def pixart_alpha() -> Any:
    """PixArt's blocks, narrow and few."""
    model = PixArtTransformer2DModel(
        sample_size=LATENT_SIDE,
        num_layers=12,
        num_attention_heads=6,
        attention_head_dim=64,
        cross_attention_dim=384,
        caption_channels=language.WIDTH,
        use_additional_conditions=False,
    )
    encoder = t5.build_encoder(t5.build_tokenizer())
    return pixart.assemble(PixArtAlphaPipeline, encoder, autoencoder.build_autoencoder(), model)


def draw(pipeline: Any) -> float:
    """Seconds of a call without decoding."""
    exact = {"use_resolution_binning": False} if isinstance(pipeline, PixArtAlphaPipeline) else {}
    side_px = LATENT_SIDE * pipeline.vae_scale_factor
    began = time.perf_counter()
    pipeline(
        "a small red star",
        height=side_px,
        width=side_px,
        num_inference_steps=STEPS,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        **exact,
    )
    return time.perf_counter() - began


def flops(pipeline: Any) -> int:
    """Of a whole call, nearly all of them the denoiser's."""
    with FlopCounterMode(display=False) as counter:
        draw(pipeline)
    return int(counter.get_total_flops())


def main() -> None:
    """Print a row for each method and model."""
    torch.set_num_threads(1)
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print("| method | model | wall time | by FLOPs |\n|---|---|---|---|")
    for kind, build in (("unet", unet), ("pixart", pixart_alpha)):
        pipeline = build()
        pipeline.set_progress_bar_config(disable=True)
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
        model = pipeline.unet if kind == "unet" else pipeline.transformer
        name = f"{kind}, {sum(parameter.numel() for parameter in model.parameters()) / 1e6:.0f} M"
        plain = flops(pipeline)
        for method, (kinds, apply) in METHODS.items():
            if kind not in kinds:
                continue
            with apply(pipeline):
                ideal = plain / flops(pipeline)
            ratios = [_pair(pipeline, apply, plain_first=number % 2 == 0) for number in range(pairs)]
            low, high = min(ratios), max(ratios)
            mean = statistics.geometric_mean(ratios)
            print(f"| {method} | {name} | {mean:.2f}x ({low:.2f} to {high:.2f}) | {ideal:.2f}x |", flush=True)


def _pair(pipeline: Any, apply: Callable[[Any], AbstractContextManager[Any]], *, plain_first: bool) -> float:
    plain_s = draw(pipeline) if plain_first else 0.0
    with apply(pipeline):
        fast_s = draw(pipeline)
    return (plain_s or draw(pipeline)) / fast_s


if __name__ == "__main__":
    main()
