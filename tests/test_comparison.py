"""How many pairs are timed and how many images judged, and what is asked beside them; the arms only pretend to run."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_diffbench import Task, clock, methods
from pytest_diffbench.comparison import CERTIFIED, CONTROL_TOLERANCE, LEAST_IMAGES, QUICK, Arms, Comparison, Plans
from pytest_diffbench.demand import Demand, LatencyDemand, Markers, QualityDemand, SpeedDemand, resolve
from pytest_diffbench.isolation import Reply
from pytest_diffbench.judge import ClipScorer, fault, guards
from pytest_diffbench.records import Outcome
from pytest_diffbench.requests import Requests
from pytest_diffbench.sequential import SPEED
from pytest_diffbench.workbench import Start
from pytest_diffbench.zoo import drawings, models, supply
from pytest_diffbench.zoo.drawings import Scene
from pytest_diffbench.zoo.supply import Weights
from pytest_diffbench.zoo.weights import TINY
from tests.test_quality import ToldScorer, told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_diffbench.judge import Judgement
    from pytest_diffbench.judge.album import Image
    from pytest_diffbench.records import Guard
    from pytest_diffbench.wire import Request

CAPTIONS = supply._drawn_captions(random.Random(0), 120)
WEIGHTS = Weights(
    Path("model"),
    "r1",
    TINY / "scorer",
    lambda rng, count: supply._shuffled(CAPTIONS, rng, count),
    scale=0.125,
    clip_scores={"pndm": 50.0, "ddim": 40.0},
    floor_clip_score=20.0,
)
FASTER = Markers(speed=SpeedDemand(at_least=1.8))


@cache
def _tiny_scorer() -> ClipScorer:
    return ClipScorer(TINY / "scorer")


def _drawing(request: Request) -> Image:
    scene = Scene(**drawings.stated(request.prompt or ""))
    return drawings.draw(scene, np.random.default_rng(request.seed))


@dataclass
class Painter:
    """An arm without a process: draws what it is asked for, and says how long it pretends that to have taken."""

    seconds: Callable[[Request], float]
    look: Callable[[Image, Request], Image] = lambda image, _: image
    asked: list[tuple[Request, ...]] = field(default_factory=list)
    ended: bool = False
    memory_bytes: int = 1000

    def generate(self, requests: Sequence[Request], *, timeout_s: float) -> Reply:
        """A drawing for each request."""
        assert not self.ended, "asked after its process has ended"
        assert timeout_s > 0
        self.asked.append(tuple(requests))
        images = tuple(self.look(_drawing(request), request) for request in requests)
        return Reply(images, self.seconds(requests[0]))

    def pause(self) -> None:
        """It never runs by itself."""

    def resume(self) -> None:
        """It never runs by itself."""


def _about(seconds: float, seed: int, spread: float = 0.005) -> Callable[[Request], float]:
    """Times around this one, never twice the same."""
    rng = np.random.default_rng(seed)
    return lambda _: seconds * float(np.exp(rng.normal(0, spread)))


def _per_step(fixed: float, step: float) -> Callable[[Request], float]:
    """A time for each step, and one for all that is done once."""
    return lambda request: fixed + step * request.num_inference_steps


def _scoring(*levels: float) -> Callable[[Image, Request], Image]:
    """Images that score these levels in turn."""
    turns = itertools.cycle(levels)
    return lambda image, _: told(image, next(turns))


def _nothing_for(seed: int, image: Image, request: Request) -> Image:
    return np.zeros_like(image) if request.seed == seed else image


class Bench:
    """A comparison, with the arms that were started for it."""

    def __init__(
        self,
        task: Task | None = None,
        markers: Markers | None = None,
        *,
        weights: Weights = WEIGHTS,
        plans: Plans | None = None,
        most_pairs: int = 24,
        starts: int = 1,
        seed: int = 1,
    ) -> None:
        self.demand: Demand = resolve(
            task or Task("sd15"),
            markers or Markers(),
            task_id="test_it",
            summary="Do it.",
            folder=Path(),
            known_models={model.name: model for model in models.FAMILIES},
            known_methods={method.name: method for method in methods.BUILT_IN},
        )
        self.comparison = Comparison(
            self.demand,
            weights,
            Requests(self.demand, weights, random.Random(seed)),
            Requests(self.demand, weights, random.Random(seed + 1000)),
            plans=(plans or Plans()).at_most(most_pairs),
            starts=starts,
        )
        self.started: list[tuple[Painter, Painter]] = []
        self.said: list[str] = []

    def time(self, baseline: Painter, candidate: Painter, start: Start | None = None) -> None:
        """Another start of both processes; those before it end."""
        for arm in (arm for arms in self.started for arm in arms):
            arm.ended, arm.memory_bytes = True, 0
        self.started.append((baseline, candidate))
        trial = clock.Trial(baseline, candidate, timeout_s=9)
        self.comparison.time(
            Arms(
                trial,
                start or Start(1.0, 2.0),
                start or Start(1.0, 2.0),
                lambda: (baseline.memory_bytes, candidate.memory_bytes),
            )
        )

    def judge(self, scorer: ClipScorer | None = None) -> Judgement:
        """The images of what was timed, and of more where that is wanted."""
        return self.comparison.judgement(scorer or ToldScorer(), self.said.append)

    @property
    def pairs(self) -> int:
        """That count so far."""
        return len(self.comparison._pairs())

    def asked_anew(self) -> tuple[Painter, Painter]:
        """The arms that run, with nothing on their lists yet."""
        for arm in self.started[-1]:
            arm.asked.clear()
        return self.started[-1]


def _baseline(look: Callable[[Image, Request], Image] | None = None) -> Painter:
    return Painter(_about(2.0, 1), look or _scoring(60))


def _candidate(speedup: float = 2.2, look: Callable[[Image, Request], Image] | None = None) -> Painter:
    return Painter(_about(2.0 / speedup, 2), look or _scoring(60, 61))


# -- pairs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("speedup", "outcome"), [(2.2, Outcome.ABOVE), (1.2, Outcome.BELOW)], ids=["fast", "slow"])
def test_a_clear_speed_is_decided_by_four_pairs(speedup: float, outcome: Outcome) -> None:
    """The first look decides what is clear, whichever way, and nothing more is timed."""
    bench = Bench(markers=FASTER)
    bench.time(_baseline(), _candidate(speedup))

    speed = bench.comparison.speed()
    assert (bench.pairs, speed.decided_after, speed.decision) == (4, 4, outcome)


@given(st.floats(1.6, 2.0), st.floats(0.01, 0.5), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_pairs_stop_at_the_first_look_that_decides(speedup: float, spread: float, seed: int) -> None:
    """However noisy: where it ended is a look, no look before it would have decided, and none is left if it did not."""
    bench = Bench(markers=FASTER)
    bench.time(Painter(_about(2.0, seed, spread)), Painter(_about(2.0 / speedup, seed + 1, spread)))

    pairs, decision = bench.comparison._pairs(), bench.comparison.speed().decision
    earlier = [clock.decide(pairs[:look], FASTER) for look in SPEED.looks if look < len(pairs)]
    assert len(pairs) in SPEED.looks
    assert all(found is not None and found.outcome is Outcome.OPEN for found in earlier)
    assert decision is not Outcome.OPEN or len(pairs) == SPEED.looks[-1]


@pytest.mark.parametrize("most", [4, 12, 23, 24, 1000])
def test_no_more_pairs_than_allowed(most: int) -> None:
    """A speed that no number of pairs decides ends at the last look that is allowed."""
    bench = Bench(markers=FASTER, most_pairs=most)
    bench.time(Painter(_about(2.0, 1, 0.5)), Painter(_about(2.0 / 1.8, 2, 0.5)))

    assert bench.comparison.speed().decision is Outcome.OPEN
    assert bench.pairs == max(look for look in SPEED.looks if look <= most)


@pytest.mark.parametrize(("batch", "pairs"), [(1, 10), (2, 5), (4, 4), (10, 4), (64, 4)])
def test_without_a_demand_ten_images_are_enough(batch: int, pairs: int) -> None:
    """Without a demand as many pairs are timed as bring ten images, four at least; they decide nothing."""
    bench = Bench(Task("sd15", batch=batch))
    bench.time(_baseline(), _candidate())

    speed = bench.comparison.speed()
    assert (bench.pairs, len(speed.candidate_s), speed.decision) == (pairs, pairs, None)


def test_a_limit_in_seconds_is_decided_by_a_share_of_calls() -> None:
    """Eight calls of eight under the limit show that half of all are; a share of the baseline's is a ratio of pairs."""
    in_seconds = Bench(markers=Markers(latency=LatencyDemand(at_most_s=1.5)))
    as_share = Bench(markers=Markers(latency=LatencyDemand(at_most_of_baseline=0.6)))
    for bench in (in_seconds, as_share):
        bench.time(_baseline(), _candidate())

    assert (in_seconds.pairs, as_share.pairs) == (8, 4)
    assert in_seconds.comparison.speed().decision is as_share.comparison.speed().decision is Outcome.ABOVE


