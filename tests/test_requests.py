"""The units of work that a task draws: fresh, in range, of the size that the zoo can paint."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_diffbench import Task, methods
from pytest_diffbench.demand import Demand, Markers, resolve
from pytest_diffbench.errors import SetupError
from pytest_diffbench.records import RequestSet
from pytest_diffbench.requests import MAX_SEED, Requests, Stream, sources
from pytest_diffbench.zoo import models, oracle, supply
from pytest_diffbench.zoo.drawings import Scene, stated
from pytest_diffbench.zoo.supply import Weights, is_public

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_diffbench.wire import Request

KEYS = st.text(max_size=20)
SECRETS = st.integers(0, 2**64 - 1)
PURPOSES = ("probes", "pairs of round 0", "warm-up of round 0", "pairs of round 1", "warm-up of round 1")


def _demand(task: Task, *, task_id: str = "test_it") -> Demand:
    return resolve(
        task,
        Markers(),
        task_id=task_id,
        summary="Do it.",
        folder=Path(),
        known_models={model.name: model for model in models.FAMILIES},
        known_methods={method.name: method for method in methods.BUILT_IN},
    )


def _weights(*, scale: float = 0.125, lines: Sequence[str] = ()) -> Weights:
    """Weights with the tiny zoo's prompts, or with a user's own lines."""
    prompts = supply._drawn_captions if not lines else lambda rng, count: supply._shuffled(lines, rng, count)
    return Weights(Path("model"), "r1", Path("scorer"), prompts, scale=scale)


def test_no_prompt_comes_twice() -> None:
    """As many requests as a task of ten pairs needs, each with a prompt of its own."""
    requests = Requests(_demand(Task("sd15", batch=10)), _weights(), random.Random(1))

    prompts = [request.prompt for _ in range(12) for request in requests.batch()]
    assert len(set(prompts)) == len(prompts) == 120


def test_every_prompt_of_ones_own_comes_once_before_any_comes_again() -> None:
    """A user's twelve lines are all used by the first twelve requests, in an order of chance."""
    lines = [f"prompt {number}" for number in range(12)]
    requests = Requests(_demand(Task("sd15", batch=12)), _weights(lines=lines), random.Random(2))

    prompts = [request.prompt or "" for request in requests.batch()]
    assert sorted(prompts) == sorted(lines)
    assert prompts != lines


def test_the_tiny_zoos_prompts_were_never_trained_on() -> None:
    """Every prompt is the whole caption of a held-out scene."""
    requests = Requests(_demand(Task("sd15", batch=20)), _weights(), random.Random(3))

    scenes = [Scene(**stated(request.prompt or "")) for request in requests.batch()]
    assert [scene for scene in scenes if not scene.held_out] == []


def test_seeds_are_spread_over_what_torch_takes() -> None:
    """Seeds lie in range, differ, and are not all small."""
    requests = Requests(_demand(Task("sd15", batch=50)), _weights(), random.Random(4))

    seeds = [request.seed for request in requests.batch()]
    assert all(0 <= seed <= MAX_SEED == 2**32 - 1 for seed in seeds)
    assert len(set(seeds)) == 50
    assert min(seeds) < MAX_SEED / 4 < 3 * MAX_SEED / 4 < max(seeds)


@pytest.mark.parametrize(("scale", "side"), [(0.125, 64), (1.0, 512), (0.5, 256), (1 / 12, 40)])
def test_the_size_is_the_zoos(scale: float, side: int) -> None:
    """A task states the real model's size; the request asks for the share of it that the weights paint."""
    requests = Requests(_demand(Task("sd15", size=512)), _weights(scale=scale), random.Random(5))

    (request,) = requests.batch()
    assert (request.height, request.width) == (side, side)


CLASSES = tuple(f"a {name}" for name in ("tench", "hen", "cock", "kite", "newt", "frog", "crane", "drake"))


def _by_class() -> Requests:
    weights = replace(_weights(lines=CLASSES), classes=CLASSES)
    return Requests(_demand(Task("dit", batch=len(CLASSES))), weights, random.Random(11))


def test_where_a_model_draws_by_class_requests_have_labels() -> None:
    """Every class comes up, by its number; there is no prompt, and the judge gets the class's sentence."""
    requests, weights = _by_class(), replace(_weights(), classes=CLASSES)

    drawn = requests.batch()
    assert {request.prompt for request in drawn} == {None}
    assert sorted(request.class_label or 0 for request in drawn) == list(range(len(CLASSES)))
    assert [weights.caption(request) for request in drawn] == [CLASSES[request.class_label or 0] for request in drawn]


