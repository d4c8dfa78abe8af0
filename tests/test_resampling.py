"""Intervals of means over tasks that go together."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench.resampling import Value, interval

VALUES = st.lists(
    st.builds(Value, st.sampled_from("ab"), st.sampled_from("1234"), st.floats(0, 1)), min_size=1, max_size=30
)


@given(VALUES)
@settings(deadline=None, max_examples=40)
def test_an_interval_lies_within_what_was_seen(values: list[Value]) -> None:
    """Between the least and the most; of one scenario alone there is none; the same values give the same."""
    found = interval(values)
    if {each.value for each in values} in ({0.0}, {1.0}):
        return
    assert (found is None) == (len({(each.family, each.scenario) for each in values}) < 2)
    if found is not None:
        assert (
            min(each.value for each in values) - 1e-9
            <= found[0]
            <= found[1]
            <= max(each.value for each in values) + 1e-9
        )
        assert interval(values) == found


def test_what_always_passed_may_fail_all_the_same() -> None:
    """Twelve scenarios that passed leave room for one in four that does not (Clopper-Pearson: 0.025 ** (1 / 12))."""
    passed = [Value("sd15", number % 12, 1.0) for number in range(24)]
    found = interval(passed)

    assert found is not None
    assert list(found) == pytest.approx([0.025 ** (1 / 12), 1.0])
    failed = interval([replace(each, value=0.0) for each in passed])
    assert failed is not None
    assert list(failed) == pytest.approx([0.0, 1 - 0.025 ** (1 / 12)])
    assert interval([replace(each, value=-1.0) for each in passed]) == (-found[1], -found[0])


def test_tasks_that_go_together_count_as_one() -> None:
    """Six equal tasks a scenario say no more than one: the interval is that of the scenarios."""
    shares = [0.0, 1.0] * 10
    one_each = [Value("sd15", number, share) for number, share in enumerate(shares)]
    six_each = [each for each in one_each for _ in range(6)]
    apart = [Value("sd15", number, each.value) for number, each in enumerate(six_each)]

    assert interval(six_each) == interval(one_each)
    wide, narrow = interval(one_each), interval(apart)
    assert wide is not None
    assert narrow is not None
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Scenarios that pass by chance, of six families: 95 % is met but for what few families take."""
    rng, held = random.Random(1), 0
    for _ in range(200):
        values = [
            Value(family, f"{family}-{scenario}", float(passes))
            for family in range(6)
            for scenario in range(20)
            for passes in [rng.random() < 0.6] * 3
        ]
        found = interval(values)
        assert found is not None
        held += found[0] <= 0.6 <= found[1]

    assert held / 200 == pytest.approx(0.95, abs=0.05)
