"""The three stages of a task, in the one place that knows their order: executability, speed, quality."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pytest_diffbench import agreement, static_check
from pytest_diffbench.demand import demanded_speedup
from pytest_diffbench.devices import watch
from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.inspection import DESCRIBE_TIMEOUT_S, Inspection
from pytest_diffbench.isolation.limits import Limits
from pytest_diffbench.records import (
    Cause,
    Executability,
    Outcome,
    Quality,
    RequestSet,
    Speed,
    Stage,
    StageReport,
    Verdict,
    unrecorded,
)
from pytest_diffbench.requests import TIMED, sources
from pytest_diffbench.wording import speedup
from pytest_diffbench.workbench import Start
from pytest_diffbench.zoo.scrambled import scrambled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_diffbench.comparison import Arms, Comparison, Plans
    from pytest_diffbench.demand import Demand, Markers
    from pytest_diffbench.devices import Device
    from pytest_diffbench.isolation import Reply, Sandbox
    from pytest_diffbench.judge import Judgement
    from pytest_diffbench.judge.metric import Metric
    from pytest_diffbench.providers import Solution
    from pytest_diffbench.records import Cost, Record
    from pytest_diffbench.requests import Requests
    from pytest_diffbench.wire import Request
    from pytest_diffbench.workbench import BaselineArm, Workbench
    from pytest_diffbench.zoo.supply import Weights

ORDER: Final = (Stage.EXECUTABILITY, Stage.SPEED, Stage.QUALITY)
CERTIFYING_STARTS: Final = 3
SECOND_TRY_FACTOR: Final = 5.0
"""By how much the levels of a second round are smaller: two chances must not make a wrong verdict twice as likely."""

OnUndecided: TypeAlias = Literal["retry", "fail", "skip"]


@dataclass(frozen=True)
class Settings:
    """How the stages measure."""

    most_pairs: int | None = None
    """Timed pairs after which speed is left undecided; None: as many as each test's own plan has."""
    images: int | None = None
    """Images of each arm to compare as sets; None: only the timed ones, and not as sets."""
    on_undecided: OnUndecided = "retry"
    certify: bool = False
    """Three starts of the processes, and at least 100 images."""
    seed: int = 0
    """What every request is drawn from; secret until the run is over, if the requests are."""
    requests: RequestSet = RequestSet.SECRET
    quick: bool = False
    """For feedback to a solver: fewer pairs and images, and nothing of what only a verdict on secret requests needs."""
    race: float | None = None
    """A candidate surely less than so many times faster is not judged; None: every one that draws is."""
    metrics: tuple[Metric, ...] = ()
    load_timeout_s: float = Limits.load_s
    call_timeout_s: float = Limits.call_s


