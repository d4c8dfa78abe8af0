"""Metrics of the user's own: scored on both arms, judged as CLIP is, and named where they are wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_diffbench.errors import SetupError
from pytest_diffbench.judge.album import Album
from pytest_diffbench.judge.metric import Metric, judge, margins
from pytest_diffbench.records import Outcome
from pytest_diffbench.sequential import QUALITY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

COUNT = 50
SCORES = st.lists(st.tuples(st.floats(1, 100), st.floats(1, 100)), min_size=1, max_size=20)


def brightness(prompts: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> list[float]:
    """A metric as a user would write it."""
    del prompts
    return [float(image.mean()) for image in images]


def album(baseline: Sequence[float], candidate: Sequence[float]) -> Album:
    """Flat images of these levels of grey."""
    arms = [tuple(np.full((2, 2, 3), round(level), np.uint8) for level in levels) for levels in (baseline, candidate)]
    same = np.eye(len(baseline), dtype=np.float32)
    return Album(tuple(f"image {i}" for i in range(len(baseline))), arms[0], arms[1], same, same)


def levels(mean: float, seed: int, spread: float = 4.0) -> list[float]:
    """Fifty levels of grey around a mean."""
    return [float(level) for level in np.random.default_rng(seed).normal(mean, spread, COUNT)]


GATE = Metric("brightness", brightness, max_loss=0.1)
GATE_LOW = replace(GATE, name="darkness", higher_is_better=False)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.97, Outcome.ABOVE), (1.2, Outcome.ABOVE), (0.8, Outcome.BELOW)],
    ids=["little lost", "gained", "much lost"],
)
def test_a_loss_beyond_the_limit_is_shown(share: float, expected: Outcome) -> None:
    """Higher is better: 3 % lost is within a limit of 10 %, and a gain is; 20 % is not."""
    found = judge(GATE, album(levels(100, 1), levels(100 * share, 2)), QUALITY)

    assert found.decision is expected
    assert found.name == "brightness"
    assert found.loss == pytest.approx(1 - share, abs=0.02)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1.03, Outcome.ABOVE), (0.5, Outcome.ABOVE), (1.2, Outcome.BELOW)],
    ids=["little lost", "gained", "much lost"],
)
def test_lower_may_be_better(share: float, expected: Outcome) -> None:
    """Lower is better: 3 % more is within a limit of 10 %, and half is a gain; 20 % more is not."""
    found = judge(GATE_LOW, album(levels(100, 1), levels(100 * share, 2)), QUALITY)

    assert found.decision is expected
    assert found.loss == pytest.approx(share - 1, abs=0.02)


def test_at_the_limit_nothing_is_claimed() -> None:
    """As much lost as is allowed: noise must not decide it."""
    baseline = levels(100, 3)
    candidate = [0.9 * level + (3 if i % 2 else -3) for i, level in enumerate(baseline)]

    assert judge(GATE, album(baseline, candidate), QUALITY).decision is Outcome.OPEN


@pytest.mark.parametrize("metric", [GATE, GATE_LOW], ids=["higher", "lower"])
def test_the_baseline_itself_is_within_any_limit(metric: Metric) -> None:
    """Equal images lose nothing, whichever way is better."""
    levels_of_grey = levels(100, 4)
    found = judge(metric, album(levels_of_grey, levels_of_grey), QUALITY)

    assert (found.loss, found.decision) == (0, Outcome.ABOVE)


@given(SCORES, st.floats(0.01, 0.99), st.booleans())
def test_the_margin_is_above_0_where_the_loss_is_within_the_limit(
    pairs: list[tuple[float, float]],
    max_loss: float,
    higher: bool,  # noqa: FBT001 (drawn)
) -> None:
    """The mean that is tested, and the loss that is reported, are two words for one thing, either way up."""
    metric = replace(GATE, max_loss=max_loss, higher_is_better=higher)
    baseline, candidate = zip(*pairs, strict=True)
    base, accelerated = math.fsum(baseline) / len(pairs), math.fsum(candidate) / len(pairs)
    loss = (base - accelerated if higher else accelerated - base) / base

    margin = math.fsum(margins(baseline, candidate, metric)) / len(pairs)
    assert margin == pytest.approx((max_loss - loss) * base, abs=1e-9)


@given(SCORES, st.floats(0.01, 0.99), st.floats(0.01, 10), st.booleans())
def test_no_image_gets_worse_by_a_better_score(
    pairs: list[tuple[float, float]],
    max_loss: float,
    gain: float,
    higher: bool,  # noqa: FBT001 (drawn)
) -> None:
    """A better candidate has the larger margin, request by request."""
    metric = replace(GATE, max_loss=max_loss, higher_is_better=higher)
    baseline, candidate = zip(*pairs, strict=True)
    better = [score + gain if higher else score - gain for score in candidate]

    before, after = margins(baseline, candidate, metric), margins(baseline, better, metric)
    assert all(old < new for old, new in zip(before, after, strict=True))


def test_a_metric_without_a_limit_is_only_reported() -> None:
    """Means and loss are there, a decision is not, however bad it is."""
    found = judge(Metric("brightness", brightness), album([100.0, 200.0], [50.0, 100.0]), QUALITY)

    assert (found.baseline, found.candidate, found.loss, found.decision) == (150, 75, 0.5, None)


def test_scores_may_be_negative_where_nothing_is_demanded() -> None:
    """A share of a negative mean has no meaning: means are reported, a loss is not."""
    metric = Metric("reward", lambda _, images: [-float(image.mean()) for image in images])
    found = judge(metric, album([100.0], [50.0]), QUALITY)

    assert (found.baseline, found.candidate, found.loss, found.decision) == (-100, -50, None, None)


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_a_limit_needs_a_score_to_lose(level: float) -> None:
    """A share of nothing, or of less, cannot be demanded: the message says what can be."""
    metric = Metric("reward", lambda _, images: [level] * len(images), max_loss=0.1)

    with pytest.raises(SetupError, match=r"metric 'reward' allows a loss of 10\.0% .* scores must be above 0, or"):
        judge(metric, album([100.0], [100.0]), QUALITY)


def test_few_images_leave_it_open() -> None:
    """Before the plan's first look nothing is decided."""
    baseline = levels(100, 5)[: QUALITY.looks[0] - 1]

    assert judge(GATE, album(baseline, baseline), QUALITY).decision is Outcome.OPEN