@pytest.mark.parametrize("most", [4, 7])
def test_the_fewest_pairs_allowed_are_those_of_a_first_look(most: int) -> None:
    """`--diffbench-pairs=4` is too few for a share of calls: it gets its first look, not none at all."""
    bench = Bench(markers=Markers(latency=LatencyDemand(at_most_s=1.5)), most_pairs=most)
    bench.time(_baseline(), _candidate())

    assert (bench.pairs, bench.comparison.speed().decision) == (8, Outcome.ABOVE)


def test_warm_up_is_not_timed_and_moves_no_request() -> None:
    """Both arms are called untimed first, with requests of another source: the pairs' are the same however often."""
    bench = Bench(markers=FASTER)
    bench.time(_baseline(), _candidate())
    expected = Requests(bench.demand, WEIGHTS, random.Random(1))

    assert bench.comparison.speed().warm_up_calls == 2
    assert [pair.requests for pair in bench.comparison._pairs()] == [expected.batch() for _ in range(4)]
    assert [len(arm.asked) for arm in bench.started[0]] == [2 + 4, 2 + 4]


def test_the_cost_is_that_of_the_first_start() -> None:
    """What loading took and the memory come from there; the steady time from everything that was timed."""
    bench = Bench(markers=FASTER, starts=2)
    bench.time(Painter(lambda _: 2.0), Painter(lambda _: 1.0), Start(5.0, 4.0))
    bench.time(Painter(lambda _: 2.0), Painter(lambda _: 1.0), Start(50.0, 40.0))

    found = bench.comparison.cost()
    assert (found.load_s, found.first_image_s, found.compile_s) == (5.0, 4.0, 3.0)
    assert (found.steady_s, found.baseline_steady_s) == (1.0, 2.0)


