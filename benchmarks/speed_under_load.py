"""How far off is a speed-up that was measured while other programs run? Ours and the paper's rule on the same calls.

Run it as `python benchmarks/speed_under_load.py [--pairs 120] [--burners 2]` (about five minutes). Two processes run
the tiny Stable Diffusion with 18 and with 10 steps on one core, timed by the shipped clock, while so many burners
switch themselves on and off at random on all cores. Every run of ten consecutive pairs gives an estimate by the shipped
rule (Hodges & Lehmann's, of the pairs' ratios), by the ratio of means of the same interleaved calls, and by the paper's
rule as it is applied: the mean of ten baseline calls, then the mean of the ten candidate calls that come after them.
The truth is the estimate over all pairs. What is printed is the root mean square of the relative errors.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from pytest_diffbench import sequential
from pytest_diffbench.clock import Trial
from pytest_diffbench.isolation import Policy, Sandbox, Tier
from pytest_diffbench.wire import Request
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SOLUTION: Final = (Path(__file__).parents[1] / "examples" / "own_pipeline" / "baseline.py").read_text()
BASELINE_STEPS: Final = 18
CANDIDATE_STEPS: Final = 10
AT_A_TIME: Final = 10
"""Pairs of one estimate: the paper's count."""
BURNER: Final = """
import random, time
while True:
    until = time.monotonic() + random.expovariate(1.0)
    while time.monotonic() < until:
        sum(range(1000))
    time.sleep(random.expovariate(1.0))
"""


@contextlib.contextmanager
def burning(count: int) -> Iterator[None]:
    """Other programs that come and go."""
    burners = [subprocess.Popen([sys.executable, "-c", BURNER]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


@contextlib.contextmanager
def arm(steps: int) -> Iterator[Sandbox]:
    """The tiny pipeline with so many steps, on the first core."""
    source = SOLUTION.replace("first.num_inference_steps", str(steps))
    with Sandbox(Policy(Tier.NONE), cores=(0,), environment={"CUDA_VISIBLE_DEVICES": ""}) as sandbox:
        sandbox.wait_ready()
        sandbox.load(source, model=str(TINY / "sd15"), device="cpu", timeout_s=600)
        yield sandbox


def draw() -> tuple[Request, ...]:
    """One request; what is asked for does not matter here."""
    seed = random.getrandbits(32)
    return (Request("a large red circle", seed, 64, 64, BASELINE_STEPS, guidance_scale=7.5),)


def timed(pairs: int, burners: int) -> NDArray[np.float64]:
    """Seconds of baseline (first column) and candidate, a row a pair."""
    with burning(burners), arm(BASELINE_STEPS) as baseline, arm(CANDIDATE_STEPS) as candidate:
        trial = Trial(baseline, candidate, timeout_s=600)
        trial.warm_up(draw)
        trial.extend(pairs, draw, draw)
    return np.array([(pair.baseline.elapsed_s, pair.candidate.elapsed_s) for pair in trial.pairs])


def estimate(seconds: NDArray[np.float64]) -> float:
    """The shipped rule."""
    logs = np.log(seconds[:, 0] / seconds[:, 1])
    return math.exp(sequential.interval(logs.tolist(), sequential.SPEED).estimate)


def main() -> None:
    """Measure, and print the errors of the three rules."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=120, help="pairs to time")
    parser.add_argument("--burners", type=int, default=2, help="competing programs")
    arguments = parser.parse_args()
    seconds = timed(arguments.pairs, arguments.burners)
    truth = estimate(seconds)
    spread = seconds.std(axis=0) / seconds.mean(axis=0)
    print(f"{len(seconds)} pairs, {arguments.burners} burners: speed-up {truth:.3f}x; calls vary by {spread.max():.0%}")
    errors: dict[str, list[float]] = {
        "shipped rule": [],
        "means, interleaved": [],
        "paper: means, one after another": [],
    }
    for start in range(len(seconds) - 2 * AT_A_TIME + 1):
        here, later = seconds[start : start + AT_A_TIME], seconds[start + AT_A_TIME : start + 2 * AT_A_TIME]
        found = (
            estimate(here),
            here[:, 0].mean() / here[:, 1].mean(),
            here[:, 0].mean() / later[:, 1].mean(),
        )
        for rule, value in zip(errors, found, strict=True):
            errors[rule].append(value / truth - 1)
    for rule, found_errors in errors.items():
        print(f"rms error at {AT_A_TIME} pairs, {rule}: {np.sqrt(np.mean(np.square(found_errors))):.1%}")


if __name__ == "__main__":
    main()
