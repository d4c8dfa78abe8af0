"""A quick look at worked answers: what each loses and gains, in one process, without sandbox, guards or error bars.

`python benchmarks/references.py suites/level2_methods -k sd15` (some seconds a task) says where a verdict would be
close before hours are spent on it; the verdicts themselves are `make bench-all`. A line that begins with LOSES has more
than half of the loss that is allowed, one with SLOW less than the demanded speed.
"""

from __future__ import annotations

import argparse
import random
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from pytest_diffbench import cli
from pytest_diffbench.demand import demanded_speedup
from pytest_diffbench.judge import ClipScorer
from pytest_diffbench.providers import Reference, baseline_source
from pytest_diffbench.requests import Requests
from pytest_diffbench.zoo import supply

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.wire import Request
    from pytest_diffbench.zoo.supply import Weights

TOGETHER = 8
"""Images of a call: a tiny model draws eight in little more time than one."""


@cache
def _scorer(folder: Path) -> ClipScorer:
    return ClipScorer(folder)


class Look:
    """One task's requests and its baseline, drawn once for all tasks that share them."""

    def __init__(self, demand: Demand, images: int) -> None:
        self._weights: Weights = supply.tiny(demand.model, image_to_image=demand.task.strength is not None)
        source = Requests(demand, self._weights, random.Random(0))  # noqa: S311 (no secret)
        self._requests = [request for _ in range(images) for request in source.batch()]
        self.score, self.elapsed_s = self.of(baseline_source(demand))

    def of(self, source: str) -> tuple[float, float]:
        """The mean CLIP-Score of a program's images, and its seconds for a single one."""
        scope: dict[str, Any] = {}
        exec(compile(source, "solution.py", "exec"), scope)  # noqa: S102 (this project's own worked answers)
        pipeline = scope["load"](str(self._weights.path), "cpu")
        images = []
        for start in range(0, len(self._requests), TOGETHER):
            images += scope["generate"](pipeline, self._requests[start : start + TOGETHER])
        taken = min(self._timed(scope, pipeline, request) for request in self._requests[:3])
        captions = [self._weights.caption(request) for request in self._requests]
        scores = _scorer(self._weights.scorer).scores(captions, [np.asarray(image) for image in images])
        return sum(scores) / len(scores), taken

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
        score, elapsed_s = look.of(Reference().solve(demand, "", "").source)
        loss, speedup = 1 - score / look.score, look.elapsed_s / elapsed_s
        wanted = demanded_speedup(demand.markers)
        bad = "LOSES " if loss > demand.markers.quality.max_loss / 2 else ""
        slow = "SLOW " if wanted is not None and speedup < wanted else ""
        print(f"{bad}{slow}{demand.task_id}: CLIP loss {loss:.1%}, {speedup:.2f}x of {wanted or 1:g}", flush=True)


if __name__ == "__main__":
    main()