# -- images ----------------------------------------------------------------------------------------------------------


def test_the_quality_extends_the_pairs_to_ten_images() -> None:
    """Four pairs decide the speed, ten images are judged: the six that are missing are timed, and decide nothing."""
    bench = Bench(markers=FASTER)
    bench.time(Painter(_about(2.0, 1)), Painter(_about(0.9, 2)))
    judgement = bench.judge(_tiny_scorer())

    evidence, speed = judgement.evidence(), bench.comparison.speed()
    assert (bench.pairs, judgement.count, len(speed.candidate_s)) == (10, 10, 10)
    assert (speed.decided_after, evidence.decided_after) == (4, 10)
    assert evidence.loss == pytest.approx(0, abs=1e-4)
    assert fault(evidence) is None


def test_an_open_quality_extends_the_pairs_to_the_plans_end() -> None:
    """A loss that cannot be told from the limit is looked at as often as the plan allows, each image once."""
    scorer = ToldScorer()
    bench = Bench(markers=FASTER)
    bench.time(_baseline(), _candidate(look=_scoring(54, 60.4)))
    judgement = bench.judge(scorer)

    assert judgement.evidence().decision is Outcome.OPEN
    assert bench.said == [f"judging {count} images" for count in (10, 16, 24, 36, 50)]
    assert (bench.pairs, judgement.count, scorer.looks) == (50, 50, 50)


@pytest.mark.parametrize(("batch", "pairs"), [(2, 5), (4, 4), (16, 4)])
def test_a_batch_brings_all_its_images(batch: int, pairs: int) -> None:
    """Requests that travel together are judged one by one: as many pairs as bring ten, four at least, all of theirs."""
    bench = Bench(Task("sd15", batch=batch))
    bench.time(_baseline(), _candidate())

    assert (bench.judge().count, bench.pairs) == (pairs * batch, pairs)


def test_the_judged_images_are_the_timed_ones() -> None:
    """What is scored is what was timed, each beside its own prompt."""
    bench = Bench(Task("sd15", batch=2))
    bench.time(Painter(_about(2.0, 1)), Painter(_about(0.9, 2)))
    album = bench.judge(_tiny_scorer()).album()

    requests = [request for pair in bench.comparison._pairs() for request in pair.requests]
    assert list(album.prompts) == [request.prompt for request in requests]
    for image, request in zip(album.candidate, requests, strict=True):
        assert np.array_equal(image, _drawing(request))


def test_the_rule_comes_from_the_task_and_the_zoo() -> None:
    """Allowed loss and strictness are the marker's; the recorded score is that of the task's own sampler."""
    markers = Markers(quality=QualityDemand(max_loss=0.2, strict=True))
    bench = Bench(Task("sd15", sampler="ddim"), markers)
    bench.time(_baseline(), _candidate())

    found = bench.judge().evidence()
    assert (found.max_loss, found.strict) == (0.2, True)
    assert (found.reference_clip_score, found.floor_clip_score) == (40.0, 20.0)


def test_a_strict_task_judges_more_images() -> None:
    """What ten images cannot tell from 1.5 % is made more of only where the task is strict."""
    looks = {}
    for strict in (False, True):
        bench = Bench(markers=Markers(quality=QualityDemand(strict=strict)))
        bench.time(_baseline(), _candidate(look=_scoring(58.1, 60.1)))
        looks[strict] = bench.judge().count

    assert looks == {False: 10, True: 120}


