"""The tiny zoo's world: captions say what is drawn, and one combination in ten is kept from training."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.drawings import ATTRIBUTES, SIDE_PX, Scene

SCENES = st.builds(Scene, **{name: st.sampled_from(words) for name, words in ATTRIBUTES.items()})
SEEDS = st.integers(0, 2**32 - 1)


def _words(scene: Scene) -> dict[str, str]:
    return {name: getattr(scene, name) for name in ATTRIBUTES}


@given(SCENES)
@settings(deadline=None)
def test_a_caption_states_all_six_attributes(scene: Scene) -> None:
    """Every word of the scene is in its caption, and `stated` reads exactly these words back."""
    caption = scene.caption

    assert [word for word in _words(scene).values() if word not in caption] == []
    assert drawings.stated(caption) == _words(scene)


@given(SCENES, st.fixed_dictionaries({"place": st.booleans(), "size": st.booleans(), "background": st.booleans()}))
@settings(deadline=None)
def test_a_shorter_caption_states_what_it_says_and_no_more(scene: Scene, asked: dict[str, bool]) -> None:
    """Colour and shape are always stated; place, size and background (with its pattern) only where asked for."""
    said = asked | {"colour": True, "shape": True, "pattern": asked["background"]}

    caption = scene.describe(**asked)
    assert drawings.stated(caption) == {name: word for name, word in _words(scene).items() if said[name]}


@pytest.mark.parametrize(("size", "article"), [(True, "a small orange"), (False, "an orange")], ids=["a", "an"])
def test_the_article_fits_the_word_behind_it(size: bool, article: str) -> None:  # noqa: FBT001 (a table's column)
    """Captions are English: 'an orange ring', 'a small orange ring'."""
    scene = Scene("small", "orange", "ring", "at the top", "plain", "grey")

    assert scene.describe(place=False, size=size, background=False) == f"{article} ring"


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Red, a STAR: at the top left", {"colour": "red", "shape": "star", "place": "at the top left"}),
        ("a starry heartland of bored circles", {}),
        ("", {}),
    ],
    ids=["other phrasing", "words within words", "empty"],
)
def test_stated_reads_whole_words_of_the_zoo(caption: str, expected: dict[str, str]) -> None:
    """Phrasing and case do not matter; a word inside another word is none, and the longer place wins."""
    assert drawings.stated(caption) == expected


def test_one_scene_in_ten_is_held_out() -> None:
    """Of all scenes there are, each once, a share near one in ten is never trained on."""
    scenes = list(drawings.scenes())

    assert len({scene.caption for scene in scenes}) == len(scenes) == 13_824
    assert sum(scene.held_out for scene in scenes) / len(scenes) == pytest.approx(0.1, abs=0.015)


def test_every_word_is_seen_in_training_and_held_out() -> None:
    """Only combinations are held out: no word of any attribute is missing on either side."""
    for held_out in (True, False):
        scenes = [scene for scene in drawings.scenes() if scene.held_out == held_out]

        seen = {name: {getattr(scene, name) for scene in scenes} for name in ATTRIBUTES}
        assert seen == {name: set(words) for name, words in ATTRIBUTES.items()}


def test_a_sample_holds_no_held_out_scene() -> None:
    """Training data leave the held-out combinations out; captions and drawings belong together."""
    captions, images = drawings.sample(np.random.default_rng(3), 300, caption=lambda scene, _: scene.caption)

    assert images.shape == (300, SIDE_PX, SIDE_PX, 3)
    assert not any(Scene(**drawings.stated(caption)).held_out for caption in captions)


@pytest.mark.parametrize("held_out", [True, False])
def test_scenes_can_be_drawn_from_either_side(held_out: bool) -> None:  # noqa: FBT001 (a table's column)
    """`held_out` restricts chance to unseen, or to trained-on, combinations."""
    rng = np.random.default_rng(4)

    assert {drawings.sample_scene(rng, held_out=held_out).held_out for _ in range(50)} == {held_out}


@given(SCENES, SEEDS)
@settings(deadline=None, max_examples=40)
def test_equal_chance_draws_equal_pictures(scene: Scene, seed: int) -> None:
    """A drawing depends on its scene and the state of `rng` alone: uint8, 64 pixels square."""
    image = drawings.draw(scene, np.random.default_rng(seed))

    assert np.array_equal(image, drawings.draw(scene, np.random.default_rng(seed)))
    assert image.shape == (SIDE_PX, SIDE_PX, 3)
    assert image.dtype == np.uint8


@given(SCENES)
@settings(deadline=None, max_examples=40)
def test_no_two_drawings_of_a_scene_are_alike(scene: Scene) -> None:
    """Another state of `rng` gives another picture of the same scene."""
    rng = np.random.default_rng(5)

    assert not np.array_equal(drawings.draw(scene, rng), drawings.draw(scene, rng))


@given(SCENES, st.sampled_from(list(ATTRIBUTES)), st.data())
@settings(deadline=None, max_examples=60)
def test_every_attribute_shows(scene: Scene, name: str, data: st.DataObject) -> None:
    """Two scenes that differ in one word look different, chance being equal."""
    word = data.draw(st.sampled_from([word for word in ATTRIBUTES[name] if word != getattr(scene, name)]))
    other = Scene(**(_words(scene) | {name: word}))

    images = [drawings.draw(each, np.random.default_rng(6)).astype(int) for each in (scene, other)]
    assert np.abs(images[0] - images[1]).max() > 30


@given(SCENES, SEEDS)
@settings(deadline=None)
def test_vary_changes_exactly_one_attribute(scene: Scene, seed: int) -> None:
    """A varied scene differs in one word, and is one that may be trained on."""
    varied = drawings.vary(scene, np.random.default_rng(seed))

    assert scene.differences(varied) == 1
    assert not varied.held_out


def test_differences_count_attributes() -> None:
    """None against itself, six against a scene that shares no word."""
    scene = Scene("small", "red", "star", "at the top", "plain", "grey")
    other = Scene("large", "blue", "ring", "on the left", "striped", "mint")

    assert (scene.differences(scene), scene.differences(other)) == (0, 6)


def test_one_training_caption_in_five_may_leave_something_unsaid() -> None:
    """Most captions are whole, some are not, so that the models know shorter sentences too."""
    rng = np.random.default_rng(7)
    scene = Scene("small", "red", "star", "at the top", "plain", "grey")

    captions = [drawings.training_caption(scene, rng) for _ in range(1000)]
    assert 0.75 < captions.count(scene.caption) / 1000 < 0.9
    assert len(set(captions)) == 8