def test_another_condition_is_another_class() -> None:
    """What a check changes where there are no prompts; the seed stays."""
    requests = _by_class()
    drawn = requests.batch()
    changed = requests.reprompted(drawn)

    assert all(one.class_label != other.class_label for one, other in zip(drawn, changed, strict=True))
    assert [one.seed for one in drawn] == [other.seed for other in changed]


def _edits(batch: int) -> Requests:
    weights = replace(_weights(), prompts=supply._drawn_wishes, inputs=supply._drawn_input)
    return Requests(_demand(Task("sd15", strength=0.6, batch=batch)), weights, random.Random(12))


def test_an_image_to_begin_with_keeps_what_the_prompt_leaves_open() -> None:
    """Of the size asked for, showing another shape in another colour; place and background are for it to say."""
    for request in _edits(6).batch():
        assert request.image is not None
        shown, wanted = oracle.read(np.asarray(request.image)), stated(request.prompt or "")
        assert request.strength == 0.6
        assert request.image.size == (64, 64)
        assert set(wanted) == {"size", "colour", "shape"}
        assert (shown["colour"] != wanted["colour"], shown["shape"] != wanted["shape"]) == (True, True)
        assert shown["size"] == wanted["size"]


def test_a_check_changes_one_thing_and_keeps_the_image() -> None:
    """Another seed, or another prompt, for the same image; other requests have other images."""
    requests = _edits(2)
    one, other = requests.batch()
    (reseeded,), (reprompted,) = requests.reseeded([one]), requests.reprompted([one])

    assert reseeded.image is reprompted.image is one.image
    assert (reseeded.prompt, reprompted.seed) == (one.prompt, one.seed)
    assert reprompted.prompt != one.prompt
    assert one.image is not None
    assert other.image is not None
    assert one.image.tobytes() != other.image.tobytes()


def test_an_image_must_come_from_somewhere() -> None:
    """A model of one's own has none to begin with unless the task names a folder."""
    with pytest.raises(SetupError, match=r"no images to begin with.*images='./photos'"):
        Requests(_demand(Task("sd15", strength=0.6)), _weights(), random.Random(13))


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_as_many_requests_travel_together_as_the_task_says(batch: int) -> None:
    """A batch is of the task's own size, and another one follows it."""
    requests = Requests(_demand(Task("sd15", batch=batch)), _weights(), random.Random(6))

    assert [len(requests.batch()), len(requests.batch())] == [batch, batch]


def test_a_request_says_how_the_model_is_run_today() -> None:
    """Steps and guidance are the task's, also where guidance is zero; what does not apply is None."""
    requests = Requests(_demand(Task("sd15", steps=30, guidance=0)), _weights(), random.Random(7))

    (request,) = requests.batch()
    assert (request.num_inference_steps, request.guidance_scale) == (30, 0)
    assert (request.negative_prompt, request.class_label, request.strength, request.image) == (None,) * 4


def test_a_request_can_be_made_for_a_given_prompt() -> None:
    """A prompt and seed of the caller's, all else as in the task."""
    requests = Requests(_demand(Task("sd15", size=256, steps=20)), _weights(), random.Random(8))

    request = requests.with_prompt("", 7)
    assert (request.prompt, request.seed, request.height, request.num_inference_steps) == ("", 7, 32, 20)


def test_equal_chance_gives_equal_requests() -> None:
    """With a chance of one's own a run can be repeated; another chance gives other requests."""
    demand, weights = _demand(Task("sd15", batch=3)), _weights()
    drawn = [Requests(demand, weights, random.Random(seed)).batch() for seed in (9, 9, 10)]

    assert drawn[0] == drawn[1] != drawn[2]


def test_without_a_chance_of_ones_own_nobody_can_know_the_requests() -> None:
    """By default two sources share nothing: prompts and seeds come from the system's own chance."""
    demand, weights = _demand(Task("sd15", batch=3)), _weights()

    assert Requests(demand, weights).batch() != Requests(demand, weights).batch()
    assert Requests(demand, weights).entropy() != Requests(demand, weights).entropy()


@given(st.integers(12, 200), SECRETS)
@settings(deadline=None, max_examples=30)
def test_no_prompt_of_ones_own_comes_twice_while_others_are_left(count: int, secret: int) -> None:
    """However many lines a user gives, all are used before any comes again."""
    lines = [f"prompt {number}" for number in range(count)]
    requests = Requests(_demand(Task("sd15")), _weights(lines=lines), random.Random(secret))

    prompts = [requests.batch()[0].prompt or "" for _ in lines]
    assert sorted(prompts) == sorted(lines)


