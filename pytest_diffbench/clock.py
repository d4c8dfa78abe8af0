"""Pairs in, speed evidence out: the parent's clock, baseline and candidate in turn, never both at once."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from pytest_diffbench import sequential
from pytest_diffbench.demand import MEDIAN, demanded_speedup
from pytest_diffbench.devices import Conditions, CoreWatch, obstacle
from pytest_diffbench.errors import SetupError
from pytest_diffbench.records import Outcome, Speed, unrecorded
from pytest_diffbench.sequential import SHARE, SPEED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_diffbench.demand import Markers
    from pytest_diffbench.devices import Watch
    from pytest_diffbench.isolation import Reply
    from pytest_diffbench.records import Record
    from pytest_diffbench.sequential import Decision, Plan
    from pytest_diffbench.wire import Request

MOST_WARM_UPS: Final = 5
STILL_WARMING: Final = 0.05
"""An arm is warm once a call is not this much faster than the one before."""
MOST_REPEATED: Final = 0.25
"""Pairs that may be timed again, as a share of those that count."""


class Arm(Protocol):
    """One side of the comparison, in a process of its own."""

    def generate(self, requests: Sequence[Request], *, timeout_s: float) -> Reply:
        """The images, and the seconds they took."""

    def pause(self) -> None:
        """Stop the process where it stands."""

    def resume(self) -> None:
        """Let it go on."""


@dataclass(frozen=True)
class Call:
    """One arm's answer, and the device right before and after it."""

    reply: Reply
    before: Conditions
    after: Conditions

    @property
    def energy_j(self) -> float | None:
        """Joules that the device spent meanwhile."""
        if self.before.energy_mj is None or self.after.energy_mj is None:
            return None
        return (self.after.energy_mj - self.before.energy_mj) / 1000


@dataclass(frozen=True)
class Pair:
    """The same requests answered by both arms, one right after the other."""

    requests: tuple[Request, ...]
    baseline: Reply
    candidate: Reply
    first: str
    """Which arm went first: 'B' or 'C'."""
    baseline_energy_j: float | None = None
    candidate_energy_j: float | None = None

    @property
    def inputs(self) -> tuple[NDArray[np.uint8], ...]:
        """What the requests begin with, (height, width, 3) each; none where that is noise."""
        return tuple(np.asarray(request.image) for request in self.requests if request.image is not None)

    @property
    def ratio(self) -> float:
        """How many times faster the candidate was."""
        return self.baseline.elapsed_s / self.candidate.elapsed_s


class Trial:
    """Baseline and candidate in turn: warmed up, then as many pairs as are asked for, in ABBA order."""

    def __init__(
        self,
        baseline: Arm,
        candidate: Arm,
        *,
        timeout_s: float,
        candidate_first: bool = False,
        watch: Watch | None = None,
        record: Record = unrecorded,
    ) -> None:
        self.warm_up_s: tuple[list[float], list[float]] = ([], [])
        """Untimed calls of the baseline and of the candidate; seconds, as if they were timed."""
        self.repeated: Counter[str] = Counter()
        """Pairs that were timed again, by cause."""
        self._baseline, self._candidate = baseline, candidate
        self._timeout_s = timeout_s
        self._candidate_first = candidate_first
        self._watch = watch or CoreWatch()
        self._record = record
        self._pairs: list[Pair] = []
        for arm in (baseline, candidate):
            arm.pause()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every pair that counts, in order."""
        return tuple(self._pairs)

    def warm_up(self, draw: Callable[[], tuple[Request, ...]]) -> None:
        """Call both arms untimed until neither gets faster, at least twice and at most `MOST_WARM_UPS` times."""
        base, accelerated = self.warm_up_s
        while len(base) < MOST_WARM_UPS:
            requests = draw()
            base.append(self._turn(self._baseline, requests).reply.elapsed_s)
            accelerated.append(self._turn(self._candidate, requests).reply.elapsed_s)
            self._record("warm-up", {"baseline_s": base[-1], "candidate_s": accelerated[-1]})
            if len(base) > 1 and not _gets_faster(base) and not _gets_faster(accelerated):
                return

    def extend(
        self,
        count: int,
        draw: Callable[[], tuple[Request, ...]],
        again: Callable[[], tuple[Request, ...]] | None = None,
    ) -> None:
        """Time pairs until there are `count`; the arm that is not timed is stopped.

        A pair is timed again only for a cause that is not slowness, both sides of it, with fresh requests: those of
        `again`, where it is given, so that the requests of later pairs stay what they would have been.
        """
        while len(self._pairs) < count:
            pair, cause = self._pair(draw())
            while cause and self.repeated.total() < max(1, int(MOST_REPEATED * count)):
                self.repeated[cause] += 1
                self._note(pair, timed_again=cause)
                pair, cause = self._pair((again or draw)())
            self._pairs.append(pair)
            self._note(pair)

    def ask_baseline(self, requests: Sequence[Request]) -> Reply:
        """The baseline's answer to a request that does not count as a pair."""
        return self._turn(self._baseline, requests).reply

    def ask_candidate(self, requests: Sequence[Request]) -> Reply:
        """The candidate's answer to a request that does not count as a pair."""
        return self._turn(self._candidate, requests).reply

    def _pair(self, requests: tuple[Request, ...]) -> tuple[Pair, str]:
        candidate_leads = self._candidate_first != (len(self._pairs) % 2 == 1)
        if candidate_leads:
            candidate, baseline = self._turn(self._candidate, requests), self._turn(self._baseline, requests)
        else:
            baseline, candidate = self._turn(self._baseline, requests), self._turn(self._candidate, requests)
        first = "C" if candidate_leads else "B"
        energy = (baseline.energy_j, candidate.energy_j)
        cause = obstacle((baseline.before, candidate.before), (baseline.after, candidate.after))
        return Pair(requests, baseline.reply, candidate.reply, first, *energy), cause

    def _note(self, pair: Pair, timed_again: str = "") -> None:
        """Record a pair while nothing is timed: both arms are stopped."""
        self._record(
            "pair",
            {
                "requests": [replace(request, image=None) for request in pair.requests],
                "baseline_s": pair.baseline.elapsed_s,
                "candidate_s": pair.candidate.elapsed_s,
                "first": pair.first,
                "baseline_energy_j": pair.baseline_energy_j,
                "candidate_energy_j": pair.candidate_energy_j,
                "timed_again": timed_again,
                "images": {
                    "baseline": pair.baseline.images,
                    "candidate": pair.candidate.images,
                    "input": pair.inputs,
                },
            },
        )

    def _turn(self, arm: Arm, requests: Sequence[Request]) -> Call:
        before = self._watch.before()
        arm.resume()
        try:
            reply = arm.generate(requests, timeout_s=self._timeout_s)
        finally:
            arm.pause()
        if not (math.isfinite(reply.elapsed_s) and reply.elapsed_s > 0):
            raise SetupError(
                f"diffbench: the clock gave {reply.elapsed_s} s for a call: this machine's monotonic clock is broken"
            )
        return Call(reply, before, self._watch.after())


