"""From reports to the paper's numbers: who counts, and for how much."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench.records import Cause, Quality, RequestSet, Speed, Stage, StageReport, TaskReport, Verdict
from pytest_diffbench.scoring import achievement, by_level, fast_p, pass_at, score, without_first

NUMBERS = itertools.count()
NAMES = ("fast", "slow-4", "v2-5")
QUALITY = Quality((30.0,), (29.7,), 29.7, 0.01, 0.05)
PAPERS_CLASSES = {
    Cause.COMPILATION,
    Cause.KEY_ATTRIBUTE,
    Cause.ABSOLUTE_QUALITY,
    Cause.RELATIVE_QUALITY,
    Cause.RELATIVE_SPEED,
}


def _speed(speedup: float, *, demanded: float | None = 2.0) -> Speed:
    return Speed((1.0,), (1.0 / speedup,), "B", speedup, speedup, speedup, demanded_speedup=demanded)


def _report(
    verdict: Verdict,
    *,
    cause: Cause | None = None,
    speed: Speed | None = None,
    level: int | None = 4,
    difficulty: str | None = "hard",
    batch: int = 1,
    task: str | None = None,
    attempt: str = "",
) -> TaskReport:
    """Of a task of its own, unless one is named."""
    task = task or f"test-{next(NUMBERS)}"
    return TaskReport(
        f"suite.py::{task}{f'[{attempt}]' if attempt else ''}",
        task,
        "agent",
        verdict,
        level=level,
        difficulty=difficulty,
        cause=cause,
        speed=speed,
        batch=batch,
    )


def _staged(report: TaskReport, verdicts: dict[Stage, Verdict]) -> TaskReport:
    return replace(report, stages=tuple(StageReport(stage, verdict, 1.0) for stage, verdict in verdicts.items()))


def test_the_pass_rate_counts_every_verdict_but_infra() -> None:
    """S_p: failed, undecided and cheating tasks are in the denominator; our own trouble is listed beside it."""
    verdicts = [Verdict.PASS, Verdict.FAIL, Verdict.UNDECIDED, Verdict.CHEAT, Verdict.INFRA, Verdict.INFRA]

    scored = score([_report(verdict) for verdict in verdicts])
    assert (scored.tasks, scored.passed, scored.infra, scored.pass_rate) == (4, 1, 2, 0.25)


def test_the_first_of_several_answers_is_what_counts() -> None:
    """S_p, S_a and failures are those of the first; a later one that passes shows in pass@k alone."""
    first_fails = [_report(Verdict.FAIL, cause=Cause.CRASH, task="late", attempt="1")]
    first_fails += [_report(Verdict.PASS, speed=_speed(2.0), task="late", attempt=str(n)) for n in range(2, 11)]
    first_passes = [_report(Verdict.PASS, speed=_speed(3.0), task="early", attempt="1")]
    first_passes += [_report(Verdict.FAIL, cause=Cause.TIMEOUT, task="early", attempt=str(n)) for n in range(2, 11)]
    scored = score([*reversed(first_fails), *first_passes])

    assert (scored.tasks, scored.passed, scored.pass_rate) == (2, 1, 0.5)
    assert (scored.attempts, scored.pass_at) == (10, 1.0)
    assert scored.failures == {Cause.COMPILATION: 1}
    assert scored.median_speedup == 3.0
    assert scored.achievement == 0.5


def test_answers_that_our_own_fault_took_count_for_nothing() -> None:
    """What every task has is k, the same for every level."""
    reports = [_report(Verdict.PASS, task="one", attempt=str(n)) for n in (1, 2, 3)]
    reports += [
        _report(Verdict.FAIL, task="two", attempt="1", level=5),
        _report(Verdict.INFRA, task="two", attempt="2"),
    ]
    reports += [_report(Verdict.PASS, task="two", attempt="3", level=5)]

    assert (score(reports).attempts, score(reports).pass_at) == (2, 1.0)
    assert {level: each.attempts for level, each in by_level(reports).items()} == {4: 2, 5: 2}


def test_a_second_answer_is_never_taken_for_the_first() -> None:
    """Where a run was cut off while the first was still measured: the task does not count, and that is known."""
    reports = [_report(Verdict.FAIL, task="whole", attempt="1"), _report(Verdict.PASS, task="whole", attempt="2")]
    reports += [_report(Verdict.PASS, task="cut", attempt="2")]
    steps = [replace(_report(Verdict.PASS, task="steps-50"), nodeid="suite.py::test_steps[50]")]  # no answer's number

    assert (score(reports).tasks, score(reports).passed) == (1, 0)
    assert by_level(reports)[4].tasks == 1
    assert {report.task_id for report in without_first(reports)} == {"cut"}
    assert score([*reports, *steps]).passed == 1
    assert score(reports[1:2]).tasks == 1  # nobody has an earlier one
    named = [_report(Verdict.PASS, task="named", attempt=name) for name in ("fast", "2")]
    assert score([*reports, *named]).passed == 2  # nobody's second try


def test_answers_with_names_count_each() -> None:
    """As somebody compares them: all their verdicts are in the table, and there is no k."""
    reports = [_report(Verdict.PASS if name == "fast" else Verdict.FAIL, task="it", attempt=name) for name in NAMES]
    scored, models = score(reports), score(reports[1:])

    assert (scored.tasks, scored.passed, scored.attempts) == (3, 1, 1)
    assert (models.tasks, models.attempts) == (2, 1)


def test_numbered_answers_to_a_test_with_parameters_are_tries() -> None:
    """Whatever the parameters are, and however they are written in a task's name."""
    reports = [
        replace(_report(Verdict.FAIL, task="s-t-a-b-8"), nodeid=f"s/test_t.py::test_t[a b-8-{number}]")
        for number in (1, 2)
    ]

    assert (score(reports).tasks, score(reports).attempts) == (1, 2)


