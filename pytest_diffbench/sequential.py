"""When enough has been seen to decide: sequential one-sided tests of paired differences, both ways. Pure numbers.

A sample holds one number a pair, centred so that the claim is "its location is above 0":
x = ln t_base - ln t_acc - ln R for a demanded speed-up R, x = s_acc - (1 - m) * s_base for an allowed loss m.
The data are looked at a few fixed times only, each at a nominal level low enough for 5 % on each side in all
(Pocock 1977). What a look would not reject is its interval, so the intervals of all looks hold at once with 90 %
(repeated confidence intervals; Jennison & Turnbull 1989).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import stats

from pytest_diffbench.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Plan:
    """When to look, and how small a p-value decides.

    Student's t before `rank_from` values, Wilcoxon's signed ranks, which hiccups cannot move, from there on, and for
    any sample without spread, of which Student's t knows nothing.
    """

    looks: tuple[int, ...]
    alpha: float
    """Nominal one-sided level of each look."""
    rank_from: int | None = None
    """None: Student's t throughout."""
    tight: float | None = None
    """A plan that ends undecided goes by its estimate, as borderline, if its interval's half-width is at most this."""
    second_looks: tuple[int, ...] = ()
    """When a second try looks; empty: as often as the first."""

    def at_most(self, count: int) -> Plan:
        """The same plan cut short: fewer looks, and so no more errors."""
        looks, second = (tuple(look for look in all_ if look <= count) for all_ in (self.looks, self.second_looks))
        return replace(self, looks=looks, second_looks=second)

    def stricter(self, factor: float) -> Plan:
        """The same looks at a level so many times smaller."""
        return replace(self, alpha=self.alpha / factor)

    def second_try(self, factor: float) -> Plan:
        """The plan after an undecided first try: stricter, with the looks that it has for that."""
        return replace(self.stricter(factor), looks=self.second_looks or self.looks, second_looks=())

    def next_look(self, count: int) -> int | None:
        """How many values the next look needs once `count` are there; None where it was the last."""
        return next((look for look in self.looks if look > count), None)


SPEED: Final = Plan((4, 6, 8, 12, 16, 24), 0.0135, rank_from=8, tight=0.03, second_looks=(12, 24, 36, 54, 80))
"""Overall level 5 %: 200,000 simulated Gaussian samples give 0.0139; `benchmarks/verdict_simulation.py` checks it.

A second try must see more to be worth its while: at a smaller level over the same 24 pairs it would see less.
"""
QUALITY: Final = Plan((10, 16, 24, 36, 50), 0.0155, second_looks=(24, 36, 50, 75, 110, 160, 240))
SHARE: Final = Plan((8, 12, 16, 24, 40, 50), 0.02, second_looks=(24, 40, 60, 90, 120))
"""For latency limits; overall level below 5 % for every percentile (exact, in the tests)."""
CERTIFIED_QUALITY: Final = Plan((100, 125, 150), 0.0285, second_looks=(100, 160, 240))
"""For results to publish: of 100 images none may be broken, so that with 95 % confidence under 3 % are."""
BROKEN_ONE_IN: Final = 100
"""Images of which one may be broken: who has one among fewer must show so many, and no other among them."""
STRICT: Final = Plan((12, 24, 36, 60, 90, 120), 0.013, second_looks=(60, 90, 120, 170, 240))


@dataclass(frozen=True)
class Interval:
    """An estimate of location with the range that the same test would not reject."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Decision:
    """What a plan decides on a sample."""

    outcome: Outcome
    decided_after: int
    """Values seen at the look that decided; at the last look that was reached where none did."""
    interval: Interval
    """Over the whole sample."""
    borderline: bool = False
    """No look decided, but the interval is tight: the outcome is the estimate's side of 0."""


def decide(sample: Sequence[float], plan: Plan) -> Decision:
    """The outcome of the first look that decides; ValueError where a value is no number."""
    x = _checked(sample)
    reached = [look for look in plan.looks if look <= len(x)]
    whole = interval(sample, plan)
    for look in reached:
        outcome = _look(x[:look], plan)
        if outcome is not Outcome.OPEN:
            return Decision(outcome, look, whole)
    seen = reached[-1] if reached else 0
    over = bool(plan.looks) and seen == plan.looks[-1]
    last = interval(x[:seen].tolist(), plan)  # values after the last look decide nothing
    tight = plan.tight is not None and (last.high - last.low) / 2 <= plan.tight
    if over and tight and last.estimate != 0:
        side = Outcome.ABOVE if last.estimate > 0 else Outcome.BELOW
        return Decision(side, seen, whole, borderline=True)
    return Decision(Outcome.OPEN, seen, whole)


