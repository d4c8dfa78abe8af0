"""Two runs task by task: who passed what the other did not, on the same tasks only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_diffbench.errors import SetupError
from pytest_diffbench.pairing import paired
from pytest_diffbench.records import Cause, RequestSet, Speed, TaskReport, Verdict


def _report(number: int, *, passes: bool, agent: str = "one", **more: Any) -> TaskReport:
    verdict = Verdict.PASS if passes else Verdict.FAIL
    facts = {"model": "sd15", "task_edition": f"edition of {number}", "cause": None if passes else Cause.CRASH, **more}
    return TaskReport(f"suite.py::test[{number}]", f"task-{number}", agent, verdict, **facts)


def _run(passes: str, agent: str = "one") -> list[TaskReport]:
    return [_report(number, passes=mark == "+", agent=agent) for number, mark in enumerate(passes)]


def test_tasks_are_compared_one_by_one() -> None:
    """Four kinds of tasks, the difference of S_p, and, as each is its own scenario, McNemar's test."""
    found = paired(_run("++++----"), _run("+++-++++", "other"))

    assert (found.both, found.first_only, found.second_only, found.neither) == (3, 1, 4, 0)
    assert found.tasks == 8
    assert found.difference == pytest.approx(3 / 8)
    assert found.p_value == pytest.approx(0.375)  # two-sided binomial, 1 or fewer of 5, by hand: 12 / 32
    assert found.interval is not None
    assert found.interval[0] < 3 / 8 < found.interval[1]


def test_answers_with_names_are_compared_by_name() -> None:
    """Each with its own namesake."""

    def run(**verdicts: bool) -> list[TaskReport]:
        made = [_report(1, passes=passes) for passes in verdicts.values()]
        return [replace(each, nodeid=f"t.py::t[{name}]") for each, name in zip(made, verdicts, strict=True)]

    found = paired(run(a=True, b=False), run(a=True, b=True))
    assert (found.both, found.second_only, found.tasks) == (1, 1, 2)


def test_tasks_of_a_scenario_count_once() -> None:
    """One answer decides six tasks: that all of them pass now is one scenario's luck, and says nothing."""
    scenarios = ["one"] * 6 + ["two"] * 6
    first = [replace(each, scenario=name) for each, name in zip(_run("-" * 12), scenarios, strict=True)]
    second = [replace(each, scenario=name) for each, name in zip(_run("+" * 6 + "-" * 6), scenarios, strict=True)]
    found = paired(first, second)

    assert (found.second_only, found.neither) == (6, 6)
    assert found.p_value == 1


def test_a_run_does_not_differ_from_itself() -> None:
    """No difference, nothing to take an interval of, and a p of 1."""
    found = paired(_run("+-+-"), _run("+-+-"))

    assert (found.difference, found.interval, found.p_value) == (0, None, 1)


def test_hard_tasks_have_an_achievement() -> None:
    """Half of the speed against all of it."""
    full, half = (Speed((1.0,), (0.5,), "B", ratio, ratio, ratio, demanded_speedup=2.0) for ratio in (2.0, 1.0))
    first = [_report(1, passes=False, difficulty="hard", speed=half, cause=Cause.RELATIVE_SPEED)]
    second = [_report(1, passes=True, difficulty="hard", speed=full)]

    assert paired(first, second).achievement_difference == 0.5


def test_only_the_same_tasks_are_compared() -> None:
    """Another edition, a task that only one has, or that our own fault kept from a verdict: left out, and counted."""
    first = [*_run("+++"), _report(7, passes=True), _report(8, passes=True)]
    second = [*_run("++"), _report(2, passes=True, task_edition="another"), _report(8, passes=True)]
    second[-1] = TaskReport("n", "task-8", "two", Verdict.INFRA)  # it was not even looked at
    found = paired(first, second)

    assert (found.tasks, found.other_editions, found.left_out) == (2, 1, 2)


def test_what_cannot_be_compared_is_said() -> None:
    """Nothing in common; public requests."""
    with pytest.raises(SetupError, match="nothing can be compared: the runs have 0 tasks in common"):
        paired([_report(1, passes=True)], [_report(2, passes=True)])
    older = [_report(1, passes=True, task_edition="")]
    with pytest.raises(SetupError, match="none of those in the same edition"):
        paired(older, older)
    with pytest.raises(SetupError, match="public requests has no score"):
        paired([_report(1, passes=True)], [_report(1, passes=True, requests=RequestSet.PUBLIC)])


def test_other_isolation_is_not_compared() -> None:
    """What keeps a solution in costs it time: such tasks are counted apart, and where all are, that is said."""
    first, second = _run("++--"), _run("+++-")
    kept_in = [replace(each, isolation="bubblewrap") for each in second]
    found = paired(first, [*kept_in[:1], *second[1:]])

    assert (found.tasks, found.other_isolation, found.other_editions) == (3, 1, 0)
    with pytest.raises(SetupError, match=r"isolation was .* in the one run and bubblewrap in the other"):
        paired(first, kept_in)


def test_other_devices_are_not_compared() -> None:
    """What is faster on one model may not be on another; its cores are alike, and a refused source ran on none."""
    first = [replace(each, device=f"cpu:{n} (A Processor)") for n, each in enumerate(_run("++--"))]
    second = [replace(each, device="cpu:9 (A Processor)") for each in _run("+++-")]
    elsewhere = [replace(each, device="cuda:0 (A GPU)") for each in second]
    found = paired(first, [elsewhere[0], replace(second[1], device=""), *second[2:]])

    assert (found.tasks, found.other_devices, found.other_isolation) == (3, 1, 0)
    with pytest.raises(SetupError, match="one run was timed on A Processor, the other on A GPU"):
        paired(first, elsewhere)


def test_what_cancels_out_may_be_either_way() -> None:
    """Each run passes one task of every scenario that the other does not: neither is shown to be no worse."""
    scenarios = ["one", "one", "two", "two"]
    first, second = (
        [replace(each, scenario=name) for each, name in zip(_run(passes), scenarios, strict=True)]
        for passes in ("+-+-", "-+-+")
    )
    found = paired(first, second)

    assert found.difference == 0
    assert found.interval is not None
    assert found.interval[0] == -found.interval[1] < 0
