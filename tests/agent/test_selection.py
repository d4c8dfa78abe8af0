"""Selection: the paper's lottery, and dominance that noise does not decide."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from diffagent.arms import selector_of
from diffagent.candidate import Candidate, Idea, Memory
from diffagent.fitness import Fitness
from diffagent.knowledge import known
from diffagent.plan import Plan
from diffagent.selection import LOSS_WEIGHT, dominates, drawn, front, score
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Mapping


def _measured(speedup: float, loss: float, half: float = 0.1) -> Fitness:
    return Fitness(
        "", "PASS", None, "", speedup, speedup - half, speedup + half, loss, loss - half / 10, loss + half / 10, 0.05
    )


FAILED = Fitness("", "FAIL", "compilation error")
MEASURED = st.builds(_measured, st.floats(0.2, 10), st.floats(-0.1, 1), st.floats(0, 1))


@given(MEASURED)
def test_the_score_is_speed_less_what_was_lost(fitness: Fitness) -> None:
    """Never below nothing, and quality gained buys no speed."""
    assert fitness.speedup is not None
    assert fitness.loss is not None
    assert score(fitness) == pytest.approx(max(0, fitness.speedup - LOSS_WEIGHT * max(0, fitness.loss)))
    assert score(FAILED) == 0


def test_the_lottery_follows_the_scores() -> None:
    """Of one draw each, shares are those of the scores; who scores nothing is never drawn."""
    scored = {"a": 3.0, "b": 1.0, "c": 0.0}
    rng = random.Random(1)
    counts = Counter(drawn(scored, 1, rng)[0] for _ in range(4000))

    assert counts["a"] / 4000 == pytest.approx(0.75, abs=0.03)
    assert counts["c"] == 0
    assert sorted(drawn(scored, 3, rng)) == ["a", "b"]
    assert drawn({}, 3, rng) == []


@given(MEASURED, MEASURED)
def test_dominance_is_never_mutual(one: Fitness, other: Fitness) -> None:
    """Nor of oneself."""
    assert not (dominates(one, other) and dominates(other, one))
    assert not dominates(one, one)


@given(MEASURED, st.floats(0.01, 3))
def test_intervals_that_touch_decide_nothing(fitness: Fitness, share: float) -> None:
    """Faster by less than the noise is not better."""
    assert fitness.speedup is not None
    assert fitness.speedup_high is not None
    assert fitness.speedup_low is not None
    width = fitness.speedup_high - fitness.speedup_low
    assert fitness.loss is not None
    faster = _measured(fitness.speedup + width * min(share, 0.99), fitness.loss, width / 2)

    assert not dominates(faster, fitness)


def test_surely_faster_and_no_worse_dominates() -> None:
    """So does surely better and no slower; faster at the cost of quality does not."""
    plain = _measured(2.0, 0.01)

    assert dominates(_measured(2.5, 0.01), plain)
    assert dominates(_measured(2.0, -0.05), plain)
    assert not dominates(_measured(2.5, 0.02), plain)
    assert dominates(plain, FAILED)
    assert not dominates(FAILED, plain)


@given(st.dictionaries(st.text(max_size=3), MEASURED, min_size=1))
def test_somebody_is_always_on_the_front(generation: Mapping[str, Fitness]) -> None:
    """Whoever is not on it is dominated, whoever is on it by nobody; the best score comes first."""
    best = front({**generation, "failed": FAILED})

    assert best
    assert "failed" not in best or "failed" in generation
    for name, fitness in generation.items():
        beaten = any(dominates(other, fitness) for key, other in generation.items() if key != name)
        assert (name in best) is not beaten
    scores = [score(generation[name]) for name in best]
    assert scores == sorted(scores, reverse=True)


def _candidate(name: str, speedup: float, loss: float = 0.0) -> Candidate:
    return Candidate(name, Idea(Plan()), "", _measured(speedup, loss))


def test_the_papers_selection_draws_from_the_last_generation() -> None:
    """By the weighted sums, M different ones; what was tried before that is not looked at."""
    memory = Memory(known(), "cpu")
    old = _candidate("old", 100.0)
    memory.add(old)
    generation = [_candidate("fast", 9.0), _candidate("slow", 1.0), _candidate("bad", 2.0, loss=0.9)]
    counts: Counter[str] = Counter()
    for seed in range(400):
        chosen = selector_of("paper", seed)(generation, memory, 1)
        counts.update(each.name for each in chosen)

    assert set(counts) == {"fast", "slow"}
    assert counts["fast"] / 400 == pytest.approx(0.9, abs=0.06)
    both = selector_of("paper", 1)(generation, memory, 4)
    assert sorted(each.name for each in both) == ["fast", "slow"]
    assert selector_of("pareto", 1)(generation, memory, 1) == [old]
