"""Who of a generation is built upon: by the paper's weighted sum, or by what is surely better in speed or quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from diffagent.fitness import Fitness

LOSS_WEIGHT: Final = 10.0
"""Of a lost share of the CLIP-Score against a speed-up of 1: to lose 5 % costs half of one. The paper gives none."""


def score(fitness: Fitness) -> float:
    """The weighted sum of speed-up and quality loss (arXiv 2601.03178, section 4); 0 of what was not measured."""
    if not fitness.measured or fitness.speedup is None or fitness.loss is None:
        return 0.0
    return max(0.0, fitness.speedup - LOSS_WEIGHT * max(0.0, fitness.loss))


def drawn(scored: Mapping[str, float], count: int, rng: random.Random) -> list[str]:
    """`count` different names, each drawn with its share of the scores as probability; fewer where no more score."""
    left = {name: value for name, value in scored.items() if value > 0}
    chosen: list[str] = []
    while left and len(chosen) < count:
        (name,) = rng.choices(list(left), weights=list(left.values()))
        chosen.append(name)
        del left[name]
    return chosen


def dominates(one: Fitness, other: Fitness) -> bool:
    """Whether `one` is surely better in speed or quality, and by its estimate no worse in the other.

    Surely: their intervals do not touch. So noise alone throws nobody out.
    """
    if not (one.measured and other.measured):
        return one.measured
    ours, theirs = _objectives(one), _objectives(other)
    surely = any(low > high for (low, _, _), (_, _, high) in zip(ours, theirs, strict=True))
    no_worse = all(mean >= other_mean for (_, mean, _), (_, other_mean, _) in zip(ours, theirs, strict=True))
    return surely and no_worse


def _objectives(fitness: Fitness) -> Sequence[tuple[float, float, float]]:
    """Speed-up and kept quality, each as low end, estimate and high end; more is better."""
    assert fitness.speedup is not None
    assert fitness.loss is not None
    speed = (
        fitness.speedup if fitness.speedup_low is None else fitness.speedup_low,
        fitness.speedup,
        fitness.speedup if fitness.speedup_high is None else fitness.speedup_high,
    )
    quality = (
        -(fitness.loss if fitness.loss_high is None else fitness.loss_high),
        -fitness.loss,
        -(fitness.loss if fitness.loss_low is None else fitness.loss_low),
    )
    return speed, quality


def front(generation: Mapping[str, Fitness]) -> list[str]:
    """Whom nobody dominates, the best by `score` first; who was not measured is not among them."""
    measured = {name: fitness for name, fitness in generation.items() if fitness.measured}
    best = [
        name
        for name, fitness in measured.items()
        if not any(dominates(other, fitness) for other in measured.values() if other is not fitness)
    ]
    return sorted(best, key=lambda name: -score(measured[name]))
