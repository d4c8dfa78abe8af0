"""What speed costs beside itself: each figure is the right arm's, and what is paid back is paid back."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_diffbench.clock import Pair
from pytest_diffbench.cost import evidence
from pytest_diffbench.isolation import Reply
from pytest_diffbench.workbench import Start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_diffbench.records import Cost

SECONDS = st.floats(0.01, 100)
STARTS = st.builds(Start, SECONDS, SECONDS)
TIMES = st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=8)
BATCHES = st.integers(1, 64)


def _pairs(
    times: Sequence[tuple[float, float]], energies_j: Sequence[tuple[float | None, float | None]] = ()
) -> list[Pair]:
    given_j = itertools.chain(energies_j, itertools.repeat((None, None)))
    return [
        Pair((), Reply((), baseline), Reply((), candidate), "B", *joules)
        for (baseline, candidate), joules in zip(times, given_j, strict=False)
    ]


def _cost(
    times: Sequence[tuple[float, float]],
    *,
    baseline: Start | None = None,
    candidate: Start | None = None,
    batch: int = 1,
) -> Cost:
    """Of arms that start at once, but for what is given."""
    own, theirs = baseline or Start(0.0, 0.0), candidate or Start(0.0, 0.0)
    return evidence(own, theirs, _pairs(times), memory_bytes=(1, 1), batch=batch)


def test_every_figure_is_its_own_arms() -> None:
    """Loading, first call, warm call and memory, of the candidate and of the baseline, as they were measured."""
    times = [(4.0, 1.0), (5.0, 2.0), (9.0, 3.0)]
    cost = evidence(Start(10.0, 6.0), Start(20.0, 32.0), _pairs(times), memory_bytes=(1000, 1500), batch=4)

    assert (cost.load_s, cost.first_image_s, cost.steady_s) == (20.0, 32.0, 2.0)
    assert (cost.baseline_load_s, cost.baseline_first_image_s, cost.baseline_steady_s) == (10.0, 6.0, 5.0)
    assert (cost.peak_memory_bytes, cost.baseline_peak_memory_bytes) == (1500, 1000)
    assert (cost.compile_s, cost.images_per_s) == (30.0, 2.0)


@given(TIMES, SECONDS, BATCHES)
@settings(deadline=None)
def test_throughput_and_compilation_follow_from_the_warm_calls(
    times: list[tuple[float, float]], first_call_s: float, batch: int
) -> None:
    """A hiccup moves neither: both rest on the median; a first call that is faster than later ones compiled nothing."""
    cost = _cost(times, candidate=Start(1.0, first_call_s), batch=batch)
    warm_s = statistics.median(candidate for _, candidate in times)

    assert cost.images_per_s * warm_s == pytest.approx(batch)
    assert cost.compile_s == (pytest.approx(first_call_s - warm_s) if first_call_s > warm_s else 0)


PAID_BACK: dict[str, tuple[Start, Start, tuple[float, float], int, float | None]] = {
    "a minute of compilation, a second gained": (Start(2, 3), Start(2, 62), (3.0, 2.0), 1, 60),
    "the same, eight images a call": (Start(2, 3), Start(2, 62), (3.0, 2.0), 8, 480),
    "longer loading counts too": (Start(2, 3), Start(12, 2), (3.0, 2.0), 1, 10),
    "a part of an image is a whole one": (Start(0, 3), Start(2.5, 2), (3.0, 2.0), 1, 3),
    "starts as fast": (Start(2, 3), Start(2, 2), (3.0, 2.0), 1, 0),
    "starts faster": (Start(5, 3), Start(2, 2), (3.0, 2.0), 1, 0),
    "starts later and gains nothing": (Start(2, 3), Start(9, 3), (3.0, 3.0), 1, None),
    "starts later and is slower": (Start(2, 3), Start(9, 4), (3.0, 4.0), 1, None),
    "the baseline compiles as long": (Start(2, 63), Start(2, 62), (3.0, 2.0), 1, 0),
}


@pytest.mark.parametrize(("baseline", "candidate", "times", "batch", "images"), PAID_BACK.values(), ids=PAID_BACK)
def test_a_longer_start_is_paid_back_after_so_many_images(
    baseline: Start, candidate: Start, times: tuple[float, float], batch: int, images: float | None
) -> None:
    """What starting takes beyond answering, divided by what an image gains; 0 where nothing is owed, None for never."""
    assert _cost([times] * 3, baseline=baseline, candidate=candidate, batch=batch).break_even_images == images


@given(STARTS, STARTS, TIMES, BATCHES)
@settings(deadline=None)
def test_from_break_even_on_the_candidate_is_ahead(
    baseline: Start, candidate: Start, times: list[tuple[float, float]], batch: int
) -> None:
    """Start and images added up: at that count the candidate has taken no longer, and one image before it had."""
    cost = _cost(times, baseline=baseline, candidate=candidate, batch=batch)
    owed_s = cost.load_s + cost.compile_s - cost.baseline_load_s
    owed_s -= max(0.0, cost.baseline_first_image_s - cost.baseline_steady_s)
    gained_s = (cost.baseline_steady_s - cost.steady_s) / batch
    assume(abs(gained_s) > 1e-9)

    images = cost.break_even_images
    if images is None:
        assert owed_s > 0 > gained_s
        return
    slack_s = 1e-9 * (1 + images)
    assert owed_s <= (images * gained_s if images else 0) + slack_s
    assert images == math.floor(images) >= 0
    if images > 0:
        assert owed_s > (images - 1) * gained_s - slack_s


@given(STARTS, STARTS, TIMES, st.tuples(st.integers(1, 2**40), st.integers(1, 2**40)), BATCHES)
@settings(deadline=None)
def test_exchanging_the_arms_exchanges_the_columns(
    baseline: Start, candidate: Start, times: list[tuple[float, float]], memory_bytes: tuple[int, int], batch: int
) -> None:
    """Both arms are measured by the same rule."""
    joules = [(2.0 * index, 1.0 + index) for index in range(len(times))]
    there = evidence(baseline, candidate, _pairs(times, joules), memory_bytes=memory_bytes, batch=batch)
    swapped = _pairs([(b, a) for a, b in times], [(b, a) for a, b in joules])
    back = evidence(candidate, baseline, swapped, memory_bytes=(memory_bytes[1], memory_bytes[0]), batch=batch)

    for name in ("load_s", "first_image_s", "steady_s", "peak_memory_bytes", "energy_j_per_image"):
        assert getattr(there, name) == getattr(back, f"baseline_{name}")
        assert getattr(back, name) == getattr(there, f"baseline_{name}")
    assert min(there.break_even_images or 0, back.break_even_images or 0) == 0


@pytest.mark.parametrize(
    ("energies_j", "baseline", "candidate"),
    [
        pytest.param([(40.0, 8.0), (60.0, 16.0)], 12.5, 3.0, id="both counted"),
        pytest.param([(40.0, None), (None, 16.0)], 10.0, 4.0, id="where it was counted"),
        pytest.param([(None, 8.0), (None, 8.0)], None, 2.0, id="one arm only"),
        pytest.param([], None, None, id="no counter"),
        pytest.param([(0.0, 0.0)], 0.0, 0.0, id="a counter that stands"),
    ],
)
def test_energy_is_the_mean_over_the_counted_calls_by_image(
    energies_j: list[tuple[float | None, float | None]], baseline: float | None, candidate: float | None
) -> None:
    """Joules a call over the images of a batch; None, not nothing, where the device has no counter."""
    cost = evidence(Start(0, 0), Start(0, 0), _pairs([(2.0, 1.0)] * 2, energies_j), memory_bytes=(1, 1), batch=4)

    assert (cost.baseline_energy_j_per_image, cost.energy_j_per_image) == (baseline, candidate)
