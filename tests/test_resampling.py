"""Intervals of means over tasks that go together."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench.resampling import Value, interval

SHARES = st.integers(0, 100).map(lambda each: each / 100)
VALUES = st.lists(st.builds(Value, st.sampled_from("ab"), st.sampled_from("1234"), SHARES), min_size=1, max_size=30)


@given(VALUES)
@settings(deadline=None, max_examples=40)
def test_an_interval_lies_within_what_was_seen(values: list[Value]) -> None:
    """Between the least and the most; of one scenario alone there is none; of several it is never a point."""
    means: dict[object, list[float]] = {}
    for each in values:
        means.setdefault((each.family, each.scenario), []).append(each.value)
    found = interval(values)

    assert (found is None) == (len(means) < 2)
    if found is None:
        return
    assert found[0] < found[1]
    assert interval(values) == found
    if len({round(sum(each) / len(each), 6) for each in means.values()}) > 1:
        least, most = min(each.value for each in values), max(each.value for each in values)
        assert least - 1e-9 <= found[0]
        assert found[1] <= most + 1e-9


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


def test_scenarios_that_are_all_alike_leave_room_too() -> None:
    """One of three tasks passed in each of ten: resampling would be sure of a third, and of gains of a third."""
    thirds = [Value("sd15", number, float(task == 0)) for number in range(10) for task in range(3)]

    found = interval(thirds)
    lost = interval([replace(each, value=-each.value) for each in thirds])

    assert found is not None
    assert found[0] < 0.2
    assert found[1] > 0.5
    assert lost == (-found[1], -found[0])


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
