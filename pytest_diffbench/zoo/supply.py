"""What a model is made of on this machine: its weights, what may be asked of it, and what its images are judged by.

Each zoo supplies it in its own way: `tiny` from the package, `full` from the published checkpoints, `architecture` as
these without their weights. What a user's own model is made of, the task says itself.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from pytest_diffbench import evidence
from pytest_diffbench.errors import SetupError
from pytest_diffbench.zoo import checkpoints, random_weights, weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image

    from pytest_diffbench.wire import Request
    from pytest_diffbench.zoo.models import Model

Prompts: TypeAlias = Callable[[random.Random, int], list[str]]
"""`count` prompts or more, no two alike where there are enough."""
Inputs: TypeAlias = "Callable[[random.Random, str, int], Image.Image]"
"""An image of this many pixels a side to begin with where a prompt is to be drawn."""

MIN_PROMPTS: Final = 10
"""The paper judges on ten."""
MIN_PUBLIC_PROMPTS: Final = 4
"""Fewer would be learned by heart after one look at the feedback."""
PUBLIC_SHARE: Final = 3
"""One in so many prompts, and seeds, is public."""
PROMPTS: Final = Path(__file__).parent / "prompts.txt"
"""Written for this project, for models of photographs."""
_UNIT_PX: Final = 8
PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Weights:
    """What a model is made of on this machine."""

    path: Path
    revision: str
    """Changes whenever a weight does."""
    scorer: Path | None
    """None where images say nothing: of random weights."""
    prompts: Prompts
    """For a model that draws by class, the sentences of its classes."""
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
    classes: tuple[str, ...] = ()
    """The sentence of each class, at the place of its label; empty where prompts are text."""
    inputs: Inputs | None = None
    """Where images to begin with come from; None where nothing supplies any."""

    def side_px(self, size: int) -> int:
        """Of images here where the real model's have `size`; a multiple of 8, which every pipeline takes."""
        return max(_UNIT_PX, _UNIT_PX * round(size * self.scale / _UNIT_PX))

    def caption(self, request: Request) -> str:
        """What an image of this request should show, in words."""
        return self.classes[request.class_label] if request.class_label is not None else request.prompt or ""


def tiny(model: Model, *, image_to_image: bool = False) -> Weights:
    """The trained stand-in for a model of the zoo; SetupError where it is missing or damaged."""
    revision = weights.verify(weights.TINY, model.name)
    scorer_revision = weights.verify(weights.TINY, "scorer")
    recorded = json.loads((weights.TINY / model.name / "diffbench.json").read_text())
    classes = _classes(weights.TINY / model.name) if model.conditioning == "class" else ()
    known = Weights(
        path=weights.TINY / model.name,
        revision=f"{evidence.TINY}{revision[:12]}",
        scorer=weights.TINY / "scorer",
        scorer_revision=f"{evidence.TINY}{scorer_revision[:12]}",
        prompts=partial(_sample, classes) if classes else _drawn_captions,
        scale=recorded["scale"],
        clip_scores=recorded["clip_scores"],
        floor_clip_score=max(recorded["floor_clip_scores"].values()),
        public_problem="",
        classes=classes,
    )
    if not image_to_image:
        return known
    # what is recorded was drawn from noise
    return replace(known, prompts=_drawn_wishes, inputs=_drawn_input, clip_scores={}, floor_clip_score=None)


@dataclass(frozen=True)
class Zoo:
    """Where the weights of the zoo's models come from, and what goes with them."""

    name: str = "tiny"
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    """Where the user wants real ones to be looked up, by name: a folder, or `hub/id@revision`."""
    prompts: Path | None = None
    """A file of prompts in place of the list that is shipped for real models."""

    def supply(self, model: Model, *, image_to_image: bool = False) -> Weights:
        """What a model of the zoo is made of; SetupError, with what to do, where it cannot be had."""
        if self.name == "tiny":
            return tiny(model, image_to_image=image_to_image)
        if self.name == "architecture":
            return self._for_real(model, random_weights.folder(model), f"random-{random_weights.digest(model)[:12]}")
        found = checkpoints.find(model.name, self.checkpoints)
        scorer = checkpoints.find(checkpoints.SCORER, self.checkpoints)
        known = self._for_real(model, found.path, found.revision)
        return replace(known, scorer=scorer.path, scorer_revision=scorer.revision)

    def _for_real(self, model: Model, path: Path, revision: str) -> Weights:
        classes = _classes(path) if model.conditioning == "class" else ()
        file = self.prompts if self.prompts is not None else PROMPTS
        lines = classes or _prompt_lines(file)
        return Weights(
            path=path,
            revision=revision,
            scorer=None,
            prompts=lambda rng, count: _shuffled(lines, rng, count),
            public_problem="" if classes else _public_problem(lines, file),
            classes=classes,
            inputs=_drawn_input,  # a drawing to be made a photograph of (Meng et al. 2022, SDEdit, section 4.1)
        )


