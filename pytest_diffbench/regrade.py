"""New thresholds over stored evidence, by the functions that decided the first time; nothing is measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from pytest_diffbench import clock, edition, stages
from pytest_diffbench.comparison import Plans
from pytest_diffbench.demand import LatencyDemand, Markers, SpeedDemand
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.isolation import Reply
from pytest_diffbench.judge import quality
from pytest_diffbench.records import Stage, Verdict
from pytest_diffbench.sequential import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import TypeAdapter

    from pytest_diffbench.clock import Pair
    from pytest_diffbench.history import Attempt
    from pytest_diffbench.records import Quality, Speed, StageReport, TaskReport

UNSEEN: Final = "meets these thresholds, but was never looked at from inside, nor its baseline timed alone: measure it"
"""What is done last is done only for what meets the task's own."""


@dataclass(frozen=True)
class Thresholds:
    """What is demanded instead; None: what the task itself demands."""

    speed_at_least: float | None = None
    """Of tasks that demand a speed-up; the others keep demanding none."""
    latency_at_most_s: float | None = None
    """Of tasks that demand a latency."""
    max_loss: float | None = None
    strict: bool | None = None

    def __post_init__(self) -> None:
        """SetupError where a number makes no sense."""
        for name in ("speed_at_least", "latency_at_most_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise SetupError(f"diffbench: {name} is {value}: give a number above 0")
        if self.max_loss is not None and not 0 <= self.max_loss < 1:
            raise SetupError(f"diffbench: max_loss is {self.max_loss}: give a share from 0 to below 1, such as 0.05")

    def applied(self, markers: Markers) -> Markers:
        """A task's demands with these in place of its own."""
        speed, latency, judged = markers.speed, markers.latency, markers.quality
        if speed is not None and self.speed_at_least is not None:
            speed = SpeedDemand(self.speed_at_least)
        if latency is not None and self.latency_at_most_s is not None:
            latency = LatencyDemand(at_most_s=self.latency_at_most_s, percentile=latency.percentile)
        if self.max_loss is not None:
            judged = replace(judged, max_loss=self.max_loss)
        if self.strict is not None:
            judged = replace(judged, strict=self.strict)
        return replace(markers, speed=speed, latency=latency, quality=judged)


def regrade(attempt: Attempt, thresholds: Thresholds) -> TaskReport | None:
    """The report with what these thresholds say of the same evidence; None where the task was cut off.

    What failed for a reason that its own thresholds do not explain, or could not be measured, stays what it was.
    """
    report = attempt.report()
    if report is None or report.verdict is Verdict.INFRA:
        return report
    markers = _markers(attempt)
    others = thresholds.applied(markers)
    own, graded = (_graded(attempt, report, each) for each in (markers, others))
    if report.cause is not None and (own.fault is None or own.fault.cause is not report.cause):
        beside = SolutionFault(report.cause, report.line, report.detail)
        fault = stages.decisive([beside, *([graded.fault] if graded.fault is not None else [])])
        found = report.stages
    else:
        fault = graded.fault
        found = tuple(_stage(stage, graded.faults.get(stage.stage)) for stage in report.stages)
    lifted = fault is None and report.cause is not None
    return replace(
        report,
        verdict=fault.cause.verdict if fault is not None else Verdict.PASS,
        cause=fault.cause if fault is not None else None,
        line=fault.line if fault is not None else UNSEEN if lifted else "",
        detail=fault.detail if fault is not None else "",
        speed=graded.speed,
        quality=graded.quality,
        stages=found,
        task_edition=report.task_edition if others == markers else edition.regraded(report.task_edition, others),
    )


@dataclass(frozen=True)
class _Graded:
    """What some thresholds say of speed and quality."""

    speed: Speed | None
    quality: Quality | None
    faults: Mapping[Stage, SolutionFault | None]

    @property
    def fault(self) -> SolutionFault | None:
        """The one that decides."""
        return stages.decisive([found for found in self.faults.values() if found is not None])


def _graded(attempt: Attempt, report: TaskReport, markers: Markers) -> _Graded:
    speed = report.speed and _speed(attempt, report.speed, markers)
    judged = report.quality and _quality(report.quality, markers, _plans(attempt))
    faults = {
        Stage.SPEED: stages.speed_fault(speed, markers) if speed is not None else None,
        Stage.QUALITY: quality.fault(judged) if judged is not None else None,
    }
    return _Graded(speed, judged, faults)


def _stage(report: StageReport, fault: SolutionFault | None) -> StageReport:
    if report.stage is Stage.EXECUTABILITY:
        return report
    if fault is None:
        return replace(report, verdict=Verdict.PASS, cause=None, line="", detail="")
    return replace(report, verdict=fault.cause.verdict, cause=fault.cause, line=fault.line, detail=fault.detail)


def _markers(attempt: Attempt) -> Markers:
    found: Markers = _adapter(Markers).validate_python(attempt.facts["demand"]["markers"])
    return found


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Made once: that takes longer than all that it reads."""
    # imported here: pydantic, which nothing else of this module needs
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _plans(attempt: Attempt) -> Plans:
    """When the tests of the last round looked."""
    if not attempt.plans:
        return Plans()
    given = dict(attempt.plans[-1]["plans"])
    broken_one_in: int | None = given.pop("broken_one_in", None)
    return Plans(**_adapter(dict[str, Plan]).validate_python(given), broken_one_in=broken_one_in)


def _speed(attempt: Attempt, before: Speed, markers: Markers) -> Speed:
    counted, again = _last_round(attempt)
    plans = _plans(attempt)
    starts = sorted({pair["start"] for pair in counted})
    found = clock.evidence(
        [[_pair(pair) for pair in counted if pair["start"] == start] for start in starts],
        markers,
        plan=plans.speed,
        share_plan=plans.share,
        warm_up_calls=before.warm_up_calls,
        repeated=Counter(pair["timed_again"] for pair in again),
        peak_memory_ratio=before.peak_memory_ratio,
    )
    return replace(found, baseline_alone_s=before.baseline_alone_s, baseline_slowdown=before.baseline_slowdown)


def _last_round(attempt: Attempt) -> tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]:
    """Pairs that count, and pairs that were timed again."""
    last = max((pair["round"] for pair in attempt.pairs), default=0)
    pairs = [dict(pair) for pair in attempt.pairs if pair["round"] == last]
    counted = [pair for pair in pairs if not pair["timed_again"]]
    if not counted:
        raise SetupError(f"diffbench: the journal holds a speed of {attempt.nodeid}, but no pair of it: is it damaged?")
    return counted, [pair for pair in pairs if pair["timed_again"]]


def _pair(stored: dict[str, Any]) -> Pair:
    return clock.Pair((), Reply((), stored["baseline_s"]), Reply((), stored["candidate_s"]), stored["first"])


def _quality(found: Quality, markers: Markers, plans: Plans) -> Quality:
    base, limit = found.baseline_clip, markers.quality.max_loss
    decision = quality.decide(base, found.candidate_clip, limit, plans.quality)
    strict = quality.decide(base, found.candidate_clip, quality.STRICT_MAX_LOSS, plans.strict)
    low, high = quality.loss_interval(decision, limit, sum(base) / len(base))
    return replace(
        found,
        max_loss=limit,
        loss_low=low,
        loss_high=high,
        decision=decision.outcome,
        decided_after=decision.decided_after,
        strict=markers.quality.strict,
        strict_decision=strict.outcome,
    )
