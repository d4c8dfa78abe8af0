"""What the tiny zoo can do: does its scorer recognise drawings, does its model draw them, is loss visible?

Run it as `python benchmarks/zoo_quality.py [MODEL] [--sheet FILE.png]`: 64 captions of scenes that no model was
trained on, DDIM with 50 steps and the model's own guidance beside everything that should be worse. Retrieval@1 is the
share of images whose own caption, among all 64, fits best by the scorer; truth is what the oracle, which learned
nothing, says.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler
from PIL import Image

from pytest_diffbench.judge import ClipScorer
from pytest_diffbench.zoo import drawings, oracle
from pytest_diffbench.zoo.models import BUILT_IN
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

COUNT = 64
SEED = 2026
KARRAS = {"use_karras_sigmas": True}
RUNS: tuple[tuple[str, Any, int, dict[str, bool]], ...] = (
    ("DDIM", DDIMScheduler, 50, {}),
    ("DPM-Solver++, Karras sigmas", DPMSolverMultistepScheduler, 20, KARRAS),
    ("DPM-Solver++, Karras sigmas", DPMSolverMultistepScheduler, 10, KARRAS),
    ("DPM-Solver++", DPMSolverMultistepScheduler, 20, {}),
    ("DDIM", DDIMScheduler, 10, {}),
    ("DDIM", DDIMScheduler, 5, {}),
    ("DDIM", DDIMScheduler, 3, {}),
)


def generate(
    pipeline: DiffusionPipeline, captions: Sequence[str], steps: int, guidance: float
) -> list[NDArray[np.uint8]]:
    """One image a caption, always from the same noise."""
    images: list[NDArray[np.uint8]] = []
    for start in range(0, len(captions), 8):
        part = list(captions[start : start + 8])
        generators = [torch.Generator().manual_seed(SEED + start + i) for i in range(len(part))]
        result = pipeline(part, num_inference_steps=steps, guidance_scale=guidance, generator=generators)
        images += [np.asarray(image) for image in result.images]
    return images


def row(name: str, captions: Sequence[str], images: Sequence[NDArray[np.uint8]], scorer: ClipScorer) -> float:
    """Print a line of the table; the mean CLIP-Score."""
    cosines = scorer.similarities(captions, images)
    scores = np.array(scorer.scores(captions, images))
    retrieval = float((cosines.argmax(axis=1) == np.arange(len(captions))).mean())
    truth = float(np.mean([oracle.truth(caption, image) for caption, image in zip(captions, images, strict=True)]))
    print(f"| {name} | {scores.mean():.1f} | {scores.std():.1f} | {retrieval:.2f} | {truth:.2f} |", flush=True)
    return float(scores.mean())


def sheet(file: Path, images: Sequence[NDArray[np.uint8]], captions: Sequence[str]) -> None:
    """The first 40 images, twice as large, ten in a row; their captions beside them as text."""
    rows = [np.concatenate(images[start : start + 10], axis=1) for start in range(0, 40, 10)]
    picture = Image.fromarray(np.concatenate(rows))
    picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST).save(file, optimize=True)
    file.with_suffix(".txt").write_text("\n".join(captions[:40]) + "\n")


def main() -> None:
    """Print the table, and draw the contact sheet where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    known = {model.name: model for model in BUILT_IN}
    parser.add_argument("model", nargs="?", default="sd15", choices=known)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the DDIM-50 images there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    scenes = [drawings.sample_scene(rng, held_out=True) for _ in range(COUNT)]
    captions = [scene.caption for scene in scenes]
    real = [drawings.draw(scene, rng) for scene in scenes]
    scorer = ClipScorer(TINY / "scorer")
    model = known[arguments.model]
    pipeline = DiffusionPipeline.from_pretrained(TINY / model.name, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    published = pipeline.scheduler.config
    print("| images | CLIP-Score | its deviation | retrieval@1 | truth by the oracle |\n|---|---|---|---|---|")
    row("real drawings", captions, real, scorer)
    for name, scheduler, steps, settings in RUNS:
        pipeline.scheduler = scheduler.from_config(published, **settings)
        began = time.perf_counter()
        images = generate(pipeline, captions, steps, model.guidance)
        took_s = (time.perf_counter() - began) / COUNT
        row(f"{name}, {steps} steps ({took_s:.2f} s an image in batches of 8)", captions, images, scorer)
        if steps == RUNS[0][2]:
            row("the same, captions shuffled", captions, [*images[1:], images[0]], scorer)
            if arguments.sheet is not None:
                sheet(arguments.sheet, images, captions)
    noise = [rng.integers(0, 256, real[0].shape, dtype=np.uint8) for _ in range(COUNT)]
    row("noise", captions, noise, scorer)
    grey = [np.full_like(real[0], 127) for _ in range(COUNT)]
    row("grey", captions, grey, scorer)


if __name__ == "__main__":
    main()
