"""How close a candidate stays to the baseline's own images: in units of another seed, whatever the images' size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench.judge.album import Album, Canaries
from pytest_diffbench.judge.fidelity import distance, fidelity
from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.drawings import ATTRIBUTES, Scene

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_diffbench.judge.album import Image

COUNT = 40
SEEDS = st.integers(0, 2**32 - 1)


def _drawn(seed: int, *, first: int = 0) -> tuple[Image, ...]:
    """Drawings of always the same scenes, as different as this seed makes them."""
    rng = np.random.default_rng(seed)
    scenes = [
        Scene(*(str(words[number % len(words)]) for words in ATTRIBUTES.values()))
        for number in range(first, first + COUNT)
    ]
    return tuple(drawings.draw(scene, rng) for scene in scenes)


def _fidelity(baseline: Sequence[Image], candidate: Sequence[Image], reseeded: Sequence[Image]) -> float | None:
    nothing = np.zeros((len(baseline), len(baseline)), np.float32)
    album = Album(("",) * len(baseline), tuple(baseline), tuple(candidate), nothing, nothing)
    canaries = Canaries((), (), (), tuple(zip(baseline, reseeded, strict=True)), ())
    return fidelity(album, canaries)


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_the_baselines_own_images_are_all_of_it(seed: int) -> None:
    """1, exactly: nothing is nearer to an image than the image."""
    assert _fidelity(_drawn(seed), _drawn(seed), _drawn(seed + 1)) == 1


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_another_seeds_images_are_none_of_it(seed: int) -> None:
    """Near 0: what another seed changes is the unit."""
    assert _fidelity(_drawn(seed), _drawn(seed + 1), _drawn(seed + 2)) == pytest.approx(0, abs=0.4)


def test_other_scenes_are_less_than_none_of_it() -> None:
    """Below 0: images of something else lie further away than another seed's."""
    found = _fidelity(_drawn(1), _drawn(2, first=1), _drawn(3))

    assert found is not None
    assert found < -1


def test_between_the_two_it_falls_with_the_distance() -> None:
    """A candidate that mixes another seed's images in by a tenth, or by a half, has so much less."""
    own, other = _drawn(1), _drawn(2)

    def mixed(share: float) -> list[Image]:
        return [np.rint((1 - share) * a + share * b).astype(np.uint8) for a, b in zip(own, other, strict=True)]

    assert _fidelity(own, mixed(0.1), other) == pytest.approx(0.9, abs=0.03)
    assert _fidelity(own, mixed(0.5), other) == pytest.approx(0.5, abs=0.03)


def test_a_baseline_that_ignores_its_seed_has_no_unit() -> None:
    """None where another seed changes nothing, or was not asked for: no candidate is blamed for it."""
    own = _drawn(1)

    assert _fidelity(own, _drawn(2), own) is None
    nothing = np.zeros((COUNT, COUNT), np.float32)
    album = Album(("",) * COUNT, own, own, nothing, nothing)
    assert fidelity(album, Canaries((), (), (), (), ())) is None


def test_canaries_may_be_fewer_than_the_images() -> None:
    """Two requests with another seed give the unit for all timed images."""
    own, candidate, reseeded = _drawn(1), _drawn(2), _drawn(3)
    nothing = np.zeros((COUNT, COUNT), np.float32)
    album = Album(("",) * COUNT, own, candidate, nothing, nothing)
    canaries = Canaries((), (), (), tuple(zip(own[:2], reseeded[:2], strict=True)), ())

    unit = (distance(own[0], reseeded[0]) + distance(own[1], reseeded[1])) / 2
    apart = [distance(one, other) for one, other in zip(own, candidate, strict=True)]
    assert fidelity(album, canaries) == pytest.approx(1 - np.mean(apart) / unit)


def _enlarged(images: Sequence[Image], factor: int) -> list[Image]:
    return [np.repeat(np.repeat(image, factor, axis=0), factor, axis=1) for image in images]


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_the_size_of_the_images_does_not_matter(factor: int) -> None:
    """The same pictures with more pixels have the same fidelity."""
    arms = _drawn(1), _drawn(2), _drawn(3)

    large = _fidelity(*(_enlarged(arm, factor) for arm in arms))
    assert large == pytest.approx(_fidelity(*arms), abs=0.02)


@given(SEEDS, SEEDS)
@settings(deadline=None, max_examples=20)
def test_the_distance_goes_both_ways(one: int, other: int) -> None:
    """Neither image is the measure of the other; one from itself is nothing."""
    first, second = _drawn(one)[0], _drawn(other)[1]

    assert distance(first, second) == distance(second, first) > 0
    assert distance(first, first) == 0


def test_black_and_white_are_a_whole_range_apart() -> None:
    """The unit of the distance is a grey level."""
    black = np.zeros((48, 64, 3), np.uint8)

    assert distance(black, np.full_like(black, 255)) == 255
