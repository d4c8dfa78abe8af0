"""From task reports to the paper's numbers: pass rate S_p by level, achievement S_a, failure classes, pass@k.

Where a task has several numbered answers, S_p and all else is said of the first; pass@k of all of them. Answers that
have names are nobody's second try: each counts as a task.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from pytest_diffbench import edition, paper, resampling
from pytest_diffbench.records import Cause, RequestSet, Stage, TaskReport, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT: Final = 1
"""Of `card`."""
FAST: Final = (1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The p of `fast_p` that are written down."""
_NUMBER: Final = re.compile(r"[\[-](\d+)\]$")
"""Of an answer, at the end of its test's parameters: `test[3]`, `test[easy-3]`."""


@dataclass(frozen=True)
class Score:
    """One row of the table: a level, or all tasks."""

    tasks: int
    """In the denominator: INFRA is not."""
    passed: int
    infra: int
    achievement: float | None
    """S_a: mean share of the demanded speed that was reached on the hard tasks, each capped at 1; as `pass_rate`."""
    pass_rate_interval: tuple[float, float] | None
    achievement_interval: tuple[float, float] | None
    """95 %, by `resampling.interval`; None where there is no figure, or one scenario only."""
    median_speedup: float | None
    """Over the tasks that passed, one request at a time."""
    median_throughput: float | None
    """The same over those whose requests travel in batches: a speed-up of throughput, not of latency."""
    failures: Mapping[Cause, int]
    """By the paper's five classes (and what a test's own body asserted)."""
    attempts: int = 1
    """The k of pass@k: the least number of answers that a task with several has."""
    pass_at: float | None = None
    """pass@k, over all answers; as `pass_rate`."""
    public: int = 0
    """Tasks on public requests: with any of them there is neither S_p nor S_a."""

    @property
    def pass_rate(self) -> float | None:
        """S_p; None where no task counts, or where requests were public."""
        return self.passed / self.tasks if self.tasks and not self.public else None


def score(reports: Sequence[TaskReport], k: int | None = None) -> Score:
    """The score over these reports; k is that of pass@k, by default the least of the tasks with several answers."""
    answers, first = _by_task(reports), firsts(reports)
    counted = [report for report in first if report.verdict is not Verdict.INFRA]
    passed = [report for report in counted if report.verdict is Verdict.PASS]
    hard = [_value(report, achievement(report)) for report in counted if report.difficulty == "hard"]
    passes = [_value(report, report.verdict is Verdict.PASS) for report in counted]
    timed = [(report.batch, report.speed.speedup) for report in passed if report.speed is not None]
    public = sum(report.requests is RequestSet.PUBLIC for report in first)
    judged = _judged(answers)
    attempts = k or _least(judged)
    shares = [pass_at(min(attempts, len(each)), len(each), sum(each)) for each in judged if each]
    failures = Counter(report.cause.failure_class for report in counted if report.cause is not None)
    return Score(
        tasks=len(counted),
        passed=len(passed),
        infra=len(first) - len(counted),
        achievement=sum(each.value for each in hard) / len(hard) if hard and not public else None,
        pass_rate_interval=resampling.interval(passes) if not public else None,
        achievement_interval=resampling.interval(hard) if not public else None,
        median_speedup=_median([speedup for batch, speedup in timed if batch == 1]),
        median_throughput=_median([speedup for batch, speedup in timed if batch > 1]),
        failures=dict(failures),
        attempts=attempts,
        pass_at=sum(shares) / len(shares) if shares and not public else None,
        public=public,
    )


def _judged(answers: Sequence[Sequence[TaskReport]]) -> list[list[bool]]:
    """Of each task's answers, which passed; what our own fault kept from a verdict is none of them."""
    return [[each.verdict is Verdict.PASS for each in found if each.verdict is not Verdict.INFRA] for found in answers]


def _least(judged: Sequence[Sequence[bool]]) -> int:
    """Answers that every task with several has."""
    return min((len(each) for each in judged if len(each) > 1), default=1)


def _value(report: TaskReport, value: float) -> resampling.Value:
    """A task's share; one of no scenario is its own, and what names no model is a family of its own."""
    return resampling.Value(report.model, report.scenario or report.task_id, float(value))


def fast_p(reports: Sequence[TaskReport], p: float) -> float | None:
    """The share of tasks whose first answer keeps the quality and is more than p times as fast (KernelBench, 2025).

    None where no task counts, or where requests were public.
    """
    counted = [report for report in firsts(reports) if report.verdict is not Verdict.INFRA]
    if not counted or any(report.requests is RequestSet.PUBLIC for report in counted):
        return None
    return sum(_keeps_quality(report) and report.speed.speedup > p for report in counted if report.speed) / len(counted)


