"""Whether a call that is looked at takes longer than one that is not: then more is done for who looks.

Pure numbers: seconds of calls that were looked at and of calls that were not, made in turn.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Final

from pytest_diffbench import sequential
from pytest_diffbench.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_ROUNDS: Final = 3
"""Of every solution; no more where they show nothing."""
LEAST_FACTOR: Final = 1.1
"""What hooks on a denoiser and a machine's noise may cost; a step in eight that is left out costs more."""
PLAN: Final = sequential.SPEED.at_most(16).stricter(5)


def another_round(watched_s: Sequence[float], unwatched_s: Sequence[float]) -> bool:
    """Whether one more call of each kind is needed to tell."""
    sample = _sample(watched_s, unwatched_s)
    if len(sample) <= FIRST_ROUNDS:
        return len(sample) < FIRST_ROUNDS or statistics.fmean(sample) > 0
    return len(sample) < PLAN.looks[-1] and sequential.decide(sample, PLAN).outcome is Outcome.OPEN


def pretends(watched_s: Sequence[float], unwatched_s: Sequence[float]) -> bool:
    """Whether calls that are looked at take longer, beyond doubt."""
    return sequential.decide(_sample(watched_s, unwatched_s), PLAN).outcome is Outcome.ABOVE


def factor(watched_s: Sequence[float], unwatched_s: Sequence[float]) -> float:
    """How many times longer they take: the geometric mean over rounds."""
    return LEAST_FACTOR * math.exp(statistics.fmean(_sample(watched_s, unwatched_s)))


def _sample(watched_s: Sequence[float], unwatched_s: Sequence[float]) -> list[float]:
    both = zip(watched_s, unwatched_s, strict=True)
    return [math.log(watched) - math.log(unwatched) - math.log(LEAST_FACTOR) for watched, unwatched in both]
