"""What must hold of a candidate's images: every guard turns red on what it is for, and no other way."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from pytest_diffbench.judge.album import Album, Canaries, Odd, Recall
from pytest_diffbench.judge.guards import (
    baseline_problem,
    broken,
    broken_share_bound,
    check,
    spoilt,
    structure_margins,
    worst_decile_drop,
)
from pytest_diffbench.zoo import drawings, oracle
from pytest_diffbench.zoo.drawings import ATTRIBUTES, Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pytest_diffbench.judge.album import Image
    from pytest_diffbench.records import Guard

COUNT = 10
NAMES = (
    "flat",
    "detail",
    "sharpness",
    "duplicates",
    "diversity",
    "repeatability",
    "memory",
    "odd requests",
    "seed sensitivity",
    "prompt sensitivity",
    "retrieval@1",
    "own-prompt margin",
    "worst-decile drop",
    "broken images",
)
NEED_CANARIES = ("repeatability", "memory", "odd requests", "seed sensitivity", "prompt sensitivity")
SEEDS = st.integers(0, 2**32 - 1)


def _scene(number: int) -> Scene:
    """Neighbours differ in all six attributes."""
    return Scene(*(str(words[number % len(words)]) for words in ATTRIBUTES.values()))


def _drawn(numbers: Sequence[int], seed: int) -> tuple[Image, ...]:
    rng = np.random.default_rng(seed)
    return tuple(drawings.draw(_scene(number), rng) for number in numbers)


def _similarity(prompts: Sequence[str], images: Sequence[Image]) -> NDArray[np.float32]:
    """What share of each prompt each image shows, by the oracle."""
    facts, claims = [oracle.read(image) for image in images], [drawings.stated(prompt) for prompt in prompts]
    return np.array(
        [[np.mean([shown.get(name) == word for name, word in stated.items()]) for stated in claims] for shown in facts],
        np.float32,
    )


def _album(
    numbers: Sequence[int] = range(COUNT),
    *,
    baseline: Sequence[Image] | None = None,
    candidate: Sequence[Image] | None = None,
) -> Album:
    """An honest one, but for what is given."""
    prompts = tuple(_scene(number).caption for number in numbers)
    own = tuple(baseline) if baseline is not None else _drawn(numbers, 1)
    theirs = tuple(candidate) if candidate is not None else _drawn(numbers, 2)
    return Album(prompts, own, theirs, _similarity(prompts, own), _similarity(prompts, theirs))


def _canaries() -> Canaries:
    """Three honest ones."""
    timed, own = _drawn(range(3), 2), _drawn(range(3), 1)
    return Canaries(
        repeated=_pairs(timed, timed),
        reseeded=_pairs(timed, _drawn(range(3), 3)),
        reprompted=_pairs(timed, _drawn(range(20, 23), 2)),
        baseline_reseeded=_pairs(own, _drawn(range(3), 4)),
        baseline_reprompted=_pairs(own, _drawn(range(20, 23), 1)),
        recalls=(Recall(0.9, 1.0, 1.0, 1.2), Recall(1.1, 1.3, 1.0, 1.2)),
        probed=2,
    )


def _skipped(others: int) -> Odd:
    """A flat image, and so many of its four with other seeds flat as well."""
    own, theirs = BASELINE[0], HONEST[0]
    again = [(own, _grey(theirs) if place < others else theirs) for place in range(4)]
    return Odd((own, _grey(theirs)), tuple(again))


def _pairs(first: Sequence[Image], second: Sequence[Image]) -> tuple[tuple[Image, Image], ...]:
    return tuple(zip(first, second, strict=True))


def _red(album: Album, canaries: Canaries | None = None) -> set[str]:
    return {guard.name for guard in check(album, canaries) if not guard.passed}


def _places(count: int, colour: str, shape: str) -> tuple[Image, ...]:
    """The same thing, one after the other at all places."""
    words = [str(word) for word in ATTRIBUTES["place"]]
    rng = np.random.default_rng(count)
    scenes = [Scene("medium", colour, shape, words[i % len(words)], "plain", "white") for i in range(count)]
    return tuple(drawings.draw(scene, rng) for scene in scenes)


def test_structure_is_where_edges_lie_whatever_they_show() -> None:
    """Another shape in another colour at the same place keeps it; the same shape elsewhere does not."""
    begun, kept = _places(9, "red", "circle"), _places(9, "blue", "square")

    assert structure_margins(begun, kept).mean() > 0.5
    assert structure_margins(begun, (*kept[1:], kept[0])).mean() < 0.1
    assert structure_margins(begun, [np.full_like(kept[0], 9)] * 9).mean() == pytest.approx(0, abs=1e-6)


def test_an_edited_image_keeps_what_the_baseline_keeps_of_its_input() -> None:
    """Judged only where there are inputs; a baseline that keeps nothing of them demands nothing."""
    begun, kept = _places(9, "red", "circle"), _places(9, "blue", "square")
    moved = (*kept[1:], kept[0])
    edited = replace(_album(range(9), baseline=kept, candidate=kept), inputs=begun)

    def structure(album: Album) -> Guard:
        return check(album, None)[-1]

    assert structure(edited).name == "structure"
    assert structure(edited).passed
    assert not structure(replace(edited, candidate=moved)).passed
    assert structure(replace(edited, baseline=moved, candidate=moved)).passed
    assert "structure" not in {guard.name for guard in check(replace(edited, inputs=()), None)}


def _noise(like: Image, deviation: float = 90) -> Image:
    noisy = like + np.random.default_rng(5).normal(0, deviation, like.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _blurred(image: Image) -> Image:
    sigma_px = image.shape[0] / 20
    return ndimage.gaussian_filter(image, (sigma_px, sigma_px, 0))


def _grey(image: Image) -> Image:
    return np.full_like(image, 127)


def _like_the_mean(images: Sequence[Image]) -> tuple[Image, ...]:
    mean = np.mean(images, axis=0)
    return tuple((0.4 * image + 0.6 * mean).astype(np.uint8) for image in images)


def _faulty(honest: Sequence[Image]) -> dict[str, tuple[Image, ...]]:
    """For each guard, images that it is there to reject."""
    return {
        "flat": (_grey(honest[0]), *honest[1:]),
        "detail": tuple(_noise(image) for image in honest),
        "sharpness": tuple(_blurred(image) for image in honest),
        "duplicates": (*honest[:-1], _noise(honest[0], 1)),
        "diversity": _like_the_mean(honest),
        "retrieval@1": (*honest[1:], honest[0]),
        "own-prompt margin": (*honest[1:], honest[0]),
        "worst-decile drop": (honest[1], honest[0], *honest[2:]),
        "broken images": (_blurred(honest[0]), *honest[1:]),
    }


BASELINE = _drawn(range(COUNT), 1)
HONEST = _drawn(range(COUNT), 2)
FAULTY = _faulty(HONEST)
FAULTY_CANARIES: dict[str, Callable[[Canaries], Canaries]] = {
    "repeatability": lambda c: replace(c, repeated=c.reprompted),
    "memory": lambda c: replace(c, recalls=(Recall(1.0, 1.0, 1.0, 1.0), Recall(0.01, 1.0, 1.0, 1.0))),
    "odd requests": lambda c: replace(c, odd=(_skipped(others=4),)),
    "seed sensitivity": lambda c: replace(c, reseeded=c.repeated),
    "prompt sensitivity": lambda c: replace(c, reprompted=c.repeated),
}


def test_the_guards_are_always_the_same_fourteen() -> None:
    """Names and order never change; those that need canaries are left out without them."""
    assert tuple(guard.name for guard in check(_album(), _canaries())) == NAMES
    without = tuple(guard.name for guard in check(_album(), None))
    assert without == tuple(name for name in NAMES if name not in NEED_CANARIES)


def test_every_guard_has_a_case_that_turns_it_red() -> None:
    """The two tables leave none out."""
    assert {*FAULTY, *FAULTY_CANARIES} == set(NAMES)


@pytest.mark.parametrize("name", FAULTY)
def test_a_guard_turns_red_on_what_it_is_for(name: str) -> None:
    """Images with one fault are rejected by the guard of that fault."""
    assert name in _red(_album(candidate=FAULTY[name]))


def test_who_works_only_when_checked_is_noticed() -> None:
    """Timed requests answered in no time, those that can only be checks with all the work: both of them tell."""
    canaries = replace(_canaries(), recalls=(Recall(0.1, 1.0, 0.1, 0.2), Recall(0.1, 0.9, 0.1, 0.2)))

    assert _red(_album(), canaries) == {"memory"}


def test_one_hiccup_while_checked_is_none() -> None:
    """One slow answer of two is the machine's: nobody is suspected of it."""
    canaries = replace(_canaries(), recalls=(Recall(0.1, 1.0, 0.1, 0.2), Recall(0.1, 0.2, 0.1, 0.2)))

    assert _red(_album(), canaries) == set()


