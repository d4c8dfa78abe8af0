"""What isolation costs: at a candidate's start, in its calls, and until one that hangs is gone; and what forks save.

Run it as `python benchmarks/isolation_cost.py [ROUNDS]`. A process of its own without isolation and each tier that
holds here take turns, so that a busy moment is everybody's; processes import nothing beforehand, since what torch takes
to import would hide what is looked for. Only the last lines are of processes that import it.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys
import time
from typing import Final

from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.isolation import Policy, Sandbox, Tier
from pytest_diffbench.isolation.forkserver import ForkServers
from pytest_diffbench.isolation.tier import trial
from pytest_diffbench.sequential import SPEED, interval
from pytest_diffbench.wire import Request

CORE: Final = min(os.sched_getaffinity(0))
CALL: Final = [Request(prompt="", seed=0, height=64, width=64, num_inference_steps=1)]
WORK: Final = """
import os
import numpy as np

def load(model, device):
    return np.random.default_rng(0).normal(size=(400, 400)).astype(np.float32)

def generate(pipeline, requests):
    total = 0.0
    for _ in range(40):
        total += float((pipeline @ pipeline)[0, 0])
    for number in range(60_000):
        total += number % 7
    for _ in range(2_000):
        os.stat("/")
    return [np.zeros((request.height, request.width, 3), np.uint8) for request in requests]
"""
"""A matrix product, a Python loop and system calls: about 0.1 s."""
HANGS: Final = """
import os, signal, time

def load(model, device):
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    for _ in range(3):
        os.fork()
    while True:
        pass

generate = load
"""
DEADLINE_S: Final = 0.3


def _sandbox(tier: Tier, *, prepared: tuple[str, ...] = ()) -> Sandbox:
    return Sandbox(Policy(tier), cores=(CORE,), prepared=prepared)


def start_ms(tier: Tier) -> float:
    """Milliseconds from nothing to a process that says it is ready."""
    began = time.perf_counter()
    with _sandbox(tier) as sandbox:
        sandbox.wait_ready()
        return 1000 * (time.perf_counter() - began)


def prepared_start_ms(servers: ForkServers | None) -> float:
    """The same with everything imported that a solution needs: forked, where there are servers to fork from."""
    began = time.perf_counter()
    policy = Policy(Tier.BUBBLEWRAP, forks=servers is not None)
    with Sandbox(policy, cores=(CORE,), servers=servers) as sandbox:
        sandbox.wait_ready()
        return 1000 * (time.perf_counter() - began)


def overtime_ms(tier: Tier) -> float:
    """Milliseconds from the deadline of a candidate that hangs to when nothing of it is left."""
    with _sandbox(tier) as sandbox:
        sandbox.wait_ready()
        began = time.perf_counter()
        try:
            sandbox.load(HANGS, model="", device="cpu", timeout_s=DEADLINE_S)
        except SolutionFault:
            sandbox.close()
        return 1000 * (time.perf_counter() - began - DEADLINE_S)


def share_of_call(tier: Tier, pairs: int) -> tuple[float, float, float]:
    """How much longer the same call takes in a tier than without one, as a share: estimate and 97 % interval."""
    with _sandbox(Tier.NONE, prepared=("numpy",)) as free, _sandbox(tier, prepared=("numpy",)) as kept:
        for sandbox in (free, kept):
            sandbox.wait_ready()
            sandbox.load(WORK, model="", device="cpu", timeout_s=60)
            sandbox.generate(CALL, timeout_s=60)
            sandbox.pause()
        logs = []
        for number in range(pairs):
            seconds = {}
            for sandbox in (free, kept) if number % 2 else (kept, free):
                sandbox.resume()
                seconds[sandbox] = sandbox.generate(CALL, timeout_s=60).elapsed_s
                sandbox.pause()
            logs.append(math.log(seconds[kept] / seconds[free]))
    found = interval(logs, SPEED)
    return math.expm1(found.estimate), math.expm1(found.low), math.expm1(found.high)


def main() -> None:
    """Print a line a tier for each of the three."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    os.sched_setaffinity(0, {CORE})
    tiers = [Tier.NONE, *(tier for tier in (Tier.BUBBLEWRAP, Tier.LANDLOCK) if trial(Policy(tier)) is None)]
    starts: dict[Tier, list[float]] = {tier: [] for tier in tiers}
    for _ in range(rounds):
        for tier in tiers:
            starts[tier].append(start_ms(tier))
    plain = statistics.median(starts[Tier.NONE])
    for tier in tiers:
        low, middle, high = statistics.quantiles(starts[tier], n=4)
        differences = [mine - free for mine, free in zip(starts[tier], starts[Tier.NONE], strict=True)]
        print(
            f"{tier}: ready after {middle:.1f} ms (quartiles {low:.1f}, {high:.1f}); "
            f"{statistics.median(differences):+.1f} ms in pairs, {middle - plain:+.1f} ms between medians"
        )
    for tier in tiers[1:]:
        share, low, high = share_of_call(tier, rounds)
        print(f"{tier}: a call takes {100 * share:+.2f} % [{100 * low:.2f}, {100 * high:.2f}] longer, {rounds} pairs")
    for tier in tiers:
        late = [overtime_ms(tier) for _ in range(max(rounds // 4, 3))]
        print(f"{tier}: what hangs is gone {statistics.median(late):.0f} ms after its deadline (worst {max(late):.0f})")
    if trial(Policy(Tier.BUBBLEWRAP, forks=True)) is None:
        with contextlib.closing(ForkServers()) as servers:
            first = prepared_start_ms(servers)
            forked = statistics.median(prepared_start_ms(servers) for _ in range(rounds))
        alone = statistics.median(prepared_start_ms(None) for _ in range(max(rounds // 8, 3)))
        print(f"imports done: after {forked:.0f} ms forked (the first {first:.0f}), after {alone:.0f} ms by itself")


if __name__ == "__main__":
    main()
