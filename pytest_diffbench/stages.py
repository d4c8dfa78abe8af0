"""The three stages of a task, in the one place that knows their order: executability, speed, quality."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pytest_diffbench import clock, static_check
from pytest_diffbench.devices import lease
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.isolation import Sandbox, Standby
from pytest_diffbench.records import Cause, Executability, Quality, Speed, Stage, StageReport, Verdict
from pytest_diffbench.requests import Requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_diffbench.clock import Pair
    from pytest_diffbench.demand import Demand
    from pytest_diffbench.devices import Device
    from pytest_diffbench.isolation import Reply
    from pytest_diffbench.judge import ClipScorer
    from pytest_diffbench.providers import Solution
    from pytest_diffbench.wire import Request
    from pytest_diffbench.zoo.models import Weights

ORDER: Final = (Stage.EXECUTABILITY, Stage.SPEED, Stage.QUALITY)
DESCRIBE_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Settings:
    """How the stages measure."""

    pairs: int = 10
    """Timed pairs a task; the paper's ten prompts."""
    load_timeout_s: float = 600.0
    call_timeout_s: float = 600.0


class Workbench:
    """What outlives one task in one worker: a standby process, the baseline's process, the judge."""

    def __init__(self, devices: Sequence[Device], *, preferred: int = 0) -> None:
        self._devices = devices
        self._preferred = preferred
        self.standby = Standby()
        self._baseline: tuple[str, Sandbox] | None = None
        self._scorers: dict[Path, ClipScorer] = {}

    @contextlib.contextmanager
    def device(self, *, another_follows: bool) -> Iterator[Device]:
        """Hold a device; before it is given back, the next task's process has done its imports on it."""
        with lease(self._devices, preferred=self._preferred) as device, _staying_on(device):
            try:
                yield device
            finally:
                if another_follows:
                    self.standby.prepare(device)
                    self.standby.settle()

    def baseline(self, source: str, weights: Weights, device: Device, settings: Settings) -> Sandbox:
        """The baseline's loaded process, kept from task to task; SetupError where it does not load."""
        key = "|".join([hashlib.sha256(source.encode()).hexdigest(), str(weights.path), device.name])
        if self._baseline is not None and self._baseline[0] == key:
            return self._baseline[1]
        self._drop_baseline()
        sandbox = Sandbox(cores=device.cores, environment=device.environment)
        sandbox.wait_ready()
        self._baseline = (key, sandbox)
        with self.trusting():
            sandbox.load(source, model=str(weights.path), device=device.torch_device, timeout_s=settings.load_timeout_s)
        return sandbox

    @contextlib.contextmanager
    def trusting(self) -> Iterator[None]:
        """What goes wrong inside is the baseline's fault: a SetupError, and its process is not used again."""
        try:
            yield
        except SolutionFault as fault:
            self._drop_baseline()
            raise SetupError(f"diffbench: the baseline failed ({fault.cause}): {fault.line}\n{fault.detail}") from fault

    def scorer(self, folder: Path) -> ClipScorer:
        """The judge's CLIP model, loaded once a worker."""
        # imported here: torch and transformers, which a worker needs for nothing else
        import torch

        from pytest_diffbench.judge import ClipScorer

        if folder not in self._scorers:
            torch.set_num_threads(1)
            self._scorers[folder] = ClipScorer(folder)
        return self._scorers[folder]

    def close(self) -> None:
        """End every process."""
        self.standby.close()
        self._drop_baseline()

    def _drop_baseline(self) -> None:
        if self._baseline is not None:
            self._baseline[1].close()
            self._baseline = None