def _keeps_quality(report: TaskReport) -> bool:
    """Whether its images were judged, and nothing but its speed was at fault."""
    return report.quality is not None and (report.verdict is Verdict.PASS or _is_only_too_slow(report))


def _is_only_too_slow(report: TaskReport) -> bool:
    """Whether it did not pass, or was left open, for its speed and nothing else."""
    failed = {stage.stage for stage in report.stages if stage.verdict is not Verdict.PASS}
    return report.cause in (Cause.RELATIVE_SPEED, Cause.UNDECIDED) and failed <= {Stage.SPEED}


def firsts(reports: Sequence[TaskReport]) -> list[TaskReport]:
    """The first answer to each task; a task that has only later ones, as where a run was cut off, has none.

    Answers that have names, one of which may be a number, are each the first.
    """
    named = {_task(report) for report in reports if _number(report) is None}
    found = [min(tries, key=_place) for tries in _by_task(reports)]
    least = min((_place(report) for report in found if _task(report) not in named), default=(0, ""))[0]
    return [report for report in found if _task(report) in named or _place(report)[0] == least]


def without_first(reports: Sequence[TaskReport]) -> list[TaskReport]:
    """All answers to tasks of which only later ones are known: they are not counted."""
    known = {_task(report) for report in firsts(reports)}
    return [report for report in reports if _task(report) not in known]


def edition_of(reports: Sequence[TaskReport]) -> str:
    """The edition of the benchmark that these tasks are: equal for equal tasks; '' where none could be looked at."""
    tasks = {report.task_edition for report in reports if report.task_edition}
    return edition.of_run(tasks) if tasks else ""


def card(reports: Sequence[TaskReport], more: Sequence[float] = ()) -> dict[str, object]:
    """All figures of a run, as its JSON holds them, `fast_p` of `more` p among them; beside them the paper's."""
    levels = {str(level): asdict(each) | {"pass_rate": each.pass_rate} for level, each in by_level(reports).items()}
    whole = score(reports)
    return {
        "format": FORMAT,
        "edition": edition_of(reports),
        "agents": sorted({report.agent for report in reports}),
        "levels": levels,
        "all": asdict(whole) | {"pass_rate": whole.pass_rate},
        "fast_p": {str(p): fast_p(reports, p) for p in sorted({*FAST, *more})},
        "paper": paper.facts(),
    }


def pass_at(k: int, n: int, c: int) -> float:
    """The chance that of k answers, drawn from n of which c pass, at least one does (Chen et al. 2021, eq. 1)."""
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def _task(report: TaskReport) -> tuple[str, str]:
    """Whose answers belong together."""
    return report.agent, report.task_id


def _by_task(reports: Sequence[TaskReport]) -> list[list[TaskReport]]:
    tasks: dict[tuple[str, str], list[TaskReport]] = {}
    for report in reports:
        tasks.setdefault(_task(report), []).append(report)
    return [part for found in tasks.values() for part in (_tries(found) or [[each] for each in found])]


def _tries(found: list[TaskReport]) -> list[list[TaskReport]]:
    """One list, where the answers are numbered; none where they have names."""
    return [found] if len(found) == 1 or all(_number(report) is not None for report in found) else []


def _number(report: TaskReport) -> int | None:
    """Which of a task's numbered answers it is; None where it has a name, though that may end like one: 'gpt-4'."""
    found = _NUMBER.search(report.nodeid)
    if found is None:
        return None
    before = report.nodeid[: found.start()].rpartition("[")[2] if found[0].startswith("-") else ""
    parameters = re.sub(r"[^\w.+-]+", "-", before).strip("-")  # as in a task id
    asked = report.task_id.endswith(f"-{parameters}") if parameters else not report.task_id.endswith(f"-{found[1]}")
    return int(found[1]) if asked else None


def _place(report: TaskReport) -> tuple[int, str]:
    """Where an answer stands among a task's: the second before the tenth."""
    return _number(report) or 0, report.nodeid


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def by_level(reports: Sequence[TaskReport]) -> dict[int | None, Score]:
    """A score for each level that occurs, tasks without a level last."""
    known = {_task(report) for report in firsts(reports)}
    reports = [report for report in reports if _task(report) in known]
    levels = sorted({report.level for report in reports}, key=lambda level: (level is None, level))
    k = _least(_judged(_by_task(reports)))
    return {level: score([report for report in reports if report.level == level], k) for level in levels}


def achievement(report: TaskReport) -> float:
    """The share of the demanded speed that one task reached: speed bought with failed quality counts nothing."""
    if report.speed is None:
        return 0.0
    return report.speed.achievement if report.verdict is Verdict.PASS or _is_only_too_slow(report) else 0.0
