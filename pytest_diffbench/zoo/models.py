"""Model names and what is known of each: how it is run by default, and where its weights are."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias

from pytest_diffbench.errors import SetupError, TaskError
from pytest_diffbench.methods import SAMPLERS
from pytest_diffbench.zoo import weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Prompts: TypeAlias = Callable[[random.Random, int], list[str]]
"""`count` prompts or more, no two alike where there are enough."""

ZOOS: Final = ("tiny",)
MIN_PROMPTS: Final = 10
"""The paper judges on ten."""
MIN_PUBLIC_PROMPTS: Final = 4
"""Fewer would be learned by heart after one look at the feedback."""
PUBLIC_SHARE: Final = 3
"""One in so many prompts, and seeds, is public."""
VARIANCE_PRESERVING: Final = ("pndm", "ddim", "dpm_solver", "unipc")
"""Samplers that begin with noise of deviation 1; `DiTPipeline` never scales its noise for any other."""


@dataclass(frozen=True)
class Model:
    """One model, as tasks name it."""

    name: str
    pipeline_classes: tuple[str, ...]
    """Classes that build it; the first is its own."""
    steps: int
    size: int
    """Width and height in pixels."""
    sampler: str
    """The one that its own scheduler file names; of a user's own model a class, where no sampler here is that."""
    guidance: float
    samplers: tuple[str, ...] = tuple(SAMPLERS)
    """Those that it can run with."""
    denoiser: str = "unet"
    """Or "transformer": the pipeline's part that is called at every step."""
    conditioning: str = "text"
    """Or "class"."""
    hub_id: str | None = None
    folder: Path | None = None
    """Where a user's own model lies; None for a model of the zoo."""


@dataclass(frozen=True)
class Weights:
    """What a model is made of on this machine."""

    path: Path
    revision: str
    """Changes whenever a weight does."""
    scorer: Path
    prompts: Prompts
    scale: float = 1.0
    """Pixels of this zoo's images over the real model's."""
    clip_scores: Mapping[str, float] = field(default_factory=dict)
    """The score recorded for this model with a sampler, at its own steps and guidance; empty where none is."""
    floor_clip_score: float | None = None
    """What the scorer gives to noise, or to an image of something else; None where nothing is recorded."""
    scorer_revision: str = ""
    """Changes whenever one of the scorer's weights does; '' where nobody asks."""
    public_problem: str = "the prompts of these weights are not divided"
    """Why no prompts are set aside as public; '' where one in three is, by `is_public`."""


SD15: Final = Model(
    name="sd15",
    pipeline_classes=("StableDiffusionPipeline", "AutoPipelineForText2Image", "DiffusionPipeline"),
    steps=50,
    size=512,
    sampler="pndm",
    guidance=7.5,
    hub_id="stable-diffusion-v1-5/stable-diffusion-v1-5",
)
SD21: Final = Model(
    name="sd21",
    pipeline_classes=("StableDiffusionPipeline", "AutoPipelineForText2Image", "DiffusionPipeline"),
    steps=50,
    size=768,
    sampler="ddim",
    guidance=7.5,
    hub_id="stabilityai/stable-diffusion-2-1",
)
SDXL: Final = Model(
    name="sdxl",
    pipeline_classes=("StableDiffusionXLPipeline", "AutoPipelineForText2Image", "DiffusionPipeline"),
    steps=50,
    size=1024,
    sampler="euler",
    guidance=5.0,
    hub_id="stabilityai/stable-diffusion-xl-base-1.0",
)
DIT: Final = Model(
    name="dit",
    pipeline_classes=("DiTPipeline", "DiffusionPipeline"),
    steps=50,
    size=256,
    sampler="ddim",
    guidance=4.0,
    samplers=VARIANCE_PRESERVING,
    denoiser="transformer",
    conditioning="class",
    hub_id="facebook/DiT-XL-2-256",
)
PIXART_ALPHA: Final = Model(
    name="pixart_alpha",
    pipeline_classes=("PixArtAlphaPipeline", "AutoPipelineForText2Image", "DiffusionPipeline"),
    steps=20,
    size=512,
    sampler="dpm_solver",
    guidance=4.5,
    denoiser="transformer",
    hub_id="PixArt-alpha/PixArt-XL-2-512x512",
)
PIXART_SIGMA: Final = Model(
    name="pixart_sigma",
    pipeline_classes=("PixArtSigmaPipeline", "AutoPipelineForText2Image", "DiffusionPipeline"),
    steps=20,
    size=1024,
    sampler="dpm_solver",
    guidance=4.5,
    denoiser="transformer",
    hub_id="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
)
FAMILIES: Final = (SD15, SD21, SDXL, DIT, PIXART_ALPHA, PIXART_SIGMA)
"""Those whose training is written."""
BUILT_IN: Final = (SD15, SDXL)
"""Those that are trained well enough to be judged by."""


def is_folder(name: str) -> bool:
    """Whether a task's `model` means a folder rather than a name of the zoo."""
    return "/" in name or name.startswith(".")


