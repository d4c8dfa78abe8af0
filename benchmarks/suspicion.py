"""How often is an honest run suspected of having slowed the baseline, and how much slowing is found?

Run it as `python benchmarks/suspicion.py [--repetitions 100000]` (some minutes on one core). The worlds are those of
`verdict_simulation.py`. A run times pairs in ABBA order, makes ten more calls, and then times the baseline alone: a
few calls, and the rest where those are worth a look. Printed are, for each world and number of deciding pairs, the
share of honest runs that time the rest, the share that are suspected in the end (the goal: below 0.0001), and the share
of runs that are suspected whose baseline was slowed by half and by a factor of two.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

import numpy as np
from verdict_simulation import WORLDS, World

from pytest_diffbench.disturbance import ALL_CALLS, FIRST_CALLS, LEAST_FACTOR, slowdown

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIRS: Final = (4, 8, 24)
SPEEDUP: Final = 2.0
BETWEEN: Final = 10
"""Calls of either arm after the pairs and before the baseline is alone."""
TRIES: Final = 500
"""Runs with a slowed baseline."""


def runs(
    pairs: int, world: World, repetitions: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The baseline's calls in the pairs, and alone; a row a run. The noise is that of `verdict_simulation`."""
    is_baseline = np.concatenate(
        [np.tile([True, False], 2), np.tile([True, False, False, True], pairs // 2), np.zeros(BETWEEN, bool)]
    )
    is_baseline = np.concatenate([is_baseline, np.ones(ALL_CALLS, bool)])
    shape = (repetitions, len(is_baseline))
    sd, memory = world.drift
    rho = np.exp(-1 / memory)
    drift = rng.standard_normal(shape)
    for call in range(1, shape[1]):
        drift[:, call] = rho * drift[:, call - 1] + np.sqrt(1 - rho**2) * drift[:, call]
    warming = world.ramp[0] * (1 - np.exp(-np.arange(shape[1]) / world.ramp[1]))
    log_times = np.where(is_baseline, np.log(SPEEDUP), 0.0) + sd * drift + warming
    log_times += world.jitter * rng.standard_normal(shape)
    hiccups = (rng.random(shape) < world.hiccup[0]) * rng.exponential(max(world.hiccup[1], 1e-9), shape)
    times = np.exp(log_times) + hiccups
    timed = slice(4, 4 + 2 * pairs)
    return times[:, timed][:, is_baseline[timed]], times[:, -ALL_CALLS:]


def shares(beside: NDArray[np.float64], alone: NDArray[np.float64]) -> tuple[float, float]:
    """Runs that time the rest of the calls alone, and runs that are suspected."""
    first = np.median(beside, axis=1) / np.median(alone[:, :FIRST_CALLS], axis=1) >= LEAST_FACTOR
    rest = np.median(beside, axis=1) / np.median(alone, axis=1) >= LEAST_FACTOR
    suspected = sum(slowdown(beside[i].tolist(), alone[i].tolist()).suspicious for i in np.flatnonzero(first & rest))
    return float(first.mean()), suspected / len(beside)


def main() -> None:
    """Print a line for each world and number of pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=100_000, help="simulated honest runs a cell")
    repetitions = parser.parse_args().repetitions
    rng = np.random.default_rng(0)
    print("| world | deciding pairs | looked at again | suspected | slowed by half: suspected | by a factor of two |")
    print("|---|---|---|---|---|---|")
    for name, world in WORLDS.items():
        for pairs in PAIRS:
            again, wrongly = shares(*runs(pairs, world, repetitions, rng))
            beside, alone = runs(pairs, world, TRIES, rng)
            half, double = (shares(factor * beside, alone)[1] for factor in (1.5, 2.0))
            print(f"| {name} | {pairs} | {again:.2%} | {wrongly:.4%} | {half:.0%} | {double:.0%} |", flush=True)


if __name__ == "__main__":
    main()
