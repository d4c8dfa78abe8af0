"""When lost quality fails a task, and when there are images enough to say: all on drawings, most with told scores."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_diffbench.errors import SetupError
from pytest_diffbench.judge import quality
from pytest_diffbench.judge.album import Album, Canaries
from pytest_diffbench.judge.clip import ClipScorer
from pytest_diffbench.judge.metric import Metric
from pytest_diffbench.judge.quality import (
    Judgement,
    Rule,
    describe_loss,
    fault,
    scores,
    shuffled_score,
    upper_bound,
)
from pytest_diffbench.records import Cause, Guard, MetricResult, Outcome, Quality, StepControl
from pytest_diffbench.sequential import CERTIFIED_QUALITY, QUALITY
from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.drawings import ATTRIBUTES, Scene
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from pytest_diffbench.judge.album import Image

SCENES = 60
RECORDED = 30.0
FLOOR = 0.95 * RECORDED
SPREAD = 4.0
DIMENSIONS = 128


class ToldScorer(ClipScorer):
    """Sees in each image the score that `told` wrote into its first pixel, and in images of other prompts `stray`."""

    def __init__(self, *, stray: float = 0.0, noise: float | None = None) -> None:
        self.looks = 0
        self._stray, self._noise = stray / 100, noise
        self._column: dict[str, int] = {}

    def embed(self, prompts: Sequence[str], images: Sequence[Image]) -> tuple[torch.Tensor, torch.Tensor]:
        """Texts share as much as `stray` says; the images of one arm come in the order of their prompts."""
        self.looks += 1
        columns = [self._column.setdefault(prompt, len(self._column) + 2) for prompt in prompts]
        texts, seen = np.zeros((len(prompts), DIMENSIONS)), np.zeros((len(images), DIMENSIONS))
        own = np.sqrt(1 - self._stray)
        texts[:, 0] = np.sqrt(self._stray)
        texts[range(len(prompts)), columns] = own
        cosines = np.array([(256 * int(image[0, 0, 0]) + int(image[0, 0, 1])) / 65535 for image in images])
        seen[:, 0] = np.sqrt(self._stray)
        seen[range(len(images)), columns * (len(images) // len(columns))] = (cosines - self._stray) / own
        seen[:, 1] = np.sqrt(np.maximum(0, 1 - np.square(seen).sum(axis=1)))
        return torch.from_numpy(seen.astype(np.float32)), torch.from_numpy(texts.astype(np.float32))

    def scores(self, prompts: Sequence[str], images: Sequence[Image]) -> tuple[float, ...]:
        """What is told, or `noise` where that is given: the judgement asks in this way for noise."""
        return super().scores(prompts, images) if self._noise is None else (self._noise,) * len(prompts)


def told(image: Image, score: float) -> Image:
    """The image with this score in its first pixel."""
    marked = image.copy()
    marked[0, 0] = (*divmod(round(score / 100 * 65535), 256), 0)
    return marked


def _scene(number: int) -> Scene:
    """Neighbours differ in all six attributes."""
    return Scene(*(str(words[number % len(words)]) for words in ATTRIBUTES.values()))


@cache
def _drawn(seed: int) -> tuple[Image, ...]:
    rng = np.random.default_rng(seed)
    return tuple(drawings.draw(_scene(number), rng) for number in range(SCENES))


PROMPTS = tuple(_scene(number).caption for number in range(SCENES))


@cache
def _tiny_scorer() -> ClipScorer:
    return ClipScorer(TINY / "scorer")


def _add(judgement: Judgement, baseline: Sequence[float], candidate: Sequence[float]) -> None:
    """Drawings of both arms that score as told, of the scenes that come next."""
    numbers = [number % SCENES for number in range(judgement.count, judgement.count + len(baseline))]
    judgement.add(
        [PROMPTS[number] for number in numbers],
        [told(_drawn(1)[number], score) for number, score in zip(numbers, baseline, strict=True)],
        [told(_drawn(2)[number], score) for number, score in zip(numbers, candidate, strict=True)],
    )


def _judged(
    baseline: Sequence[float],
    candidate: Sequence[float],
    rule: Rule | None = None,
    scorer: ClipScorer | None = None,
    metrics: Sequence[Metric] = (),
) -> Judgement:
    judgement = Judgement(scorer or ToldScorer(), rule or Rule(), metrics)
    _add(judgement, baseline, candidate)
    return judgement


def _level(count: int, mean: float = 60.0) -> list[float]:
    """Scores of a good baseline: five points up and down."""
    return [mean + 5 * (number % 3 - 1) for number in range(count)]


def _looks_until_none(judgement: Judgement, baseline: Callable[[int], float], candidate: Callable[[int], float]) -> str:
    """Every count that is wanted in turn, each time supplied."""
    wanted: list[int | None] = []
    while (count := judgement.wanted()) is not None:
        numbers = range(judgement.count, count)
        _add(judgement, [baseline(number) for number in numbers], [candidate(number) for number in numbers])
        wanted.append(count)
    return ", ".join(map(str, wanted))


def _evidence(
    baseline: Sequence[float], candidate: Sequence[float] | None = None, *, recorded: float | None = None
) -> Quality:
    """What a decided judgement with these scores has found; nothing speaks against it but what is asked for."""
    theirs = baseline if candidate is None else candidate
    base, accelerated = float(np.mean(baseline)), float(np.mean(theirs))
    return Quality(
        baseline_clip=tuple(baseline),
        candidate_clip=tuple(theirs),
        clip_score=accelerated,
        loss=(base - accelerated) / base,
        max_loss=0.05,
        reference_clip_score=recorded,
        decision=Outcome.ABOVE,
        strict_decision=Outcome.ABOVE,
        guards=(Guard("flat", passed=True, found="0 of 10 images flat"),),
    )


# -- the loss and its interval ---------------------------------------------------------------------------------------


def test_the_loss_is_a_share_of_the_baselines_mean() -> None:
    """The paper's L = (mean baseline - mean candidate) / mean baseline."""
    found = _judged([30.0, 50.0], [20.0, 40.0]).evidence()

    assert found.clip_score == pytest.approx(30, abs=0.01)
    assert found.loss == pytest.approx(0.25, abs=1e-3)