def foreign(folder: Path, name: str) -> Model:
    """A user's own diffusers folder; its defaults are read from its JSON files. TaskError where it is none."""
    index = _read_json(folder / "model_index.json", f"model {name!r} is no diffusers folder")
    pipeline_class = str(index.get("_class_name"))
    scheduler = _read_json(folder / "scheduler" / "scheduler_config.json", f"model {name!r} has no scheduler")
    own = str(scheduler.get("_class_name") or "its own scheduler")
    sampler = next((name for name, classes in SAMPLERS.items() if own in classes), own)
    return Model(
        name=name,
        pipeline_classes=(pipeline_class, "AutoPipelineForText2Image", "DiffusionPipeline"),
        steps=50,
        size=_native_size(folder, name),
        sampler=sampler,
        guidance=7.5,
        denoiser="unet" if (folder / "unet").is_dir() else "transformer",
        folder=folder,
    )


def _native_size(folder: Path, name: str) -> int:
    for part in ("unet", "transformer"):
        if (folder / part / "config.json").is_file():
            denoiser = _read_json(folder / part / "config.json", "")
            autoencoder = _read_json(folder / "vae" / "config.json", f"model {name!r} has no autoencoder")
            blocks, latent_side = autoencoder.get("block_out_channels"), denoiser.get("sample_size")
            if isinstance(blocks, list) and isinstance(latent_side, int):
                return latent_side << (len(blocks) - 1)
            raise TaskError(f"model {name!r}: its {part} or autoencoder names no size: give one, Task(..., size=512)")
    raise TaskError(f"model {name!r} has neither a 'unet' nor a 'transformer' folder")


def _read_json(file: Path, otherwise: str) -> dict[str, list[object] | str | int | None]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise TaskError(f"{otherwise}: cannot read {file} ({error})") from error
    return content if isinstance(content, dict) else {}


def tiny(model: Model) -> Weights:
    """The trained stand-in for a model of the zoo; SetupError where it is missing or damaged."""
    revision = weights.verify(weights.TINY, model.name)
    scorer_revision = weights.verify(weights.TINY, "scorer")
    recorded = json.loads((weights.TINY / model.name / "diffbench.json").read_text())
    return Weights(
        path=weights.TINY / model.name,
        revision=f"tiny-{revision[:12]}",
        scorer=weights.TINY / "scorer",
        scorer_revision=f"tiny-{scorer_revision[:12]}",
        prompts=_drawn_captions,
        scale=recorded["scale"],
        clip_scores=recorded["clip_scores"],
        floor_clip_score=max(recorded["floor_clip_scores"].values()),
        public_problem="",
    )


def is_public(text: str) -> bool:
    """Whether a prompt, or a seed's digits, belongs to the public set: by its SHA-256, so that it always does."""
    return hashlib.sha256(text.encode()).digest()[-1] % PUBLIC_SHARE == 0


def _drawn_captions(rng: random.Random, count: int) -> list[str]:
    captions = _held_out_captions()
    return rng.sample(captions, min(count, len(captions)))


@cache
def _held_out_captions() -> tuple[str, ...]:
    # imported here: drawing needs numpy, and collecting tasks must not
    from pytest_diffbench.zoo import drawings

    return tuple(scene.caption for scene in drawings.scenes() if scene.held_out)


def own(model: Model, prompts: Path, scorer: Path) -> Weights:
    """A user's own folder with prompts and scorer of their own; SetupError where a file cannot be used."""
    assert model.folder is not None
    lines = _prompt_lines(prompts)
    if not (scorer / "config.json").is_file():
        raise SetupError(f"diffbench: scorer {scorer} is no folder of a transformers CLIPModel: it lacks config.json")
    return Weights(
        path=model.folder,
        revision=f"own-{weights.contents(model.folder)[:12]}",
        scorer=scorer,
        scorer_revision=f"own-{weights.contents(scorer)[:12]}",
        prompts=lambda rng, count: _shuffled(lines, rng, count),
        public_problem=_public_problem(lines, prompts),
    )


def _public_problem(lines: Sequence[str], file: Path) -> str:
    """Why a user's prompts cannot be divided; '' where they can."""
    public = sum(is_public(line) for line in lines)
    if public >= MIN_PUBLIC_PROMPTS and len(lines) - public >= MIN_PROMPTS:
        return ""
    return (
        f"{file} holds {len(lines)} different prompts, of which {public} would be public and {len(lines) - public} "
        f"secret; {MIN_PUBLIC_PROMPTS} and {MIN_PROMPTS} are needed: add prompts (24 are mostly enough: one in "
        f"{PUBLIC_SHARE}, chosen by its hash, is public)"
    )


def _prompt_lines(file: Path) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"diffbench: cannot read the prompts in {file}: {error}") from error
    prompts = list(dict.fromkeys(line for line in lines if line))
    if len(prompts) < MIN_PROMPTS:
        raise SetupError(
            f"diffbench: {file} holds {len(prompts)} different prompts, one a line; at least {MIN_PROMPTS} are needed"
        )
    return prompts


def _shuffled(lines: Sequence[str], rng: random.Random, count: int) -> list[str]:
    """Every line once before any comes again: `count` or more, in whole rounds."""
    prompts: list[str] = []
    while len(prompts) < count:
        prompts += rng.sample(lines, len(lines))
    return prompts