# -- canaries --------------------------------------------------------------------------------------------------------


def test_canaries_ask_the_right_questions_of_the_right_arms() -> None:
    """The last and the first timed request: again, and right after it with another seed; then with other prompts.

    The baseline is asked for what was changed, and none of it counts as a pair.
    """
    bench = Bench(markers=FASTER)
    bench.time(_baseline(), _candidate())
    first, *_, last = (pair.requests[0] for pair in bench.comparison._pairs())
    baseline, candidate = bench.asked_anew()
    bench.comparison.canaries()

    asked = [request for (request,) in candidate.asked]
    assert [request for (request,) in baseline.asked] == [asked[1], asked[3], *asked[4:]]
    assert bench.pairs == 4
    assert (asked[0], asked[2], len(asked)) == (last, first, 6)
    for timed, reseeded, reprompted in ((last, asked[1], asked[4]), (first, asked[3], asked[5])):
        assert reseeded == replace(timed, seed=reseeded.seed)
        assert reseeded.seed != timed.seed
        assert reprompted == replace(timed, prompt=reprompted.prompt)
        assert reprompted.prompt != timed.prompt


def test_canaries_hold_each_answer_beside_the_timed_image() -> None:
    """Timed first, changed second, each in its own place: the arms' images differ, and none is mixed up."""
    bench = Bench(markers=FASTER)
    bench.time(_baseline(_scoring(60)), _candidate(look=_scoring(40)))
    pairs = bench.comparison._pairs()
    timed = (pairs[-1], pairs[0])
    baseline, candidate = bench.asked_anew()
    found = bench.comparison.canaries()

    def drawn(arm: Painter, score: float) -> list[bytes]:
        return [told(_drawing(request), score).tobytes() for (request,) in arm.asked]

    mine, its = drawn(candidate, 40), drawn(baseline, 60)
    images = [name for name in found.__dataclass_fields__ if name not in ("recalls", "probed", "odd")]
    answers = {name: [b.tobytes() for _, b in getattr(found, name)] for name in images}
    assert answers == {
        "repeated": mine[0:4:2],
        "reseeded": mine[1:4:2],
        "reprompted": mine[4:],
        "baseline_reseeded": its[:2],
        "baseline_reprompted": its[2:],
    }
    for name, beside in ((name, getattr(found, name)) for name in answers):
        arm = "baseline" if name.startswith("baseline") else "candidate"
        expected = [getattr(pair, arm).images[0] for pair in timed]
        assert all(one is other for (one, _), other in zip(beside, expected, strict=True))


def test_the_baseline_is_not_asked_for_what_the_candidate_draws() -> None:
    """An odd request that the candidate answers with an image needs nothing beside it: four calls less a task."""
    bench = Bench(markers=FASTER)
    bench.time(_baseline(), _candidate())
    baseline, candidate = bench.asked_anew()
    odd = (replace(bench.comparison._pairs()[0].requests[0], seed=99),)

    found = bench.comparison.canaries([(odd, candidate.generate(odd, timeout_s=9))] * 3)

    assert (found.probed, found.odd) == (3, ())
    assert odd not in baseline.asked


def test_what_the_baseline_leaves_flat_too_is_not_asked_for_again() -> None:
    """Nothing is drawn by either: that is known from the first."""
    bench = Bench(markers=FASTER)
    nothing = partial(_nothing_for, 99)
    bench.time(_baseline(nothing), _candidate(look=nothing))
    baseline, candidate = bench.asked_anew()
    odd = (replace(bench.comparison._pairs()[0].requests[0], seed=99),)

    (found,) = bench.comparison.canaries([(odd, candidate.generate(odd, timeout_s=9))]).odd

    assert found.again == ()
    assert baseline.asked[-1] == odd


def test_a_flat_answer_to_an_odd_request_is_asked_for_with_other_seeds() -> None:
    """Of both arms, each the same: whether the prompt is skipped or one seed was unlucky only those can tell."""
    bench = Bench(markers=FASTER)
    bench.time(_baseline(_scoring(60)), _candidate(look=partial(_nothing_for, 99)))
    baseline, candidate = bench.asked_anew()
    odd = (replace(bench.comparison._pairs()[0].requests[0], seed=99),)
    reply = candidate.generate(odd, timeout_s=9)

    (found,) = bench.comparison.canaries([(odd, reply)]).odd

    own, its = found.images
    assert its is reply.images[0]
    assert own.tobytes() == told(_drawing(odd[0]), 60).tobytes()
    assert len(found.again) == guards.ODD_AGAIN
    seeds = baseline.asked[-guards.ODD_AGAIN :]
    assert seeds == candidate.asked[-guards.ODD_AGAIN :]
    assert len({request.seed for (request,) in seeds} | {99}) == 1 + guards.ODD_AGAIN
    assert {request.prompt for (request,) in seeds} == {odd[0].prompt}
    assert [theirs.tobytes() for _, theirs in found.again] == [_drawing(each).tobytes() for (each,) in seeds]