def test_what_the_baseline_leaves_flat_may_be_flat() -> None:
    """A baseline that draws nothing for an empty prompt is no reason to ask for more."""
    odd = Odd((_grey(BASELINE[0]), _grey(HONEST[0])))

    assert _red(_album(), replace(_canaries(), odd=(odd,))) == set()


def test_what_some_seeds_leave_flat_is_chance_and_what_all_do_is_not() -> None:
    """An honest method draws nothing with some seeds for a prompt that says nothing; who skips the work, with all."""
    seen = {others: _red(_album(), replace(_canaries(), odd=(_skipped(others),))) for others in range(5)}

    assert seen == {0: set(), 1: set(), 2: set(), 3: set(), 4: {"odd requests"}}


def test_seeds_that_the_baseline_leaves_flat_tell_nothing_of_who_skips() -> None:
    """Where it draws something, the candidate must too: at least once."""
    own, theirs = BASELINE[0], HONEST[0]
    nothing, skipped, drawn = (_grey(own), _grey(theirs)), (own, _grey(theirs)), (own, theirs)
    seen = [
        bool(_red(_album(), replace(_canaries(), odd=(Odd(skipped, again),))))
        for again in [(nothing, skipped), (nothing, drawn), (nothing, nothing)]
    ]

    assert seen == [True, False, False]


