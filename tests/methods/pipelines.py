"""Genuine pipelines of every family with random weights, of the zoo's own architectures, and one way to call them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from diffusers import (
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
)
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.train import autoencoder, dit, language, pixart, sd15, sd21, sdxl, t5

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

STEPS: Final = 6
SIDE_PX: Final = 32


def _text(layers: int, width: int) -> Any:
    return language.build_text_encoder(language.build_tokenizer(), layers=layers, width=width)


def _sd15() -> Any:
    return sd15.assemble(_text(2, language.WIDTH), autoencoder.build_autoencoder(), sd15.build_unet())


def _sd21() -> Any:
    encoder = _text(sd21.TEXT_LAYERS, sd21.WIDTH)
    return sd15.assemble(encoder, autoencoder.build_autoencoder(), sd21.build_unet(), sd21.build_scheduler())


def _sdxl() -> Any:
    return sdxl.assemble(sdxl.build_encoders(), autoencoder.build_autoencoder(), sdxl.build_unet())


def _dit() -> Any:
    return dit.assemble(autoencoder.build_autoencoder(), dit.build_transformer())


def _pixart(kind: type[PixArtAlphaPipeline | PixArtSigmaPipeline]) -> Any:
    encoder = t5.build_encoder(t5.build_tokenizer())
    return pixart.assemble(kind, encoder, autoencoder.build_autoencoder(), pixart.build_transformer())


BUILD: Final[dict[str, Callable[[], Any]]] = {
    "sd15": _sd15,
    "sd15_image": lambda: StableDiffusionImg2ImgPipeline(**_sd15().components, requires_safety_checker=False),
    "sd21": _sd21,
    "sd21_image": lambda: StableDiffusionImg2ImgPipeline(**_sd21().components, requires_safety_checker=False),
    "sdxl": _sdxl,
    "sdxl_image": lambda: StableDiffusionXLImg2ImgPipeline(**_sdxl().components),
    "dit": _dit,
    "pixart_alpha": lambda: _pixart(PixArtAlphaPipeline),
    "pixart_sigma": lambda: _pixart(PixArtSigmaPipeline),
}
UNETS: Final = ("sd15", "sd15_image", "sd21", "sd21_image", "sdxl", "sdxl_image")
WITH_TEXT: Final = tuple(name for name in BUILD if name != "dit")


def name_of(pipeline: Any) -> str:
    """The name that a pipeline of this class is called by here: of several, the first."""
    classes = {
        "StableDiffusionPipeline": "sd15",
        "StableDiffusionXLPipeline": "sdxl",
        "DiTPipeline": "dit",
        "PixArtAlphaPipeline": "pixart_alpha",
        "PixArtSigmaPipeline": "pixart_sigma",
    }
    return classes[type(pipeline).__name__]


def build(name: str) -> Any:
    """A pipeline with weights of chance, the same ones every time; none of them is zero."""
    torch.manual_seed(0)
    pipeline = BUILD[name]()
    model = pipeline.transformer if hasattr(pipeline, "transformer") else pipeline.unet
    for parameter in model.parameters():  # training begins some at zero, which would hide what lies before them
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    model.eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def arguments(name: str, *, count: int = 1, side: int = SIDE_PX, seed: int = 0, **told: Any) -> dict[str, Any]:
    """What a pipeline of this name is called with; `told` goes over everything else."""
    generators = [torch.Generator().manual_seed(seed + number) for number in range(count)]
    found: dict[str, Any] = {
        "num_inference_steps": STEPS,
        "guidance_scale": 5.0,
        "generator": generators,
        "output_type": "np",
    }
    if name == "dit":
        found["class_labels"] = [(seed + number) % 64 for number in range(count)]
        return found | told
    found["prompt"] = [f"a {drawings.LABELS[(seed + number) % 64]}" for number in range(count)]
    if name.endswith("_image"):
        drawn = [
            np.random.default_rng(seed + number).integers(0, 256, (side, side, 3), np.uint8) for number in range(count)
        ]
        found["image"] = [Image.fromarray(image) for image in drawn]
        found["strength"] = 0.8
    else:
        found |= {"height": side, "width": side}
    if name.startswith("pixart"):
        found["use_resolution_binning"] = False
    return found | told


def images(pipeline: Any, name: str, **told: Any) -> NDArray[np.float32]:
    """(count, height, width, 3) in [0, 1]."""
    drawn: NDArray[np.float32] = pipeline(**arguments(name, **told)).images
    return drawn


def flops(pipeline: Any, name: str, **told: Any) -> int:
    """Floating-point operations of the denoiser alone, in all steps of a call."""
    return flops_of(pipeline, lambda: images(pipeline, name, **told))


def flops_of(pipeline: Any, call: Callable[[], object]) -> int:
    """The same of any call that runs this pipeline's denoiser."""
    model = pipeline.transformer if hasattr(pipeline, "transformer") else pipeline.unet
    counted = 0
    forward = model.forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal counted
        with FlopCounterMode(display=False) as counter:
            result = forward(*args, **kwargs)
        counted += counter.get_total_flops()
        return result

    model.forward = counting
    try:
        call()
    finally:
        model.forward = forward
    return counted
