"""From trained parts to the folders that ship: genuine pipelines in float16, what they can do, and their digests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import diffusers
import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    DiTTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    UNet2DConditionModel,
)
from transformers import (
    CLIPModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    ResNetForImageClassification,
    T5EncoderModel,
)

from pytest_diffbench.methods import SAMPLERS
from pytest_diffbench.zoo import drawings, weights
from pytest_diffbench.zoo.models import DIT, FAMILIES
from pytest_diffbench.zoo.train import dit, language, pixart, sd15, sd21, sdxl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pytest_diffbench.zoo.models import Model

BATCH: Final = 16


@dataclass(frozen=True)
class Record:
    """How the CLIP-Scores on record are found."""

    captions: int
    """Unseen ones, a multiple of `BATCH`."""
    steps: int


@dataclass(frozen=True)
class Published:
    """A folder of the zoo."""

    parts: tuple[str, ...]
    write: Callable[[Path, Path, Record], None]
    """From the folder of parts into the zoo's own folder."""


def publish(name: str, work: Path, zoo: Path, *, captions: int = 64, steps: int = 50) -> None:
    """Write a folder of the zoo as float16, and the digests of all of them beside it.

    The CLIP-Scores on record, one a sampler, are means over `captions` unseen captions, a multiple of 16.
    """
    PUBLISHED[name].write(work, zoo / name, Record(captions, steps))
    for file in zoo.rglob("*config.json"):  # where a part lay while it was trained is nobody's business
        settings = json.loads(file.read_text())
        settings.pop("_name_or_path", None)
        file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    for file in zoo.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    weights.write_digests(zoo)


def _scorer(work: Path, folder: Path, _: Record) -> None:
    CLIPModel.from_pretrained(work / "scorer").to(torch.float16).save_pretrained(folder)
    language.build_tokenizer().save_pretrained(folder)
    language.build_image_processor().save_pretrained(folder)


def _classifier(work: Path, folder: Path, _: Record) -> None:
    ResNetForImageClassification.from_pretrained(work / "classifier").to(torch.float16).save_pretrained(folder)


def _pipeline(model: Model, assemble: Callable[[Path], DiffusionPipeline]) -> Callable[[Path, Path, Record], None]:
    def write(work: Path, folder: Path, record: Record) -> None:
        pipeline = assemble(work)
        pipeline.to(torch.float16).save_pretrained(folder)
        if model.conditioning == "class":
            dit.name_classes(folder)
        scorer = CLIPModel.from_pretrained(work / "scorer")
        floors = language.floor_clip_scores(scorer, seed=5, count=16 * record.captions)
        scores = clip_scores(pipeline.to(torch.float32), model, scorer, record)
        known = {
            "scale": drawings.SIDE_PX / model.size,
            "clip_scores": {name: round(score, 2) for name, score in scores.items()},
            "floor_clip_scores": {name: round(score, 2) for name, score in floors.items()},
        }
        (folder / "diffbench.json").write_text(json.dumps(known) + "\n")

    return write


def clip_scores(pipeline: Any, model: Model, scorer: CLIPModel, record: Record) -> dict[str, float]:
    """The mean CLIP-Score of unseen captions by sampler, with the model's own guidance: what the zoo records of it."""
    published = pipeline.scheduler.config
    pipeline.set_progress_bar_config(disable=True)
    found = {}
    for sampler in model.samplers:
        own = getattr(diffusers, SAMPLERS[sampler][0])
        pipeline.scheduler = own.from_config(published, **({"clip_sample": False} if sampler == "ddim" else {}))
        found[sampler] = _clip_score(pipeline, model, scorer, record)
    return found