@pytest.mark.parametrize("name", FAULTY_CANARIES)
def test_a_canary_turns_its_own_guard_red_and_no_other(name: str) -> None:
    """Random images, images that ignore the seed and images that ignore the prompt are told apart."""
    assert _red(_album(), FAULTY_CANARIES[name](_canaries())) == {name}


@given(SEEDS, st.integers(1, 12))
@settings(deadline=None, max_examples=25)
def test_other_drawings_of_the_same_scenes_are_honest(seed: int, count: int) -> None:
    """A candidate whose images differ as another seed's would is never rejected, however few there are."""
    assert _red(_album(range(count), candidate=_drawn(range(count), seed)), _canaries()) == set()


@given(st.integers(1, 6), st.integers(16, 70), st.integers(16, 70), SEEDS)
@settings(deadline=None, max_examples=25)
def test_the_baselines_own_images_pass_whatever_they_are(count: int, height: int, width: int, seed: int) -> None:
    """Any images of any shape, noise included, and any scores: who makes the baseline's images passes every guard."""
    rng = np.random.default_rng(seed)
    images = tuple(rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count))
    similarity = rng.uniform(-1, 1, (count, count)).astype(np.float32)
    album = Album(tuple(f"prompt {i}" for i in range(count)), images, images, similarity, similarity)
    same, other = _pairs(images, images), _pairs(images, images[::-1])

    assert _red(album, Canaries(same, other, other, other, other)) == set()