def test_a_task_without_an_answer_does_not_take_the_others_chance() -> None:
    """It keeps its place, as one that failed; k is what those with several have."""
    reports = [_report(Verdict.PASS if n == 3 else Verdict.FAIL, task="asked", attempt=str(n)) for n in (1, 2, 3)]
    scored = score([*reports, _report(Verdict.FAIL, cause=Cause.COMPILATION, task="unanswered")])

    assert (scored.attempts, scored.pass_at) == (3, 0.5)


@given(st.integers(1, 30), st.data())
def test_pass_at_k_is_the_share_of_draws_that_hold_a_pass(n: int, data: st.DataObject) -> None:
    """Counted over every subset where there are few; with all answers drawn it is whether any passes."""
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    assert pass_at(n, n, c) == (c > 0)
    assert pass_at(1, n, c) == pytest.approx(c / n)
    if n <= 8:
        draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
        assert pass_at(k, n, c) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize("verdicts", [[], [Verdict.INFRA]], ids=["nothing", "only infra"])
def test_no_rate_is_made_up_where_nothing_counts(verdicts: list[Verdict]) -> None:
    """Without a task that counts there is no pass rate, achievement or speed-up, rather than a zero."""
    scored = score([_report(verdict) for verdict in verdicts])

    assert (scored.pass_rate, scored.achievement) == (None, None)
    assert (scored.median_speedup, scored.median_throughput, scored.failures) == (None, None, {})


@given(st.lists(st.sampled_from(Verdict), max_size=20))
@settings(deadline=None)
def test_every_report_is_counted_once(verdicts: list[Verdict]) -> None:
    """Counted tasks and INFRA add up to all reports, and a rate is a share."""
    scored = score([_report(verdict) for verdict in verdicts])

    assert scored.tasks + scored.infra == len(verdicts)
    assert scored.pass_rate is None or 0 <= scored.pass_rate <= 1


ACHIEVED: dict[str, tuple[TaskReport, float]] = {
    "passed": (_report(Verdict.PASS, speed=_speed(2.0)), 1.0),
    "passed with more than demanded": (_report(Verdict.PASS, speed=_speed(9.0)), 1.0),
    "half as fast as demanded": (_report(Verdict.FAIL, cause=Cause.RELATIVE_SPEED, speed=_speed(1.0)), 0.5),
    "fast but bad": (_report(Verdict.FAIL, cause=Cause.RELATIVE_QUALITY, speed=_speed(9.0)), 0.0),
    "fast but worthless": (_report(Verdict.FAIL, cause=Cause.ABSOLUTE_QUALITY, speed=_speed(9.0)), 0.0),
    "fast, then refused by the test": (_report(Verdict.FAIL, cause=Cause.ASSERTION, speed=_speed(9.0)), 0.0),
    "cheated": (_report(Verdict.CHEAT, speed=_speed(9.0)), 0.0),
    "fast by fewer steps": (_report(Verdict.FAIL, cause=Cause.STEP_CONTROL, speed=_speed(9.0)), 0.0),
    "fast, but no honest images": (_report(Verdict.FAIL, cause=Cause.GUARD, speed=_speed(9.0)), 0.0),
    "slow and bad": (
        _staged(
            _report(Verdict.FAIL, cause=Cause.RELATIVE_SPEED, speed=_speed(1.0)),
            {Stage.SPEED: Verdict.FAIL, Stage.QUALITY: Verdict.FAIL},
        ),
        0.0,
    ),
    "slow, its quality open": (
        _staged(
            _report(Verdict.FAIL, cause=Cause.RELATIVE_SPEED, speed=_speed(1.0)),
            {Stage.SPEED: Verdict.FAIL, Stage.QUALITY: Verdict.UNDECIDED},
        ),
        0.0,
    ),
    "speed left open": (
        _staged(
            _report(Verdict.UNDECIDED, cause=Cause.UNDECIDED, speed=_speed(1.5)),
            {Stage.SPEED: Verdict.UNDECIDED, Stage.QUALITY: Verdict.PASS},
        ),
        0.75,
    ),
    "fast, its quality left open": (
        _staged(
            _report(Verdict.UNDECIDED, cause=Cause.UNDECIDED, speed=_speed(9.0)),
            {Stage.SPEED: Verdict.PASS, Stage.QUALITY: Verdict.UNDECIDED},
        ),
        0.0,
    ),
    "never ran": (_report(Verdict.FAIL, cause=Cause.COMPILATION), 0.0),
}


