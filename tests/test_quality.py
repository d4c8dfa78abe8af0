"""When lost quality fails a task: against the baseline's images, and against the model's recorded score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_diffbench.errors import SetupError
from pytest_diffbench.judge.quality import evidence, fault, upper_bound
from pytest_diffbench.records import Cause, Quality

SCORES = st.lists(st.floats(0.1, 100), min_size=1, max_size=20)
RECORDED = 30.0
FLOOR = 0.95 * RECORDED
SPREAD = 4.0


def _quality(
    baseline: list[float], candidate: list[float], *, max_loss: float = 0.05, recorded: float | None = None
) -> Quality:
    return evidence(baseline, candidate, max_loss=max_loss, reference_clip_score=recorded)


def _drawn(mean: float, rng: np.random.Generator, count: int = 10) -> list[float]:
    return [float(score) for score in rng.normal(mean, SPREAD, count)]


def test_the_loss_is_a_share_of_the_baselines_mean() -> None:
    """The paper's L = (mean baseline - mean candidate) / mean baseline."""
    quality = _quality([30.0, 50.0], [20.0, 40.0])

    assert (quality.clip_score, quality.loss) == (30.0, 0.25)


@given(SCORES)
@settings(deadline=None)
def test_the_baseline_against_itself_loses_nothing(scores: list[float]) -> None:
    """Equal images lose nothing, whatever they score, and pass even where no loss is allowed."""
    quality = _quality(scores, scores, max_loss=0)

    assert quality.loss == 0
    assert fault(quality) is None


def test_better_images_are_a_negative_loss() -> None:
    """A gain is on record as one, and passes."""
    quality = _quality([40.0], [50.0], max_loss=0)

    assert quality.loss == -0.25
    assert fault(quality) is None


def test_every_score_is_on_record() -> None:
    """Both arms' scores, the allowed loss and the recorded score stay with the result."""
    quality = _quality([30, 31], [29, 28], max_loss=0.1, recorded=RECORDED)

    assert (quality.baseline_clip, quality.candidate_clip) == ((30, 31), (29, 28))
    assert (quality.max_loss, quality.reference_clip_score) == (0.1, RECORDED)


@pytest.mark.parametrize(("score", "fails"), [(39.0, False), (38.0, False), (37.0, True)], ids=["less", "just", "more"])
def test_more_loss_than_allowed_fails(score: float, fails: bool) -> None:  # noqa: FBT001 (a table's column)
    """The relative threshold: exactly the allowed loss passes, more of it is a relative-quality error."""
    found = fault(_quality([40.0, 40.0], [score, score], max_loss=0.05))

    assert (found is not None and found.cause is Cause.RELATIVE_QUALITY) == fails


def test_a_relative_fault_says_how_much_was_lost() -> None:
    """The line holds both scores, the loss, the allowed loss and how many images it rests on."""
    found = fault(_quality([40.0, 40.0], [30.0, 30.0], max_loss=0.05))

    assert found is not None
    assert found.line == "CLIP-Score 30.0 against the baseline's 40.0: loss 25.0% > 5.0% over 2 images"


def test_a_worthless_answer_fails_beside_a_worthless_baseline() -> None:
    """The absolute threshold: images no worse than a baseline that is bad on this machine still fail."""
    found = fault(_quality([15.0, 15.5], [15.0, 15.5], recorded=RECORDED))

    assert found is not None
    assert found.cause is Cause.ABSOLUTE_QUALITY
    assert found.line == "CLIP-Score 15.2 < 28.5 over 2 images (5% below the 30.0 recorded for the model)"


def test_without_a_recorded_score_only_the_baseline_counts() -> None:
    """A model of which nothing is recorded is judged against its baseline alone."""
    assert fault(_quality([15.0, 15.5], [15.0, 15.5], recorded=None)) is None


def test_the_absolute_threshold_comes_first() -> None:
    """Where both are broken the paper's order decides the cause."""
    found = fault(_quality([30.0, 30.5], [15.0, 15.5], recorded=RECORDED))

    assert found is not None
    assert found.cause is Cause.ABSOLUTE_QUALITY


def test_the_absolute_threshold_is_free_of_the_tasks_own_loss() -> None:
    """A task that allows any loss against the baseline does not move the recorded score's threshold."""
    found = fault(_quality([15.0, 15.5], [15.0, 15.5], max_loss=0.99, recorded=RECORDED))

    assert found is not None
    assert found.cause is Cause.ABSOLUTE_QUALITY


def test_one_score_has_no_spread_to_excuse_it() -> None:
    """With a single image the score itself is compared."""
    found = fault(_quality([FLOOR - 0.01], [FLOOR - 0.01], recorded=RECORDED))

    assert found is not None
    assert found.cause is Cause.ABSOLUTE_QUALITY
    assert fault(_quality([FLOOR + 0.01], [FLOOR + 0.01], recorded=RECORDED)) is None


def test_ten_unlucky_prompts_do_not_fail_a_good_model() -> None:
    """Scores that fall below the threshold by the draw of ten prompts pass: it happens to every good model."""
    unlucky = [20.0, 36.0, 26.0, 32.0, 22.0, 34.0, 27.0, 29.0, 24.0, 30.0]
    assert sum(unlucky) / len(unlucky) < FLOOR

    assert fault(_quality(unlucky, unlucky, recorded=RECORDED)) is None


def test_a_model_at_the_threshold_hardly_ever_fails() -> None:
    """Of a thousand draws of ten scores around the very threshold, about one in a hundred is refused."""
    rng = np.random.default_rng(1)
    draws = [_drawn(FLOOR, rng) for _ in range(1000)]

    failed = sum(fault(_quality(scores, scores, recorded=RECORDED)) is not None for scores in draws)
    assert 1 <= failed <= 25


def test_a_clear_fall_is_caught_by_ten_prompts() -> None:
    """A third of the score lost is seen in ten images, whichever they are."""
    rng = np.random.default_rng(2)
    draws = [_drawn(RECORDED * 2 / 3, rng) for _ in range(200)]

    assert all(fault(_quality(scores, scores, recorded=RECORDED)) is not None for scores in draws)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=20, unique=True))
@settings(deadline=None)
def test_the_bound_is_students(hundredths: list[int]) -> None:
    """The upper end of the 98 % interval for a mean, as scipy has it."""
    scores = [number / 100 for number in hundredths]
    _, high = stats.t.interval(0.98, len(scores) - 1, loc=np.mean(scores), scale=stats.sem(scores))

    assert upper_bound(scores) == pytest.approx(float(high))


def test_a_baseline_that_scores_nothing_is_no_solutions_fault() -> None:
    """A scorer that sees nothing in the baseline's images was made for other images: our trouble, with a hint."""
    quality = _quality([0.0, 0.0], [20.0, 20.0])

    assert quality.loss is None
    with pytest.raises(SetupError, match="is the scorer made for such images"):
        fault(quality)