@given(SEEDS, st.sampled_from(sorted(FAULTY)))
@settings(deadline=None, max_examples=15)
def test_the_order_of_the_requests_does_not_matter(seed: int, name: str) -> None:
    """The same images in another order turn the same guards red."""
    album, order = _album(candidate=FAULTY[name]), np.random.default_rng(seed).permutation(COUNT)
    shuffled = Album(
        prompts=tuple(album.prompts[i] for i in order),
        baseline=tuple(album.baseline[i] for i in order),
        candidate=tuple(album.candidate[i] for i in order),
        baseline_similarity=album.baseline_similarity[np.ix_(order, order)],
        candidate_similarity=album.candidate_similarity[np.ix_(order, order)],
    )

    assert _red(shuffled) == _red(album)


@pytest.mark.parametrize("name", [None, *FAULTY])
def test_larger_images_of_another_shape_are_judged_alike(name: str | None) -> None:
    """Four times as high and six times as wide, the same faults are found, and none where there is none."""
    larger = _enlarged(HONEST)
    candidate = larger if name is None else _faulty(larger)[name]
    # the oracle reads small drawings only
    similarity = _album(candidate=HONEST if name is None else FAULTY[name])
    album = replace(similarity, baseline=_enlarged(similarity.baseline), candidate=candidate)

    red = _red(album)
    assert (name in red) if name is not None else red == set()


def _enlarged(images: Sequence[Image]) -> tuple[Image, ...]:
    return tuple(image.repeat(4, axis=0).repeat(6, axis=1) for image in images)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_images_are_judged_one_by_one(count: int) -> None:
    """Where no comparison between prompts is possible, a grey image is still found."""
    grey = tuple(_grey(image) for image in HONEST[:count])

    assert {"flat", "broken images"} <= _red(_album(range(count), candidate=grey))


def test_what_was_found_names_the_limit() -> None:
    """One line with a figure, its unit and the limit, whether it passed or not."""
    found = {guard.name: guard.found for guard in check(_album(candidate=FAULTY["sharpness"]), _canaries())}

    assert all("\n" not in line and line for line in found.values())
    assert found["sharpness"].endswith("of the baseline's (limits 0.4 to 8)")
    assert found["seed sensitivity"].endswith("as much as the baseline's (at least 0.05)")


def test_a_prompt_that_comes_twice_has_no_rival_in_itself() -> None:
    """Two requests with the same prompt and other seeds are neither duplicates nor wrong in retrieval."""
    numbers = [*range(5), *range(5)]
    own, theirs = _drawn(numbers, 1), _drawn(numbers, 2)
    found = {guard.name: guard for guard in check(_album(numbers, baseline=own, candidate=theirs), None)}

    assert all(guard.passed for guard in found.values())
    assert found["retrieval@1"].found.startswith("10 of 10 ")


def test_one_prompt_alone_says_nothing_of_retrieval() -> None:
    """Where all requests have the same prompt, no image can fit another's."""
    numbers = [0] * 6

    found = {guard.name: guard for guard in check(_album(numbers), None)}
    assert found["retrieval@1"].passed
    assert "too few" in found["retrieval@1"].found


def test_images_as_close_as_the_baselines_are_no_duplicates() -> None:
    """Two requests for which the baseline gives the same image may get the same from the candidate too."""
    own = (*_drawn(range(9), 1), _drawn(range(9), 1)[0])
    theirs = (*HONEST[:9], HONEST[0])

    assert {"duplicates", "broken images"} & _red(_album([*range(9), 0], baseline=own, candidate=theirs)) == set()


def test_a_baseline_that_ignores_seeds_demands_no_sensitivity() -> None:
    """What the baseline itself does not do is asked of nobody."""
    canaries = _canaries()
    same = tuple((image, image) for image, _ in canaries.baseline_reseeded)

    assert _red(_album(), replace(canaries, reseeded=canaries.repeated, baseline_reseeded=same)) == set()