def test_one_batch_is_canary_enough() -> None:
    """Where four requests travel together one call of each change brings four images; two are still asked again."""
    bench = Bench(Task("sd15", batch=4))
    bench.time(_baseline(), _candidate())
    baseline, candidate = bench.asked_anew()
    found = bench.comparison.canaries()

    assert (len(candidate.asked), len(baseline.asked)) == (5, 2)
    assert [len(pairs) for pairs in vars(found).values() if isinstance(pairs, tuple)] == [8, 4, 4, 4, 4, 2, 0]


def test_another_prompt_is_another_even_of_ten() -> None:
    """A user's ten prompts have all been timed by then: the changed request must not draw its own again."""
    weights = replace(WEIGHTS, prompts=lambda rng, count: supply._shuffled(CAPTIONS[:10], rng, count))
    for seed in range(40):
        bench = Bench(weights=weights, seed=seed)
        bench.time(_baseline(), _candidate())
        pairs = bench.comparison._pairs()
        timed = [pair.requests[0].prompt for pair in (pairs[-1], pairs[0])]
        _, candidate = bench.asked_anew()
        bench.comparison.canaries()

        changed = [request.prompt for (request,) in candidate.asked][-2:]
        assert all(one != other for one, other in zip(timed, changed, strict=True))


# -- memory ----------------------------------------------------------------------------------------------------------


def _keeping(answers: int, of: Callable[[Request], object], hit_s: float = 0.01) -> Painter:
    """An arm that needs 0.9 s, or hardly any time where it kept something of an earlier request; oldest goes first."""
    kept: list[object] = []

    def seconds(request: Request) -> float:
        key = of(request)
        if key in kept:
            return hit_s
        kept.append(key)
        del kept[:-answers]
        return 0.9

    return Painter(seconds)


def _memory(candidate: Painter) -> Guard:
    """What the guard finds of a candidate that is timed, judged, and asked again."""
    bench = Bench(markers=FASTER)
    bench.time(Painter(_about(2.0, 1)), candidate)
    judgement = bench.judge(_tiny_scorer())
    found = judgement.evidence(bench.comparison.canaries())
    return next(guard for guard in found.guards if guard.name == "memory")


@pytest.mark.parametrize("answers", [1, 3, 1000])
def test_an_answer_from_memory_is_noticed(answers: int) -> None:
    """However few answers are kept, the last timed one is among them; the line says what was found."""
    found = _memory(_keeping(answers, lambda request: (request.prompt, request.seed)))

    assert not found.passed
    assert "answers from memory" in found.found
    assert "0.01 s, 90.0 times as fast" in found.found


@pytest.mark.parametrize("answers", [1, 1000])
def test_keeping_what_belongs_to_a_prompt_is_honest(answers: int) -> None:
    """An embedding that is kept, one or all, makes the same prompt faster with any seed, be it ninety times faster."""
    assert _memory(_keeping(answers, lambda request: request.prompt)).passed


def test_a_slow_moment_is_no_memory() -> None:
    """Times that vary up to threefold by themselves, in any order, are nobody's memory."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        assert _memory(Painter(lambda _, rng=rng: float(rng.uniform(0.3, 1.0)))).passed  # type: ignore[misc]


# -- the baseline ----------------------------------------------------------------------------------------------------


def test_the_pairs_that_decided_are_the_ones_to_protect() -> None:
    """Four pairs decide, six more are timed for their images: a baseline slowed in the four alone must show."""
    calls = itertools.count()
    bench = Bench(markers=FASTER)
    bench.time(Painter(lambda _: 4.0 if next(calls) < 6 else 2.0, _scoring(60)), _candidate(2.0))
    bench.judge()

    assert bench.pairs == 10
    assert bench.comparison.deciding_baseline_s() == [4.0] * 4


def test_without_a_demand_every_pair_is_one_to_protect() -> None:
    """Nothing is decided, and all of them make the figure."""
    bench = Bench()
    bench.time(_baseline(), _candidate())

    assert bench.comparison.deciding_baseline_s() == [p.baseline.elapsed_s for p in bench.comparison._pairs()]


def test_alone_the_baseline_answers_what_nobody_has_asked() -> None:
    """Fresh requests, to the baseline only: the candidate's process has ended."""
    bench = Bench(markers=FASTER)
    bench.time(_baseline(), _candidate())
    timed = {pair.requests for pair in bench.comparison._pairs()}
    baseline, candidate = bench.asked_anew()
    candidate.ended = True

    assert len(bench.comparison.baseline_alone_s(4)) == len(set(baseline.asked)) == 4
    assert timed.isdisjoint(baseline.asked)


