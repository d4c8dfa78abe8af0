"""How often do worked answers leave the image of an odd prompt flat, and how often with other seeds too?

`python -m benchmarks.odd_requests -k sd15 --images 64` (a minute or two a scenario, one core) lets every worked answer
of levels 4 and 5 draw what probes ask for: empty, overlong and foreign prompts (with their own seeds once, then with
any) and random text. An image that is flat where the baseline's is not is asked for again with other seeds, and counted
as skipped where the judge would say so.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from benchmarks.references import Program
from pytest_diffbench import cli
from pytest_diffbench.calibration import key_of
from pytest_diffbench.judge import guards
from pytest_diffbench.judge.album import Odd
from pytest_diffbench.probes import probe
from pytest_diffbench.providers import Reference, baseline_source
from pytest_diffbench.requests import Requests
from pytest_diffbench.zoo import supply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.judge.album import Image
    from pytest_diffbench.wire import Request

TOGETHER = 8
"""Images of a call."""


class Asked:
    """One scenario's odd requests, and the baseline's images of them."""

    def __init__(self, demand: Demand, images: int) -> None:
        self._weights = supply.tiny(demand.model, image_to_image=demand.task.strength is not None)
        self._requests = Requests(demand, self._weights, random.Random(0))  # noqa: S311 (no secret)
        self._baseline = Program(baseline_source(demand), self._weights)
        self.requests: list[Request] = []
        while len(self.requests) < images:
            first = not self.requests
            drawn: list[Request] = []
            probe(self._requests, 1, drawn.extend)
            self.requests += drawn if first else self._requests.reseeded(drawn)
        self._images = self._drawn(self._baseline, self.requests)

    def flat(self, source: str) -> list[Odd]:
        """Every image that is flat where the baseline's is not, and the same with other seeds."""
        program = Program(source, self._weights)
        found = []
        for request, own, theirs in zip(self.requests, self._images, self._drawn(program, self.requests), strict=True):
            if guards.any_flat([(own, theirs)]):
                seeds = [self._requests.reseeded([request])[0] for _ in range(guards.ODD_AGAIN)]
                again = zip(self._drawn(self._baseline, seeds), self._drawn(program, seeds), strict=True)
                found.append(Odd((own, theirs), tuple(again)))
        return found

    def _drawn(self, program: Program, requests: Sequence[Request]) -> list[Image]:
        parts = (requests[start : start + TOGETHER] for start in range(0, len(requests), TOGETHER))
        return [image for part in parts for image in program.images(part)]


def main() -> None:
    """Every worked answer of every scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", help="as pytest's")
    parser.add_argument("--images", type=int, default=64)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    status, collected = cli.collect(["suites/level4_speed", *(["-k", asked.k] if asked.k else [])])
    assert not status
    answers: defaultdict[str, dict[str, Demand]] = defaultdict(dict)
    for _, demand in collected.tasks:
        answers[key_of(demand)].setdefault(Reference().solve(demand, "", "").source, demand)
    images = 0
    flat: list[Odd] = []
    for key, sources in answers.items():
        odd = Asked(next(iter(sources.values())), asked.images)
        for source, demand in sources.items():
            found = odd.flat(source)
            images, flat = images + len(odd.requests), flat + found
            again = [sum(guards.any_flat([pair]) for pair in each.again) for each in found]
            of_others = f", of {guards.ODD_AGAIN} others {again}" if found else ""
            print(f"{key} {demand.task.difficulty}: {len(found)} of {len(odd.requests)} flat{of_others}", flush=True)
    print(f"{len(flat)} of {images} flat, {sum(map(guards.skips, flat))} of them skipped, as the judge would say")


if __name__ == "__main__":
    main()