def test_a_baseline_that_misses_an_image_is_no_measure_for_it() -> None:
    """Where the baseline made something else, full of detail, a plain drawing is neither blurred nor empty."""
    plain = Scene("small", "yellow", "circle", "at the top left", "plain", "white")
    drawn = drawings.draw(plain, np.random.default_rng(1))
    smooth = (_blurred(drawn) // 2 + drawn // 2).astype(np.uint8)
    album = _album(baseline=(_noise(BASELINE[1], 20), *BASELINE[1:]), candidate=(smooth, *HONEST[1:]))

    assert broken(album) == ()


def test_one_wild_canary_of_the_baseline_does_not_raise_the_demand() -> None:
    """The median of what another seed changes in the baseline's images is demanded, not the mean."""
    canaries = _canaries()
    wild = (*canaries.baseline_reseeded[:2], (np.zeros_like(HONEST[0]), np.full_like(HONEST[0], 255)))
    half = tuple((one, ((one.astype(int) + other) // 2).astype(np.uint8)) for one, other in canaries.reseeded)

    assert _red(_album(), replace(canaries, reseeded=half, baseline_reseeded=wild)) == set()


def test_one_image_that_shows_something_else_is_forgiven() -> None:
    """One miss in ten happens to honest solutions; what it costs shows in the score."""
    missed = (*_drawn([21], 2), *HONEST[1:])

    assert _red(_album(candidate=missed)) == set()


def test_one_canary_that_took_another_turn_is_forgiven() -> None:
    """Repeatability is the median's, but none of two or three may differ wholly in most."""
    canaries = _canaries()
    one, two = canaries.repeated[:1], canaries.repeated[:2]
    strange = canaries.reprompted

    assert _red(_album(), replace(canaries, repeated=(*two, strange[0]))) == set()
    assert _red(_album(), replace(canaries, repeated=(*one, *strange[:2]))) == {"repeatability"}
    assert _red(_album(), replace(canaries, repeated=(*one, strange[0]))) == {"repeatability"}


@pytest.mark.parametrize("spoil", [_grey, np.zeros_like, _noise, _blurred], ids=["grey", "black", "noise", "blurred"])
def test_broken_images_are_named_by_their_index(spoil: Callable[[Image], Image]) -> None:
    """Exactly the spoilt ones are broken."""
    spoilt = tuple(spoil(image) if i in (2, 7) else image for i, image in enumerate(HONEST))

    assert broken(_album(candidate=spoilt)) == (2, 7)


@pytest.mark.parametrize("spoil", [_grey, _blurred], ids=["flat", "blurred"])
def test_one_image_in_so_many_may_be_broken(spoil: Callable[[Image], Image]) -> None:
    """One of ten where one in ten may, not two; and none of nine, nor where none is allowed."""
    one = tuple(spoil(image) if i == 2 else image for i, image in enumerate(HONEST))
    two = tuple(spoil(image) if i in (2, 7) else image for i, image in enumerate(HONEST))
    names = {"flat", "broken images"}

    def red(candidate: tuple[Image, ...], one_in: int | None) -> set[str]:
        return {guard.name for guard in check(_album(candidate=candidate), None, one_in) if not guard.passed} & names

    assert spoilt(_album(candidate=one)) == 1
    assert red(one, len(HONEST)) == set()
    assert "broken images" in red(one, len(HONEST) + 1)
    assert "broken images" in red(one, None)
    assert "broken images" in red(two, len(HONEST))


def test_pairs_that_are_alike_by_chance_in_either_arm_cancel_out() -> None:
    """The candidate draws two requests alike, the baseline two others: neither is the worse for it."""

    def alike(images: tuple[Image, ...], one: int, other: int) -> tuple[Image, ...]:
        nearly = images[one].copy()
        nearly[0, 0] = 255 - nearly[0, 0]  # no copy, byte for byte
        return tuple(nearly if i == other else image for i, image in enumerate(images))

    own, theirs = alike(BASELINE, 0, 1), alike(HONEST, 2, 3)

    assert "duplicates" in _red(_album(candidate=theirs))
    assert "duplicates" not in _red(_album(baseline=own, candidate=theirs))
    assert spoilt(_album(candidate=theirs)) == 1


def test_a_copy_is_broken_and_so_is_what_it_was_copied_from() -> None:
    """Of two byte-identical images nobody can say which is the real one."""
    assert broken(_album(candidate=(*HONEST[:-1], HONEST[0]))) == (0, 9)
    assert broken(_album()) == ()


@pytest.mark.parametrize(("count", "bound"), [(29, 0.0981), (59, 0.0495)])
def test_no_broken_image_bounds_their_share(count: int, bound: float) -> None:
    """None in 29 says under 10 %, none in 59 under 5 %."""
    assert broken_share_bound(0, count) == pytest.approx(bound, abs=1e-4)


@given(st.integers(1, 60).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
@settings(deadline=None)
def test_the_bound_is_clopper_and_pearsons(case: tuple[int, int]) -> None:
    """The exact one-sided bound, as scipy's own interval has it."""
    interval = stats.binomtest(*case, alternative="less").proportion_ci(0.95, method="exact")

    assert broken_share_bound(*case) == pytest.approx(interval.high)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=50))
def test_the_worst_decile_lies_between_the_mean_and_the_worst(scores: list[tuple[float, float]]) -> None:
    """Of up to ten images it is the worst one's drop."""
    baseline, candidate = zip(*scores, strict=True)
    drops = [own - theirs for own, theirs in scores]

    drop = worst_decile_drop(baseline, candidate)
    assert np.mean(drops) - 1e-9 <= drop <= max(drops) + 1e-9
    if len(drops) <= 10:
        assert drop == max(drops)


def test_the_worst_decile_of_thirty_is_three() -> None:
    """The tenth, rounded up, of the largest drops."""
    candidate = [50.0] * 27 + [40.0, 30.0, 20.0]

    assert worst_decile_drop([50.0] * 30, candidate) == 20
    assert worst_decile_drop([50.0] * 21, candidate[9:]) == 20


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([_grey(image) for image in BASELINE], "10 of the baseline's 10 images are flat"),
        (list(np.random.default_rng(6).integers(0, 256, (COUNT, 64, 64, 3), np.uint8)), "are noise: 24.0 bits"),
        ([BASELINE[0]] * COUNT, "all alike"),
        ([*BASELINE[1:], BASELINE[0]], "does not recognise the prompts.*0 of 10"),
    ],
    ids=["flat", "noise", "alike", "swapped"],
)
def test_a_baseline_that_is_broken_itself_judges_nobody(images: list[Image], reason: str) -> None:
    """The problem is said in one line, with what was found."""
    problem = baseline_problem(_album(baseline=images), None)

    assert problem is not None
    assert re.search(reason, problem)


def test_a_baseline_that_ignores_its_prompts_judges_nobody() -> None:
    """Seen in the canaries even where few images are there."""
    canaries = _canaries()
    ignored = tuple((image, image) for image, _ in canaries.baseline_reprompted)

    problem = baseline_problem(_album(range(2)), replace(canaries, baseline_reprompted=ignored))
    assert problem == "the baseline's images do not change with the prompt"


@given(SEEDS, st.integers(1, 12))
@settings(deadline=None, max_examples=25)
def test_a_good_baseline_has_no_problem(seed: int, count: int) -> None:
    """However few its images are, and however they fall."""
    assert baseline_problem(_album(range(count), baseline=_drawn(range(count), seed)), _canaries()) is None


def test_a_baseline_that_half_fails_is_still_one() -> None:
    """Only clear cases are refused: five of ten images may show something else."""
    half = (*BASELINE[:5], *_drawn(range(31, 36), 1))

    assert baseline_problem(_album(baseline=half), None) is None