@pytest.mark.parametrize(("report", "share"), ACHIEVED.values(), ids=ACHIEVED)
def test_achievement_is_the_share_of_the_demanded_speed(report: TaskReport, share: float) -> None:
    """S_a of one task: at most 1, and speed that was bought with failed quality counts nothing."""
    assert achievement(report) == share


def test_achievement_of_a_latency_is_demanded_over_reached() -> None:
    """A task with a latency achieves the share by which it came near."""
    slow = Speed((1.0,), (1.0,), "B", 1.0, 1.0, 1.0, latency_s=1.0, demanded_latency_s=0.25)

    assert achievement(_report(Verdict.FAIL, cause=Cause.RELATIVE_SPEED, speed=slow)) == 0.25


def test_the_mean_achievement_is_over_hard_tasks_that_count() -> None:
    """S_a: easy tasks and INFRA stay out of the mean, hard tasks that never ran count as nothing."""
    reports = [
        _report(Verdict.PASS, speed=_speed(2.0)),
        _report(Verdict.FAIL, cause=Cause.RELATIVE_SPEED, speed=_speed(1.0)),
        _report(Verdict.FAIL, cause=Cause.CRASH),
        _report(Verdict.INFRA),
        _report(Verdict.FAIL, cause=Cause.CRASH, difficulty="easy"),
    ]

    assert score(reports).achievement == 0.5


def test_the_median_speedup_is_over_passed_tasks() -> None:
    """A fast failure does not raise the speed-up; of an even number the two in the middle are averaged."""
    reports = [_report(Verdict.PASS, speed=_speed(speedup)) for speedup in (4.0, 1.0, 2.0, 3.0)]
    reports.append(_report(Verdict.FAIL, cause=Cause.RELATIVE_QUALITY, speed=_speed(100.0)))

    assert score(reports).median_speedup == 2.5


def test_throughput_is_no_latency() -> None:
    """Requests that travel in batches have a median of their own, so that neither flatters the other."""
    reports = [_report(Verdict.PASS, speed=_speed(speedup)) for speedup in (1.0, 2.0, 3.0)]
    reports += [_report(Verdict.PASS, speed=_speed(speedup), batch=batch) for speedup, batch in ((10.0, 2), (20.0, 8))]
    reports.append(_report(Verdict.UNDECIDED, cause=Cause.UNDECIDED, speed=_speed(100.0), batch=8))
    scored = score(reports)

    assert (scored.median_speedup, scored.median_throughput) == (2.0, 15.0)
    assert score(reports[:3]).median_throughput is None
    assert score(reports[3:]).median_speedup is None


def test_what_noise_left_open_is_a_failure_of_its_own() -> None:
    """An undecided task is in the denominator, and blamed on none of the paper's classes."""
    reports = [
        _report(Verdict.PASS, speed=_speed(2.0)),
        _report(Verdict.UNDECIDED, cause=Cause.UNDECIDED, speed=_speed(2.0)),
        _report(Verdict.FAIL, cause=Cause.RELATIVE_SPEED, speed=_speed(1.0)),
    ]
    scored = score(reports)

    assert (scored.tasks, scored.passed, scored.infra) == (3, 1, 0)
    assert scored.failures == {Cause.UNDECIDED: 1, Cause.RELATIVE_SPEED: 1}


def test_a_task_that_passed_at_its_second_try_has_passed() -> None:
    """What counts is how it ended."""
    second = replace(_report(Verdict.PASS, speed=_speed(2.0)), undecided_runs=1)

    assert (score([second]).passed, score([second]).failures) == (1, {})


