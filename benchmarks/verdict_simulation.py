"""How often is a verdict wrong? The shipped rules on simulated machines, beside the paper's rule on the same noise.

Run it as `python benchmarks/verdict_simulation.py [--repetitions 5000]` (about five minutes). Four noise worlds, from a
quiet bench to a shared machine: jitter of each call, drift with a memory (AR(1)), a warm-up ramp, and hiccups. Each
cell plays the demand "1.8 times faster" against candidates that are truly so much too slow or fast enough; the paper's
rule is the ratio of two means over ten calls each, all of the baseline's first. What ends undecided is tried once more,
as in a run. Then the overall level of each plan at the boundary itself, where a wrong pass is likeliest, and how often
candidates pass that break some of their images: exact, for they break them independently.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from pytest_diffbench import sequential
from pytest_diffbench.records import Outcome
from pytest_diffbench.stages import SECOND_TRY_FACTOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEMANDED: Final = 1.8
TRUTHS: Final = (0.90, 0.95, 0.97, 1.0, 1.03, 1.05, 1.10)
"""The true speed-up over the demanded one."""
PAPER_CALLS: Final = 10
MAX_LOSS: Final = 0.05
SPREAD: Final = 0.118
"""Of one image's loss on the tiny zoo: the interval over fifty is 3.7 % to each side."""
BROKEN: Final = (1 / 1000, 1 / 300, 1 / 100, 1 / 30, 1 / 10)
"""True shares of broken images."""
FIRST_IMAGES: Final = (10, 24, 50)
"""That decide the score, before one broken image among them asks for more."""
LOSSES: Final = (0.0, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07)
"""True ones, where at most 5 % are allowed."""


@dataclass(frozen=True)
class World:
    """A machine's noise; time unit: one call of the candidate."""

    jitter: float
    """Standard deviation of a call's log time."""
    ramp: tuple[float, float] = (0.0, 1.0)
    """How much slower the machine gets as it warms up, and over how many calls."""
    drift: tuple[float, float] = (0.0, 1.0)
    """Standard deviation of the drift in log time, and its memory in calls."""
    hiccup: tuple[float, float] = (0.0, 0.0)
    """Probability of a hiccup in a call, and its mean length."""


WORLDS: Final = {
    "quiet": World(jitter=0.005, hiccup=(0.005, 0.2)),
    "desktop": World(jitter=0.02, drift=(0.02, 30), hiccup=(0.03, 0.3)),
    "thermal": World(jitter=0.01, ramp=(0.08, 10), hiccup=(0.01, 0.2)),
    "shared": World(jitter=0.06, drift=(0.05, 15), hiccup=(0.08, 0.5)),
}


