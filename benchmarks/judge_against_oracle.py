"""Does the judge, who only sees images and learned scores, agree with the oracle, who knows what was to be drawn?

Run it as `python benchmarks/judge_against_oracle.py [--images 60] [--seed 4]` (some minutes on one core). The tiny zoo
draws held-out captions at qualities from good to hopeless: fewer and fewer steps, noise mixed in, drawings of another
caption. Printed are the rank correlation of CLIP-Score and truth over all images, how often the two order a pair of
images alike, and what the gate says to groups of ten: of those that lost a quarter of their captions or more by the
oracle, how many pass.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from scipy import stats

from pytest_diffbench.judge import ClipScorer, guards
from pytest_diffbench.judge.album import Album
from pytest_diffbench.judge.quality import scores
from pytest_diffbench.records import Outcome
from pytest_diffbench.sequential import QUALITY, decide
from pytest_diffbench.task import DEFAULT_MAX_LOSS
from pytest_diffbench.zoo import drawings, oracle
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_diffbench.judge.album import Image

SAMPLED: Final[tuple[tuple[str, Any, int, dict[str, bool]], ...]] = (
    ("DDIM 50", DDIMScheduler, 50, {}),
    ("DDIM 20", DDIMScheduler, 20, {}),
    ("DDIM 10", DDIMScheduler, 10, {}),
    ("DDIM 7", DDIMScheduler, 7, {}),
    ("DDIM 5", DDIMScheduler, 5, {}),
    ("DDIM 4", DDIMScheduler, 4, {}),
    ("DDIM 3", DDIMScheduler, 3, {}),
    ("DDIM 2", DDIMScheduler, 2, {}),
    ("DPM-Solver++ 10", DPMSolverMultistepScheduler, 10, {"use_karras_sigmas": True}),
    ("DPM-Solver++ 6", DPMSolverMultistepScheduler, 6, {"use_karras_sigmas": True}),
)
NOISE_SHARES: Final = (0.3, 0.6)
SWAPPED_SHARES: Final = (0.1, 0.2, 0.3, 0.5)
"""Of a group's images that show another caption's drawing."""
GROUP: Final = 10
GROUPS: Final = 60
"""A quality; drawn without repetition within a group."""
LOST: Final = 0.25


def sampled(captions: Sequence[str], seed: int) -> dict[str, list[Image]]:
    """Images of the same captions and seeds, a list a quality."""
    pipeline = StableDiffusionPipeline.from_pretrained(TINY / "sd15", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    config = pipeline.scheduler.config
    found: dict[str, list[Image]] = {}
    for name, scheduler, steps, more in SAMPLED:
        pipeline.scheduler = scheduler.from_config(config, **more)
        images: list[Image] = []
        for start in range(0, len(captions), 10):
            part = list(captions[start : start + 10])
            generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
            answer = pipeline(part, num_inference_steps=steps, guidance_scale=7.5, generator=generators)
            images += [np.asarray(image) for image in answer.images]
        found[name] = images
    return found


def spoiled(good: Sequence[Image], rng: np.random.Generator) -> dict[str, list[Image]]:
    """Good images with noise mixed in."""
    found = {}
    for share in NOISE_SHARES:
        noise = rng.integers(0, 256, (len(good), *good[0].shape))
        found[f"{share:.0%} noise"] = [
            np.clip((1 - share) * image + share * speck, 0, 255).astype(np.uint8)
            for image, speck in zip(good, noise, strict=True)
        ]
    return found


def album(captions: Sequence[str], good: Sequence[Image], tried: Sequence[Image], scorer: ClipScorer) -> Album:
    """Both, as the judge sees them."""
    return Album(
        tuple(captions),
        tuple(good),
        tuple(tried),
        scorer.similarities(captions, good),
        scorer.similarities(captions, tried),
    )


def accepted(group: Album) -> Outcome:
    """What the gate says after ten images: score and guards."""
    base, tried = scores(group.baseline_similarity), scores(group.candidate_similarity)
    sample = [s - (1 - DEFAULT_MAX_LOSS) * b for s, b in zip(tried, base, strict=True)]
    if not all(guard.passed for guard in guards.check(group, None)):
        return Outcome.BELOW
    return decide(sample, QUALITY).outcome


def groups(
    captions: Sequence[str], kinds: Mapping[str, Sequence[Image]], rng: np.random.Generator
) -> list[tuple[str, NDArray[np.int64], list[Image]]]:
    """Groups of every quality, and good ones in which a few images are another caption's."""
    good = kinds[SAMPLED[0][0]]
    made: list[tuple[str, NDArray[np.int64], list[Image]]] = []
    for _ in range(GROUPS):
        chosen = rng.choice(len(captions), GROUP, replace=False)
        made += [(name, chosen, [images[i] for i in chosen]) for name, images in kinds.items()]
        for share in SWAPPED_SHARES:
            wrong = round(share * GROUP)
            images = [good[(i + 1) % len(good)] if place < wrong else good[i] for place, i in enumerate(chosen)]
            made.append((f"{share:.0%} another caption's", chosen, images))
    return made


def main() -> None:
    """Print agreement over images, then what the gate says to groups."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60, help="captions; each is drawn at every quality")
    parser.add_argument("--seed", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(arguments.seed)
    captions = [drawings.sample_scene(rng, held_out=True).caption for _ in range(arguments.images)]
    kinds = sampled(captions, arguments.seed)
    kinds |= spoiled(kinds[SAMPLED[0][0]], rng)
    scorer = ClipScorer(TINY / "scorer")
    truths = {n: np.array([oracle.truth(c, i) for c, i in zip(captions, im, strict=True)]) for n, im in kinds.items()}
    clips = {name: np.array(scorer.scores(captions, images)) for name, images in kinds.items()}
    truth, clip = np.concatenate([*truths.values()]), np.concatenate([*clips.values()])
    print(f"{len(truth)} images: rank correlation {stats.spearmanr(truth, clip).statistic:.2f}")
    one, other = rng.integers(len(truth), size=(2, 100_000))
    told = truth[one] != truth[other]
    alike = np.sign(truth[one] - truth[other])[told] == np.sign(clip[one] - clip[other])[told]
    print(f"pairs of images that the oracle tells apart, ordered alike by CLIP-Score: {alike.mean():.1%}\n")
    print("| quality | truth lost | passes | fails | undecided |\n|---|---|---|---|---|")
    found: dict[str, list[tuple[float, Outcome]]] = {}
    for name, chosen, images in groups(captions, kinds, rng):
        prompts = [captions[i] for i in chosen]
        good = [kinds[SAMPLED[0][0]][i] for i in chosen]
        lost = float(truths[SAMPLED[0][0]][chosen].mean()) - float(
            np.mean([oracle.truth(c, i) for c, i in zip(prompts, images, strict=True)])
        )
        found.setdefault(name, []).append((lost, accepted(album(prompts, good, images, scorer))))
    for name, results in found.items():
        shares = [
            np.mean([outcome is wanted for _, outcome in results])
            for wanted in (Outcome.ABOVE, Outcome.BELOW, Outcome.OPEN)
        ]
        cells = " | ".join(f"{share:.0%}" for share in shares)
        print(f"| {name} | {np.mean([lost for lost, _ in results]):.0%} | {cells} |")
    bad = [outcome for results in found.values() for lost, outcome in results if lost >= LOST]
    false = sum(outcome is Outcome.ABOVE for outcome in bad)
    print(f"\ngroups that lost {LOST:.0%} or more by the oracle: {len(bad)}; of them pass: {false / len(bad):.1%}")


if __name__ == "__main__":
    main()
