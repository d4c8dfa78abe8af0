"""From task reports to the paper's numbers: pass rate S_p by level, achievement S_a, failure classes."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_diffbench.records import Cause, RequestSet, Stage, TaskReport, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Score:
    """One row of the table: a level, or all tasks."""

    tasks: int
    """In the denominator: INFRA is not."""
    passed: int
    infra: int
    achievement: float | None
    """S_a: mean share of the demanded speed that was reached on the hard tasks, each capped at 1; as `pass_rate`."""
    median_speedup: float | None
    """Over the tasks that passed, one request at a time."""
    median_throughput: float | None
    """The same over those whose requests travel in batches: a speed-up of throughput, not of latency."""
    failures: Mapping[Cause, int]
    """By the paper's five classes (and what a test's own body asserted)."""
    public: int = 0
    """Tasks on public requests: with any of them there is neither S_p nor S_a."""

    @property
    def pass_rate(self) -> float | None:
        """S_p; None where no task counts, or where requests were public."""
        return self.passed / self.tasks if self.tasks and not self.public else None


def score(reports: Sequence[TaskReport]) -> Score:
    """The score over these reports."""
    counted = [report for report in reports if report.verdict is not Verdict.INFRA]
    passed = [report for report in counted if report.verdict is Verdict.PASS]
    hard = [achievement(report) for report in counted if report.difficulty == "hard"]
    timed = [(report.batch, report.speed.speedup) for report in passed if report.speed is not None]
    public = sum(report.requests is RequestSet.PUBLIC for report in reports)
    failures = Counter(report.cause.failure_class for report in counted if report.cause is not None)
    return Score(
        tasks=len(counted),
        passed=len(passed),
        infra=len(reports) - len(counted),
        achievement=sum(hard) / len(hard) if hard and not public else None,
        median_speedup=_median([speedup for batch, speedup in timed if batch == 1]),
        median_throughput=_median([speedup for batch, speedup in timed if batch > 1]),
        failures=dict(failures),
        public=public,
    )


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def by_level(reports: Sequence[TaskReport]) -> dict[int | None, Score]:
    """A score for each level that occurs, tasks without a level last."""
    levels = sorted({report.level for report in reports}, key=lambda level: (level is None, level))
    return {level: score([report for report in reports if report.level == level]) for level in levels}


def achievement(report: TaskReport) -> float:
    """The share of the demanded speed that one task reached: speed bought with failed quality counts nothing."""
    if report.speed is None:
        return 0.0
    failed = {stage.stage for stage in report.stages if stage.verdict is not Verdict.PASS}
    only_too_slow = report.cause in (Cause.RELATIVE_SPEED, Cause.UNDECIDED) and failed <= {Stage.SPEED}
    return report.speed.achievement if report.verdict is Verdict.PASS or only_too_slow else 0.0
