"""A quick look at worked answers: what each loses and gains, in one process, without sandbox or error bars.

`python benchmarks/references.py suites/level2_methods -k sd15` (some seconds a task) says where a verdict would be
close before hours are spent on it; the verdicts themselves are `make bench-all`. A line that begins with LOSES has more
than half of the loss that is allowed, one with BROKEN images that are broken by themselves, one with SLOW less than the
demanded speed.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from pytest_diffbench import cli
from pytest_diffbench.demand import demanded_speedup
from pytest_diffbench.judge import ClipScorer, guards
from pytest_diffbench.judge.album import Album
from pytest_diffbench.judge.fidelity import distance
from pytest_diffbench.providers import Reference, baseline_source
from pytest_diffbench.requests import Requests
from pytest_diffbench.zoo import supply

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.judge.album import Image
    from pytest_diffbench.wire import Request
    from pytest_diffbench.zoo.supply import Weights

TOGETHER = 8
"""Images of a call: a tiny model draws eight in little more time than one."""


@cache
def _scorer(folder: Path) -> ClipScorer:
    return ClipScorer(folder)


@dataclass(frozen=True)
class Seen:
    """What one program's images show."""

    clip_score: float
    elapsed_s: float
    """Of a call for a single image, the shortest of three."""
    broken: int = 0
    """Images that a guard calls broken by themselves."""
    apart: float = 0.0
    """Root mean square difference from the baseline's thumbnails, mean, in grey levels."""


class Look:
    """One task's requests and its baseline, drawn once for all programs that share them."""

    def __init__(self, demand: Demand, images: int) -> None:
        self._weights: Weights = supply.tiny(demand.model, image_to_image=demand.task.strength is not None)
        source = Requests(demand, self._weights, random.Random(0))  # noqa: S311 (no secret)
        self._requests = [request for _ in range(images) for request in source.batch()]
        self._captions = [self._weights.caption(request) for request in self._requests]
        self._images, elapsed_s = self._drawn(baseline_source(demand))
        self.baseline = Seen(self._clip_score(self._images), elapsed_s)

    def of(self, source: str) -> Seen:
        """A program beside the baseline."""
        images, elapsed_s = self._drawn(source)
        unasked = np.zeros((len(images), len(images)), np.float32)  # single images are not judged by it
        album = Album(tuple(self._captions), tuple(self._images), tuple(images), unasked, unasked)
        apart = [distance(one, other) for one, other in zip(self._images, images, strict=True)]
        return Seen(self._clip_score(images), elapsed_s, len(guards.broken(album)), sum(apart) / len(apart))

    def _clip_score(self, images: list[Image]) -> float:
        scores = _scorer(self._weights.scorer).scores(self._captions, images)
        return sum(scores) / len(scores)

    def _drawn(self, source: str) -> tuple[list[Image], float]:
        scope: dict[str, Any] = {}
        exec(compile(source, "solution.py", "exec"), scope)  # noqa: S102 (this project's own worked answers)
        pipeline = scope["load"](str(self._weights.path), "cpu")
        images: list[Image] = []
        for start in range(0, len(self._requests), TOGETHER):
            drawn = scope["generate"](pipeline, self._requests[start : start + TOGETHER])
            images += [np.asarray(image) for image in drawn]
        return images, min(self._timed(scope, pipeline, request) for request in self._requests[:3])

    def _timed(self, scope: dict[str, Any], pipeline: Any, request: Request) -> float:
        began = time.perf_counter()
        scope["generate"](pipeline, [request])
        return time.perf_counter() - began


def main() -> None:
    """Look at each task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", default=["suites"])
    parser.add_argument("-k", default="", help="as pytest's")
    parser.add_argument("--images", type=int, default=16)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    status, collected = cli.collect([*asked.paths, *(["-k", asked.k] if asked.k else [])])
    assert not status
    looks: dict[tuple[object, ...], Look] = {}
    for _, demand in collected.tasks:
        task = demand.task
        key = (demand.model.name, task.strength, demand.sampler, demand.steps, demand.guidance)
        if key not in looks:
            looks[key] = Look(demand, asked.images)
        look = looks[key]
        seen = look.of(Reference().solve(demand, "", "").source)
        loss = 1 - seen.clip_score / look.baseline.clip_score
        speedup = look.baseline.elapsed_s / seen.elapsed_s
        wanted = demanded_speedup(demand.markers)
        bad = "LOSES " if loss > demand.markers.quality.max_loss / 2 else ""
        bad += "BROKEN " if seen.broken else ""
        slow = "SLOW " if wanted is not None and speedup < wanted else ""
        told = f"CLIP loss {loss:.1%}, {speedup:.2f}x of {wanted or 1:g}, {seen.broken} broken"
        print(f"{bad}{slow}{demand.task_id}: {told}", flush=True)


if __name__ == "__main__":
    main()
