"""The sequential tests: symmetric, monotone, agreeing with SciPy, undecided where nothing can be known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_diffbench import sequential
from pytest_diffbench.demand import MOST_PERCENTILE
from pytest_diffbench.records import Outcome
from pytest_diffbench.sequential import QUALITY, SHARE, SPEED, STRICT, Plan, decide, decide_share, interval

VALUES = st.floats(-3, 3, allow_nan=False).map(lambda value: round(value, 6))
SAMPLES = st.lists(VALUES, min_size=1, max_size=30)
PLANS = st.sampled_from([SPEED, QUALITY])
OPPOSITE = {Outcome.ABOVE: Outcome.BELOW, Outcome.BELOW: Outcome.ABOVE, Outcome.OPEN: Outcome.OPEN}
RANK = {Outcome.BELOW: 0, Outcome.OPEN: 1, Outcome.ABOVE: 2}


def gaussian(seed: int, count: int, shift: float = 0.0) -> list[float]:
    """A sample of unit deviation."""
    return [float(value) + shift for value in np.random.default_rng(seed).standard_normal(count)]


@given(SAMPLES, PLANS)
def test_swapping_the_arms_swaps_the_outcome(sample: list[float], plan: Plan) -> None:
    """Which arm is called the baseline must not matter: outcome and interval are mirrored."""
    there, back = decide(sample, plan), decide([-x for x in sample], plan)

    assert back.outcome is OPPOSITE[there.outcome]
    assert back.decided_after == there.decided_after
    assert (-back.interval.high, -back.interval.low) == pytest.approx((there.interval.low, there.interval.high))
    assert -back.interval.estimate == pytest.approx(there.interval.estimate)


@given(SAMPLES, PLANS, st.floats(0, 2))
def test_a_faster_candidate_is_never_judged_worse(sample: list[float], plan: Plan, gain: float) -> None:
    """Every pair improved alike: no look moves towards BELOW."""
    for count in plan.looks:
        if count <= len(sample):
            one_look = Plan((count,), plan.alpha, plan.rank_from)
            before, after = decide(sample, one_look), decide([x + gain for x in sample], one_look)
            assume(before.interval.low != before.interval.high)
            assert RANK[after.outcome] >= RANK[before.outcome]


@given(st.lists(VALUES, min_size=8, max_size=24), st.integers(0, 23), st.floats(0, 5))
def test_ranks_are_monotone_in_every_single_pair(sample: list[float], index: int, gain: float) -> None:
    """From eight pairs on, one better pair alone cannot lose a pass; estimate and bounds follow it."""
    plan = Plan((len(sample),), SPEED.alpha, SPEED.rank_from)
    better = list(sample)
    better[index % len(sample)] += gain
    before, after = decide(sample, plan), decide(better, plan)

    assert RANK[after.outcome] >= RANK[before.outcome]
    for name in ("low", "estimate", "high"):
        assert getattr(after.interval, name) >= getattr(before.interval, name) - 1e-12


@pytest.mark.parametrize("count", [8, 12, 16, 24])
def test_the_rank_test_is_scipys(count: int) -> None:
    """One look decides exactly where SciPy's exact signed-rank test has a small enough p-value."""
    plan = Plan((count,), SPEED.alpha, SPEED.rank_from)
    outcomes = set()
    for seed in range(120):
        sample = gaussian(seed, count, shift=(seed % 3) * 0.4)
        p = stats.wilcoxon(sample, alternative="greater", method="exact").pvalue
        outcome = decide(sample, plan).outcome
        outcomes.add(outcome)
        assert (outcome is Outcome.ABOVE) == (p <= plan.alpha)
    assert {Outcome.ABOVE, Outcome.OPEN} <= outcomes


@pytest.mark.parametrize("count", [4, 6, 10])
def test_the_t_test_is_scipys(count: int) -> None:
    """Before ranks are of use a look decides as SciPy's one-sample t-test does."""
    plan = Plan((count,), 0.0135)
    for seed in range(120):
        sample = gaussian(seed, count, shift=(seed % 3) * 0.7)
        p = stats.ttest_1samp(sample, 0, alternative="greater").pvalue
        assert (decide(sample, plan).outcome is Outcome.ABOVE) == (p <= plan.alpha)


@given(st.lists(VALUES, min_size=2, max_size=40), PLANS)
def test_a_single_look_and_its_interval_agree(sample: list[float], plan: Plan) -> None:
    """A look decides exactly where its interval leaves 0 out."""
    found = decide(sample, Plan((len(sample),), plan.alpha, plan.rank_from))

    assert (found.outcome is Outcome.ABOVE) == (found.interval.low > 0)
    assert (found.outcome is Outcome.BELOW) == (found.interval.high < 0)


@given(SAMPLES, PLANS)
def test_what_was_decided_stays_decided(sample: list[float], plan: Plan) -> None:
    """Values after the look that decided cannot change the outcome."""
    for count in range(1, len(sample)):
        early = decide(sample[:count], plan)
        if early.outcome is not Outcome.OPEN:
            late = decide(sample, plan)
            assert (late.outcome, late.decided_after) == (early.outcome, early.decided_after)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([SPEED, QUALITY, STRICT]))
