"""The parts that the zoo's models are made of: how each is trained, with how much, and what it needs before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel, PixArtTransformer2DModel, UNet2DConditionModel
from transformers import CLIPTextModel, T5EncoderModel

from pytest_diffbench.zoo.train import (
    autoencoder,
    classifier,
    dit,
    language,
    pixart,
    sd15,
    sd21,
    sdxl,
    t5,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_diffbench.zoo.train.denoiser import Phase


@dataclass(frozen=True)
class Budget:
    """What a part is trained with."""

    steps: int
    """At most, in each phase."""
    count: int
    """Drawings (captions, for a text encoder)."""

    def of(self, phases: Sequence[Phase]) -> list[Phase]:
        """These phases, none longer than this."""
        return [replace(phase, steps=min(phase.steps, self.steps)) for phase in phases]


Train: TypeAlias = "Callable[[Path, Budget], None]"
"""Trains a part and leaves it in a folder of the part's own name in the first argument's folder."""


@dataclass(frozen=True)
class Part:
    """One thing that is trained by itself."""

    train: Train
    budget: Budget
    made_from: tuple[str, ...] = ()


def _scorer(work: Path, budget: Budget) -> None:
    model = language.train_clip(
        "scorer", seed=1, steps=budget.steps, count=budget.count, text_layers=2, vision_layers=4
    )
    model.save_pretrained(work / "scorer")


def _classifier(work: Path, budget: Budget) -> None:
    model = classifier.train_classifier(seed=6, steps=budget.steps, count=budget.count)
    model.save_pretrained(work / "classifier")


def _clip_text(work: Path, budget: Budget) -> None:
    encoder = language.train_text_encoder("text encoder", seed=2, steps=budget.steps, count=budget.count)
    encoder.save_pretrained(work / "clip_text")


def _wide_clip_text(work: Path, budget: Budget) -> None:
    encoder = language.train_text_encoder(
        "wide text encoder",
        seed=7,
        steps=budget.steps,
        count=budget.count,
        layers=sd21.TEXT_LAYERS,
        width=sd21.WIDTH,
    )
    encoder.save_pretrained(work / "wide_clip_text")


def _t5(work: Path, budget: Budget) -> None:
    t5.train_encoder(seed=8, steps=budget.steps, count=budget.count).save_pretrained(work / "t5")


def _autoencoder(work: Path, budget: Budget) -> None:
    model = autoencoder.train_autoencoder(seed=3, steps=budget.steps, count=budget.count)
    model.save_pretrained(work / "autoencoder")


def _autoencoder_xl(work: Path, budget: Budget) -> None:
    model = autoencoder.train_autoencoder(seed=9, steps=budget.steps, count=budget.count)
    model.save_pretrained(work / "autoencoder_xl")


def _sd15(work: Path, budget: Budget) -> None:
    torch.manual_seed(4)
    unet = sd15.build_unet()
    text_encoder = CLIPTextModel.from_pretrained(work / "clip_text")
    sd15.train_unet(
        "sd15",
        unet,
        text_encoder,
        AutoencoderKL.from_pretrained(work / "autoencoder"),
        seed=4,
        phases=budget.of(sd15.PHASES),
        count=budget.count,
        learning_rate=1.5e-3,
    )
    unet.save_pretrained(work / "sd15" / "unet")
    text_encoder.save_pretrained(work / "sd15" / "text_encoder")


def _sd21(work: Path, budget: Budget) -> None:
    torch.manual_seed(10)
    trained = UNet2DConditionModel.from_pretrained(work / "sd15" / "unet")
    unet = sd21.begin_with(sd21.build_unet(), trained)
    text_encoder = CLIPTextModel.from_pretrained(work / "wide_clip_text")
    sd15.train_unet(
        "sd21",
        unet,
        text_encoder,
        AutoencoderKL.from_pretrained(work / "autoencoder"),
        seed=10,
        phases=budget.of(sd21.PHASES),
        count=budget.count,
        learning_rate=1e-3,
        v_prediction=True,
    )
    unet.save_pretrained(work / "sd21" / "unet")
    text_encoder.save_pretrained(work / "sd21" / "text_encoder")


def _sdxl(work: Path, budget: Budget) -> None:
    torch.manual_seed(11)
    unet, encoders = sdxl.build_unet(), sdxl.build_encoders()
    sdxl.train_unet(
        unet,
        encoders,
        AutoencoderKL.from_pretrained(work / "autoencoder_xl"),
        seed=11,
        phases=budget.of(sdxl.PHASES),
        count=budget.count,
        learning_rate=1.5e-3,
    )
    for name, module in (("unet", unet), ("text_encoder", encoders[0]), ("text_encoder_2", encoders[1])):
        module.save_pretrained(work / "sdxl" / name)


def _dit(work: Path, budget: Budget) -> None:
    torch.manual_seed(12)
    transformer = dit.build_transformer()
    dit.train_transformer(
        transformer,
        AutoencoderKL.from_pretrained(work / "autoencoder"),
        seed=12,
        phases=budget.of(dit.PHASES),
        count=budget.count,
        learning_rate=4e-3,
    )
    transformer.save_pretrained(work / "dit" / "transformer")


def _pixart_alpha(work: Path, budget: Budget) -> None:
    torch.manual_seed(13)
    trained = DiTTransformer2DModel.from_pretrained(work / "dit" / "transformer")
    transformer = pixart.begin_with(pixart.build_transformer(), trained)
    _pixart(work, budget.of(pixart.ALPHA_PHASES), budget.count, transformer)


def _pixart_sigma(work: Path, budget: Budget) -> None:
    transformer = PixArtTransformer2DModel.from_pretrained(work / "pixart_alpha" / "transformer")
    _pixart(work, budget.of(pixart.SIGMA_PHASES), budget.count, transformer, sigma=True)


def _pixart(
    work: Path,
    phases: Sequence[Phase],
    count: int,
    transformer: PixArtTransformer2DModel,
    *,
    sigma: bool = False,
) -> None:
    name = "pixart_sigma" if sigma else "pixart_alpha"
    pixart.train_transformer(
        name,
        transformer,
        T5EncoderModel.from_pretrained(work / "t5"),
        AutoencoderKL.from_pretrained(work / ("autoencoder_xl" if sigma else "autoencoder")),
        seed=14,
        phases=phases,
        count=count,
        learning_rate=4e-3,
    )
    transformer.save_pretrained(work / name / "transformer")


_DENOISER: Final = Budget(steps=10_000, count=40_000)

PARTS: Final[Mapping[str, Part]] = {
    "scorer": Part(_scorer, Budget(steps=2200, count=40_000)),
    "classifier": Part(_classifier, Budget(steps=1000, count=20_000)),
    "clip_text": Part(_clip_text, Budget(steps=600, count=20_000)),
    "wide_clip_text": Part(_wide_clip_text, Budget(steps=600, count=20_000)),
    "t5": Part(_t5, Budget(steps=600, count=20_000)),
    "autoencoder": Part(_autoencoder, Budget(steps=3000, count=30_000)),
    "autoencoder_xl": Part(_autoencoder_xl, Budget(steps=3000, count=30_000)),
    "sd15": Part(_sd15, _DENOISER, ("clip_text", "autoencoder")),
    "sd21": Part(_sd21, _DENOISER, ("wide_clip_text", "autoencoder", "sd15")),
    "sdxl": Part(_sdxl, _DENOISER, ("autoencoder_xl",)),
    "dit": Part(_dit, _DENOISER, ("autoencoder",)),
    "pixart_alpha": Part(_pixart_alpha, _DENOISER, ("t5", "autoencoder", "dit")),
    "pixart_sigma": Part(_pixart_sigma, _DENOISER, ("pixart_alpha", "t5", "autoencoder_xl")),
}