def test_a_metric_sees_every_image_with_its_own_prompt() -> None:
    """Both arms in the order of their requests, each with all the prompts."""
    seen: list[tuple[tuple[str, ...], list[int]]] = []

    def watching(prompts: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> list[float]:
        seen.append((tuple(prompts), [int(image[0, 0, 0]) for image in images]))
        return brightness(prompts, images)

    judge(Metric("watching", watching), album([1, 2, 3], [4, 5, 6]), QUALITY)

    prompts = ("image 0", "image 1", "image 2")
    assert seen == [(prompts, [1, 2, 3]), (prompts, [4, 5, 6])]


def test_scores_may_be_numpys() -> None:
    """An array of scores is as good as a list, and Python's numbers come out."""
    found = judge(Metric("array", lambda _, images: np.ones(len(images), np.float32)), album([1, 2], [3, 4]), QUALITY)

    assert (type(found.baseline), found.baseline) == (float, 1.0)


def _raising(prompts: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> list[float]:
    raise KeyError("no model")


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (_raising, "failed with KeyError: 'no model'"),
        (lambda _, images: [1.0] * (len(images) - 1), "gave 2 scores"),
        (lambda _, images: [1.0] * (len(images) + 1), "gave 4 scores"),
        (lambda *_: [1.0, math.nan, 1.0], "gave image 1 the score nan"),
        (lambda *_: [1.0, 1.0, math.inf], "gave image 2 the score inf"),
        (lambda *_: None, "failed with TypeError"),
        (lambda *_: 0.5, "failed with TypeError"),
        (lambda *_: ["good", "bad", "ugly"], "failed with ValueError"),
        (list, "failed with TypeError"),
    ],
    ids=["raises", "too few", "too many", "nan", "infinity", "none", "one mean", "words", "signature"],
)
def test_a_wrong_metric_is_named(scores: Callable[..., Sequence[float]], message: str) -> None:
    """Whatever a metric does wrong is its author's fault: its name, what it did, and what it must give."""
    with pytest.raises(SetupError, match=f"metric 'wrong', on the baseline's 3 images, {message}.*one finite number"):
        judge(Metric("wrong", scores), album([1, 2, 3], [4, 5, 6]), QUALITY)


def test_the_message_says_which_arm() -> None:
    """A metric that fails on the candidate's images only says so."""
    metric = Metric("ocr", lambda _, images: [math.nan if image.max() == 6 else 1.0 for image in images])

    with pytest.raises(SetupError, match="'ocr', on the candidate's 3 images, gave image 2 the score nan"):
        judge(metric, album([1, 2, 3], [4, 5, 6]), QUALITY)


@pytest.mark.parametrize(
    ("max_loss", "higher", "message"),
    [
        (0.0, True, "between 0 and 1"),
        (1.0, True, "between 0 and 1"),
        (-0.1, True, "between 0 and 1"),
        (math.nan, True, "between 0 and 1"),
        (0.0, False, "a finite number above 0"),
        (math.inf, False, "a finite number above 0"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(max_loss: float, higher: bool, message: str) -> None:  # noqa: FBT001 (a table's column)
    """A limit that nothing, or everything, is within is a slip of its author's."""
    with pytest.raises(SetupError, match=f"metric 'slip' allows a loss of {max_loss}: it must be {message}"):
        Metric("slip", brightness, max_loss=max_loss, higher_is_better=higher)


def test_where_lower_is_better_more_than_all_may_be_lost() -> None:
    """An error may more than double within a limit of 150 %."""
    metric = Metric("error", brightness, max_loss=1.5, higher_is_better=False)

    assert judge(metric, album(levels(50, 6), levels(105, 7)), QUALITY).decision is Outcome.ABOVE


def test_a_metric_has_a_name() -> None:
    """A report cannot show one without."""
    with pytest.raises(SetupError, match="without a name"):
        Metric("", brightness)