def test_every_score_is_on_record() -> None:
    """Both arms' scores, the rule and the recorded score stay with the result, in the order of the requests."""
    rule = Rule(max_loss=0.1, strict=True, reference_clip_score=RECORDED, floor_clip_score=12.0)

    found = _judged([40, 41], [39, 38], rule).evidence()
    assert found.baseline_clip == pytest.approx((40, 41), abs=0.01)
    assert found.candidate_clip == pytest.approx((39, 38), abs=0.01)
    assert (found.max_loss, found.strict, found.reference_clip_score, found.floor_clip_score) == (
        0.1,
        True,
        RECORDED,
        12,
    )


@given(st.lists(st.tuples(st.floats(20, 90), st.floats(20, 90)), min_size=10, max_size=10), st.floats(0.01, 0.9))
@settings(deadline=None, max_examples=40)
def test_the_interval_holds_the_loss_and_agrees_with_the_decision(
    scored: list[tuple[float, float]], max_loss: float
) -> None:
    """At a single look the loss is shown to be allowed exactly where all of its interval is, and exceeded likewise."""
    baseline, candidate = zip(*scored, strict=True)

    found = _judged(baseline, candidate, Rule(max_loss=max_loss, floor_clip_score=0)).evidence()
    assert found.loss is not None
    assert found.loss_low is not None
    assert found.loss_high is not None
    assert found.loss_low - 1e-6 <= found.loss <= found.loss_high + 1e-6
    if abs(found.loss_high - max_loss) > 1e-9:
        assert (found.decision is Outcome.ABOVE) == (found.loss_high < max_loss)
    if abs(found.loss_low - max_loss) > 1e-9:
        assert (found.decision is Outcome.BELOW) == (found.loss_low > max_loss)


def test_the_interval_is_students_in_shares_of_the_baseline() -> None:
    """For a baseline without spread: the mean of the losses, as scipy bounds it at the level of one look."""
    lost = [0.01, 0.02, 0.06, -0.01, 0.0, 0.03, 0.02, 0.05, -0.02, 0.04]
    low, high = stats.t.interval(1 - 2 * QUALITY.alpha, 9, loc=np.mean(lost), scale=stats.sem(lost))

    found = _judged([60.0] * 10, [60 * (1 - share) for share in lost]).evidence()
    assert [found.loss_low, found.loss_high] == pytest.approx([low, high], abs=1e-3)


def test_too_few_images_have_no_interval() -> None:
    """One image alone decides nothing, and its loss has no bounds: None, which JSON can hold."""
    found = _judged([60.0], [20.0]).evidence()

    assert (found.loss_low, found.loss_high, found.decision) == (None, None, Outcome.OPEN)


