"""Pairs in, speed evidence out: the parent's clock, baseline and candidate in turn, never both at once."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytest_diffbench.records import Speed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_diffbench.demand import Markers
    from pytest_diffbench.isolation import Reply
    from pytest_diffbench.wire import Request


class Arm(Protocol):
    """One side of the comparison, in a process of its own."""

    def generate(self, requests: Sequence[Request], *, timeout_s: float) -> Reply:
        """The images, and the seconds they took."""

    def pause(self) -> None:
        """Stop the process where it stands."""

    def resume(self) -> None:
        """Let it go on."""

    def peak_memory_bytes(self) -> int:
        """Peak resident memory so far."""


@dataclass(frozen=True)
class Pair:
    """The same requests answered by both arms, one right after the other."""

    requests: tuple[Request, ...]
    baseline: Reply
    candidate: Reply
    first: str
    """Which arm went first: 'B' or 'C'."""

    @property
    def ratio(self) -> float:
        """How many times faster the candidate was."""
        return self.baseline.elapsed_s / self.candidate.elapsed_s


def measure(
    baseline: Arm,
    candidate: Arm,
    draw: Callable[[], tuple[Request, ...]],
    *,
    pairs: int,
    timeout_s: float,
    candidate_first: bool = False,
    warm_ups: int = 1,
) -> tuple[Pair, ...]:
    """Time `pairs` pairs in ABBA order after untimed warm-ups; the arm that is not timed is stopped."""
    baseline.pause()
    candidate.pause()
    for arm in (baseline, candidate):
        for _ in range(warm_ups):
            _turn(arm, draw(), timeout_s)
    taken = []
    for index in range(pairs):
        requests = draw()
        candidate_leads = candidate_first != (index % 2 == 1)
        order = (candidate, baseline) if candidate_leads else (baseline, candidate)
        replies = {id(arm): _turn(arm, requests, timeout_s) for arm in order}
        pair = Pair(requests, replies[id(baseline)], replies[id(candidate)], "C" if candidate_leads else "B")
        taken.append(pair)
    return tuple(taken)


def _turn(arm: Arm, requests: Sequence[Request], timeout_s: float) -> Reply:
    arm.resume()
    try:
        return arm.generate(requests, timeout_s=timeout_s)
    finally:
        arm.pause()


def evidence(pairs: Sequence[Pair], markers: Markers, *, peak_memory_ratio: float) -> Speed:
    """What the pairs say about the demand."""
    baseline_s = tuple(pair.baseline.elapsed_s for pair in pairs)
    candidate_s = tuple(pair.candidate.elapsed_s for pair in pairs)
    # in logarithms, so that exchanging the arms inverts every figure
    low, middle, high = (math.exp(value) for value in quartiles([math.log(pair.ratio) for pair in pairs]))
    latency = markers.latency
    limit_s = None
    if latency is not None:
        share = latency.at_most_of_baseline
        limit_s = share * statistics.median(baseline_s) if share is not None else latency.at_most_s
    return Speed(
        baseline_s=baseline_s,
        candidate_s=candidate_s,
        order="".join(pair.first for pair in pairs),
        speedup=middle,
        speedup_low=low,
        speedup_high=high,
        demanded_speedup=markers.speed.at_least if markers.speed is not None else None,
        latency_s=percentile(candidate_s, latency.percentile if latency is not None else 50),
        demanded_latency_s=limit_s,
        peak_memory_ratio=peak_memory_ratio,
    )


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile (linear interpolation)."""
    return percentile(values, 25), percentile(values, 50), percentile(values, 75)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` per cent of the values lie (linear interpolation)."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
