"""Intervals for means over tasks that are not independent: tasks of a scenario, and scenarios of a family, go together.

Families are drawn with replacement, then within each of them its scenarios (a two-stage cluster bootstrap; Davison &
Hinkley 1997, Bootstrap Methods and their Application, section 3.8). Of few families an interval is too narrow rather
than too wide.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 2000
SAME: Final = 1e-9
"""Means that differ by less differ by rounding only."""


@dataclass(frozen=True)
class Value:
    """One task's share of a mean, and where it belongs."""

    family: Hashable
    scenario: Hashable
    value: float


def interval(values: Sequence[Value], *, differences: bool = False) -> tuple[float, float] | None:
    """The 95 % interval of the mean, the same for the same values; None of fewer than two scenarios.

    `differences` may be of either sign, so that no difference in any scenario leaves room on both sides.

    Where all scenarios have the same mean, resampling knows no other: then the exact binomial interval (Clopper &
    Pearson 1934) of so large a share, a trial a scenario; of differences, that of their size.
    """
    # imported here: a tenth of a second, and only who scores needs it
    import numpy as np

    families = list(_sums(values).values())
    scenarios = sum(map(len, families))
    if scenarios < 2:
        return None
    means = [total / count for family in families for total, count in family]
    if max(means) - min(means) < SAME:
        low, high = _exact(abs(means[0]) * scenarios, scenarios)
        if differences and abs(means[0]) < SAME:
            return -high, high
        return (low, high) if means[0] >= 0 else (-high, -low)
    rng = np.random.default_rng(0)
    totals = np.zeros((RESAMPLES, 2))
    for _ in families:  # as many are drawn as there are, one after another for all resamples at once
        drawn = rng.integers(len(families), size=RESAMPLES)
        for number, sums in enumerate(families):
            where = np.flatnonzero(drawn == number)
            picked = rng.integers(len(sums), size=(len(where), len(sums)))
            totals[where] += np.array(sums)[picked].sum(axis=1)
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _exact(passed: float, trials: int) -> tuple[float, float]:
    """By the quantiles of the beta distribution, which take a broken number of passes too."""
    # imported here: half a second, and seldom needed
    from scipy.stats import beta

    low = beta.ppf((1 - CONFIDENCE) / 2, passed, trials - passed + 1) if passed > 0 else 0.0
    high = beta.ppf((1 + CONFIDENCE) / 2, passed + 1, trials - passed) if passed < trials else 1.0
    return float(low), float(high)


def _sums(values: Sequence[Value]) -> dict[Hashable, list[tuple[float, float]]]:
    """Of each family's scenarios the sum of their values, and how many there are."""
    found: defaultdict[Hashable, defaultdict[Hashable, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in values:
        found[each.family][each.scenario].append(each.value)
    return {
        family: [(sum(shares), float(len(shares))) for shares in scenarios.values()]
        for family, scenarios in found.items()
    }
