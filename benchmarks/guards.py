"""Do the guards reject what is degenerate, and leave alone what is honest?

Run it as `python benchmarks/guards.py [--images 10] [--draws 6] [--seed 1]` (some minutes on one core). Every candidate
under `benchmarks/candidates` answers several draws of held-out captions on the tiny zoo (DDIM, 50 steps, guidance 7.5,
is the baseline), canaries included, and each draw is judged alone. Rates are shares of the draws: of the degenerate
ones all should be rejected, of the honest ones none.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging

from pytest_diffbench.judge import ClipScorer, guards
from pytest_diffbench.judge.album import Album, Canaries
from pytest_diffbench.wire import Request
from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_diffbench.judge.album import Image

CANDIDATES: Final = Path(__file__).parent / "candidates"
BASELINE: Final = Path(__file__).parents[1] / "examples" / "own_pipeline" / "baseline.py"
CANARIES: Final = 3
"""Requests of a draw that are asked for again, changed."""


@dataclass(frozen=True)
class Draw:
    """Requests that are judged together."""

    timed: tuple[Request, ...]
    reseeded: tuple[Request, ...]
    reprompted: tuple[Request, ...]


@dataclass(frozen=True)
class Answers:
    """One arm's images of a draw."""

    timed: tuple[Image, ...]
    repeated: tuple[Image, ...]
    reseeded: tuple[Image, ...]
    reprompted: tuple[Image, ...]


def draws(count: int, images: int, rng: np.random.Generator) -> Iterator[Draw]:
    """Draws of which no two share a caption."""
    used: set[str] = set()

    def fresh() -> str:
        while True:
            caption = drawings.sample_scene(rng, held_out=True).caption
            if caption not in used:
                used.add(caption)
                return caption

    for _ in range(count):
        timed = tuple(_request(fresh(), rng) for _ in range(images))
        canaries = timed[:CANARIES]
        yield Draw(
            timed=timed,
            reseeded=tuple(replace(request, seed=_seed(rng)) for request in canaries),
            reprompted=tuple(replace(request, prompt=fresh()) for request in canaries),
        )


def _request(caption: str, rng: np.random.Generator) -> Request:
    side = drawings.SIDE_PX
    return Request(caption, _seed(rng), height=side, width=side, num_inference_steps=50, guidance_scale=7.5)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**32))


def answers(solution: Path, draw: Draw) -> Answers:
    """What a solution, freshly loaded, makes of a draw."""
    module = _module(solution)
    pipeline = module.load(str(TINY / "sd15"), "cpu")

    def images(requests: Sequence[Request]) -> tuple[Image, ...]:
        return tuple(np.asarray(image) for image in module.generate(pipeline, list(requests)))

    return Answers(
        timed=images(draw.timed),
        repeated=images(draw.timed[:CANARIES]),
        reseeded=images(draw.reseeded),
        reprompted=images(draw.reprompted),
    )


def _module(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"candidate_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _prompts(draw: Draw) -> tuple[str, ...]:
    return tuple(request.prompt for request in draw.timed if request.prompt is not None)


def album(draw: Draw, baseline: Answers, candidate: Answers, scorer: ClipScorer) -> tuple[Album, Canaries]:
    """Both arms' images of a draw, as the guards take them."""
    prompts = _prompts(draw)

    def pairs(arm: Answers, changed: tuple[Image, ...]) -> tuple[tuple[Image, Image], ...]:
        return tuple(zip(arm.timed[:CANARIES], changed, strict=True))

    timed = Album(
        prompts=prompts,
        baseline=baseline.timed,
        candidate=candidate.timed,
        baseline_similarity=scorer.similarities(prompts, baseline.timed),
        candidate_similarity=scorer.similarities(prompts, candidate.timed),
    )
    changed = Canaries(
        repeated=pairs(candidate, candidate.repeated),
        reseeded=pairs(candidate, candidate.reseeded),
        reprompted=pairs(candidate, candidate.reprompted),
        baseline_reseeded=pairs(baseline, baseline.reseeded),
        baseline_reprompted=pairs(baseline, baseline.reprompted),
    )
    return timed, changed


@dataclass
class Tally:
    """What became of one candidate over all draws."""

    scores: list[float]
    rejected: int
    by_guard: Counter[str]

    def line(self, name: str, count: int) -> str:
        """A line of the table."""
        by_guard = ", ".join(f"{guard} {failed}" for guard, failed in self.by_guard.most_common()) or "none"
        return f"| {name} | {np.mean(self.scores):.1f} | {self.rejected} of {count} | {by_guard} |"


def tally(albums: Sequence[tuple[Album, Canaries]]) -> Tally:
    """Judge every draw alone."""
    result = Tally([], 0, Counter())
    for timed, canaries in albums:
        failed = [guard.name for guard in guards.check(timed, canaries) if not guard.passed]
        result.scores.append(100 * float(np.maximum(timed.candidate_similarity.diagonal(), 0).mean()))
        result.rejected += bool(failed)
        result.by_guard.update(failed)
    return result


def main() -> None:
    """Print one line a candidate, then the false alarms of every guard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10, help="requests in a draw")
    parser.add_argument("--draws", type=int, default=6, help="draws that are judged, each alone")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    diffusers_logging.disable_progress_bar()
    began = time.perf_counter()
    drawn = list(draws(arguments.draws, arguments.images, np.random.default_rng(arguments.seed)))
    scorer = ClipScorer(TINY / "scorer")
    baselines = [answers(BASELINE, draw) for draw in drawn]
    print("| candidate | CLIP-Score | draws rejected | by which guards, in how many draws |\n|---|---|---|---|")
    false_alarms: Counter[str] = Counter()
    for solution in (BASELINE, *sorted(CANDIDATES.glob("*/*.py"))):
        albums = [
            album(draw, baseline, answers(solution, draw), scorer)
            for draw, baseline in zip(drawn, baselines, strict=True)
        ]
        result = tally(albums)
        print(result.line(f"{solution.parent.name}/{solution.stem}", len(drawn)), flush=True)
        if solution.parent.name != "degenerate":
            false_alarms.update(result.by_guard)
    print(f"false alarms: {dict(false_alarms) or 'none'} ({time.perf_counter() - began:.0f} s)")


if __name__ == "__main__":
    main()
