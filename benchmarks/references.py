"""A quick look at worked answers: what each loses and gains, in one process, without sandbox or error bars.

`python benchmarks/references.py suites/level2_methods -k sd15` (some seconds a task) says where a verdict would be
close before hours are spent on it; the verdicts themselves are `make bench-all`. A line that begins with LOSES has more
than half of the loss that is allowed, one with BROKEN images that are broken by themselves, one with SLOW less than the
demanded speed.
"""

from __future__ import annotations

import argparse
import random
import statistics
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
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.judge.album import Image
    from pytest_diffbench.wire import Request
    from pytest_diffbench.zoo.supply import Weights

TOGETHER = 8
"""Images of a call: eight take less time together than one by one."""
PAIRS = 5
"""Timed, of a single image each."""


@cache
def _scorer(folder: Path) -> ClipScorer:
    return ClipScorer(folder)


@dataclass(frozen=True)
class Seen:
    """What one program's images show, beside the baseline's of the same requests."""

    loss: float
    """Of the mean CLIP-Score, as a share of the baseline's."""
    speedup: float
    """For a single image."""
    broken: int
    """Images that a guard calls broken by themselves."""
    apart: float
    """Root mean square difference from the baseline's thumbnails, mean, in grey levels."""


class Program:
    """A solution's text, loaded."""

    def __init__(self, source: str, weights: Weights) -> None:
        self._scope: dict[str, Any] = {}
        exec(compile(source, "solution.py", "exec"), self._scope)  # noqa: S102 (this project's own worked answers)
        self._pipeline = self._scope["load"](str(weights.path), "cpu")

    def images(self, requests: Sequence[Request]) -> list[Image]:
        """What it answers."""
        return [np.asarray(image) for image in self._scope["generate"](self._pipeline, requests)]

    def elapsed_s(self, request: Request) -> float:
        """How long it takes for one."""
        began = time.perf_counter()
        self.images([request])
        return time.perf_counter() - began


class Look:
    """One task's requests and its baseline, drawn once for all programs that share them."""

    def __init__(self, demand: Demand, images: int) -> None:
        self._weights: Weights = supply.tiny(demand.model, image_to_image=demand.task.strength is not None)
        source = Requests(demand, self._weights, random.Random(0))  # noqa: S311 (no secret)
        self._requests = [request for _ in range(images) for request in source.batch()]
        self._captions = [self._weights.caption(request) for request in self._requests]
        self._baseline = Program(baseline_source(demand), self._weights)
        self._images = self._drawn(self._baseline)
        self._clip_score = self._scored(self._images)

    def of(self, source: str) -> Seen:
        """A program beside the baseline."""
        program = Program(source, self._weights)
        images = self._drawn(program)
        unasked = np.zeros((len(images), len(images)), np.float32)  # single images are not judged by it
        album = Album(tuple(self._captions), tuple(self._images), tuple(images), unasked, unasked)
        apart = [distance(one, other) for one, other in zip(self._images, images, strict=True)]
        return Seen(
            loss=1 - self._scored(images) / self._clip_score,
            speedup=self._speedup(program),
            broken=len(guards.broken(album)),
            apart=sum(apart) / len(apart),
        )

    def _speedup(self, program: Program) -> float:
        """Median over pairs, in turn, after one that does not count."""
        asked = self._requests[: PAIRS + 1]
        ratios = [self._baseline.elapsed_s(request) / program.elapsed_s(request) for request in asked]
        return statistics.median(ratios[1:])

    def _scored(self, images: Sequence[Image]) -> float:
        return statistics.fmean(_scorer(self._weights.scorer).scores(self._captions, list(images)))

    def _drawn(self, program: Program) -> list[Image]:
        parts = (self._requests[start : start + TOGETHER] for start in range(0, len(self._requests), TOGETHER))
        return [image for part in parts for image in program.images(part)]


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
        wanted = demanded_speedup(demand.markers)
        bad = "LOSES " if seen.loss > demand.markers.quality.max_loss / 2 else ""
        bad += "BROKEN " if seen.broken else ""
        slow = "SLOW " if wanted is not None and seen.speedup < wanted else ""
        told = f"CLIP loss {seen.loss:.1%}, {seen.speedup:.2f}x of {wanted or 1:g}, {seen.broken} broken"
        print(f"{bad}{slow}{demand.task_id}: {told}", flush=True)


if __name__ == "__main__":
    main()
