"""How much quality a candidate lost: relative to the baseline's images, and to the score recorded for the model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from scipy import stats

from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.records import Cause, Quality
from pytest_diffbench.task import DEFAULT_MAX_LOSS

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE: Final = 0.99


def evidence(
    baseline_clip: Sequence[float],
    candidate_clip: Sequence[float],
    *,
    max_loss: float,
    reference_clip_score: float | None,
) -> Quality:
    """The paper's quality loss L = (mean S_base - mean S_acc) / mean S_base, from scores of the same requests."""
    base = math.fsum(baseline_clip) / len(baseline_clip)
    accelerated = math.fsum(candidate_clip) / len(candidate_clip)
    return Quality(
        baseline_clip=tuple(baseline_clip),
        candidate_clip=tuple(candidate_clip),
        clip_score=accelerated,
        loss=(base - accelerated) / base if base > 0 else None,
        max_loss=max_loss,
        reference_clip_score=reference_clip_score,
    )


def fault(quality: Quality) -> SolutionFault | None:
    """Why this quality fails the task, or None: the absolute threshold first, as in the paper, then the relative."""
    count = len(quality.candidate_clip)
    if not all(math.isfinite(score) for score in (*quality.baseline_clip, *quality.candidate_clip)):
        raise SetupError("diffbench: the scorer gave a score that is no number: are its weights damaged?")
    if quality.reference_clip_score is not None:
        floor = (1 - DEFAULT_MAX_LOSS) * quality.reference_clip_score
        # ten prompts are not the prompts of the record: fail only what cannot be the draw of the prompts
        if upper_bound(quality.candidate_clip) < floor:
            return SolutionFault(
                Cause.ABSOLUTE_QUALITY,
                f"CLIP-Score {quality.clip_score:.1f} < {floor:.1f} over {count} images "
                f"({DEFAULT_MAX_LOSS:.0%} below the {quality.reference_clip_score:.1f} recorded for the model)",
            )
    if quality.loss is None:
        raise SetupError("diffbench: the baseline's images score nothing: is the scorer made for such images?")
    if quality.loss > quality.max_loss:
        base = math.fsum(quality.baseline_clip) / count
        return SolutionFault(
            Cause.RELATIVE_QUALITY,
            f"CLIP-Score {quality.clip_score:.1f} against the baseline's {base:.1f}: "
            f"loss {quality.loss:.1%} > {quality.max_loss:.1%} over {count} images",
        )
    return None


def upper_bound(scores: Sequence[float]) -> float:
    """Student's upper confidence bound of a mean; the mean itself where there is one score only."""
    mean = math.fsum(scores) / len(scores)
    if len(scores) < 2:
        return mean
    spread = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1))
    return mean + float(stats.t.ppf(CONFIDENCE, len(scores) - 1)) * spread / math.sqrt(len(scores))