# -- what is shown, and when -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "within_5", "within_1_5"),
    [
        (1.02, Outcome.ABOVE, Outcome.ABOVE),
        (0.99, Outcome.ABOVE, Outcome.ABOVE),
        (0.97, Outcome.ABOVE, Outcome.BELOW),
        (0.92, Outcome.BELOW, Outcome.BELOW),
    ],
    ids=["gained 2%", "lost 1%", "lost 3%", "lost 8%"],
)
def test_a_loss_is_told_from_5_and_from_1_5_percent(kept: float, within_5: Outcome, within_1_5: Outcome) -> None:
    """Paired non-inferiority at both limits: prompts that score unlike one another do not hide a small loss."""
    baseline = _level(24)

    found = _judged(baseline, [kept * score for score in baseline]).evidence()
    assert (found.decision, found.strict_decision) == (within_5, within_1_5)


def test_a_loss_at_the_limit_wants_every_look() -> None:
    """What cannot be told from the limit is looked at 10, 16, 24, 36 and 50 images, and then stays open."""
    judgement = Judgement(ToldScorer(), Rule())

    looks = _looks_until_none(judgement, lambda _: 60, lambda number: 57 + 6 * (-1) ** number)
    assert looks == "10, 16, 24, 36, 50"
    assert judgement.evidence().decision is Outcome.OPEN


def test_a_clear_case_wants_one_look() -> None:
    """Ten images are enough where they say it all, whichever way."""
    for kept in (0.8, 1.0):
        judgement = Judgement(ToldScorer(), Rule())
        looks = _looks_until_none(judgement, lambda _: 60, lambda number, kept=kept: 60 * kept + number % 2)  # type: ignore[misc]
        assert looks == "10"


def test_the_strict_limit_wants_more_only_where_it_gates() -> None:
    """A loss that is within 5 % after ten images and cannot be told from 1.5 % is looked at on for `strict` alone."""
    looks = {
        strict: _looks_until_none(
            Judgement(ToldScorer(), Rule(strict=strict)), lambda _: 60, lambda number: 59.1 + 2 * (-1) ** number
        )
        for strict in (False, True)
    }

    assert looks == {False: "10", True: "10, 12, 24, 36, 60, 90, 120"}


def test_a_certified_judgement_never_looks_at_fewer_than_a_hundred() -> None:
    """However clear ten images are, a result to publish rests on a hundred."""
    judgement = Judgement(ToldScorer(), Rule(plan=CERTIFIED_QUALITY))

    assert _looks_until_none(judgement, lambda _: 60, lambda number: 60 + number % 2) == "100"


@pytest.mark.parametrize(
    ("grey", "one_in", "looks"),
    [
        ((), 20, "10"),
        ((3,), 20, "10, 20"),
        ((3, 7), 20, "10"),
        ((3,), None, "10"),
        ((3, 15), 20, "10, 20"),
    ],
    ids=["none", "one", "two", "one where none may", "another one later"],
)
def test_one_broken_image_is_looked_into(grey: tuple[int, ...], one_in: int | None, looks: str) -> None:
    """Who has exactly one among the first must show as many as may have one; two are enough to know."""
    judgement = Judgement(ToldScorer(), Rule(broken_one_in=one_in))
    seen = []
    while (wanted := judgement.wanted()) is not None:
        seen.append(str(wanted))
        for number in range(judgement.count, wanted):
            image = _drawn(2)[number]
            mine = np.full_like(image, 127) if number in grey else image
            judgement.add([PROMPTS[number]], [told(_drawn(1)[number], 60)], [told(mine, 60 + number % 2)])

    found = judgement.evidence()
    assert ", ".join(seen) == looks
    assert found.decision is Outcome.ABOVE
    assert found.broken_images == len(grey)
    assert (fault(found) is None) == (len(grey) <= (one_in is not None))


@pytest.mark.parametrize(("grey", "count"), [((), 50), ((3,), 60), ((3, 7), 50)], ids=["none", "one", "two"])
def test_what_stays_open_is_looked_into_for_one_broken_image(grey: tuple[int, ...], count: int) -> None:
    """Its score will be tried once more, so one image must not end it that may be the only one; two are a habit."""
    judgement = Judgement(ToldScorer(), Rule(broken_one_in=60))
    while (wanted := judgement.wanted()) is not None:
        for number in range(judgement.count, wanted):
            image = _drawn(2)[number]
            mine = np.full_like(image, 127) if number in grey else image
            judgement.add([PROMPTS[number]], [told(_drawn(1)[number], 60)], [told(mine, 57 + 30 * (-1) ** number)])

    found = judgement.evidence()
    assert QUALITY.looks[-1] == 50
    assert (judgement.count, found.decision) == (count, Outcome.OPEN)
    ended = fault(found)
    assert ended is not None
    assert ended.cause is (Cause.GUARD if len(grey) > 1 else Cause.UNDECIDED)


