"""What the tiny zoo can do: does its scorer recognise drawings, does its model draw them, is loss visible?

Run it as `python benchmarks/zoo_quality.py [MODEL] [--image-to-image] [--sheet FILE.png]`: 64 scenes that no model was
trained on, DDIM with 50 steps and the model's own guidance beside everything that should be worse. Retrieval@1 is the
share of images whose own caption, among all 64, fits best by the scorer; truth is what the oracle, which learned
nothing, says. A model that draws by class is asked for classes, and a classifier that was trained apart says whether it
drew them. With `--image-to-image` the prompt names shape, colour, pattern and size, and the image that is begun with
has another shape in another colour: kept is the share of its place and background that the oracle finds again, and
structure how much more an image's edges are those of its own input than those of the others.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler
from PIL import Image
from transformers import ResNetForImageClassification

from pytest_diffbench.judge import ClipScorer
from pytest_diffbench.judge.guards import structure_margins
from pytest_diffbench.zoo import drawings, oracle, supply
from pytest_diffbench.zoo.models import FAMILIES, Model
from pytest_diffbench.zoo.train import language, publish
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

COUNT = 64
BATCH = 8
SEED = 2026
KARRAS = {"use_karras_sigmas": True}
RUNS: tuple[tuple[str, Any, int, dict[str, bool]], ...] = (
    ("DDIM", DDIMScheduler, 50, {"clip_sample": False}),
    ("DPM-Solver++, Karras sigmas", DPMSolverMultistepScheduler, 20, KARRAS),
    ("DPM-Solver++, Karras sigmas", DPMSolverMultistepScheduler, 10, KARRAS),
    ("DPM-Solver++", DPMSolverMultistepScheduler, 20, {}),
    ("DDIM", DDIMScheduler, 10, {"clip_sample": False}),
    ("DDIM", DDIMScheduler, 5, {"clip_sample": False}),
    ("DDIM", DDIMScheduler, 3, {"clip_sample": False}),
)
STRENGTHS = (0.3, 0.6, 0.75, 0.9, 1.0)
SHOWN_STRENGTH = 0.6
"""On the contact sheet: what is begun with, and beside it what became of it."""


@dataclass(frozen=True)
class Table:
    """What images are held against, and which columns that gives."""

    captions: Sequence[str]
    labels: Sequence[int] = ()
    """Of the classes that were asked for; empty where words were."""
    inputs: Sequence[NDArray[np.uint8]] = field(default_factory=tuple)

    def heading(self) -> None:
        """Print the head of the table."""
        columns = ["images", "CLIP-Score", "its deviation", "class accuracy" if self.labels else "retrieval@1"]
        columns += ["truth by the oracle", *(["kept", "structure"] if self.inputs else [])]
        print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)

    def row(self, name: str, images: Sequence[NDArray[np.uint8]], captions: Sequence[str] | None = None) -> None:
        """Print a line of the table; `captions` in place of the right ones."""
        said = self.captions if captions is None else captions
        scores = np.array(scorer().scores(said, images))
        truth = [oracle.truth(caption, image) for caption, image in zip(said, images, strict=True)]
        cells = [f"{scores.mean():.1f}", f"{scores.std():.1f}", f"{self._recognised(said, images):.2f}"]
        cells.append(f"{np.mean(truth):.2f}")
        if self.inputs:
            cells += [f"{self._kept(images):.2f}", f"{structure_margins(self.inputs, images).mean():.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)

    def _recognised(self, captions: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> float:
        if self.labels:
            right = torch.tensor([self.captions.index(caption) for caption in captions])
            return float((_classified(images) == torch.tensor(self.labels)[right]).float().mean())
        cosines = scorer().similarities(captions, images)
        return float((cosines.argmax(axis=1) == np.arange(len(captions))).mean())

    def _kept(self, images: Sequence[NDArray[np.uint8]]) -> float:
        pairs = [(oracle.read(before), oracle.read(after)) for before, after in zip(self.inputs, images, strict=True)]
        return float(np.mean([after.get(name) == before[name] for before, after in pairs for name in KEPT]))


KEPT = ("place", "background")
"""What a prompt for image-to-image does not say."""


@cache
def scorer() -> ClipScorer:
    """The tiny zoo's."""
    return ClipScorer(TINY / "scorer")