# -- the control -----------------------------------------------------------------------------------------------------


def _by_steps(full: float, fewer: float) -> Callable[[Image, Request], Image]:
    """Images that score less where the request asks for fewer steps than 50."""
    return lambda image, request: told(image, full if request.num_inference_steps == 50 else fewer)


def test_the_control_takes_the_candidates_time() -> None:
    """0.1 s and 0.02 s a step: twenty-five of fifty steps take the candidate's 0.6 s, asked of every timed request."""
    bench = Bench()
    bench.time(Painter(_per_step(0.1, 0.02), _by_steps(60, 50)), Painter(lambda _: 0.6, _scoring(58)))
    judgement = bench.judge()
    timed = [pair.requests[0] for pair in bench.comparison._pairs()]
    baseline, candidate = bench.asked_anew()

    control = bench.comparison.step_control(judgement, judgement.evidence().candidate_clip)
    assert control is not None
    assert control.steps == 25
    assert control.elapsed_s == pytest.approx(0.6)
    assert [control.clip_score, control.gain] == pytest.approx([50, 8], abs=0.01)
    assert not control.suffices
    assert [request for (request,) in baseline.asked[-10:]] == [replace(r, num_inference_steps=25) for r in timed]
    assert (candidate.asked, bench.pairs, judgement.count) == ([], 10, 10)


@given(st.floats(0, 2), st.floats(0.005, 0.1), st.floats(0.02, 0.98) | st.floats(1, 1.5))
@settings(deadline=None, max_examples=25)
def test_the_control_is_as_close_to_the_candidates_time_as_steps_allow(fixed: float, step: float, share: float) -> None:
    """The nearest whole number of steps, for any baseline; none where even one step takes much longer, or no gain."""
    seconds = _per_step(fixed, step)
    full_s = fixed + 50 * step
    aim_s = share * full_s
    bench = Bench()
    bench.time(Painter(seconds, _scoring(60)), Painter(lambda _: aim_s, _scoring(60, 61)))
    judgement = bench.judge()
    control = bench.comparison.step_control(judgement, judgement.evidence().candidate_clip)

    nearest_s = min((fixed + step * steps for steps in range(1, 51)), key=lambda taken_s: abs(taken_s - aim_s))
    if full_s <= aim_s or nearest_s > CONTROL_TOLERANCE * aim_s * 1.001:
        assert control is None
    elif nearest_s < CONTROL_TOLERANCE * aim_s * 0.999:
        assert control is not None
        assert abs(control.elapsed_s - aim_s) == pytest.approx(abs(nearest_s - aim_s), abs=1e-6)
        assert control.elapsed_s == pytest.approx(fixed + step * control.steps)


def test_a_candidate_that_is_hardly_faster_has_a_control_with_fewer_steps() -> None:
    """Where most of the time is spent once, half a per cent of it is two steps: the control is not the baseline."""
    bench = Bench()
    bench.time(Painter(_per_step(2, 0.005), _scoring(60)), Painter(lambda _: 0.995 * 2.25, _scoring(60)))
    judgement = bench.judge()

    control = bench.comparison.step_control(judgement, judgement.evidence().candidate_clip)
    assert control is not None
    assert control.steps == 48


def test_a_control_as_good_as_the_candidate_suffices() -> None:
    """Where the baseline scores the same with fewer steps, whoever is as fast has shown nothing."""
    bench = Bench()
    bench.time(Painter(_per_step(0.1, 0.02), _scoring(60)), Painter(lambda _: 0.6, _scoring(60)))
    judgement = bench.judge()

    control = bench.comparison.step_control(judgement, judgement.evidence().candidate_clip)
    assert control is not None
    assert control.gain_low == control.gain == 0
    assert control.suffices


def test_the_gain_over_the_control_has_students_bound() -> None:
    """The lower 95 % bound of its mean over the images, as scipy has it."""
    bench = Bench()
    bench.time(Painter(_per_step(0.1, 0.02), _by_steps(60, 50)), Painter(lambda _: 0.6, _scoring(48, 53, 55)))
    judgement = bench.judge()
    clip = judgement.evidence().candidate_clip

    control = bench.comparison.step_control(judgement, clip)
    expected = stats.ttest_1samp([score - 50 for score in clip], 0, alternative="greater").confidence_interval(0.95)
    assert control is not None
    assert control.gain_low == pytest.approx(float(expected.low), abs=0.02)
    assert control.gain_low < control.gain


FIXED = {
    "by its level": Task("sd15", level=1),
    "by its method": Task("sd15", methods={"dpm_solver": {"steps": 20}}),
    "to one": Task("sd15", steps=1),
}


