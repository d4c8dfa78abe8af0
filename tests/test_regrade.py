"""Other thresholds over stored evidence decide what they would have decided on the same pairs and scores."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench import clock
from pytest_diffbench.comparison import Plans
from pytest_diffbench.demand import LatencyDemand, Markers, QualityDemand, SpeedDemand
from pytest_diffbench.errors import SetupError
from pytest_diffbench.history import Attempt
from pytest_diffbench.isolation import Reply
from pytest_diffbench.judge import quality as judge
from pytest_diffbench.records import Cause, Guard, Outcome, Quality, Stage, StageReport, TaskReport, Verdict, plain
from pytest_diffbench.regrade import Thresholds, regrade

if TYPE_CHECKING:
    from collections.abc import Sequence

FASTER = Markers(speed=SpeedDemand(1.5))
TIMES = st.lists(st.tuples(st.floats(0.5, 4), st.floats(0.5, 4)), min_size=4, max_size=12)


def _quality(scores: Sequence[tuple[float, float]], max_loss: float = 0.05) -> Quality:
    base, mine = [one for one, _ in scores], [other for _, other in scores]
    decision = judge.decide(base, mine, max_loss, Plans().quality)
    low, high = judge.loss_interval(decision, max_loss, sum(base) / len(base))
    strict = judge.decide(base, mine, judge.STRICT_MAX_LOSS, Plans().strict)
    mean = sum(mine) / len(mine)
    return Quality(
        baseline_clip=tuple(base),
        candidate_clip=tuple(mine),
        clip_score=mean,
        loss=1 - mean / (sum(base) / len(base)),
        max_loss=max_loss,
        loss_low=low,
        loss_high=high,
        decision=decision.outcome,
        decided_after=decision.decided_after,
        strict_decision=strict.outcome,
    )


LOSSLESS = _quality([(30.0 + n % 3, 30.01 + n % 3 + 0.01 * (n % 2)) for n in range(16)])


def _attempt(
    starts: Sequence[Sequence[tuple[float, float]]],
    markers: Markers = FASTER,
    *,
    quality: Quality | None = LOSSLESS,
    verdict: Verdict = Verdict.PASS,
    cause: Cause | None = None,
    plans: Plans | None = None,
) -> Attempt:
    """What the journal would hold of a task with these times of baseline and candidate, seconds, by start."""
    plans = plans or Plans()
    stored = [
        {"round": 1, "start": n, "baseline_s": b, "candidate_s": c, "first": "B", "timed_again": ""}
        for n, start in enumerate(starts)
        for b, c in start
    ]
    earlier = [{**pair, "round": 0, "baseline_s": 1e9} for pair in stored]
    again: list[dict[str, Any]] = [{**stored[0], "timed_again": "shared"}] if stored else []
    pairs = [[clock.Pair((), Reply((), b), Reply((), c), "B") for b, c in start] for start in starts]
    speed = clock.evidence(pairs, markers, plan=plans.speed, share_plan=plans.share, repeated={"shared": 1})
    report = TaskReport(
        "test_it.py::test",
        "it",
        "agent",
        verdict,
        cause=cause,
        speed=speed,
        quality=quality,
        stages=tuple(StageReport(stage, Verdict.PASS, 1.0) for stage in Stage),
    )
    return Attempt(
        "key",
        report.nodeid,
        {"demand": {"markers": plain(markers)}},
        {},
        plans=[{"plans": plain(Plans())}, {"plans": plain(plans)}],
        pairs=[*earlier, *again, *stored],
        verdict=plain(report),  # type: ignore[arg-type]
    )


@settings(deadline=None)
@given(st.lists(TIMES, min_size=1, max_size=3), st.floats(0.5, 4))
def test_the_speed_is_decided_as_the_clock_would_have(starts: list[list[tuple[float, float]]], at_least: float) -> None:
    """On the last round's pairs, start by start, by the plan of that round; pairs timed again do not count."""
    plans = replace(
        Plans().second_try(5), quality=Plans().quality
    )  # of which there are as many images as a first try has
    expected = _attempt(starts, Markers(speed=SpeedDemand(at_least)), plans=plans).report()
    assert expected is not None

    found = regrade(_attempt(starts, plans=plans), Thresholds(speed_at_least=at_least))

    assert found is not None
    assert found.speed == expected.speed
    assert found.speed is not None
    wanted = {Outcome.ABOVE: Verdict.PASS, Outcome.BELOW: Verdict.FAIL, Outcome.OPEN: Verdict.UNDECIDED}
    assert found.speed.decision is not None
    assert found.verdict is wanted[found.speed.decision]


TWICE = [[(2.0 + 0.01 * n, 1.0) for n in range(10)]]
LOSSY = [(30.0 + n % 3, 29.1 + n % 3 + 0.01 * (n % 2)) for n in range(16)]
"""A loss of about 3 %."""


