"""A task's evidence on pytest's reports: it crosses from worker to controller there, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import pytest

from pytest_diffbench import benchmark_json
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.plugin.keys import BODY, DEMAND, EDITION, RUN, TRIED
from pytest_diffbench.records import Cause, TaskReport, Verdict, plain
from pytest_diffbench.wording import verdict_line

if TYPE_CHECKING:
    from pytest_diffbench.plugin.ledger import Attempt
    from pytest_diffbench.plugin.session import Session
    from pytest_diffbench.records import Stage
    from pytest_diffbench.stages import Run

LIVE: Final = "diffbench"
"""The `when` of the extra reports that say how far a task is."""


def say(item: pytest.Item, session: Session, stage: Stage | str, line: str) -> None:
    """Tell whoever watches what a task is doing now."""
    demand = item.stash[DEMAND]
    report = pytest.TestReport(item.nodeid, item.location, {}, "passed", None, LIVE)  # type: ignore[arg-type]
    started = {
        "task_id": demand.task_id,
        "agent": session.label,
        "isolation": session.policy.stamp,
        "level": demand.task.level,
        "difficulty": demand.task.difficulty,
        "requests": item.config.getoption("diffbench_requests"),
    }
    report.diffbench_live = {"stage": str(stage), "line": line, "started": started}  # type: ignore[attr-defined]
    capture = item.config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        item.ihook.pytest_runtest_logreport(report=report)
        return
    with capture.global_and_fixture_disabled():
        item.ihook.pytest_runtest_logreport(report=report)


def complete(report: pytest.TestReport, item: pytest.Item, call: pytest.CallInfo[None], session: Session) -> None:
    """Attach the task's report where a phase decides it, and say in one line why it did not pass."""
    error = call.excinfo.value if call.excinfo is not None else None
    if report.skipped or call.when == "teardown" or (call.when == "setup" and error is None):
        return
    ending = _ending(error, in_body=BODY in item.stash)
    if call.when == "setup":
        ending = replace(ending, verdict=Verdict.INFRA, cause=error.cause if isinstance(error, SetupError) else None)
    if isinstance(error, (SolutionFault, SetupError)):
        report.longrepr = f"{ending.cause}: {ending.line}" if ending.cause is not None else ending.line
        if ending.detail:
            report.sections.append(("diffbench: behind it", ending.detail))
    if ending.verdict is Verdict.INFRA:
        report.when = "setup"  # an error of ours, also in the middle of a task: pytest's ERROR, not FAILED
    run = item.stash.get(RUN, None)
    tried = item.stash.get(TRIED, None)
    known = tried.known if tried is not None else None
    task = known or _task_report(item, session, run, ending)
    if isinstance(error, SolutionFault):
        failed = [stage.stage for stage in task.stages if stage.verdict is not Verdict.PASS]
        report.longrepr = f"[{failed[0]}] {report.longrepr}" if failed else report.longrepr
    if (line := verdict_line(task)) and not report.passed:
        report.sections.append(("diffbench: verdict", line))
    skipped = session.settings.on_undecided == "skip" or task.cause is Cause.NOT_JUDGED
    if task.verdict is Verdict.UNDECIDED and skipped:
        path, number, _ = item.location
        report.outcome, report.longrepr = "skipped", (path, number or 0, str(report.longrepr))
    problem = _keep(task, tried, session)
    if problem:
        report.sections.append(("diffbench: not in the journal", problem))
    report.diffbench = {  # type: ignore[attr-defined]
        "task": plain(task),
        "benchmarks": plain(benchmark_json.benchmarks(task)),
        "journal": {"folder": str(session.ledger.place.folder), "problem": problem},
    }
    _add_properties(item, task)


def _keep(task: TaskReport, tried: Attempt | None, session: Session) -> str:
    """Put a verdict into the journal; what kept it from getting there, which does not change it."""
    try:
        if tried is not None:
            tried.end(task)
        else:
            session.ledger.stray(task)
    except SetupError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class _Ending:
    """Why and how a task ended."""

    verdict: Verdict
    cause: Cause | None = None
    line: str = ""
    detail: str = ""


def _ending(error: BaseException | None, *, in_body: bool) -> _Ending:
    """What the test's own body asserts is asserted of the solution; what goes wrong in a stage of ours is our fault."""
    if error is None:
        return _Ending(Verdict.PASS)
    if isinstance(error, SolutionFault):
        return _Ending(error.cause.verdict, error.cause, error.line, error.detail)
    line, _, detail = str(error).partition("\n")
    if isinstance(error, SetupError):
        return _Ending(Verdict.INFRA, error.cause, line, detail)
    if in_body and isinstance(error, (AssertionError, pytest.fail.Exception)):
        return _Ending(Verdict.FAIL, Cause.ASSERTION, line, detail)
    return _Ending(Verdict.INFRA, None, f"{type(error).__name__}: {line}", detail)


def _task_report(item: pytest.Item, session: Session, run: Run | None, ending: _Ending) -> TaskReport:
    demand = item.stash[DEMAND]
    known = {}
    if run is not None:
        known = {
            "stages": tuple(run.reports),
            "executability": run.executability,
            "speed": run.speed,
            "quality": run.quality,
            "cost": run.cost,
            "undecided_runs": run.undecided_runs,
            "solution_sha256": run.solution_sha256,
            "device": f"{run.device.name} ({run.device.model})" if run.device is not None else "",
            "model_revision": run.model_revision,
        }
    return TaskReport(
        nodeid=item.nodeid,
        task_id=demand.task_id,
        agent=session.label,
        verdict=ending.verdict,
        level=demand.task.level,
        difficulty=demand.task.difficulty,
        model=demand.model.name,
        scenario=demand.task.scenario,
        task_edition=item.stash.get(EDITION, ""),
        cause=ending.cause,
        line=ending.line,
        detail=ending.detail,
        isolation=session.policy.stamp,
        limits=session.policy.limits.describe(),
        batch=demand.task.batch,
        seed=session.seed,
        requests=session.requests,
        versions=session.versions,
        **known,  # type: ignore[arg-type]
    )


def _add_properties(item: pytest.Item, task: TaskReport) -> None:
    """What junit shows of a task: plain values only, execnet carries nothing else."""
    shown: list[tuple[str, object]] = [("diffbench.verdict", str(task.verdict))]
    if task.cause is not None:
        shown.append(("diffbench.cause", str(task.cause)))
    if task.speed is not None:
        shown.append(("diffbench.speedup", float(task.speed.speedup)))
    if task.quality is not None and task.quality.loss is not None:
        shown.append(("diffbench.quality_loss", float(task.quality.loss)))
    item.user_properties.extend(shown)
