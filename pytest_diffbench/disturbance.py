"""Whether the baseline ran slower beside the candidate than without it: one can look fast that way too.

Pure numbers. What differs by a least factor and a least time is looked into, by letting the candidate come and go. It
is the candidate's doing only where the slowness comes and goes with it, round after round; where it does not, the
machine was disturbed, if a rank test and the machine's own noise leave no other word for it
(`benchmarks/suspicion.py` counts how often honest runs come how far).
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_CALLS: Final = 4
"""Calls of the baseline alone, for every task that would pass."""
ALL_CALLS: Final = 24
"""Calls alone before anything is said: with four beside them, the fewest, total separation has p < 0.0001."""
LEAST_FACTOR: Final = 1.1
LEAST_S: Final = 0.005
"""What emptied caches and a process that was woken may cost."""
LEVEL: Final = 1e-4
"""Of the rank test, which takes calls for independent."""
DEVIATIONS: Final = 6.0
"""By how many deviations of a call alone the medians must differ: a machine that drifts makes calls dependent."""
ROUNDS: Final = 5
"""Of the alternation, unless one shows no slowness: other programs that come and go mimic two or three."""
BLOCK_CALLS: Final = 6
"""Calls beside the candidate, then without it, in each round."""


@dataclass(frozen=True)
class Slowdown:
    """The baseline's calls beside the candidate against those without it; seconds."""

    factor: float
    """Median over median."""
    difference_s: float
    """Of the medians."""
    deviations: float
    """Difference of the medians of the logarithms, in robust deviations of a call without the candidate."""
    probability: float
    """One-sided p of Mann & Whitney (1947): chance does it so often, were the calls independent."""

    @property
    def worth_a_look(self) -> bool:
        """Whether it is enough to be looked into."""
        return self.factor >= LEAST_FACTOR and self.difference_s >= LEAST_S

    @property
    def suspicious(self) -> bool:
        """Whether it is more than noise and drift explain."""
        return self.worth_a_look and self.deviations >= DEVIATIONS and self.probability < LEVEL


def slowdown(beside_s: Sequence[float], alone_s: Sequence[float]) -> Slowdown:
    """How much slower the calls beside the candidate were; ValueError where there are none of a kind."""
    if not beside_s or not alone_s:
        raise ValueError(f"{len(beside_s)} calls beside the candidate and {len(alone_s)} without it: both are needed")
    beside, alone = np.log(beside_s), np.log(alone_s)
    shift = float(np.median(beside) - np.median(alone))
    deviation = float(stats.median_abs_deviation(alone, scale="normal"))
    return Slowdown(
        factor=math.exp(shift),
        difference_s=statistics.median(beside_s) - statistics.median(alone_s),
        deviations=shift / deviation if deviation else math.copysign(math.inf, shift) if shift else 0.0,
        probability=float(stats.mannwhitneyu(beside, alone, alternative="greater").pvalue),
    )


def another_round(rounds: Sequence[tuple[Sequence[float], Sequence[float]]]) -> bool:
    """Whether the alternation goes on after these rounds: in all of them the baseline was slower beside it."""
    return len(rounds) < ROUNDS and all(slowdown(beside, alone).worth_a_look for beside, alone in rounds)


def follows(rounds: Sequence[tuple[Sequence[float], Sequence[float]]]) -> bool:
    """Whether slowness came and went with the candidate: in every round (beside, alone), and over all of them."""
    every = len(rounds) == ROUNDS and all(slowdown(beside, alone).worth_a_look for beside, alone in rounds)
    beside_s, alone_s = ([seconds for each in rounds for seconds in each[which]] for which in (0, 1))
    return every and slowdown(beside_s, alone_s).probability < LEVEL