def decide_share(hits: Sequence[bool], share: float, plan: Plan | None = None) -> Decision:
    """Whether more than `share` of all calls are hits, by the exact binomial test; the interval is of their share.

    For "the percentile p of the latency is at most the limit": a hit is a call within the limit, `share` is p / 100.
    As MLPerf's early stopping, but looked at often and both ways.
    """
    plan = plan if plan is not None else SHARE
    reached = [look for look in plan.looks if look <= len(hits)]
    whole = _share_interval(hits, plan.alpha)
    for look in reached:
        count = sum(hits[:look])
        if stats.binom.sf(count - 1, look, share) <= plan.alpha:
            return Decision(Outcome.ABOVE, look, whole)
        if stats.binom.cdf(count, look, share) <= plan.alpha:
            return Decision(Outcome.BELOW, look, whole)
    return Decision(Outcome.OPEN, reached[-1] if reached else 0, whole)


def _share_interval(hits: Sequence[bool], alpha: float) -> Interval:
    """Clopper & Pearson's exact interval of a share."""
    if not hits:
        return Interval(math.nan, 0.0, 1.0)
    found = stats.binomtest(sum(hits), len(hits)).proportion_ci(1 - 2 * alpha, method="exact")
    return Interval(sum(hits) / len(hits), float(found.low), float(found.high))


def interval(sample: Sequence[float], plan: Plan) -> Interval:
    """The estimate with all locations that one look of this plan at this sample would not reject.

    Hodges & Lehmann's median of pairwise means, and the signed-rank test inverted; mean and Student's t where the
    plan uses that. Infinite where the sample is too small for the plan's level.
    """
    x = _checked(sample)
    n = len(x)
    if n == 0:
        return Interval(math.nan, -math.inf, math.inf)
    averages = np.sort(_walsh_averages(x))
    estimate = float(x.mean()) if plan.rank_from is None else float(np.median(averages))
    if not _by_ranks(x, plan):
        low, high = _t_bounds(x, plan.alpha)
        return Interval(estimate, min(low, estimate), max(high, estimate))
    k = _critical_count(n, plan.alpha)
    if k < 0:
        return Interval(estimate, -math.inf, math.inf)
    return Interval(estimate, float(averages[k]), float(averages[-1 - k]))


def _checked(sample: Sequence[float]) -> NDArray[np.float64]:
    x = np.asarray(sample, np.float64)
    if not np.isfinite(x).all():
        bad = next(index for index, value in enumerate(x) if not math.isfinite(value))
        raise ValueError(f"value {bad} of the sample is {x[bad]}: every value must be a finite number")
    return x


def _look(x: NDArray[np.float64], plan: Plan) -> Outcome:
    if not _by_ranks(x, plan):
        low, high = _t_bounds(x, plan.alpha)
        above, below = low > 0, high < 0
    else:
        averages, k = _walsh_averages(x), _critical_count(len(x), plan.alpha)
        # a tie counts against whatever is to be shown
        above, below = bool((averages <= 0).sum() <= k), bool((averages >= 0).sum() <= k)
    if above == below:
        return Outcome.OPEN
    return Outcome.ABOVE if above else Outcome.BELOW


def _by_ranks(x: NDArray[np.float64], plan: Plan) -> bool:
    return (plan.rank_from is not None and len(x) >= plan.rank_from) or _deviation(x) == 0


def _deviation(x: NDArray[np.float64]) -> float:
    """The sample's standard deviation; 0 where it is no more than rounding."""
    spread = float(x.std(ddof=1)) if len(x) > 1 else 0.0
    return 0.0 if spread <= 1e-12 * max(1.0, float(np.abs(x).max())) else spread


def _t_bounds(x: NDArray[np.float64], alpha: float) -> tuple[float, float]:
    half = float(stats.t.isf(alpha, len(x) - 1)) * _deviation(x) / math.sqrt(len(x))
    return float(x.mean()) - half, float(x.mean()) + half


def _walsh_averages(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The means of all pairs of values, each value with itself too: n (n + 1) / 2."""
    rows, columns = np.triu_indices(len(x))
    averages: NDArray[np.float64] = (x[rows] + x[columns]) / 2
    return averages


@cache
def _critical_count(n: int, alpha: float) -> int:
    """The largest k with P(W <= k) <= alpha for the signed-rank statistic W of n values; -1 where there is none."""
    ways = np.ones(1)
    for rank in range(1, n + 1):
        ways = np.concatenate([ways, np.zeros(rank)]) + np.concatenate([np.zeros(rank), ways])
        ways /= 2
    return int(np.searchsorted(np.cumsum(ways), alpha, side="right")) - 1