@contextlib.contextmanager
def _staying_on(device: Device) -> Iterator[None]:
    """Keep this thread, and so the judge, off the cores that others time on."""
    before = os.sched_getaffinity(0)
    if device.cores:
        os.sched_setaffinity(0, device.cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _BaselineArm:
    """The baseline as an arm of the clock, its faults told apart from the candidate's."""

    def __init__(self, sandbox: Sandbox, bench: Workbench, call_timeout_s: float) -> None:
        self._sandbox = sandbox
        self._bench = bench
        self._call_timeout_s = call_timeout_s
        self.pause, self.resume = sandbox.pause, sandbox.resume
        self.peak_memory_bytes = sandbox.peak_memory_bytes

    def generate(self, requests: Sequence[Request], *, timeout_s: float) -> Reply:
        """The baseline's answer; SetupError where it has none. A shorter limit is the candidate's, not its own."""
        with self._bench.trusting():
            return self._sandbox.generate(requests, timeout_s=max(timeout_s, self._call_timeout_s))


class Run:
    """One task on its way through the stages; each leaves its evidence and a report."""

    def __init__(
        self,
        demand: Demand,
        weights: Weights,
        solution: Solution | SolutionFault,
        baseline_source: str,
        *,
        bench: Workbench,
        settings: Settings,
        say: Callable[[Stage, str], None],
    ) -> None:
        self.demand = demand
        self.solution = solution
        self.reports: list[StageReport] = []
        self.executability: Executability | None = None
        self.speed: Speed | None = None
        self.quality: Quality | None = None
        self.device: Device | None = None
        self._weights = weights
        self._baseline_source = baseline_source
        self._bench = bench
        self._say = say
        self._requests = Requests(demand, weights)
        self._candidate: Sandbox | None = None
        self._pairs: tuple[Pair, ...] = ()
        self._another_follows = False
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

    def through(self, stages: Sequence[Stage], *, another_follows: bool) -> None:
        """Run these stages in their order on one leased device; SolutionFault or SetupError of the first that ends."""
        self._another_follows = another_follows
        with self._bench.device(another_follows=another_follows) as device:
            self.device = device
            too_slow: SolutionFault | None = None
            try:
                for stage in ORDER:
                    try:
                        if stage in stages:
                            self._perform(stage)
                    except SolutionFault as fault:
                        # speed bought with quality achieves nothing, so a candidate that is too slow is judged too
                        if fault.cause is not Cause.RELATIVE_SPEED:
                            raise too_slow or fault from None
                        too_slow = fault
                if too_slow is not None:
                    raise too_slow
            finally:
                self._end_candidate()

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
            verdict, fault = Verdict.FAIL, error
            raise
        finally:
            elapsed_s = time.monotonic() - began
            cause, line, detail = (fault.cause, fault.line, fault.detail) if fault else (None, "", "")
            self.reports.append(StageReport(stage, verdict, elapsed_s, cause, line, detail))

    # -- executability ---------------------------------------------------------------------------------------------

    def _check_executability(self) -> None:
        if isinstance(self.solution, SolutionFault):
            raise self.solution
        static_check.check(self.solution.source, self.demand)
        self._say(Stage.EXECUTABILITY, "starting a process")
        assert self.device is not None
        began = time.monotonic()
        candidate = self._candidate = self._bench.standby.take(self.device)
        ready_s = time.monotonic() - began
        self._say(Stage.EXECUTABILITY, "loading, then requests from all over the domain")
        load_s = candidate.load(
            self.solution.source,
            model=str(self._weights.path),
            device=self.device.torch_device,
            timeout_s=self._settings.load_timeout_s,
        )
        call_timeout_s = self._settings.call_timeout_s
        first = candidate.generate(self._requests.batch(), timeout_s=call_timeout_s)
        # imported here: hypothesis, which nothing else at run time needs
        from pytest_diffbench.probes import probe

        probe(
            self._requests,
            self.demand.task.batch,
            lambda batch: _discard(candidate.generate(batch, timeout_s=call_timeout_s)),
        )
        record = candidate.describe(timeout_s=DESCRIBE_TIMEOUT_S)
        self.executability = Executability(
            load_s=load_s,
            first_call_s=first.elapsed_s,
            ready_s=ready_s,
            pipeline_class=record.pipeline_class,
            scheduler_class=record.scheduler_class,
            dtype=record.dtype,
            num_inference_steps=record.num_inference_steps,
        )
        for problem in running_problems(self.executability, self.demand):
            raise SolutionFault(Cause.KEY_ATTRIBUTE, problem)

    # -- speed -----------------------------------------------------------------------------------------------------

    def _measure_speed(self) -> None:
        assert self.device is not None
        assert self._candidate is not None
        self._say(Stage.SPEED, f"timing {self._settings.pairs} pairs")
        self._candidate.pause()
        settings = self._baseline_settings
        sandbox = self._bench.baseline(self._baseline_source, self._weights, self.device, settings)
        baseline = _BaselineArm(sandbox, self._bench, settings.call_timeout_s)
        self._pairs = clock.measure(
            baseline,
            self._candidate,
            self._requests.batch,
            pairs=self._settings.pairs,
            timeout_s=self._settings.call_timeout_s,
            candidate_first=bool(self._requests.entropy() % 2),
        )
        memory = self._candidate.peak_memory_bytes() / max(baseline.peak_memory_bytes(), 1)
        self.speed = clock.evidence(self._pairs, self.demand.markers, peak_memory_ratio=memory)
        if (fault := speed_fault(self.speed, self.demand)) is not None:
            raise fault

    # -- quality ---------------------------------------------------------------------------------------------------

    def _judge_quality(self) -> None:
        assert self.device is not None
        self._end_candidate()
        if self._another_follows:  # nothing is timed from here on
            self._bench.standby.prepare(self.device)
        self._say(Stage.QUALITY, f"judging {sum(len(pair.requests) for pair in self._pairs)} images")
        # imported here: scipy and torch
        from pytest_diffbench import judge

        scorer = self._bench.scorer(self._weights.scorer)
        prompts = [request.prompt or "" for pair in self._pairs for request in pair.requests]
        baseline_images = [image for pair in self._pairs for image in pair.baseline.images]
        candidate_images = [image for pair in self._pairs for image in pair.candidate.images]
        self.quality = judge.evidence(
            scorer.scores(prompts, baseline_images),
            scorer.scores(prompts, candidate_images),
            max_loss=self.demand.markers.quality.max_loss,
            reference_clip_score=self._weights.clip_scores.get(self.demand.sampler),
        )
        if (fault := judge.fault(self.quality)) is not None:
            raise fault

    def _end_candidate(self) -> None:
        if self._candidate is not None:
            self._candidate.close()
            self._candidate = None


def _discard(_: object) -> None:
    """The sandbox has checked the answer's size; there is nothing more to know."""


def running_problems(running: Executability, demand: Demand) -> Iterator[str]:
    """Each way in which the running pipeline's own word contradicts the demand."""
    from pytest_diffbench.methods import SAMPLERS, sampler_agrees

    known = demand.model.pipeline_classes
    if running.pipeline_class and running.pipeline_class != known[0]:
        yield f"it runs a {running.pipeline_class}; model {demand.model.name!r} needs {known[0]}"
    sampler, steps = demand.demanded_sampler, demand.demanded_steps
    if sampler is not None and not sampler_agrees(running, sampler):
        yield f"it runs {running.scheduler_class}; the task demands {SAMPLERS[sampler][0]}"
    if steps is not None and running.num_inference_steps not in (0, steps):
        yield f"it runs {running.num_inference_steps} steps; the task demands {steps}"
    for name, parameters in demand.methods.items():
        if problem := demand.known_methods[name].running_problem(running, parameters):
            yield problem


def speed_fault(speed: Speed, demand: Demand) -> SolutionFault | None:
    """Why this speed fails the task, or None; tasks without a speed or latency marker cannot fail."""
    count = len(speed.baseline_s)
    wanted, limit_s = speed.demanded_speedup, speed.demanded_latency_s
    if wanted is not None and speed.speedup < wanted:
        spread = f"[{speed.speedup_low:.2f}, {speed.speedup_high:.2f}]"
        line = f"speed-up {speed.speedup:.2f}x {spread} < {wanted:.2f}x over {count} pairs"
        return SolutionFault(Cause.RELATIVE_SPEED, line)
    if limit_s is not None and speed.latency_s is not None and speed.latency_s > limit_s:
        assert demand.markers.latency is not None
        where = f"p{demand.markers.latency.percentile:g}"
        line = f"latency {where} {speed.latency_s:.3f} s > {limit_s:.3f} s over {count} calls"
        return SolutionFault(Cause.RELATIVE_SPEED, line)
    return None