@pytest.mark.parametrize("how", FIXED)
def test_a_task_that_fixes_the_steps_has_no_control(how: str) -> None:
    """A candidate that may not take fewer steps is not compared with a baseline that does; it is not even asked."""
    bench = Bench(FIXED[how])
    bench.time(Painter(_per_step(0.1, 0.02)), Painter(lambda _: 0.06))
    judgement = bench.judge(_tiny_scorer())
    baseline, _ = bench.asked_anew()

    assert bench.comparison.step_control(judgement, judgement.evidence().candidate_clip) is None
    assert baseline.asked == []


@pytest.mark.parametrize("candidate_s", [2.0, 2.5], ids=["as fast", "slower"])
def test_where_nothing_was_gained_there_is_nothing_to_explain(candidate_s: float) -> None:
    """A candidate that is no faster has no control."""
    bench = Bench()
    bench.time(Painter(lambda _: 2.0, _scoring(60)), Painter(lambda _: candidate_s, _scoring(60)))
    judgement = bench.judge()

    assert bench.comparison.step_control(judgement, judgement.evidence().candidate_clip) is None


@pytest.mark.parametrize(
    "speedup",
    [
        1.1,
        1.2,
        1.3,
        2.0,
    ],
)
def test_a_baseline_that_ignores_steps_has_no_control(speedup: float) -> None:
    """It takes as long with fewer steps: that explains no speed-up, however small."""
    bench = Bench()
    bench.time(Painter(_about(2.0, 1), _scoring(60)), Painter(_about(2.0 / speedup, 2), _scoring(60)))
    judgement = bench.judge()

    assert bench.comparison.step_control(judgement, judgement.evidence().candidate_clip) is None


# -- several starts --------------------------------------------------------------------------------------------------


def _certified(*speedups: float, look: Callable[[Image, Request], Image] | None = None) -> Bench:
    bench = Bench(markers=FASTER, plans=CERTIFIED, starts=len(speedups))
    for speedup in speedups:
        bench.time(_baseline(), _candidate(speedup, look))
    return bench


def test_three_starts_bring_a_hundred_images() -> None:
    """Each start times its own pairs and a third of the images; one look at all decides, and none of them is broken."""
    bench = _certified(2.2, 2.3, 2.1)
    judgement = bench.judge()

    evidence, speed = judgement.evidence(), bench.comparison.speed()
    assert [len(start.trial.pairs) for start in bench.comparison._starts] == [34, 34, 34]
    assert speed.by_start == pytest.approx((2.2, 2.3, 2.1), rel=0.02)
    assert (speed.decision, speed.decided_after) == (Outcome.ABOVE, 12)
    assert (evidence.decision, evidence.decided_after, judgement.count) == (Outcome.ABOVE, 100, 102)
    assert evidence.broken_share_bound is not None
    assert evidence.broken_share_bound < 0.03


@pytest.mark.parametrize("slow", [0, 1, 2])
def test_every_start_must_be_fast(slow: int) -> None:
    """One start that misses the demand is a claim that does not hold, whichever it is."""
    speedups = [2.2, 2.2, 2.2]
    speedups[slow] = 1.5

    assert _certified(*speedups).comparison.speed().decision is Outcome.BELOW


def test_a_start_that_is_too_slow_makes_no_images() -> None:
    """Nobody will judge them; and whoever asks is told that no other start is needed."""
    slow, fast = _certified(2.2, 2.2, 1.5).comparison, _certified(2.2, 2.2, 2.2).comparison

    assert (slow.too_slow, fast.too_slow) == (True, False)
    assert [len(start.trial.pairs) for start in slow._starts] == [34, 34, 4]


def test_one_start_that_leaves_it_open_leaves_it_open() -> None:
    """Two good starts do not speak for the third."""
    bench = Bench(markers=FASTER, plans=CERTIFIED, starts=3)
    bench.time(_baseline(), _candidate())
    bench.time(Painter(_about(2.0, 1, 0.5)), Painter(_about(2.0 / 1.8, 2, 0.5)))
    bench.time(_baseline(), _candidate())

    assert bench.comparison.speed().decision is Outcome.OPEN


def test_what_a_hundred_images_leave_open_only_the_last_start_goes_on_with() -> None:
    """The processes of earlier starts have ended: the last one makes what is missing, up to the plan's end."""
    bench = _certified(2.2, 2.2, 2.2, look=_scoring(54, 60.4))
    judgement = bench.judge()
    bench.comparison.canaries()
    bench.comparison.more_images(160)

    assert [len(start.trial.pairs) for start in bench.comparison._starts] == [34, 34, 82]
    assert (judgement.count, bench.said[0]) == (150, "judging 100 images")