class Run:
    """One task on its way through the stages; each leaves its evidence and a report."""

    def __init__(
        self,
        demand: Demand,
        weights: Weights,
        solution: Solution | SolutionFault,
        baseline_source: str,
        *,
        name: str,
        bench: Workbench,
        settings: Settings,
        say: Callable[[Stage, str], None],
        record: Record = unrecorded,
    ) -> None:
        self.demand = demand
        self.solution = solution
        self.reports: list[StageReport] = []
        self.executability: Executability | None = None
        self.speed: Speed | None = None
        self.quality: Quality | None = None
        self.device: Device | None = None
        self.cost: Cost | None = None
        self.undecided_runs = 0
        self._weights = weights
        self._baseline_source = baseline_source
        self._bench = bench
        self._say = say
        self._record = record
        self._source = sources(demand, weights, f"{settings.seed} {name}", settings.requests)
        self._probes: Requests = self._source("probes")
        self._candidate: Sandbox | None = None
        self._candidate_start = Start(0.0, 0.0)
        self._comparison: Comparison | None = None
        self._start = 0
        self._probed: list[tuple[Sequence[Request], Reply]] = []
        self._baseline_settings = settings
        timeout_s = demand.markers.executability.timeout_s
        if timeout_s is not None:
            settings = replace(settings, load_timeout_s=timeout_s, call_timeout_s=timeout_s)
        self._settings = settings

    @property
    def solution_sha256(self) -> str:
        """The digest of the solution's text; '' where there is none."""
        return "" if isinstance(self.solution, SolutionFault) else self.solution.sha256

    @property
    def model_revision(self) -> str:
        """Which weights were used."""
        return self._weights.revision

    def through(self, stages: Sequence[Stage], *, next_model: Path | None) -> None:
        """Run these stages in their order on one leased device; SolutionFault or SetupError of what decides.

        `next_model` is what the next task's process will need; None where no task follows.

        What ends undecided is run once more with fresh requests, but for its first stage.
        """
        with self._bench.device(next_model=next_model) as device:
            self.device = device
            try:
                if Stage.EXECUTABILITY in stages:
                    self._perform(Stage.EXECUTABILITY)
                try:
                    self._compare(stages)
                except SolutionFault as fault:
                    if fault.cause is not Cause.UNDECIDED or self._settings.on_undecided != "retry":
                        raise
                    self._say(Stage.SPEED, f"undecided ({fault.line}): once more with fresh requests")
                    self.undecided_runs += 1
                    self._compare(stages)
            finally:
                self._end_candidate()

    def _compare(self, stages: Sequence[Stage]) -> None:
        """Speed and quality: both are looked at, since speed that is bought with quality achieves nothing.

        Where nothing speaks against the candidate, it is looked at from inside, and the baseline timed without it.
        """
        self.reports = [report for report in self.reports if report.stage is Stage.EXECUTABILITY]
        self.speed = self.quality = self.cost = None  # of a round before
        faults: list[SolutionFault] = []
        for stage in ORDER[1:]:
            if stage in stages and (stage is not Stage.QUALITY or self._weights.scorer is not None):
                try:
                    self._perform(stage)
                except SolutionFault as fault:
                    faults.append(fault)
                    if fault.cause not in (Cause.RELATIVE_SPEED, Cause.UNDECIDED) or self._is_outrun():
                        break
        if (first := decisive(faults)) is not None:
            raise first
        # the last thing that is asked of this process, where all else went well: nothing of it is timed after
        self._amending(Stage.EXECUTABILITY, self._look_inside)
        if self._comparison is not None and Stage.SPEED in stages and not self._settings.quick:
            self._amending(Stage.SPEED, partial(self._protect_baseline, self._comparison))
        if self._weights.scorer is None:
            raise SolutionFault(Cause.NOT_JUDGED, "random weights: its images say nothing")

    def _is_outrun(self) -> bool:
        """Whether another candidate is known that this one is surely slower than."""
        race, speed = self._settings.race, self.speed
        return race is not None and speed is not None and (speed.speedup_high or math.inf) < race

    def _perform(self, stage: Stage) -> None:
        began = time.monotonic()
        verdict, fault = Verdict.INFRA, None
        try:
            {
                Stage.EXECUTABILITY: self._check_executability,
                Stage.SPEED: self._measure_speed,
                Stage.QUALITY: self._judge_quality,
            }[stage]()
            verdict = Verdict.PASS
        except SolutionFault as error:
            verdict, fault = error.cause.verdict, error
            raise
        finally:
            elapsed_s = time.monotonic() - began
            cause, line, detail = (fault.cause, fault.line, fault.detail) if fault else (None, "", "")
            self.reports.append(StageReport(stage, verdict, elapsed_s, cause, line, detail))
            evidence = {"evidence": getattr(self, stage), "cost": self.cost, "round": self.undecided_runs}
            self._record("stage", {"report": self.reports[-1], **evidence})

    def _amending(self, stage: Stage, look: Callable[[], None]) -> None:
        """Find out more about a stage that has ended, and change its report and evidence."""
        began, fault = time.monotonic(), None
        try:
            look()
        except SolutionFault as error:
            fault = error
            raise
        finally:
            position = next(n for n, report in enumerate(self.reports) if report.stage is stage)
            report = self.reports[position]
            report = replace(report, elapsed_s=report.elapsed_s + time.monotonic() - began)
            if fault is not None:
                verdict, cause, line, detail = fault.cause.verdict, fault.cause, fault.line, fault.detail
                report = replace(report, verdict=verdict, cause=cause, line=line, detail=detail)
            self.reports[position] = report
            self._record("amended", {"report": report, "evidence": getattr(self, stage)})

    # -- executability ---------------------------------------------------------------------------------------------

    def _check_executability(self) -> None:
        if isinstance(self.solution, SolutionFault):
            raise self.solution
        static_check.check(self.solution.source, self.demand)
        ready_s = self._start_candidate(Stage.EXECUTABILITY)
        candidate, call_timeout_s = self._candidate, self._settings.call_timeout_s
        assert candidate is not None
        self._say(Stage.EXECUTABILITY, "requests from all over the domain")
        # imported here: hypothesis, which nothing else at run time needs
        from pytest_diffbench.probes import probe

        probe(
            self._probes,
            self.demand.task.batch,
            lambda batch: self._probed.append((batch, candidate.generate(batch, timeout_s=call_timeout_s))),
        )
        record = candidate.describe(timeout_s=DESCRIBE_TIMEOUT_S)
        self.executability = Executability(
            load_s=self._candidate_start.load_s,
            first_call_s=self._candidate_start.first_call_s,
            ready_s=ready_s,
            **agreement.attributes(record),
        )
        for problem in agreement.running_problems(self.executability, self.demand):
            raise SolutionFault(Cause.KEY_ATTRIBUTE, problem)

    # -- speed -----------------------------------------------------------------------------------------------------

    def _measure_speed(self) -> None:
        # imported here: scipy and torch, which collecting tasks must not load
        from pytest_diffbench import comparison

        starts = CERTIFYING_STARTS if self._settings.certify else 1
        round_name = f"round {self.undecided_runs}"
        self._comparison = comparison.Comparison(
            self.demand,
            self._weights,
            self._source(f"{TIMED} of {round_name}"),
            self._source(f"warm-up of {round_name}"),
            plans=self._plans(),
            starts=starts,
        )
        self._record("plans", {"round": self.undecided_runs, "plans": self._comparison.plans})
        for start in range(starts):
            self._start = start
            if start or self.undecided_runs:
                self._start_candidate(Stage.SPEED)
            if starts > 1:
                self._bench.drop_baseline()
            self._say(Stage.SPEED, f"timing pairs{f', start {start + 1} of {starts}' if starts > 1 else ''}")
            try:
                self._comparison.time(self._arms(candidate_first=bool(self._probes.entropy() % 2)))
            finally:  # what was timed before a process died is not lost
                if self._comparison.started:
                    self.speed, self.cost = self._comparison.speed(), self._comparison.cost()
            if self._comparison.too_slow:
                break
        assert self.speed is not None
        if (fault := speed_fault(self.speed, self.demand.markers)) is not None:
            raise fault

    def _plans(self) -> Plans:
        """When this try's tests look."""
        from pytest_diffbench import comparison

        plans = comparison.CERTIFIED if self._settings.certify else comparison.Plans()
        plans = comparison.QUICK if self._settings.quick else plans
        plans = plans.at_most(self._settings.most_pairs) if self._settings.most_pairs is not None else plans
        return plans.second_try(SECOND_TRY_FACTOR) if self.undecided_runs else plans

    def _arms(self, *, candidate_first: bool) -> Arms:
        """Baseline and candidate, each loaded and called once, ready to be timed."""
        from pytest_diffbench import clock, comparison

        assert self.device is not None
        assert self._candidate is not None
        candidate = self._candidate
        candidate.pause()
        baseline = self._baseline()
        if baseline.forked != candidate.forked:  # what forks has failed since: one arm would fault in pages alone
            self._bench.drop_baseline()
            baseline = self._baseline()
        looks = watch(self.device, (baseline.pid, candidate.pid))
        trial = clock.Trial(
            baseline,
            candidate,
            timeout_s=self._settings.call_timeout_s,
            candidate_first=candidate_first,
            watch=looks,
            record=self._record_of_start(),
        )

        def memory_bytes() -> tuple[int, int]:
            found = [looks.memory_bytes(arm.pid) or arm.peak_memory_bytes() for arm in (baseline, candidate)]
            return found[0], found[1]

        return comparison.Arms(trial, baseline.start, self._candidate_start, memory_bytes)

    def _baseline(self) -> BaselineArm:
        assert self.device is not None
        return self._bench.baseline(
            self._baseline_source,
            self._weights,
            self.device,
            self._probes.batch(),
            load_timeout_s=self._baseline_settings.load_timeout_s,
            call_timeout_s=self._baseline_settings.call_timeout_s,
        )

    def _record_of_start(self) -> Record:
        """Records that say which round, and which start of the processes, they are of."""
        position = {"round": self.undecided_runs, "start": self._start}
        return lambda kind, body: self._record(kind, {**position, **body})

    def _start_candidate(self, stage: Stage, model: Path | None = None) -> float:
        """A fresh process with the solution loaded and called once; seconds until it was ready to load."""
        path = str(model or self._weights.path)
        assert self.device is not None
        assert not isinstance(self.solution, SolutionFault)
        self._end_candidate()
        self._say(stage, "starting a process")
        began = time.monotonic()
        candidate = self._candidate = self._bench.standby.take(self.device, path)
        ready_s = time.monotonic() - began
        self._say(stage, "loading")
        load_s = candidate.load(
            self.solution.source,
            model=path,
            device=self.device.torch_device,
            timeout_s=self._settings.load_timeout_s,
        )
        first = candidate.generate(self._probes.batch(), timeout_s=self._settings.call_timeout_s)
        self._candidate_start = Start(load_s, first.elapsed_s)
        return ready_s

    def _protect_baseline(self, comparison: Comparison) -> None:
        """Nothing speaks against the candidate: was the baseline as fast beside it as it is alone?"""
        # imported here: scipy
        from pytest_diffbench import disturbance

        assert self.speed is not None
        self._end_candidate()
        self._say(Stage.SPEED, "timing the baseline alone")
        beside_s, alone_s = comparison.deciding_baseline_s(), comparison.baseline_alone_s(disturbance.FIRST_CALLS)
        found = disturbance.slowdown(beside_s, alone_s)
        if found.worth_a_look:
            self._say(Stage.SPEED, f"it was {found.factor:.2f} times slower beside the candidate: looking again")
            alone_s += comparison.baseline_alone_s(disturbance.ALL_CALLS - disturbance.FIRST_CALLS)
            found = disturbance.slowdown(beside_s, alone_s)
        self.speed = replace(self.speed, baseline_alone_s=tuple(alone_s), baseline_slowdown=found.factor)
        if not found.worth_a_look:
            return
        rounds: list[tuple[list[float], list[float]]] = []
        while disturbance.another_round(rounds):
            rounds.append(self._with_and_without(comparison))
            self._record("baseline", {"beside_s": rounds[-1][0], "alone_s": rounds[-1][1]})
        what = f"the baseline was {found.factor:.2f} times slower beside the candidate than alone"
        detail = "\n".join(f"with it {_seconds(beside)}; without {_seconds(alone)}" for beside, alone in rounds)
        if disturbance.follows(rounds):
            line = f"{what}, and again each time the candidate was there: nothing may run outside its own calls"
            raise SolutionFault(Cause.BASELINE_SLOWED, line, detail)
        if found.suspicious or len(rounds) > 1:
            line = f"{what}, but not each time that was tried: something else ran on this machine"
            raise SolutionFault(Cause.UNDECIDED, line, detail)

    def _with_and_without(self, comparison: Comparison) -> tuple[list[float], list[float]]:
        """The baseline's times beside a new process of the candidate's, and after its end."""
        from pytest_diffbench import disturbance

        self._start_candidate(Stage.SPEED)
        self._say(Stage.SPEED, "timing the baseline with the candidate and without it")
        trial = self._arms(candidate_first=False).trial
        beside_s = comparison.baseline_beside_s(trial, disturbance.BLOCK_CALLS)
        self._end_candidate()
        return beside_s, comparison.baseline_alone_s(disturbance.BLOCK_CALLS)

    # -- quality ---------------------------------------------------------------------------------------------------

    def _judge_quality(self) -> None:
        # imported here: scipy and torch
        from pytest_diffbench import judge

        assert self._comparison is not None
        say = partial(self._say, Stage.QUALITY)
        assert self._weights.scorer is not None
        scorer = self._bench.scorer(self._weights.scorer)
        try:
            judgement = self._comparison.judgement(scorer, say, self._settings.metrics)
        finally:  # with the pairs that were timed for their images, however it ended
            self.speed, self.cost = self._comparison.speed(), self._comparison.cost()
        canaries = None
        try:
            if judgement.holds and not self._settings.quick:
                self._say(Stage.QUALITY, "changing seeds and prompts")
                canaries = self._comparison.canaries(self._probed)
        finally:  # what the timed images say is not lost with a process that dies of a canary
            self.quality = judgement.evidence(canaries)
        if judgement.holds:
            self._look_closer(judgement)
        if (fault := judge.fault(self.quality)) is not None:
            raise fault

    def _look_closer(self, judgement: Judgement) -> None:
        """What is asked only of a candidate whose score holds: the control, other metrics, sets of images."""
        assert self._comparison is not None
        assert self.quality is not None
        control, speed = None, self.speed if not self._settings.quick else None
        if speed is not None and speed.decision is not Outcome.BELOW and speed.speedup_low > 1:
            self._say(Stage.QUALITY, "the baseline with fewer steps")
            control = self._comparison.step_control(judgement, self.quality.candidate_clip)
        self.quality = replace(self.quality, step_control=control, metrics=judgement.metrics())
        if self._settings.images is not None:
            self._say(Stage.QUALITY, f"comparing {self._settings.images} images as sets")
            images = self._comparison.more_images(self._settings.images)
            own_model = self.demand.model.folder is not None
            self.quality = replace(self.quality, distribution=judgement.distribution(*images, inception=own_model))
        self.quality = replace(self.quality, judge_s=judgement.elapsed_s)

    # -- what it did -----------------------------------------------------------------------------------------------

    def _look_inside(self) -> None:
        """What a solution is that has passed so far, by calls of which none counts as timed."""
        assert self._candidate is not None
        assert self.executability is not None
        assert not isinstance(self.solution, SolutionFault)
        baseline = None
        if self._comparison is not None:  # else there is no baseline, and it would be started for this only
            self._candidate.pause()
            baseline = self._baseline()
        inspection = Inspection(
            self.demand,
            self.solution.source,
            requests=self._source,
            call_timeout_s=self._settings.call_timeout_s,
            say=partial(self._say, Stage.EXECUTABILITY),
            record=self._record,
        )
        record, right_record = inspection.observe(self._candidate, baseline)
        seen, right = agreement.observation(record), agreement.observation(right_record)
        self.executability = replace(self.executability, observed=seen, baseline_observed=right)
        now = replace(self.executability, **agreement.attributes(record))
        for problem in (*agreement.running_problems(now, self.demand), *agreement.problems(seen, right, self.demand)):
            raise SolutionFault(Cause.KEY_ATTRIBUTE, problem)
        if self._comparison is None or self._settings.quick:
            return
        inspection.look_away(self._candidate, seen, right)
        if right.denoiser_calls and self._weights.scorer is not None:
            self._check_origin(inspection, self._comparison)

    def _check_origin(self, inspection: Inspection, comparison: Comparison) -> None:
        with scrambled(self._weights.path) as model:
            if model is None:
                return
            try:
                self._start_candidate(Stage.EXECUTABILITY, model)
                assert self._candidate is not None
                inspection.change_model(self._candidate, *comparison.first_answer())
            except SolutionFault as fault:
                line = f"with its model in disorder: {fault.line}"
                raise SolutionFault(fault.cause, line, fault.detail) from fault

    def _end_candidate(self) -> None:
        if self._candidate is not None:
            self._candidate.close()
            self._candidate = None