@pytest.mark.parametrize(("first", "then"), [(60.0, 30.0), (30.0, 60.0)], ids=["good, then bad", "bad, then good"])
def test_decided_early_stays_decided(first: float, then: float) -> None:
    """Images made later for another reason do not reopen what the first look decided."""
    judgement = _judged(_level(10), _level(10, first))
    early = judgement.evidence()
    _add(judgement, _level(14), _level(14, then))
    late = judgement.evidence()

    assert early.decision is not Outcome.OPEN
    assert (late.decision, late.decided_after) == (early.decision, early.decided_after) == (early.decision, 10)
    assert judgement.wanted() is None
    assert len(late.candidate_clip) == 24


def test_a_look_reads_no_more_images_than_it_may() -> None:
    """Batches that overshoot a look do not move it: of twelve images the first ten decide."""
    shown = _judged([*_level(10), 60, 60], [*_level(10), 1, 1]).evidence()

    assert (shown.decision, shown.decided_after) == (Outcome.ABOVE, 10)


def test_images_that_do_not_count_are_scored_all_the_same() -> None:
    """What the control makes gets its scores, and moves nothing that is known of the candidate."""
    judgement = _judged(_level(10), _level(10), scorer=ToldScorer(noise=7))
    before = judgement.evidence()

    assert judgement.clip_scores(PROMPTS[:2], _drawn(1)[:2]) == (7, 7)
    assert judgement.count == 10
    assert replace(judgement.evidence(), judge_s=0) == replace(before, judge_s=0)


def test_nothing_to_look_at_is_no_mistake() -> None:
    """No image at all leaves everything open, and the scorer unasked."""
    scorer = ToldScorer()
    judgement = Judgement(scorer, Rule())
    judgement.add([], [], [])

    assert (judgement.count, judgement.wanted(), scorer.looks) == (0, 10, 0)


# -- what else is found ----------------------------------------------------------------------------------------------


def test_other_drawings_of_the_same_scenes_pass() -> None:
    """Real scores: honest images of the same captions lose nothing that ten could show, and break no guard."""
    judgement = Judgement(_tiny_scorer(), Rule(floor_clip_score=20.0))
    judgement.add(PROMPTS[:10], _drawn(1)[:10], _drawn(2)[:10])

    found = judgement.evidence()
    assert found.decision is Outcome.ABOVE
    assert found.broken_images == 0
    assert fault(found) is None


def test_drawings_of_other_scenes_fail() -> None:
    """Real scores: good images of something else are a loss, and the line says how much."""
    judgement = Judgement(_tiny_scorer(), Rule())
    judgement.add(PROMPTS[:10], _drawn(1)[:10], _drawn(2)[1:11])

    found = fault(judgement.evidence())
    assert found is not None
    assert found.cause is Cause.RELATIVE_QUALITY
    assert found.line.endswith("> 5.0%")


def test_a_recorded_floor_gives_the_loss_as_a_share_of_the_range() -> None:
    """Two points lost are a twentieth of the forty between the baseline and what noise scores."""
    found = _judged([60, 60], [58, 58], Rule(floor_clip_score=20.0)).evidence()

    assert found.floor_clip_score == 20
    assert found.range_loss == pytest.approx(2 / 40, abs=1e-3)


def test_a_baseline_no_better_than_the_floor_has_no_range() -> None:
    """Where noise scores as much, a share of the range means nothing."""
    assert _judged([60, 60], [58, 58], Rule(floor_clip_score=60.5)).evidence().range_loss is None