def test_a_loss_is_decided_as_the_judge_would_have() -> None:
    """3 % pass at 5 %, and fail at 1 % and under the strict margin; the failure says what was found."""
    attempt = _attempt(TWICE, quality=_quality(LOSSY))

    found = [regrade(attempt, Thresholds(max_loss=limit)) for limit in (0.05, 0.01)]
    strict = regrade(attempt, Thresholds(strict=True))

    assert [report and report.verdict for report in (*found, strict)] == [Verdict.PASS, Verdict.FAIL, Verdict.FAIL]
    assert found[1] is not None
    assert found[1].quality == _quality(LOSSY, 0.01)
    assert found[1].cause is Cause.RELATIVE_QUALITY
    assert "> 1.0%" in found[1].line
    assert [stage.verdict for stage in found[1].stages] == [Verdict.PASS, Verdict.PASS, Verdict.FAIL]


def test_a_latency_in_seconds_can_be_another() -> None:
    """The percentile stays the task's own."""
    attempt = _attempt(
        [[(3.0, 1.0 + 0.001 * n) for n in range(24)]], Markers(latency=LatencyDemand(at_most_s=2.0, percentile=75))
    )

    verdicts = [regrade(attempt, Thresholds(latency_at_most_s=limit)) for limit in (1.5, 0.9)]

    assert [report and report.verdict for report in verdicts] == [Verdict.PASS, Verdict.FAIL]


def test_a_speed_is_not_demanded_where_the_task_demands_none() -> None:
    """Levels 1 to 3 are timed and never gated."""
    attempt = _attempt(TWICE, Markers())
    report = regrade(attempt, Thresholds(speed_at_least=100))

    assert report is not None
    assert report.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("verdict", "cause", "lifted"),
    [
        (Verdict.FAIL, Cause.RELATIVE_SPEED, True),
        (Verdict.UNDECIDED, Cause.UNDECIDED, False),  # not by its thresholds: the baseline was disturbed
        (Verdict.CHEAT, Cause.BASELINE_SLOWED, False),
        (Verdict.FAIL, Cause.CRASH, False),
        (Verdict.FAIL, Cause.KEY_ATTRIBUTE, False),
        (Verdict.CHEAT, Cause.PROTOCOL, False),
        (Verdict.FAIL, Cause.ASSERTION, False),
        (Verdict.INFRA, None, False),
    ],
)
def test_only_what_a_threshold_decided_can_be_lifted(verdict: Verdict, cause: Cause | None, *, lifted: bool) -> None:
    """A crash, a wrong scheduler, a test's own assertion and a fault of ours stay what they were."""
    attempt = _attempt(TWICE, Markers(speed=SpeedDemand(5)), verdict=verdict, cause=cause)
    report = regrade(attempt, Thresholds(speed_at_least=1.2))

    assert report is not None
    assert (report.verdict, report.cause) == ((Verdict.PASS, None) if lifted else (verdict, cause))
    assert ("measure it" in report.line) == lifted


def test_a_guard_stays_broken() -> None:
    """No loss is large enough to allow blank images."""
    broken = replace(LOSSLESS, guards=(Guard("flat", passed=False, found="all of them"),))
    attempt = _attempt(TWICE, quality=broken, verdict=Verdict.FAIL, cause=Cause.GUARD)
    report = regrade(attempt, Thresholds(max_loss=0.9, speed_at_least=1.1))

    assert report is not None
    assert report.cause is Cause.GUARD


def test_what_was_cut_off_is_not_graded() -> None:
    """There is no report to begin with."""
    assert regrade(replace(_attempt(TWICE), verdict=None), Thresholds()) is None


def test_a_speed_without_its_pairs_is_damage() -> None:
    """The journal that lost them is named as the cause, not the task."""
    with pytest.raises(SetupError, match="no pair of it: is it damaged"):
        regrade(replace(_attempt(TWICE), pairs=[]), Thresholds())


@pytest.mark.parametrize("wrong", [{"speed_at_least": 0.0}, {"latency_at_most_s": -1.0}, {"max_loss": 1.0}])
def test_a_threshold_without_sense_is_refused(wrong: dict[str, float]) -> None:
    """Zero times faster, less than no time, everything lost."""
    with pytest.raises(SetupError, match=next(iter(wrong))):
        Thresholds(**wrong)  # type: ignore[arg-type]


def test_thresholds_touch_nothing_else() -> None:
    """What is not given stays the task's own."""
    markers = Markers(speed=SpeedDemand(2), quality=QualityDemand(0.02, strict=True))

    assert Thresholds().applied(markers) == markers
    assert Thresholds(max_loss=0.1).applied(markers) == replace(markers, quality=QualityDemand(0.1, strict=True))