def test_reseeded_requests_differ_by_their_seeds_alone() -> None:
    """Every seed is another one, in range, each time; all else of every request stays."""
    requests = Requests(_demand(Task("sd15", batch=8)), _weights(), random.Random(11))
    batch = requests.batch()
    once, again = requests.reseeded(batch), requests.reseeded(batch)

    seeds = [request.seed for request in (*batch, *once, *again)]
    assert len(set(seeds)) == 24
    assert all(0 <= seed <= MAX_SEED for seed in seeds)
    assert tuple(replace(new, seed=old.seed) for new, old in zip(once, batch, strict=True)) == batch


def test_reprompted_requests_differ_by_their_prompts_alone() -> None:
    """Every prompt is a fresh one, never asked for before or after; all else of every request stays, the seed too."""
    requests = Requests(_demand(Task("sd15", batch=8)), _weights(), random.Random(12))
    batch = requests.batch()
    once, again, later = requests.reprompted(batch), requests.reprompted(batch), requests.batch()

    assert len({request.prompt for request in (*batch, *once, *again, *later)}) == 32
    assert tuple(replace(new, prompt=old.prompt) for new, old in zip(once, batch, strict=True)) == batch


# -- public and secret -----------------------------------------------------------------------------------------------


def _drawn(drawn_from: RequestSet, weights: Weights, chance: str, batches: int = 20) -> list[Request]:
    """Everything that a source gives: fresh, reseeded and reprompted requests."""
    source = Requests(_demand(Task("sd15", batch=4)), weights, Stream(chance), drawn_from)
    fresh = [source.batch() for _ in range(batches)]
    changed = [change(batch) for batch in fresh[:9] for change in (source.reseeded, source.reprompted)]
    return [request for batch in (*fresh, *changed) for request in batch]


@pytest.mark.parametrize("lines", [[], [f"prompt {number}" for number in range(40)]], ids=["tiny zoo", "one's own"])
@given(KEYS, KEYS)
@settings(deadline=None, max_examples=4)
def test_public_and_secret_requests_share_nothing(lines: Sequence[str], one: str, other: str) -> None:
    """No prompt and no seed, whatever they are drawn from, be it the same number."""
    weights = replace(_weights(lines=lines), public_problem="")
    secret = _drawn(RequestSet.SECRET, weights, one)
    for public in (_drawn(RequestSet.PUBLIC, weights, other), _drawn(RequestSet.PUBLIC, weights, one)):
        for field in ("prompt", "seed"):
            known, unknown = ({getattr(request, field) for request in drawn} for drawn in (public, secret))
            assert known.isdisjoint(unknown)
            assert min(len(known), len(unknown)) >= 4


def test_a_third_is_public_and_always_the_same() -> None:
    """What was public once stays public, in whatever file it stands."""
    assert is_public("a fox") is False  # by its digest: another rule would move what has been told already
    assert is_public("a red fox") is True
    assert is_public("a fox in the snow") is False
    assert 0.30 < sum(is_public(f"prompt {number}") for number in range(3000)) / 3000 < 0.37


def test_prompts_that_are_too_few_are_all_secret() -> None:
    """Ten lines that cannot be divided are all asked for; public ones are refused, with the reason."""
    lines = [f"prompt {number}" for number in range(10)]
    weights = replace(_weights(lines=lines), public_problem="too few")

    assert {request.prompt for request in _drawn(RequestSet.SECRET, weights, "a")} == set(lines)
    with pytest.raises(SetupError, match="--diffbench-requests=public: too few"):
        Requests(_demand(Task("sd15")), weights, Stream("a"), RequestSet.PUBLIC)


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=1, max_size=6), unique=True, max_size=60))
@settings(deadline=None)
def test_ones_own_prompts_are_divided_where_both_sides_get_enough(lines: list[str]) -> None:
    """Four public ones and ten secret ones; else it is said how many there are of each."""
    public = sum(map(is_public, lines))
    problem = supply._public_problem(lines, Path("prompts.txt"))

    assert (problem == "") is (public >= 4 and len(lines) - public >= 10)
    assert not problem or f"{public} would be public and {len(lines) - public} secret; 4 and 10" in problem


# -- the stream -------------------------------------------------------------------------------------------------------


