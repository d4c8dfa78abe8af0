"""How often is an honest run suspected of having slowed the baseline, and how often is a slowed one found out?

Run it as `python benchmarks/suspicion.py [--repetitions 20000]` (some minutes on one core). The worlds are those of
`verdict_simulation.py`. A run times pairs in ABBA order, makes ten more calls, and times the baseline alone; where that
is worth a look, the candidate comes and goes, with a pause for its start. Printed are, for each world and number of
deciding pairs, how many honest runs go on to that alternation, how many of them are measured again because the machine
was disturbed, how many are called cheats (the goal: below 0.0001), and of runs whose baseline is slowed by a quarter
and by half beside the candidate, how many do not pass, and how many are called cheats.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np
from verdict_simulation import WORLDS, World

from pytest_diffbench.disturbance import (
    ALL_CALLS,
    BLOCK_CALLS,
    FIRST_CALLS,
    LEAST_FACTOR,
    ROUNDS,
    another_round,
    follows,
    slowdown,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PAIRS: Final = (4, 8, 24)
SPEEDUP: Final = 2.0
BETWEEN: Final = 10
"""Calls of either arm after the pairs and before the baseline is alone; as long as a start of the candidate takes."""
TRIES: Final = 500
"""Runs with a slowed baseline."""
AT_A_TIME: Final = 10_000

BESIDE, ALONE, CANDIDATE = 0, 1, 2


def _calls(pairs: int) -> NDArray[np.int_]:
    """Whose each call is, in their order: pairs, pause, alone, then the rounds."""
    turns = np.array([BESIDE, CANDIDATE, CANDIDATE, BESIDE])
    pause = np.full(BETWEEN, CANDIDATE)
    round_ = [pause, np.tile(turns, BLOCK_CALLS // 2), np.full(BLOCK_CALLS, ALONE)]
    return np.concatenate([np.tile(turns, pairs // 2), pause, np.full(ALL_CALLS, ALONE), *(round_ * ROUNDS)])


def runs(
    pairs: int, world: World, factor: float, count: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The baseline's calls beside the candidate and alone, in the order they are made; the noise as it is there."""
    calls = _calls(pairs)
    shape = (count, 4 + len(calls))  # after two warm-up calls each
    sd, memory = world.drift
    rho = np.exp(-1 / memory)
    drift = rng.standard_normal(shape)
    for call in range(1, shape[1]):
        drift[:, call] = rho * drift[:, call - 1] + np.sqrt(1 - rho**2) * drift[:, call]
    log_times = sd * drift + world.ramp[0] * (1 - np.exp(-np.arange(shape[1]) / world.ramp[1]))
    log_times += world.jitter * rng.standard_normal(shape)
    hiccups = (rng.random(shape) < world.hiccup[0]) * rng.exponential(max(world.hiccup[1], 1e-9), shape)
    slowed = np.select([calls == BESIDE, calls == ALONE], [factor * SPEEDUP, SPEEDUP], 1.0)
    times = slowed * np.exp(log_times[:, 4:]) + hiccups[:, 4:]
    yield from zip(times[:, calls == BESIDE], times[:, calls == ALONE], strict=True)


def ending(pairs: int, beside: NDArray[np.float64], alone: NDArray[np.float64]) -> str:
    """What becomes of a run, by the rules that are shipped."""
    first_s, alone_s = beside[:pairs].tolist(), alone[:ALL_CALLS].tolist()
    if np.median(first_s) < LEAST_FACTOR * np.median(alone_s[:FIRST_CALLS]):  # before the slower test
        return "clear"
    found = slowdown(first_s, alone_s)
    if not found.worth_a_look:
        return "clear"
    blocks = zip(
        beside[pairs:].reshape(ROUNDS, BLOCK_CALLS).tolist(),
        alone[ALL_CALLS:].reshape(ROUNDS, BLOCK_CALLS).tolist(),
        strict=True,
    )
    rounds: list[tuple[list[float], list[float]]] = []
    while another_round(rounds):
        rounds.append(next(blocks))
    if follows(rounds):
        return "cheat"
    return "disturbed" if found.suspicious or len(rounds) > 1 else "cleared"


def endings(pairs: int, world: World, factor: float, count: int, rng: np.random.Generator) -> dict[str, float]:
    """The share of each ending."""
    found: Counter[str] = Counter()
    for start in range(0, count, AT_A_TIME):
        made = runs(pairs, world, factor, min(AT_A_TIME, count - start), rng)
        found.update(ending(pairs, beside, alone) for beside, alone in made)
    return {name: found[name] / count for name in ("clear", "cleared", "disturbed", "cheat")}


def main() -> None:
    """Print a line for each world and number of pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=20_000, help="simulated honest runs a cell")
    repetitions = parser.parse_args().repetitions
    rng = np.random.default_rng(0)
    print("| world | pairs | honest: alternated | measured again | called a cheat | 1.25x: not passed, cheat | 1.5x |")
    print("|---|---|---|---|---|---|---|")
    for name, world in WORLDS.items():
        for pairs in PAIRS:
            honest = endings(pairs, world, 1.0, repetitions, rng)
            line = (
                f"| {name} | {pairs} | {1 - honest['clear']:.2%} | {honest['disturbed']:.2%} | {honest['cheat']:.4%} |"
            )
            for factor in (1.25, 1.5):
                slowed = endings(pairs, world, factor, TRIES, rng)
                line += f" {slowed['disturbed'] + slowed['cheat']:.0%}, {slowed['cheat']:.0%} |"
            print(line, flush=True)


if __name__ == "__main__":
    main()