@torch.no_grad()
def _classified(images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    classifier = ResNetForImageClassification.from_pretrained(TINY / "classifier", dtype=torch.float32).eval()
    found: torch.Tensor = classifier(language.to_pixels(np.stack(images))).logits.argmax(dim=-1)
    return found


def in_batches(draw: Callable[[slice, list[int]], Sequence[NDArray[np.uint8]]]) -> list[NDArray[np.uint8]]:
    """All images, each always from the same noise; `draw` is given which of them, and their seeds."""
    images: list[NDArray[np.uint8]] = []
    for start in range(0, COUNT, BATCH):
        images += draw(slice(start, start + BATCH), [SEED + start + i for i in range(BATCH)])
    return images


def sheet(file: Path, images: Sequence[NDArray[np.uint8]], captions: Sequence[str]) -> None:
    """The first 40 images, twice as large, ten in a row; their captions beside them as text."""
    rows = [np.concatenate(images[start : start + 10], axis=1) for start in range(0, 40, 10)]
    picture = Image.fromarray(np.concatenate(rows))
    picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST).save(file, optimize=True)
    file.with_suffix(".txt").write_text("\n".join(captions[:40]) + "\n")


def from_noise(model: Model, pipeline: Any, file: Path | None) -> None:
    """Print the table of a model that is told words or a class."""
    rng = np.random.default_rng(SEED)
    scenes = [drawings.sample_scene(rng, held_out=True) for _ in range(COUNT)]
    captions = [scene.caption for scene in scenes]
    real = [drawings.draw(scene, rng) for scene in scenes]
    table = Table(captions)
    if model.conditioning == "class":
        captions = [drawings.class_caption(scene.label) for scene in scenes]
        table = Table(captions, [drawings.LABELS.index(scene.label) for scene in scenes])
    table.heading()
    table.row("real drawings", real)
    published = pipeline.scheduler.config
    for name, scheduler, steps, settings in RUNS:
        pipeline.scheduler = scheduler.from_config(published, **settings)
        began = time.perf_counter()

        def draw(part: slice, seeds: list[int], *, steps: int = steps) -> Sequence[NDArray[np.uint8]]:
            return list(publish.draw(pipeline, model, scenes[part], seeds=seeds, steps=steps)[1])

        images = in_batches(draw)
        took_s = (time.perf_counter() - began) / COUNT
        table.row(f"{name}, {steps} steps ({took_s:.2f} s an image in batches of {BATCH})", images)
        if steps == RUNS[0][2]:
            table.row("the same, captions shuffled", images, [*captions[1:], captions[0]])
            if file is not None:
                sheet(file, images, captions)
    table.row("noise", [rng.integers(0, 256, real[0].shape, dtype=np.uint8) for _ in range(COUNT)])
    table.row("grey", [np.full_like(real[0], 127) for _ in range(COUNT)])


def _drawn_there(caption: str, begun: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The best that can be done: what the prompt says, in the place and on the background of the input."""
    words = {name: choices[0] for name, choices in drawings.ATTRIBUTES.items()}
    scene = drawings.Scene(**{**words, **oracle.read(begun), **drawings.stated(caption)})
    return drawings.draw(scene, np.random.default_rng(SEED))


def from_images(model: Model, pipeline: Any, file: Path | None) -> None:
    """Print the table of image-to-image, for several strengths with DDIM and 50 steps."""
    rng = random.Random(SEED)  # noqa: S311 (a seeded draw)
    weights = supply.tiny(model, image_to_image=True)
    assert weights.inputs is not None
    captions = weights.prompts(rng, COUNT)
    begun = [weights.inputs(rng, caption, drawings.SIDE_PX) for caption in captions]
    table = Table(captions, inputs=[np.asarray(image) for image in begun])
    table.heading()
    table.row("what is begun with", table.inputs)
    table.row(
        "drawings of what is asked for, there",
        [_drawn_there(*pair) for pair in zip(captions, table.inputs, strict=True)],
    )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    for strength in STRENGTHS:

        def draw(part: slice, seeds: list[int], *, strength: float = strength) -> Sequence[NDArray[np.uint8]]:
            told = {
                "num_inference_steps": 50,
                "guidance_scale": model.guidance,
                "strength": strength,
                "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            }
            return [np.asarray(image) for image in pipeline(captions[part], image=begun[part], **told).images]

        images = in_batches(draw)
        table.row(f"strength {strength}", images)
        if file is not None and strength == SHOWN_STRENGTH:
            sheet(file, [image for pair in zip(table.inputs, images, strict=True) for image in pair], captions[:20])


def main() -> None:
    """Print the table, and draw the contact sheet where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    known = {model.name: model for model in FAMILIES}
    parser.add_argument("model", nargs="?", default="sd15", choices=known)
    parser.add_argument("--image-to-image", action="store_true", help="begin with drawings")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the DDIM-50 images there")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = known[asked.model]
    if asked.image_to_image and not model.image_to_image_classes:
        parser.error(f"{model.name} takes no image to begin with")
    loader = getattr(diffusers, model.image_to_image_classes[0]) if asked.image_to_image else DiffusionPipeline
    pipeline = loader.from_pretrained(TINY / model.name, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    (from_images if asked.image_to_image else from_noise)(model, pipeline, asked.sheet)


if __name__ == "__main__":
    main()