@given(KEYS, st.lists(st.integers(0, 600), max_size=20))
@settings(deadline=None)
def test_a_stream_is_repeatable(key: str, sizes: list[int]) -> None:
    """The same key gives the same bits, however many are asked for at a time, and each number is in range."""
    one, other = Stream(key), Stream(key)
    drawn = [one.getrandbits(size) for size in sizes]

    assert [other.getrandbits(size) for size in sizes] == drawn
    assert all(0 <= number < 2**size for number, size in zip(drawn, sizes, strict=True))


@given(KEYS, KEYS)
@settings(deadline=None)
def test_another_key_gives_another_stream(key: str, other: str) -> None:
    """Keys that differ at all, be it in length alone, share nothing."""
    drawn, others = ([stream.getrandbits(128) for _ in range(4)] for stream in (Stream(key), Stream(other)))

    assert (drawn == others) is (key == other)
    assert key == other or not set(drawn) & set(others)


def test_a_stream_does_not_turn_in_circles() -> None:
    """Ten thousand numbers, no two alike."""
    stream = Stream("a")

    assert len({stream.getrandbits(64) for _ in range(10_000)}) == 10_000


USES: dict[str, Callable[[random.Random], object]] = {
    "random": lambda rng: rng.random(),
    "randint": lambda rng: rng.randint(0, MAX_SEED),
    "uniform": lambda rng: rng.uniform(2, 3),
    "gauss": lambda rng: rng.gauss(0, 1),
    "choice": lambda rng: rng.choice(range(1000)),
    "sample": lambda rng: rng.sample(range(1000), 10),
    "shuffle": lambda rng: rng.shuffle(list(range(10))),
    "randbytes": lambda rng: rng.randbytes(8),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_every_method_of_random_draws_from_the_stream(use: Callable[[random.Random], object]) -> None:
    """Whatever is asked for uses up the key's own bits, and is the same again with the same key, and only with it."""
    stream, again, untouched = Stream("a"), Stream("a"), Stream("a")
    drawn = [use(stream) for _ in range(5)]

    assert [use(again) for _ in range(5)] == drawn
    assert stream.getrandbits(64) == again.getrandbits(64) != untouched.getrandbits(64)
    others = [use(Stream("b")) for _ in range(5)]
    assert others != drawn or drawn == [None] * 5


@given(KEYS, st.lists(st.integers(), max_size=30))
@settings(deadline=None)
def test_what_a_stream_shuffles_and_samples_stays_what_it_was(key: str, values: list[int]) -> None:
    """The standard library's own promises hold."""
    stream, shuffled = Stream(key), list(values)
    stream.shuffle(shuffled)

    assert sorted(shuffled) == sorted(values)
    assert sorted(stream.sample(values, len(values))) == sorted(values)
    assert 0 <= stream.random() < 1
    assert all(3 <= stream.randint(3, 5) <= 5 for _ in range(10))


def test_a_stream_is_uniform() -> None:
    """Numbers, dice and single bits are spread as chance spreads them (a fixed key: the p-values are what they are)."""
    stream = Stream("a")
    numbers = [stream.random() for _ in range(5000)]
    dice = [stream.randrange(6) for _ in range(6000)]
    ones = [(stream.getrandbits(64) >> place) & 1 for place in range(64) for _ in range(100)]

    assert stats.kstest(numbers, "uniform").pvalue > 0.001
    assert stats.chisquare([dice.count(side) for side in range(6)]).pvalue > 0.001
    assert stats.binomtest(sum(ones), len(ones)).pvalue > 0.001
    assert abs(stats.pearsonr(numbers[1:], numbers[:-1]).statistic) < 0.05


def test_nobody_can_turn_a_stream_back() -> None:
    """Seeding is no way to make it repeat itself: the key is all there is."""
    stream, untouched = Stream("a"), Stream("a")
    first = stream.getrandbits(64)
    stream.seed(1)

    assert (first, stream.getrandbits(64)) == (untouched.getrandbits(64), untouched.getrandbits(64))


# -- sources ----------------------------------------------------------------------------------------------------------


@given(SECRETS, st.integers(0, 70), st.integers(0, 5), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_the_same_number_gives_the_same_pairs(secret: int, warm_ups: int, before: int, between: int) -> None:
    """However many requests another purpose took, before or meanwhile: the pairs are those of the number alone."""
    demand, weights = _demand(Task("sd15", batch=2)), _weights(lines=[f"prompt {number}" for number in range(50)])
    alone = sources(demand, weights, str(secret))("pairs of round 0")
    expected = [alone.batch() for _ in range(6)]

    source = sources(demand, weights, str(secret))
    warm, probes, pairs = source("warm-up of round 0"), source("probes"), source("pairs of round 0")
    for _ in range(warm_ups):
        warm.batch()
    found = [pairs.batch() for _ in range(before)]
    for _ in range(between):
        probes.reseeded(probes.batch())
        probes.entropy()
    found += [pairs.batch() for _ in range(6 - before)]
    assert found == expected


def test_different_purposes_tasks_and_numbers_share_nothing() -> None:
    """Warm-up must not show what will be timed, one task not what another will ask, one run not what the next will."""
    weights, batch = _weights(), Task("sd15", batch=4)
    kinds = itertools.product((1, 2, 11), ("test_it", "test_other"), PURPOSES)
    drawn = [sources(_demand(batch), weights, f"{secret} {name}")(purpose).batch() for secret, name, purpose in kinds]

    seeds = [request.seed for requests in drawn for request in requests]
    assert len(set(seeds)) == len(seeds) == 4 * 3 * 2 * len(PURPOSES)
    assert len(set(drawn)) == len(drawn)


def _foretold(seen: Sequence[int]) -> int:
    """The 64 bits that Python's own generator gives next, worked out from 312 that it gave (Mersenne Twister)."""
    words = [word for number in seen for word in (number & MAX_SEED, number >> 32)]
    state = []
    for word in words:
        word ^= word >> 18  # noqa: PLW2901 (undone step by step, from the last one on)
        word ^= word << 15 & 0xEFC60000  # noqa: PLW2901
        low = word
        for _ in range(5):
            low = word ^ (low << 7 & 0x9D2C5680)
        high = low
        for _ in range(3):
            high = low ^ high >> 11
        state.append(high)
    twin = random.Random()
    twin.setstate((3, (*state, len(state)), None))
    return twin.getrandbits(64)


def test_what_a_source_gave_does_not_foretell_what_it_gives() -> None:
    """A solution that has seen many requests cannot work out the next; with a generator of Python's own it could."""
    demand, weights = _demand(Task("sd15")), _weights(lines=["a fox"])
    safe, unsafe = sources(demand, weights, "5")("pairs of round 0"), Requests(demand, weights, random.Random(5))

    assert _foretold([unsafe.entropy() for _ in range(312)]) == unsafe.entropy()
    assert _foretold([safe.entropy() for _ in range(312)]) != safe.entropy()


@pytest.mark.parametrize(
    "lines", [[], [f"prompt {number}" for number in range(200)]], ids=["tiny zoo", "200 of one's own"]
)
def test_no_timed_prompt_comes_from_another_source(lines: list[str]) -> None:
    """Who sees a prompt twice would know the second one for a check; and no rule but the key tells them apart."""
    demand, weights = _demand(Task("sd15", batch=10)), _weights(lines=lines)

    def drawn(key: str, purpose: str) -> set[str | None]:
        source = sources(demand, weights, key)(purpose)
        return {request.prompt for _ in range(5) for request in source.batch()}

    for purpose in ("probes", "warm-up of round 0", "observed", "watched"):
        assert drawn("1", "pairs of round 0").isdisjoint(drawn("1", purpose))
    assert not drawn("1", "pairs of round 0").isdisjoint(drawn("2", "probes"))


@given(st.integers(12, 120), SECRETS)
@settings(deadline=None, max_examples=60)
def test_prompts_are_shared_out_on_both_sides_or_on_neither(count: int, secret: int) -> None:
    """A few less on one side, and it would take all of them, also those that are timed."""
    weights = _weights(lines=[f"prompt {number}" for number in range(count)])
    source = sources(_demand(Task("sd15")), weights, str(secret))

    def drawn(purpose: str) -> set[str | None]:
        requests = source(purpose)
        return {request.prompt for _ in range(count) for request in requests.batch()}

    timed, other = drawn("pairs of round 0"), drawn("warm-up")
    assert timed.isdisjoint(other) or len(timed) == len(other) == count


def test_few_prompts_are_not_shared_out() -> None:
    """They would come again while pairs are timed: of twenty all are asked for, for every purpose."""
    demand, weights = _demand(Task("sd15", batch=20)), _weights(lines=[f"prompt {number}" for number in range(20)])

    for purpose in ("probes", "pairs of round 0"):
        assert len({request.prompt for request in sources(demand, weights, "1")(purpose).batch()}) == 20