@torch.no_grad()
def _clip_score(pipeline: Any, model: Model, scorer: CLIPModel, record: Record) -> float:
    rng = np.random.default_rng(5)
    scores: list[float] = []
    for _ in range(record.captions // BATCH):
        scenes = [drawings.sample_scene(rng, held_out=True) for _ in range(BATCH)]
        seeds = rng.integers(2**32, size=BATCH).tolist()
        captions, images = draw(pipeline, model, scenes, seeds=seeds, steps=record.steps)
        tokens = language.build_tokenizer()(captions, padding=True, return_tensors="pt")
        embedded = scorer.eval()(**tokens, pixel_values=language.to_pixels(images))
        cosines = (embedded.image_embeds * embedded.text_embeds).sum(dim=-1)
        scores.append(100 * cosines.clamp(min=0).mean().item())
    return sum(scores) / len(scores)


def draw(
    pipeline: Any, model: Model, scenes: Sequence[drawings.Scene], *, seeds: Sequence[int], steps: int
) -> tuple[list[str], NDArray[np.uint8]]:
    """What the model is told of each scene, and what it draws then: (count, 64, 64, 3)."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    told = {"num_inference_steps": steps, "guidance_scale": model.guidance, "generator": generators}
    if model == DIT:
        captions = [drawings.class_caption(scene.label) for scene in scenes]
        drawn = pipeline([drawings.LABELS.index(scene.label) for scene in scenes], **told).images
    else:
        captions = [scene.caption for scene in scenes]
        side = {"height": drawings.SIDE_PX, "width": drawings.SIDE_PX}
        exact = (
            {"use_resolution_binning": False} if isinstance(pipeline, PixArtAlphaPipeline | PixArtSigmaPipeline) else {}
        )
        drawn = pipeline(captions, **told, **side, **exact).images
    return captions, np.stack([np.asarray(image) for image in drawn])


def _sd15(work: Path) -> DiffusionPipeline:
    return sd15.assemble(
        CLIPTextModel.from_pretrained(work / "sd15" / "text_encoder"),
        AutoencoderKL.from_pretrained(work / "autoencoder"),
        UNet2DConditionModel.from_pretrained(work / "sd15" / "unet"),
    )


def _sd21(work: Path) -> DiffusionPipeline:
    return sd15.assemble(
        CLIPTextModel.from_pretrained(work / "sd21" / "text_encoder"),
        AutoencoderKL.from_pretrained(work / "autoencoder"),
        UNet2DConditionModel.from_pretrained(work / "sd21" / "unet"),
        sd21.build_scheduler(),
    )


def _sdxl(work: Path) -> DiffusionPipeline:
    encoders = (
        CLIPTextModel.from_pretrained(work / "sdxl" / "text_encoder"),
        CLIPTextModelWithProjection.from_pretrained(work / "sdxl" / "text_encoder_2"),
    )
    unet = UNet2DConditionModel.from_pretrained(work / "sdxl" / "unet")
    return sdxl.assemble(encoders, AutoencoderKL.from_pretrained(work / "autoencoder_xl"), unet)


def _dit(work: Path) -> DiffusionPipeline:
    transformer = DiTTransformer2DModel.from_pretrained(work / "dit" / "transformer")
    return dit.assemble(AutoencoderKL.from_pretrained(work / "autoencoder"), transformer)


def _pixart(
    work: Path, name: str, autoencoder: str, pipeline_class: type[PixArtAlphaPipeline | PixArtSigmaPipeline]
) -> DiffusionPipeline:
    return pixart.assemble(
        pipeline_class,
        T5EncoderModel.from_pretrained(work / "t5"),
        AutoencoderKL.from_pretrained(work / autoencoder),
        PixArtTransformer2DModel.from_pretrained(work / name / "transformer"),
    )


_ASSEMBLE: Final[Mapping[str, tuple[tuple[str, ...], Callable[[Path], DiffusionPipeline]]]] = {
    "sd15": (("autoencoder", "sd15"), _sd15),
    "sd21": (("autoencoder", "sd21"), _sd21),
    "sdxl": (("autoencoder_xl", "sdxl"), _sdxl),
    "dit": (("autoencoder", "dit"), _dit),
    "pixart_alpha": (
        ("t5", "autoencoder", "pixart_alpha"),
        lambda work: _pixart(work, "pixart_alpha", "autoencoder", PixArtAlphaPipeline),
    ),
    "pixart_sigma": (
        ("t5", "autoencoder_xl", "pixart_sigma"),
        lambda work: _pixart(work, "pixart_sigma", "autoencoder_xl", PixArtSigmaPipeline),
    ),
}

PUBLISHED: Final[Mapping[str, Published]] = {
    "scorer": Published(("scorer",), _scorer),
    "classifier": Published(("classifier",), _classifier),
    **{
        model.name: Published(("scorer", *_ASSEMBLE[model.name][0]), _pipeline(model, _ASSEMBLE[model.name][1]))
        for model in FAMILIES
    },
}
"""The zoo's folders: what judges, and a pipeline for each model."""