@pytest.mark.parametrize(("stray", "noise", "floor"), [(15, 25, 25), (25, 15, 25)], ids=["noise", "other images"])
def test_without_a_record_the_floor_is_measured(stray: float, noise: float, floor: float) -> None:
    """The higher of what noise scores, and what the baseline's images score with prompts that are not theirs."""
    found = _judged([65, 65], [61, 61], scorer=ToldScorer(stray=stray, noise=noise)).evidence()

    assert found.floor_clip_score == pytest.approx(floor, abs=0.01)
    assert found.range_loss == pytest.approx(4 / 40, abs=1e-3)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_the_shuffled_score_is_that_of_other_prompts(prompts: list[str], seed: int) -> None:
    """The mean over all images and all prompts that read otherwise; 0 where none does."""
    similarity = np.random.default_rng(seed).uniform(-1, 1, (len(prompts), len(prompts))).astype(np.float32)
    others = [
        max(0.0, 100 * float(similarity[row, column]))
        for row, column in itertools.product(range(len(prompts)), repeat=2)
        if prompts[row] != prompts[column]
    ]

    images = _drawn(1)[: len(prompts)]
    album = Album(tuple(prompts), images, images, similarity, np.zeros_like(similarity))
    assert shuffled_score(album) == pytest.approx(float(np.mean(others)) if others else 0.0, abs=1e-3)


def test_a_score_is_the_cosine_with_the_own_prompt() -> None:
    """100 * max(cosine, 0), off the diagonal nothing counts."""
    similarity = np.array([[0.5, 0.9], [0.9, -0.25]], np.float32)

    assert scores(similarity) == (50, 0)


def test_the_worst_tenth_is_on_record() -> None:
    """A mean hides the one image of ten that lost twelve points."""
    candidate = _level(10)
    candidate[4] -= 12

    assert _judged(_level(10), candidate).evidence().worst_decile_drop == pytest.approx(12, abs=0.01)


def test_broken_images_are_counted_and_bounded() -> None:
    """Ten good images leave room for a quarter of broken ones; a flat one is counted, and widens that."""
    judgement = Judgement(ToldScorer(), Rule())
    marked = [told(image, 60 + number) for number, image in enumerate(_drawn(2)[:10])]
    grey = told(np.full_like(marked[0], 127), 60)
    judgement.add(PROMPTS[:10], [told(image, 60) for image in _drawn(1)[:10]], marked)
    whole = judgement.evidence()
    judgement.add(PROMPTS[10:11], [told(_drawn(1)[10], 60)], [grey])
    spoiled = judgement.evidence()

    assert (whole.broken_images, spoiled.broken_images) == (0, 1)
    assert whole.broken_share_bound == pytest.approx(1 - 0.05 ** (1 / 10))
    assert spoiled.broken_share_bound == pytest.approx(float(stats.beta.ppf(0.95, 2, 10)))


def test_a_guard_refuses_what_the_score_lets_pass() -> None:
    """One grey image that the scorer likes is a guard's business, and the line names it."""
    judgement = Judgement(ToldScorer(), Rule())
    marked = [told(image, 60 + number % 2) for number, image in enumerate(_drawn(2)[:10])]
    marked[3] = told(np.full_like(marked[3], 127), 60)
    judgement.add(PROMPTS[:10], [told(image, 60) for image in _drawn(1)[:10]], marked)

    evidence = judgement.evidence()
    found = fault(evidence)
    assert evidence.decision is Outcome.ABOVE
    assert found is not None
    assert found.cause is Cause.GUARD
    assert "flat: 1 of 10 images flat" in found.line


def _canaries() -> Canaries:
    def pairs(one: int, other: int, shift: int = 0) -> tuple[tuple[Image, Image], ...]:
        return tuple(zip(_drawn(one)[:3], _drawn(other)[shift : shift + 3], strict=True))

    return Canaries(pairs(2, 2), pairs(2, 3), pairs(2, 2, 20), pairs(1, 4), pairs(1, 1, 20))


def test_canaries_add_what_only_they_can_tell() -> None:
    """Fidelity and five more guards come with them, and are missing without; the scores are the same."""
    judgement = _judged(_level(10), _level(10))
    without, found = judgement.evidence(), judgement.evidence(_canaries())

    assert without.fidelity is None
    assert found.fidelity is not None
    more = {guard.name for guard in found.guards} - {guard.name for guard in without.guards}
    assert more == {"repeatability", "memory", "odd requests", "seed sensitivity", "prompt sensitivity"}
    assert (found.candidate_clip, found.loss_low) == (without.candidate_clip, without.loss_low)