def _seconds(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values) + " s"


def decisive(faults: Sequence[SolutionFault]) -> SolutionFault | None:
    """The fault that a task ends with: what is shown before what is left open."""
    shown = [fault for fault in faults if fault.cause is not Cause.UNDECIDED]
    return next(iter((*shown, *faults)), None)


def speed_fault(speed: Speed, markers: Markers) -> SolutionFault | None:
    """Why this speed does not pass, or None; tasks without a speed or latency marker cannot fail."""
    if speed.decision in (None, Outcome.ABOVE):
        return None
    count = len(speed.baseline_s)
    wanted, limit_s, latency = speed.demanded_speedup, speed.demanded_latency_s, markers.latency
    by_ratio = demanded_speedup(markers)
    if wanted is not None:
        found, limit = f"speed-up {speedup(speed)}", f"{wanted:.2f}x"
    elif by_ratio is not None:  # decided in pairs: the medians could tell another story
        found, limit = f"latency {1 / speed.speedup:.3f} of the baseline's", f"{1 / by_ratio:.3f}"
    else:
        assert latency is not None
        found, limit = f"latency p{latency.percentile:g} {speed.latency_s:.3f} s", f"{limit_s:.3f} s"
    sign = "<" if wanted is not None else ">"
    if speed.decision is Outcome.OPEN:
        return SolutionFault(Cause.UNDECIDED, f"{found}, not told from {limit} over {count} pairs")
    borderline = ", borderline" if speed.borderline else ""
    return SolutionFault(Cause.RELATIVE_SPEED, f"{found} {sign} {limit} over {count} pairs{borderline}")