def _gets_faster(seconds: Sequence[float]) -> bool:
    return seconds[-1] < (1 - STILL_WARMING) * seconds[-2]


def decide(pairs: Sequence[Pair], markers: Markers, plan: Plan = SPEED, share_plan: Plan = SHARE) -> Decision | None:
    """What the pairs say about the demand so far; None where nothing is demanded."""
    demanded = demanded_speedup(markers)
    if demanded is not None:
        return sequential.decide([math.log(pair.ratio) - math.log(demanded) for pair in pairs], plan)
    if markers.latency is None:
        return None
    return _decide_latency(pairs, markers, markers.latency.percentile / 100, share_plan)


def _decide_latency(pairs: Sequence[Pair], markers: Markers, share: float, plan: Plan) -> Decision:
    """Each look by the limit as it was known then: what was decided stays decided."""
    reached = [look for look in plan.looks if look <= len(pairs)]
    for look in reached:
        found = sequential.decide_share(_hits(pairs[:look], markers), share, replace(plan, looks=(look,)))
        if found.outcome is not Outcome.OPEN:
            return found
    undecided = sequential.decide_share(_hits(pairs, markers), share, replace(plan, looks=()))
    return replace(undecided, decided_after=reached[-1] if reached else 0)


def _hits(pairs: Sequence[Pair], markers: Markers) -> list[bool]:
    limit_s = _limit_s(pairs, markers)
    return [limit_s is not None and pair.candidate.elapsed_s <= limit_s for pair in pairs]


def _limit_s(pairs: Sequence[Pair], markers: Markers) -> float | None:
    latency = markers.latency
    if latency is None or latency.at_most_of_baseline is None:
        return latency.at_most_s if latency is not None else None
    return latency.at_most_of_baseline * statistics.median(pair.baseline.elapsed_s for pair in pairs)


def evidence(
    starts: Sequence[Sequence[Pair]],
    markers: Markers,
    *,
    plan: Plan = SPEED,
    share_plan: Plan = SHARE,
    warm_up_calls: int = 0,
    repeated: Mapping[str, int] | None = None,
    peak_memory_ratio: float | None = None,
) -> Speed:
    """What the pairs of one or more starts of the processes say about the demand; every start must say the same."""
    pairs = [pair for start in starts for pair in start]
    # in logarithms, so that exchanging the arms inverts every figure
    log_ratios = [math.log(pair.ratio) for pair in pairs]
    found = sequential.interval(log_ratios, plan)
    decisions = [decision for start in starts if (decision := decide(start, markers, plan, share_plan)) is not None]
    candidate_s = tuple(pair.candidate.elapsed_s for pair in pairs)
    return Speed(
        baseline_s=tuple(pair.baseline.elapsed_s for pair in pairs),
        candidate_s=candidate_s,
        order="".join(pair.first for pair in pairs),
        speedup=math.exp(found.estimate),
        speedup_low=math.exp(found.low),
        speedup_high=math.exp(found.high) if found.high < math.inf else None,
        decision=_unanimous([decision.outcome for decision in decisions]),
        decided_after=sum(decision.decided_after for decision in decisions) if decisions else None,
        borderline=any(decision.borderline for decision in decisions),
        warm_up_calls=warm_up_calls,
        repeated=dict(repeated or {}),
        by_start=tuple(_estimate(start, plan) for start in starts) if len(starts) > 1 else (),
        demanded_speedup=markers.speed.at_least if markers.speed is not None else None,
        latency_s=percentile(candidate_s, markers.latency.percentile if markers.latency is not None else MEDIAN),
        demanded_latency_s=_limit_s(pairs, markers),
        peak_memory_ratio=peak_memory_ratio,
    )


def _unanimous(outcomes: Sequence[Outcome]) -> Outcome | None:
    """One start that misses the demand misses it; one that leaves it open leaves it open."""
    if not outcomes:
        return None
    order = (Outcome.BELOW, Outcome.OPEN, Outcome.ABOVE)
    return min(outcomes, key=order.index)


def _estimate(pairs: Sequence[Pair], plan: Plan) -> float:
    return math.exp(sequential.interval([math.log(pair.ratio) for pair in pairs], plan).estimate)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` per cent of the values lie (linear interpolation)."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