def test_metrics_judge_the_same_images() -> None:
    """A metric of the user's own sees every pair, under the plan of the rule."""

    def red(prompts: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> list[float]:
        assert tuple(prompts) == PROMPTS[:10]
        return [float(image[0, 0, 0]) for image in images]

    metrics = [Metric("told", red), Metric("gate", red, max_loss=0.1)]
    judgement = _judged(_level(10), [score / 2 for score in _level(10)], metrics=metrics)
    only_reported, gate = judgement.metrics()

    assert (only_reported.decision, gate.decision) == (None, Outcome.BELOW)
    assert only_reported.loss == gate.loss == pytest.approx(0.5, abs=0.01)


# -- whose trouble it is, and how long it took -----------------------------------------------------------------------


def test_a_baseline_that_scores_nothing_is_no_solutions_fault() -> None:
    """A scorer that sees nothing in the baseline's images was made for other images: our trouble, with a hint."""
    with pytest.raises(SetupError, match="is the scorer made for such images"):
        _judged([0.0, 0.0], [20.0, 20.0]).evidence()


def test_a_baseline_of_grey_images_is_nothing_to_compare_with() -> None:
    """A baseline that fails its own guards judges nobody, whatever it scores."""
    grey = [told(np.full_like(image, 127), 60) for image in _drawn(1)[:10]]
    judgement = Judgement(ToldScorer(), Rule())
    judgement.add(PROMPTS[:10], grey, [told(image, 60) for image in _drawn(2)[:10]])

    with pytest.raises(SetupError, match="nothing to compare with: 10 of the baseline's 10 images are flat"):
        judgement.evidence()


def test_a_baseline_that_ignores_its_prompts_is_nothing_to_compare_with() -> None:
    """Canaries tell, too: where another prompt changes nothing in the baseline, the scores mean nothing."""
    canaries = replace(_canaries(), baseline_reprompted=_canaries().repeated)

    with pytest.raises(SetupError, match="do not change with the prompt"):
        _judged(_level(10), _level(10)).evidence(canaries)


class DamagedScorer(ToldScorer):
    """One weight of it is no number, in the part that reads images or in that which reads text."""

    def __init__(self, part: int) -> None:
        super().__init__()
        self._part = part

    def embed(self, prompts: Sequence[str], images: Sequence[Image]) -> tuple[torch.Tensor, torch.Tensor]:
        """NaN somewhere."""
        embeddings = super().embed(prompts, images)
        embeddings[self._part][-1, 3] = torch.nan
        return embeddings


@pytest.mark.parametrize("part", [0, 1], ids=["images", "texts"])
def test_a_score_that_is_no_number_is_the_scorers_fault(part: int) -> None:
    """NaN compares false with every limit and would pass: it is an error of ours, at once."""
    with pytest.raises(SetupError, match="are its weights damaged"):
        _judged([60, 60], [60, 60], scorer=DamagedScorer(part))


class SlowScorer(ToldScorer):
    """Each look takes three seconds of a clock that only it moves."""

    def perf_counter(self) -> float:
        """Seconds of that clock."""
        return 3.0 * self.looks

    def scores(self, prompts: Sequence[str], images: Sequence[Image]) -> tuple[float, ...]:
        """As long as any look."""
        self.looks += 1
        return super().scores(prompts, images)


def test_all_judging_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two additions, the measured floor, the control's scores and a metric: five looks of three seconds each."""
    scorer = SlowScorer(noise=20)
    monkeypatch.setattr(quality, "time", SimpleNamespace(perf_counter=scorer.perf_counter))
    judgement = _judged([60, 61], [60, 61], scorer=scorer)
    _add(judgement, [62, 63], [62, 63])
    assert judgement.elapsed_s == 6

    assert judgement.evidence().judge_s == judgement.elapsed_s == 9
    judgement.clip_scores(PROMPTS[:1], _drawn(1)[:1])
    assert judgement.elapsed_s == 12

    def asked(prompts: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> Sequence[float]:
        return scorer.scores(prompts, images)

    judgement = _judged([60, 61], [60, 61], scorer=scorer, metrics=[Metric("asked of both arms", asked)])
    assert judgement.elapsed_s == 3
    judgement.metrics()
    assert judgement.elapsed_s == 9
    judgement.metrics()  # of the same images: known already
    assert judgement.elapsed_s == 9


def test_a_metric_that_gates_is_waited_for() -> None:
    """CLIP-Score alone may be sure after ten images; a metric that is not asks for more."""

    def unsure(prompts: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> list[float]:
        asked.append(len(prompts))
        return [10.0 + (3.0 * (-1) ** index if len(asked) % 2 == 0 else 0) for index in range(len(images))]

    asked: list[int] = []
    sure = _judged(_level(10), _level(10))
    waiting = _judged(_level(10), _level(10), metrics=[Metric("unsure", unsure, max_loss=0.05)])

    assert (sure.wanted(), waiting.wanted()) == (None, 16)


def test_what_has_failed_asks_for_nothing_more() -> None:
    """A loss that is shown to be too great at ten images needs no look of the strict test at twelve."""
    judgement = _judged(_level(10), [score / 2 for score in _level(10)], rule=Rule(strict=True))

    assert judgement.wanted() is None


# -- which fault is shown --------------------------------------------------------------------------------------------

CONTROL = StepControl(steps=20, elapsed_s=0.5, clip_score=60.2, gain=-0.2, gain_low=-0.9)
FAULTS: dict[Cause, Callable[[Quality], Quality]] = {
    Cause.ABSOLUTE_QUALITY: lambda q: replace(q, reference_clip_score=99.0),
    Cause.RELATIVE_QUALITY: lambda q: replace(q, decision=Outcome.BELOW),
    Cause.GUARD: lambda q: replace(q, guards=(*q.guards, Guard("detail", passed=False, found="noise"))),
    Cause.METRIC: lambda q: replace(
        q, metrics=(*q.metrics, MetricResult("mine", 2.0, 1.0, loss=0.5, decision=Outcome.BELOW))
    ),
    Cause.STEP_CONTROL: lambda q: replace(q, strict=True, step_control=CONTROL),
}
"""In the order in which they are shown."""
OPEN: dict[str, Callable[[Quality], Quality]] = {
    "loss": lambda q: replace(q, decision=Outcome.OPEN),
    "strict loss": lambda q: replace(q, strict=True, strict_decision=Outcome.OPEN),
    "metric": lambda q: replace(q, metrics=(*q.metrics, MetricResult("open", 2.0, 1.9, decision=Outcome.OPEN))),
}


def _subsets(names: Iterable[str]) -> list[tuple[str, ...]]:
    listed = list(names)
    return [chosen for count in range(len(listed) + 1) for chosen in itertools.combinations(listed, count)]


@pytest.mark.parametrize("faults", _subsets(FAULTS), ids=lambda causes: " + ".join(causes) or "none")
def test_the_first_fault_is_shown_and_an_open_question_last(faults: tuple[Cause, ...]) -> None:
    """Absolute quality, loss, guards, metrics, step control; undecided only where nothing speaks against it."""
    for still_open in _subsets(OPEN):
        found = _evidence(_level(10))
        for change in (*(OPEN[name] for name in still_open), *(FAULTS[cause] for cause in faults)):
            found = change(found)

        shown = fault(found)
        expected = (*faults, *([Cause.UNDECIDED] if still_open else []), None)[0]
        assert (shown.cause if shown else None) is expected


def test_the_strict_limit_gates_only_where_asked() -> None:
    """A loss shown to be beyond 1.5 % fails a strict task, with that limit in its line; otherwise it is a note."""
    beyond = replace(_evidence(_level(10), _level(10, 58.5)), strict_decision=Outcome.BELOW)
    found = fault(replace(beyond, strict=True))

    assert fault(beyond) is None
    assert fault(replace(beyond, strict_decision=Outcome.OPEN)) is None
    assert found is not None
    assert (found.cause, found.line.partition(" > ")[2]) == (Cause.RELATIVE_QUALITY, "1.5%")


def test_the_tasks_own_limit_comes_before_the_strict_one() -> None:
    """Where both are broken the line names what the task allows."""
    found = fault(replace(_evidence(_level(10)), strict=True, decision=Outcome.BELOW, strict_decision=Outcome.BELOW))

    assert found is not None
    assert found.line.endswith("> 5.0%")


def test_fewer_steps_fail_a_strict_task_only() -> None:
    """A control that reaches as much is a note, and a cause where `strict` asks; one that is beaten is neither."""
    found = fault(replace(_evidence(_level(10)), strict=True, step_control=CONTROL))

    assert fault(replace(_evidence(_level(10)), step_control=CONTROL)) is None
    assert fault(replace(_evidence(_level(10)), strict=True, step_control=replace(CONTROL, gain_low=0.1))) is None
    assert found is not None
    line = "the baseline with 20 steps takes as long and scores 60.2 (candidate 59.5)"
    assert found.line == line


def test_a_metric_without_a_limit_fails_nobody() -> None:
    """What is only reported neither fails a candidate nor leaves it open."""
    reported = MetricResult("mine", 2.0, 0.1, loss=0.95, decision=None)

    assert fault(replace(_evidence(_level(10)), metrics=(reported,))) is None


def test_an_open_question_says_what_is_not_told() -> None:
    """The line names every limit that the images leave open, beside what they did show."""
    found = fault(OPEN["metric"](OPEN["loss"](_evidence([40.0, 40.0], [39.0, 39.0]))))

    assert found is not None
    assert found.line == (
        "open not decided; CLIP-Score 39.0 against the baseline's 40.0 over 2 images: loss 2.5%, not told from 5.0%"
    )


def test_a_relative_fault_says_how_much_was_lost() -> None:
    """The line holds both scores, how many images they rest on, the loss, its interval and the allowed loss."""
    lost = replace(_evidence([40.0, 40.0], [30.0, 30.0]), decision=Outcome.BELOW)
    found = fault(replace(lost, loss_low=0.2, loss_high=0.3))

    assert found is not None
    assert found.line == ("CLIP-Score 30.0 against the baseline's 40.0 over 2 images: loss 25.0% [20.0%, 30.0%] > 5.0%")


def test_a_loss_without_an_interval_is_described_without_one() -> None:
    """Where an end of it is not known, no brackets pretend that it is."""
    lost = _evidence([40.0], [30.0])

    plain = "CLIP-Score 30.0 against the baseline's 40.0 over 1 images: loss 25.0%"
    assert describe_loss(lost) == describe_loss(replace(lost, loss_low=0.2)) == plain


# -- the score recorded for the model --------------------------------------------------------------------------------


def test_a_worthless_answer_fails_beside_a_worthless_baseline() -> None:
    """The absolute threshold: images no worse than a baseline that is bad on this machine still fail."""
    found = fault(_evidence([15.0, 15.5], recorded=RECORDED))

    assert found is not None
    assert found.cause is Cause.ABSOLUTE_QUALITY
    assert found.line == "CLIP-Score 15.2 < 28.5 over 2 images (5% below the 30.0 recorded for the model)"


def test_without_a_recorded_score_only_the_baseline_counts() -> None:
    """A model of which nothing is recorded is judged against its baseline alone."""
    assert fault(_evidence([15.0, 15.5], recorded=None)) is None


def test_the_absolute_threshold_is_free_of_the_tasks_own_loss() -> None:
    """A task that allows any loss against the baseline does not move the recorded score's threshold."""
    found = fault(replace(_evidence([15.0, 15.5], recorded=RECORDED), max_loss=0.99))

    assert found is not None
    assert found.cause is Cause.ABSOLUTE_QUALITY


def test_one_score_has_no_spread_to_excuse_it() -> None:
    """With a single image the score itself is compared."""
    found = fault(_evidence([FLOOR - 0.01], recorded=RECORDED))

    assert found is not None
    assert found.cause is Cause.ABSOLUTE_QUALITY
    assert fault(_evidence([FLOOR + 0.01], recorded=RECORDED)) is None


def test_ten_unlucky_prompts_do_not_fail_a_good_model() -> None:
    """Scores that fall below the threshold by the draw of ten prompts pass: it happens to every good model."""
    unlucky = [20.0, 36.0, 26.0, 32.0, 22.0, 34.0, 27.0, 29.0, 24.0, 30.0]
    assert sum(unlucky) / len(unlucky) < FLOOR

    assert fault(_evidence(unlucky, recorded=RECORDED)) is None


def test_a_model_at_the_threshold_hardly_ever_fails() -> None:
    """Of a thousand draws of ten scores around the very threshold, about one in a hundred is refused."""
    rng = np.random.default_rng(1)
    draws = [rng.normal(FLOOR, SPREAD, 10).tolist() for _ in range(1000)]

    failed = sum(fault(_evidence(drawn, recorded=RECORDED)) is not None for drawn in draws)
    assert 1 <= failed <= 25


def test_a_clear_fall_is_caught_by_ten_prompts() -> None:
    """A third of the score lost is seen in ten images, whichever they are."""
    rng = np.random.default_rng(2)
    draws = [rng.normal(RECORDED * 2 / 3, SPREAD, 10).tolist() for _ in range(200)]

    assert all(fault(_evidence(drawn, recorded=RECORDED)) is not None for drawn in draws)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=20, unique=True))
@settings(deadline=None)
def test_the_bound_is_students(hundredths: list[int]) -> None:
    """The upper end of the 98 % interval for a mean, as scipy has it."""
    drawn = [number / 100 for number in hundredths]
    _, high = stats.t.interval(0.98, len(drawn) - 1, loc=np.mean(drawn), scale=stats.sem(drawn))

    assert upper_bound(drawn) == pytest.approx(float(high))
