"""Whether the baseline was slowed down: what is suspected, what is not, and whose doing it is. Numbers only."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench.disturbance import (
    ALL_CALLS,
    BLOCK_CALLS,
    DEVIATIONS,
    LEAST_FACTOR,
    LEAST_S,
    ROUNDS,
    another_round,
    follows,
    slowdown,
)

SEEDS = st.integers(0, 2**32 - 1)
Times = list[float]


def _around(seconds: float, count: int, seed: int, spread: float = 0.02) -> Times:
    """Independent calls whose logarithms vary by this much."""
    drawn: Times = (seconds * np.exp(np.random.default_rng(seed).normal(0, spread, count))).tolist()
    return drawn


def _rounds(beside: float, alone: float) -> list[tuple[Times, Times]]:
    """An alternation in which the baseline takes so long with the candidate, and so long without it."""
    return [
        (_around(beside, BLOCK_CALLS, 2 * number), _around(alone, BLOCK_CALLS, 2 * number + 1))
        for number in range(ROUNDS)
    ]


@pytest.mark.parametrize("pairs", [4, 6, 10, 24])
def test_a_baseline_that_was_half_as_fast_is_suspected(pairs: int) -> None:
    """Twice the time, on a machine whose calls vary by two per cent: also with the fewest pairs that decide."""
    found = slowdown(_around(2.0, pairs, 1), _around(1.0, ALL_CALLS, 2))

    assert found.suspicious
    assert found.factor == pytest.approx(2, rel=0.05)
    assert found.difference_s == pytest.approx(1, rel=0.1)


@given(SEEDS, st.sampled_from([4, 10, 24]), st.floats(0.001, 0.5))
@settings(deadline=None, max_examples=200)
def test_noise_is_not_suspected(seed: int, pairs: int, spread: float) -> None:
    """Calls that differ by chance alone, however much, are nobody's doing."""
    assert not slowdown(_around(1.0, pairs, seed, spread), _around(1.0, ALL_CALLS, seed + 1, spread)).suspicious


@given(SEEDS, st.floats(0.3, 1.0))
@settings(deadline=None)
def test_a_baseline_that_is_slower_alone_is_not_suspected(seed: int, factor: float) -> None:
    """A machine that grows warm or busy afterwards speaks for the candidate, not against it."""
    assert not slowdown(_around(factor, 24, seed), _around(1.0, ALL_CALLS, seed + 1)).suspicious


@pytest.mark.parametrize(
    ("beside", "alone"),
    [
        (_around(1.08, 24, 1, 0.001), _around(1.0, 24, 2, 0.001)),
        (_around(0.014, 24, 1, 0.001), _around(0.01, 24, 2, 0.001)),
        (_around(1.6, 24, 1, 0.15), _around(1.0, 24, 2, 0.15)),
        ([2.0] * 3, _around(1.0, 24, 2, 0.001)),
    ],
    ids=["less than a tenth", "cold caches: four milliseconds", "less than the machine's own noise", "three calls"],
)
def test_each_condition_is_needed(beside: Times, alone: Times) -> None:
    """A factor, a time, a multiple of the noise and a rank test: what lacks one of them is not suspected."""
    found = slowdown(beside, alone)
    fulfilled = (
        found.factor >= LEAST_FACTOR,
        found.difference_s >= LEAST_S,
        found.deviations >= DEVIATIONS,
        found.probability < 1e-4,
    )

    assert not found.suspicious
    assert fulfilled.count(False) == 1


def test_a_baseline_that_was_slow_in_some_calls_is_seen_by_its_median() -> None:
    """Slowing three calls of five is enough to be noticed."""
    beside = _around(2.0, 15, 1) + _around(1.0, 9, 2)

    assert slowdown(beside, _around(1.0, ALL_CALLS, 3)).suspicious


def test_equal_times_are_no_evidence_and_no_error() -> None:
    """A clock without spread: no difference is none, and any difference is beyond its noise."""
    same, other = slowdown([1.0] * 4, [1.0] * 4), slowdown([2.0] * 4, [1.0] * ALL_CALLS)

    assert (same.deviations, same.suspicious) == (0, False)
    assert (other.deviations, other.suspicious) == (math.inf, True)


@pytest.mark.parametrize(("beside", "alone"), [([], [1.0]), ([1.0], [])])
def test_without_calls_there_is_no_answer(beside: Times, alone: Times) -> None:
    """Nothing to compare is our own mistake."""
    with pytest.raises(ValueError, match="both are needed"):
        slowdown(beside, alone)


def test_slowness_that_comes_and_goes_with_the_candidate_is_its_doing() -> None:
    """Twice as slow in each round while it is there."""
    assert follows(_rounds(2.0, 1.0))


@pytest.mark.parametrize("clear", range(ROUNDS))
@pytest.mark.parametrize(("beside", "alone"), [(1.0, 1.0), (2.0, 2.0), (1.0, 2.0)], ids=["never", "always", "without"])
def test_one_round_without_a_difference_clears_the_candidate(clear: int, beside: float, alone: float) -> None:
    """Whichever round it is; and none comes after it."""
    rounds = _rounds(2.0, 1.0)
    rounds[clear] = _rounds(beside, alone)[clear]

    assert not follows(rounds)
    assert [another_round(rounds[:count]) for count in range(ROUNDS)] == [count <= clear for count in range(ROUNDS)]


def test_no_candidate_is_accused_before_the_last_round() -> None:
    """Other programs may come and go with it a few times."""
    rounds = _rounds(2.0, 1.0)

    assert [follows(rounds[:count]) for count in range(1, ROUNDS + 1)] == [False] * (ROUNDS - 1) + [True]
    assert not another_round(rounds)


def test_rounds_that_differ_by_chance_accuse_nobody() -> None:
    """Medians may all lie a tenth apart in calls that vary tenfold: over all rounds the rank test sees chance."""
    beside, alone = [0.3, 0.6, 1.2, 1.3, 3.0, 3.1], [0.4, 0.5, 1.0, 1.1, 3.2, 3.3]

    assert slowdown(beside, alone).worth_a_look
    assert not follows([(beside, alone)] * ROUNDS)
