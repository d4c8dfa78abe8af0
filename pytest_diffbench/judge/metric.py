"""Metrics of the user's own: one score an image, judged by the same sequential test as CLIP-Score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_diffbench.errors import SetupError
from pytest_diffbench.records import MetricResult
from pytest_diffbench.sequential import decide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pytest_diffbench.judge.album import Album
    from pytest_diffbench.records import Outcome
    from pytest_diffbench.sequential import Plan


@dataclass(frozen=True)
class Metric:
    """What scores images beside CLIP, and how much of its score may be lost."""

    name: str
    scores: Callable[[Sequence[str], Sequence[NDArray[np.uint8]]], Iterable[float]]
    """Given prompts and their images, (height, width, 3), one finite score for each image, in their order."""
    max_loss: float | None = None
    """The share of the baseline's mean score that may be lost; None for a metric that is reported only.

    Above 0, because images without any loss cannot be told from those with a tiny one; below 1 where higher is better.
    """
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        """SetupError where the name or the allowed loss makes no sense."""
        if not self.name:
            raise SetupError("diffbench: a metric without a name: give it the one that the report shall show")
        if self.max_loss is None:
            return
        # a score that is better low may double and more; of one that is better high no more than all is lost
        most = 1.0 if self.higher_is_better else math.inf
        if not 0 < self.max_loss < most:
            limits = "between 0 and 1, both excluded" if self.higher_is_better else "a finite number above 0"
            raise SetupError(f"diffbench: metric {self.name!r} allows a loss of {self.max_loss}: it must be {limits}")


def judge(metric: Metric, album: Album, plan: Plan) -> MetricResult:
    """Both arms' scores of the same requests, and for a metric with a limit whether the loss is shown to be within it.

    SetupError, which names the metric, where it fails, gives anything but one finite number an image, or has a limit
    although the baseline's images score nothing that a share could be lost of.
    """
    baseline = _scores(metric, album.prompts, album.baseline, "baseline")
    candidate = _scores(metric, album.prompts, album.candidate, "candidate")
    base = math.fsum(baseline) / len(baseline)
    accelerated = math.fsum(candidate) / len(candidate)
    loss = (base - accelerated if metric.higher_is_better else accelerated - base) / base if base > 0 else None
    return MetricResult(metric.name, base, accelerated, loss, _decision(metric, baseline, candidate, plan))


def margins(baseline: Sequence[float], candidate: Sequence[float], metric: Metric) -> tuple[float, ...]:
    """For each request by how much the candidate's score stays within the allowed loss; in the metric's own units.

    Their mean is above 0 exactly where the loss of the mean is below `max_loss`, either way up.
    """
    allowed = metric.max_loss or 0.0
    pairs = zip(baseline, candidate, strict=True)
    if metric.higher_is_better:
        return tuple(accelerated - (1 - allowed) * base for base, accelerated in pairs)
    return tuple((1 + allowed) * base - accelerated for base, accelerated in pairs)


def _decision(metric: Metric, baseline: Sequence[float], candidate: Sequence[float], plan: Plan) -> Outcome | None:
    if metric.max_loss is None:
        return None
    mean = math.fsum(baseline) / len(baseline)
    if mean <= 0:
        raise SetupError(
            f"diffbench: metric {metric.name!r} allows a loss of {metric.max_loss:.1%} of the baseline's score, but "
            f"that is {mean:.4g} on average: its scores must be above 0, or it must leave max_loss out"
        )
    return decide(margins(baseline, candidate, metric), plan).outcome


def _scores(metric: Metric, prompts: Sequence[str], images: Sequence[NDArray[np.uint8]], arm: str) -> tuple[float, ...]:
    """What the metric says of one arm's images, checked."""
    where = f"diffbench: metric {metric.name!r}, on the {arm}'s {len(images)} images,"
    expected = "expected: one finite number an image"
    try:
        scores = tuple(float(score) for score in metric.scores(prompts, images))
    except Exception as error:  # whatever it is, it is not the solution's fault
        raise SetupError(f"{where} failed with {type(error).__name__}: {error}; {expected}") from error
    if len(scores) != len(images):
        raise SetupError(f"{where} gave {len(scores)} scores; {expected}")
    bad = next((index for index, score in enumerate(scores) if not math.isfinite(score)), None)
    if bad is not None:
        raise SetupError(f"{where} gave image {bad} the score {scores[bad]}; {expected}")
    return scores