def test_the_boundary_is_passed_rarely(seed: int, plan: Plan) -> None:
    """Without any effect at most one sample in twenty passes (here 400, so at most 8 %)."""
    rng = np.random.default_rng(seed)
    samples = [list(rng.standard_normal(plan.looks[-1])) for _ in range(400)]

    assert np.mean([decide(x, plan).outcome is Outcome.ABOVE for x in samples]) <= 0.08


def test_a_clear_case_is_decided_at_once() -> None:
    """Ten percent beyond the demand in a quiet room takes four pairs."""
    assert decide([0.10, 0.11, 0.10, 0.09], SPEED).decided_after == 4


@pytest.mark.parametrize("value", [0.0, 0.3, -0.3])
def test_a_sample_without_spread_waits_for_the_ranks(value: float) -> None:
    """Four equal values are no evidence of precision; eight on one side of 0 are evidence of the side."""
    side = {0.0: Outcome.OPEN, 0.3: Outcome.ABOVE, -0.3: Outcome.BELOW}[value]

    assert decide([value] * 6, SPEED).outcome is Outcome.OPEN
    assert decide([value] * 24, SPEED).outcome is side


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_refused(bad: float) -> None:
    """A broken clock must not look like a decision."""
    with pytest.raises(ValueError, match=r"value 2 of the sample is (nan|-?inf)"):
        decide([0.1, 0.2, bad, 0.3], SPEED)


def test_an_empty_sample_says_nothing() -> None:
    """No pair yet: open, everything possible."""
    found = decide([], SPEED)

    assert (found.outcome, found.decided_after) == (Outcome.OPEN, 0)
    assert (found.interval.low, found.interval.high) == (-math.inf, math.inf)


def test_a_tight_interval_around_the_demand_is_borderline() -> None:
    """Undecided at the cap, yet known to 3 %: the estimate's side, flagged; a wide interval stays open."""
    tight = [0.02 * x for x in gaussian(2, 24)]
    tight = [x - interval(tight, SPEED).estimate + 0.002 for x in tight]
    wide = [10 * x for x in tight]

    assert decide(tight, SPEED).borderline
    assert decide(tight, SPEED).outcome is Outcome.ABOVE
    assert decide(tight, replace(SPEED, tight=None)).outcome is Outcome.OPEN
    assert decide(wide, SPEED).outcome is Outcome.OPEN


def test_hiccups_do_not_move_the_estimate_far() -> None:
    """Three calls of twelve that took twice as long leave the estimate where it was."""
    sample = [0.02 * x + 0.5 for x in gaussian(5, 12)]
    disturbed = [x - (0.7 if index % 4 == 0 else 0) for index, x in enumerate(sample)]

    assert interval(disturbed, SPEED).estimate == pytest.approx(interval(sample, SPEED).estimate, abs=0.1)


def test_a_plan_cut_short_looks_less_often() -> None:
    """`at_most` keeps the looks that are left, in their order."""
    assert SPEED.at_most(10).looks == (4, 6, 8)
    assert [SPEED.next_look(count) for count in (0, 4, 7, 23, 24)] == [4, 6, 8, 24, None]
    assert sequential.decide(gaussian(1, 24), SPEED.at_most(3)).outcome is Outcome.OPEN


def wrong_share(plan: Plan, share: float, outcome: Outcome) -> float:
    """The exact probability that a plan decides so although exactly `share` of all calls are hits."""
    open_, seen, wrong = {0: 1.0}, 0, 0.0
    for look in plan.looks:
        steps = range(look - seen + 1)
        chances = np.asarray(stats.binom.pmf(list(steps), look - seen, share))
        counts: dict[int, float] = {}
        for count, probability in open_.items():
            for step in steps:
                counts[count + step] = counts.get(count + step, 0.0) + probability * float(chances[step])
        open_, seen = {}, look
        for count, probability in counts.items():
            hits = [True] * count + [False] * (look - count)
            if decide_share(hits, share, Plan((look,), plan.alpha)).outcome is outcome:
                wrong += probability
            else:
                open_[count] = probability
    return wrong


@pytest.mark.parametrize("outcome", [Outcome.ABOVE, Outcome.BELOW])
@pytest.mark.parametrize("share", [0.5, 0.75, 0.9, 0.95])
def test_a_latency_limit_is_decided_wrongly_once_in_twenty_at_most(share: float, outcome: Outcome) -> None:
    """At the limit itself, over all looks together, computed exactly: at most 5 % on either side; again, 1.5 %."""
    assert wrong_share(SHARE, share, outcome) <= 0.05
    assert wrong_share(SHARE.second_try(5), share, outcome) <= 0.015


def test_a_latency_limit_that_is_always_kept_is_passed_soon() -> None:
    """Eight calls within the limit show that the median is; for the 90th percentile it takes forty."""
    assert decide_share([True] * 50, 0.5).decided_after == 8
    assert decide_share([True] * 50, 0.9).decided_after == 40
    assert decide_share([False] * 50, 0.5).outcome is Outcome.BELOW
    assert decide_share([True, False] * 25, 0.5).outcome is Outcome.OPEN


def test_the_highest_percentile_of_a_task_can_be_shown() -> None:
    """Fifty calls within the limit show the highest percentile that a task may name, and no higher one."""
    calls = [True] * SHARE.looks[-1]

    assert decide_share(calls, MOST_PERCENTILE / 100).outcome is Outcome.ABOVE
    assert decide_share(calls, (MOST_PERCENTILE + 1) / 100).outcome is Outcome.OPEN