def is_public(text: str) -> bool:
    """Whether a prompt, or a seed's digits, belongs to the public set: by its SHA-256, so that it always does."""
    return hashlib.sha256(text.encode()).digest()[-1] % PUBLIC_SHARE == 0


def _classes(path: Path) -> tuple[str, ...]:
    """A sentence for each class that a pipeline's folder names: of several names the first."""
    labels: dict[str, str] = json.loads((path / "model_index.json").read_text())["id2label"]
    names = [labels[str(number)].partition(",")[0].strip() for number in range(len(labels))]
    return tuple(f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names)


def _sample(sentences: Sequence[str], rng: random.Random, count: int) -> list[str]:
    return rng.sample(sentences, min(count, len(sentences)))


def _drawn_captions(rng: random.Random, count: int) -> list[str]:
    return _sample(_held_out_captions(), rng, count)


@cache
def _held_out_captions() -> tuple[str, ...]:
    # imported here: drawing needs numpy, and collecting tasks must not
    from pytest_diffbench.zoo import drawings

    return tuple(scene.caption for scene in drawings.scenes() if scene.held_out)


def _drawn_wishes(rng: random.Random, count: int) -> list[str]:
    """Prompts that leave place and background to the image that is begun with: nothing else could say them."""
    return _sample(_wishes(), rng, count)


@cache
def _wishes() -> tuple[str, ...]:
    from pytest_diffbench.zoo import drawings

    described = (scene.describe(place=False, size=True, background=False) for scene in drawings.scenes())
    return tuple(dict.fromkeys(described))


def _drawn_input(rng: random.Random, prompt: str, side_px: int) -> Image.Image:
    """A drawing of another shape in another colour, as large as the prompt says, anywhere on anything."""
    # imported here, as above
    import numpy as np
    from PIL import Image

    from pytest_diffbench.zoo import drawings

    said = drawings.stated(prompt)
    words = {name: rng.choice(choices) for name, choices in drawings.ATTRIBUTES.items()}
    for name in ("colour", "shape"):
        words[name] = rng.choice([word for word in drawings.ATTRIBUTES[name] if word != said.get(name)])
    scene = drawings.Scene(**{**words, "size": said.get("size", words["size"])})
    drawn = drawings.draw(scene, np.random.default_rng(rng.getrandbits(64)))
    return Image.fromarray(drawn).resize((side_px, side_px), Image.Resampling.BICUBIC)


def own(model: Model, prompts: Path, scorer: Path, images: Path | None = None) -> Weights:
    """A user's own folder with prompts and scorer of their own; SetupError where a file cannot be used.

    `images` is a folder of images to begin with.
    """
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
        inputs=partial(_picture, _picture_files(images)) if images is not None else None,
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


def _picture_files(folder: Path) -> tuple[Path, ...]:
    files = tuple(sorted(file for file in folder.glob("*") if file.suffix.lower() in PICTURES))
    if not files:
        raise SetupError(f"diffbench: {folder} holds no images to begin with: put {', '.join(PICTURES)} files there")
    return files


def _picture(files: Sequence[Path], rng: random.Random, prompt: str, side_px: int) -> Image.Image:  # noqa: ARG001 (any prompt goes with any image)
    """One of a user's images, cut to a square; SetupError where it is none."""
    from PIL import Image, ImageOps

    file = rng.choice(files)
    try:
        with Image.open(file) as picture:
            return ImageOps.fit(picture.convert("RGB"), (side_px, side_px), Image.Resampling.BICUBIC)
    except OSError as error:
        raise SetupError(f"diffbench: cannot read the image {file}: {error}") from error