def call_times(
    is_baseline: NDArray[np.bool_], speedup: float, world: World, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Times of calls in the order they are made."""
    count = len(is_baseline)
    sd, memory = world.drift
    rho = np.exp(-1 / memory)
    steps = rng.standard_normal(count)
    drift = np.empty(count)
    drift[0] = steps[0]
    for i in range(1, count):
        drift[i] = rho * drift[i - 1] + np.sqrt(1 - rho**2) * steps[i]
    warming = world.ramp[0] * (1 - np.exp(-np.arange(count) / world.ramp[1]))
    log_times = np.where(is_baseline, np.log(speedup), 0.0) + sd * drift + warming
    log_times += world.jitter * rng.standard_normal(count)
    hiccups = (rng.random(count) < world.hiccup[0]) * rng.exponential(max(world.hiccup[1], 1e-9), count)
    times: NDArray[np.float64] = np.exp(log_times) + hiccups
    return times


def ours(speedup: float, world: World, rng: np.random.Generator) -> tuple[sequential.Decision, int]:
    """The shipped rule on interleaved pairs (ABBA), with its second try; the decision, and the pairs it took."""
    first = one_round(speedup, world, rng, sequential.SPEED)
    if first.outcome is not Outcome.OPEN:
        return first, first.decided_after
    second = one_round(speedup, world, rng, sequential.SPEED.second_try(SECOND_TRY_FACTOR))
    return second, first.decided_after + second.decided_after


def one_round(speedup: float, world: World, rng: np.random.Generator, plan: sequential.Plan) -> sequential.Decision:
    """Pairs until the plan decides, or may not look again."""
    pairs = plan.looks[-1]
    order = np.tile([True, False, False, True], pairs // 2)
    times = call_times(order, speedup, world, rng).reshape(pairs, 2)
    first = order.reshape(pairs, 2)[:, 0]
    ratios = np.log(np.where(first, times[:, 0] / times[:, 1], times[:, 1] / times[:, 0]))
    return sequential.decide(list(ratios - np.log(DEMANDED)), plan)


def paper(speedup: float, world: World, rng: np.random.Generator) -> bool:
    """Whether the ratio of two means, all baseline calls first, reaches the demand."""
    order = np.repeat([True, False], PAPER_CALLS)
    times = call_times(order, speedup, world, rng)
    return bool(times[order].mean() / times[~order].mean() >= DEMANDED)


def cell(name: str, truth: float, repetitions: int) -> str:
    """A line of the table: shares in percent, and the mean number of pairs."""
    world, speedup = WORLDS[name], DEMANDED * truth
    rng = np.random.default_rng([int(truth * 1000), list(WORLDS).index(name)])
    decisions = [ours(speedup, world, rng) for _ in range(repetitions)]
    passed = np.mean([d.outcome is Outcome.ABOVE for d, _ in decisions])
    failed = np.mean([d.outcome is Outcome.BELOW for d, _ in decisions])
    pairs = np.mean([count for _, count in decisions])
    by_paper = np.mean([paper(speedup, world, rng) for _ in range(repetitions)])
    return (
        f"| {name} | {truth - 1:+.0%} | {passed:.1%} | {failed:.1%} | {1 - passed - failed:.1%} | {pairs:.1f} "
        f"| {by_paper:.1%} |"
    )


def boundary_level(plan: sequential.Plan, repetitions: int) -> float:
    """The share of Gaussian samples without any effect that a plan calls above 0."""
    rng = np.random.default_rng(1)
    samples = (rng.standard_normal(plan.looks[-1]) for _ in range(repetitions))
    return float(np.mean([sequential.decide(list(x), plan).outcome is Outcome.ABOVE for x in samples]))


def passes_quality(loss: float, rng: np.random.Generator, again: sequential.Plan) -> tuple[bool, bool]:
    """Whether a candidate that truly loses so much passes at once, and whether it does with a second try."""
    passed = False
    for plan in (sequential.QUALITY, again):
        kept = rng.normal(MAX_LOSS - loss, SPREAD, plan.looks[-1])
        outcome = sequential.decide(list(kept), plan).outcome
        passed = outcome is Outcome.ABOVE
        if outcome is not Outcome.OPEN:
            break
    return passed and plan is sequential.QUALITY, passed


def quality_cell(loss: float, repetitions: int) -> str:
    """A line of the second table."""
    rng = np.random.default_rng(int(loss * 10_000))
    longer = sequential.QUALITY.second_try(SECOND_TRY_FACTOR)
    short = replace(longer, looks=sequential.QUALITY.looks)
    once, twice = np.mean([passes_quality(loss, rng, longer) for _ in range(repetitions)], axis=0)
    before = np.mean([passes_quality(loss, rng, short)[1] for _ in range(repetitions)])
    return f"| {loss:.1%} | {once:.1%} | {twice:.1%} | {before:.1%} |"


def broken_cell(share: float) -> str:
    """A line of the third table: for each number of first images, how often none is broken, and how often it passes."""
    told = []
    for first in FIRST_IMAGES:
        none = (1 - share) ** first
        the_only_one = first * share * (1 - share) ** (sequential.BROKEN_ONE_IN - 1)
        told.append(f"{none:.1%}, {none + the_only_one:.1%}")
    return f"| {share:.1%} | {' | '.join(told)} |"


def main() -> None:
    """Print the tables of speed, of the plans' levels, of quality and of broken images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5000, help="simulated runs a cell")
    parser.add_argument("--worlds", nargs="*", choices=WORLDS, default=list(WORLDS), help="of the table of speed")
    asked = parser.parse_args()
    repetitions = asked.repetitions
    print("| world | truth against the demand | passes | fails | undecided | pairs | the paper's rule passes |")
    print("|---|---|---|---|---|---|---|")
    for name in asked.worlds:
        for truth in TRUTHS:
            print(cell(name, truth, repetitions), flush=True)
    plans = {
        "speed": sequential.SPEED,
        "quality": sequential.QUALITY,
        "strict": sequential.STRICT,
        "certified quality": sequential.CERTIFIED_QUALITY,
        "speed, second try": sequential.SPEED.second_try(SECOND_TRY_FACTOR),
        "quality, second try": sequential.QUALITY.second_try(SECOND_TRY_FACTOR),
        "strict, second try": sequential.STRICT.second_try(SECOND_TRY_FACTOR),
        "certified quality, second try": sequential.CERTIFIED_QUALITY.second_try(SECOND_TRY_FACTOR),
    }
    for label, plan in plans.items():
        nominal = 0.05 / (SECOND_TRY_FACTOR if "second" in label else 1)
        print(
            f"{label}: wrong passes at the boundary {boundary_level(plan, 4 * repetitions):.2%} (nominal {nominal:.0%})"
        )
    print("| true loss | passes at once | with the second try | as it was, over the same 50 images |")
    print("|---|---|---|---|")
    for loss in LOSSES:
        print(quality_cell(loss, repetitions), flush=True)
    print(f"| broken images | {' | '.join(f'of {first}: none broken, passes' for first in FIRST_IMAGES)} |")
    print(f"|---|{'---|' * len(FIRST_IMAGES)}")
    for share in BROKEN:
        print(broken_cell(share))


if __name__ == "__main__":
    main()