def test_batches_of_three_starts_are_counted() -> None:
    """Nine pairs of four in each start are a hundred and eight images: enough."""
    bench = Bench(Task("sd15", batch=4), plans=CERTIFIED, starts=3)
    for _ in range(3):
        bench.time(_baseline(), _candidate())

    assert (bench.judge().count, bench.pairs) == (108, 27)


def test_the_memory_of_a_start_is_read_while_it_runs() -> None:
    """An ended process has none: the cost holds the first start's peaks, the ratio is the middle one of all starts'."""
    bench = Bench(starts=3)
    for peak in (4000, 1500, 2000):
        bench.time(Painter(lambda _: 2.0, memory_bytes=1000), Painter(lambda _: 1.0, memory_bytes=peak))

    cost = bench.comparison.cost()
    assert (cost.baseline_peak_memory_bytes, cost.peak_memory_bytes) == (1000, 4000)
    assert bench.comparison.speed().peak_memory_ratio == 2


def test_the_memory_counts_the_pairs_that_are_timed_for_images() -> None:
    """A peak that only comes while more images are made is a peak."""
    bench = Bench(markers=FASTER)
    bench.time(_baseline(), _candidate())
    bench.started[0][1].memory_bytes = 5000
    bench.judge()

    assert bench.comparison.cost().peak_memory_bytes == 5000


def test_a_second_try_is_stricter_and_sees_more() -> None:
    """Every level is halved, and what was left open goes by more pairs and images than before."""
    plans, again = Plans(), Plans().second_try(2)

    for first in (plans.speed, plans.share, plans.quality, plans.strict, CERTIFIED.quality):
        second = first.second_try(2)
        assert second.alpha == first.alpha / 2
        assert second.looks[-1] > 1.5 * first.looks[-1]
    assert again.quality.second_try(2).looks == again.quality.looks
    for name in ("speed", "share", "quality"):
        quick = getattr(QUICK, name)
        assert quick.second_try(2).looks[-1] <= quick.looks[-1]


def test_a_quick_look_takes_one_broken_image_for_luck() -> None:
    """It looks no further: who it finds good is looked at thoroughly before anybody relies on it."""
    for broken, holds in ((1, True), (2, False)):
        bench = Bench(markers=FASTER, plans=QUICK)
        bench.time(_baseline(), _candidate(look=_scoring(60)))
        bench.comparison._extend(10)
        for pair in bench.comparison._pairs()[:broken]:
            grey = told(np.full_like(pair.candidate.images[0], 127), 60)
            object.__setattr__(pair.candidate, "images", (grey,))
        judgement = bench.judge()

        red = {guard.name for guard in judgement.evidence().guards if not guard.passed}
        assert ("broken images" not in red) is holds
        assert judgement.count == LEAST_IMAGES


# -- sets of images --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "images"), [(1, 25), (4, 28), (6, 30)])
def test_more_images_are_made_for_both_arms_alike(batch: int, images: int) -> None:
    """The timed ones first, then untimed ones of fresh requests, the same for both arms, until there are enough."""
    bench = Bench(Task("sd15", batch=batch))
    bench.time(Painter(lambda _: 2.0), Painter(lambda _: 1.0))
    before = bench.pairs
    timed = [image.tobytes() for pair in bench.comparison._pairs() for image in pair.candidate.images]
    asked, candidate_asked = (arm.asked for arm in bench.asked_anew())

    baseline, candidate = bench.comparison.more_images(25)
    seeds = Counter(request.seed for requests in asked for request in requests)
    assert (len(baseline), len(candidate), bench.pairs) == (images, images, before)
    assert [image.tobytes() for image in candidate[: len(timed)]] == timed
    assert [image.tobytes() for image in baseline] == [image.tobytes() for image in candidate]
    assert asked == candidate_asked
    assert set(seeds.values()) == {1}


def test_enough_timed_images_ask_for_no_more() -> None:
    """Where the timed ones suffice, they are all."""
    bench = Bench()
    bench.time(_baseline(), _candidate())
    baseline, candidate = bench.asked_anew()

    assert [len(images) for images in bench.comparison.more_images(10)] == [10, 10]
    assert baseline.asked == candidate.asked == []


@pytest.mark.parametrize(
    ("task", "recorded"),
    [
        (Task("sd15"), 50.0),
        (Task("sd15", sampler="ddim"), 40.0),
        (Task("sd15", sampler="euler"), None),
        (Task("sd15", steps=30), None),
        (Task("sd15", guidance=5.0), None),
    ],
    ids=["its own", "another sampler", "a sampler without record", "fewer steps", "other guidance"],
)
def test_a_record_holds_for_its_own_configuration_only(task: Task, recorded: float | None) -> None:
    """Absolute quality is judged by what was measured of this very configuration, or not at all."""
    bench = Bench(task)
    bench.time(_baseline(), _candidate())

    assert bench.judge().evidence().reference_clip_score == recorded