def test_failures_are_told_by_the_papers_classes() -> None:
    """What keeps it from running is a compilation error, bad images are relative quality, false speed is speed."""
    died = [Cause.COMPILATION, Cause.SETUP_LIMIT, Cause.TIMEOUT, Cause.CRASH, Cause.PROTOCOL, Cause.OUTPUT_LIMIT]
    bad = [Cause.RELATIVE_QUALITY, Cause.GUARD, Cause.METRIC, Cause.STEP_CONTROL]
    slow = [Cause.RELATIVE_SPEED, Cause.BASELINE_SLOWED]
    others = [Cause.KEY_ATTRIBUTE, Cause.ABSOLUTE_QUALITY, Cause.ASSERTION]
    reports = [_report(cause.verdict, cause=cause) for cause in [*died, *bad, *slow, *others]]

    several = {Cause.COMPILATION: 6, Cause.RELATIVE_QUALITY: 4, Cause.RELATIVE_SPEED: 2}
    assert score(reports).failures == {**several, **dict.fromkeys(others, 1)}


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_belongs_to_a_class(cause: Cause) -> None:
    """A class is one of the paper's five, the test's own assertion, or not counted; a class is its own class."""
    assert cause.failure_class in PAPERS_CLASSES | {
        Cause.ASSERTION,
        Cause.UNDECIDED,
        Cause.NOT_JUDGED,
        Cause.QUARANTINED,
    }
    assert cause.failure_class.failure_class == cause.failure_class


def test_trouble_of_ours_is_no_failure_class() -> None:
    """An INFRA report's cause is not held against the solver."""
    assert score([_report(Verdict.INFRA, cause=Cause.CRASH)]).failures == {}


def test_levels_come_in_order_with_those_without_one_last() -> None:
    """A table by level reads 1 to 5, then the tasks of one's own; each row holds its own tasks."""
    reports = [_report(Verdict.PASS, level=level) for level in (None, 5, 1, 4, None, 1, 1)]

    table = by_level(reports)
    assert [(level, row.tasks) for level, row in table.items()] == [(1, 3), (4, 1), (5, 1), (None, 2)]


@pytest.mark.parametrize("public", [1, 3])
def test_public_requests_make_no_score(public: int) -> None:
    """One task whose requests may have been known is one too many; what passed is still counted."""
    reports = [_report(Verdict.PASS, speed=_speed(2.5)) for _ in range(3)]
    known = [replace(report, requests=RequestSet.PUBLIC) for report in reports[:public]]
    found = score([*known, *reports[public:]])

    assert (found.pass_rate, found.achievement, found.public) == (None, None, public)
    assert (found.tasks, found.passed) == (3, 3)
    assert score(reports).pass_rate == score(reports).achievement == 1


def test_fast_p_counts_what_is_good_and_faster() -> None:
    """KernelBench's measure: speed that was bought with quality counts nothing, and a missed target is no fault."""
    good = replace(_report(Verdict.FAIL, cause=Cause.RELATIVE_SPEED, speed=_speed(1.5)), quality=QUALITY)
    reports = [
        _report(Verdict.PASS, speed=_speed(3.0)),
        _staged(good, {Stage.SPEED: Verdict.FAIL}),
        _report(Verdict.FAIL, cause=Cause.RELATIVE_QUALITY, speed=_speed(9.0)),
        _report(Verdict.FAIL, cause=Cause.CRASH),
        _report(Verdict.INFRA),
    ]
    reports[0] = replace(reports[0], quality=QUALITY)

    assert [fast_p(reports, p) for p in (1.0, 1.5, 2.0, 3.0)] == [0.5, 0.25, 0.25, 0.0]
    open_ = replace(good, verdict=Verdict.UNDECIDED, cause=Cause.UNDECIDED)
    assert fast_p([_staged(open_, {Stage.SPEED: Verdict.UNDECIDED, Stage.QUALITY: Verdict.PASS})], 1.0) == 1.0
    assert fast_p([_staged(open_, {Stage.SPEED: Verdict.PASS, Stage.QUALITY: Verdict.UNDECIDED})], 1.0) == 0.0
    assert fast_p([_report(Verdict.PASS, speed=_speed(3.0))], 1.0) == 0.0  # nobody looked at its images
    assert fast_p([replace(reports[0], requests=RequestSet.PUBLIC)], 1.0) is None
    assert fast_p([_report(Verdict.INFRA)], 1.0) is None


def test_rates_have_intervals_where_there_are_several_scenarios() -> None:
    """Of S_p and S_a; one scenario alone says nothing of others."""
    reports = [_report(Verdict.PASS if number % 2 else Verdict.FAIL, speed=_speed(2.0)) for number in range(20)]
    scored = score(reports)

    assert scored.pass_rate_interval is not None
    assert scored.pass_rate_interval[0] < 0.5 < scored.pass_rate_interval[1]
    assert scored.achievement_interval is not None
    alone = score([replace(report, scenario="only") for report in reports])
    assert (alone.pass_rate_interval, alone.achievement_interval) == (None, None)
