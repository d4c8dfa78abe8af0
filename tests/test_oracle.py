"""The judge that learned nothing: true of real drawings, and of nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

from pytest_diffbench.zoo import drawings, oracle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Drawn: TypeAlias = tuple[list[drawings.Scene], list[NDArray[np.uint8]]]

SHAPE = (drawings.SIDE_PX, drawings.SIDE_PX, 3)


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """Two hundred scenes from everywhere, held-out ones too, and their drawings."""
    rng = np.random.default_rng(11)
    scenes = [drawings.sample_scene(rng) for _ in range(200)]
    return scenes, [drawings.draw(scene, rng) for scene in scenes]


def test_every_attribute_of_a_drawing_is_read(drawn: Drawn) -> None:
    """Of two hundred drawings, all that their captions state is found to be true."""
    wrong = [
        (scene.caption, oracle.read(image))
        for scene, image in zip(*drawn, strict=True)
        if oracle.truth(scene.caption, image) != 1
    ]

    assert wrong == []


def test_captions_of_other_drawings_are_mostly_untrue(drawn: Drawn) -> None:
    """With captions shuffled, far less than half of what they state is true: the oracle does not say yes to all."""
    scenes, images = drawn
    shuffled = [*scenes[1:], scenes[0]]

    truths = [oracle.truth(scene.caption, image) for scene, image in zip(shuffled, images, strict=True)]
    assert 0.1 < np.mean(truths) < 0.35


@pytest.mark.parametrize("name", list(drawings.ATTRIBUTES))
def test_one_wrong_word_costs_a_sixth(name: str, drawn: Drawn) -> None:
    """Each attribute is judged for itself: a caption wrong in one of six is five sixths true."""
    scene, image = drawn[0][0], drawn[1][0]
    words = {attribute: getattr(scene, attribute) for attribute in drawings.ATTRIBUTES}
    words[name] = next(word for word in drawings.ATTRIBUTES[name] if word != words[name])

    assert oracle.truth(drawings.Scene(**words).caption, image) == pytest.approx(5 / 6)


def test_a_short_caption_is_judged_by_what_it_states(drawn: Drawn) -> None:
    """What a caption leaves unsaid cannot be untrue."""
    scene, image = drawn[0][1], drawn[1][1]

    assert oracle.truth(f"something {scene.colour}", image) == 1
    assert oracle.truth(f"something that is not {scene.colour}: a {scene.shape}", image) == 1


EMPTY: dict[str, NDArray[np.uint8]] = {
    "noise": np.random.default_rng(12).integers(0, 256, SHAPE, np.uint8),
    "grey": np.full(SHAPE, 128, np.uint8),
    "black": np.zeros(SHAPE, np.uint8),
    "white": np.full(SHAPE, 255, np.uint8),
}


@pytest.mark.parametrize("name", list(EMPTY))
def test_an_image_of_nothing_is_hardly_true(name: str, drawn: Drawn) -> None:
    """Noise and empty images score little over many captions: a broken model cannot hide behind the oracle."""
    truths = [oracle.truth(scene.caption, EMPTY[name]) for scene in drawn[0][:60]]

    assert np.mean(truths) < 0.25


@pytest.mark.parametrize("background", list(drawings.BACKGROUNDS))
@pytest.mark.parametrize("pattern", drawings.PATTERNS)
def test_nothing_is_seen_on_an_empty_background(pattern: str, background: str) -> None:
    """Where no shape is, only the background is read."""
    assert oracle.read(drawings.backdrop(pattern, background)) == {"pattern": pattern, "background": background}


def test_a_caption_without_claims_cannot_be_judged(drawn: Drawn) -> None:
    """A caption that states nothing is a ValueError that shows it, rather than a truth of 0 or 1."""
    with pytest.raises(ValueError, match=r"'a fox in the snow' states none of size, colour"):
        oracle.truth("a fox in the snow", drawn[1][0])
