"""Who makes steps for show is found out by time; who makes none is not, whatever the machine does."""

from __future__ import annotations

import random

import pytest

from pytest_diffbench import pretence


def _looked_at(truth: float, deviation: float, rng: random.Random) -> tuple[list[float], list[float]]:
    """Seconds of calls in turn, as many as are asked for."""
    watched_s: list[float] = []
    unwatched_s: list[float] = []
    while pretence.another_round(watched_s, unwatched_s):
        watched_s.append(truth * rng.lognormvariate(0, deviation))
        unwatched_s.append(rng.lognormvariate(0, deviation))
    return watched_s, unwatched_s


@pytest.mark.parametrize("deviation", [0.01, 0.05, 0.1, 0.3])
def test_honest_calls_are_hardly_ever_doubted(deviation: float) -> None:
    """None of a thousand, half a per cent on a machine that varies by 30 %; hooks may cost a little."""
    rng = random.Random(1)

    wrong = sum(pretence.pretends(*_looked_at(1.02, deviation, rng)) for _ in range(1000))

    assert wrong <= (0 if deviation < 0.1 else 5)


@pytest.mark.parametrize(("deviation", "found"), [(0.01, 100), (0.05, 98), (0.1, 80)])
def test_a_quarter_more_work_for_show_is_seen(deviation: float, found: int) -> None:
    """Twelve steps of sixteen, and all of them when somebody looks; one core's noise is 1 to 5 %."""
    rng = random.Random(2)

    assert sum(pretence.pretends(*_looked_at(4 / 3, deviation, rng)) for _ in range(100)) >= found


def test_three_rounds_are_enough_where_nothing_shows() -> None:
    """What every honest solution pays."""
    assert len(_looked_at(1.0, 0.01, random.Random(3))[0]) == pretence.FIRST_ROUNDS


def test_there_is_an_end() -> None:
    """Also where it stays open."""
    assert len(_looked_at(pretence.LEAST_FACTOR, 0.2, random.Random(4))[0]) <= pretence.PLAN.looks[-1]


def test_the_factor_is_a_geometric_mean() -> None:
    """Over rounds."""
    assert pretence.factor([2.0, 8.0], [1.0, 1.0]) == pytest.approx(4)
