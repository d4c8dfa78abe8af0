"""What outlives one task in one worker: a standby process, the baseline's process, the judge's models."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_diffbench.devices import lease
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.wire import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_diffbench.devices import Device
    from pytest_diffbench.isolation import Reply, Sandbox, Standby
    from pytest_diffbench.judge import ClipScorer
    from pytest_diffbench.wire import Request
    from pytest_diffbench.zoo.supply import Weights


@dataclass(frozen=True)
class Start:
    """How a process came to be ready to answer; seconds."""

    load_s: float
    first_call_s: float


class BaselineArm:
    """The loaded baseline as an arm of the clock; what goes wrong in it is told apart from the candidate's faults."""

    def __init__(self, sandbox: Sandbox, bench: Workbench, call_timeout_s: float) -> None:
        self.start = Start(0.0, 0.0)
        self._sandbox = sandbox
        self._bench = bench
        self._call_timeout_s = call_timeout_s
        self._records: dict[tuple[Request, ...], Record] = {}
        self.pause, self.resume = sandbox.pause, sandbox.resume
        self.peak_memory_bytes = sandbox.peak_memory_bytes

    @property
    def pid(self) -> int:
        """Its process's id."""
        return self._sandbox.pid

    @property
    def forked(self) -> bool:
        """As its sandbox's."""
        return self._sandbox.forked

    def generate(self, requests: Sequence[Request], *, timeout_s: float) -> Reply:
        """The baseline's answer; SetupError where it has none. A shorter limit is the candidate's, not its own."""
        with self._bench.trusting():
            return self._sandbox.generate(requests, timeout_s=max(timeout_s, self._call_timeout_s))

    def describe(self, requests: Sequence[Request], *, timeout_s: float) -> Record:
        """What is seen of one call, made once for requests of one kind; an empty record where it fails.

        What was measured does not depend on it: a baseline that cannot be observed is no error.
        """
        kind = tuple(replace(request, prompt=None, class_label=None, image=None, seed=0) for request in requests)
        if kind not in self._records:
            self.resume()
            try:
                self._records[kind] = self._sandbox.describe(requests, timeout_s=timeout_s)
                self.pause()
            except SolutionFault:
                self._bench.drop_baseline()
                return Record()
        return self._records[kind]

    def close(self) -> None:
        """End its process."""
        self._sandbox.close()


class Workbench:
    """The processes and models of one worker."""

    def __init__(self, devices: Sequence[Device], standby: Standby, *, preferred: int = 0) -> None:
        self.standby = standby
        self._devices = devices
        self._preferred = preferred
        self._baseline: tuple[str, BaselineArm] | None = None
        self._scorers: dict[Path, ClipScorer] = {}

    @contextlib.contextmanager
    def device(self, *, next_model: Path | None) -> Iterator[Device]:
        """Hold a device; before it is given back, the next task's process has done its imports on it."""
        with lease(self._devices, preferred=self._preferred) as device, _staying_on(device):
            try:
                yield device
            finally:
                if next_model is not None:
                    self.standby.prepare(device, str(next_model))
                    self.standby.settle()

    @contextlib.contextmanager
    def only(self, device: Device) -> Iterator[None]:
        """Hold this device and no other."""
        with lease([device]), _staying_on(device):
            yield

    def baseline(
        self,
        source: str,
        weights: Weights,
        device: Device,
        first: Sequence[Request],
        *,
        load_timeout_s: float,
        call_timeout_s: float,
    ) -> BaselineArm:
        """The baseline's loaded process, kept from task to task; `first` is its first request, where it is started.

        SetupError where it does not load or answer.
        """
        key = "|".join([hashlib.sha256(source.encode()).hexdigest(), str(weights.path), device.name])
        if self._baseline is not None and self._baseline[0] == key:
            return self._baseline[1]
        self.drop_baseline()
        sandbox = self.standby.start(device, str(weights.path))
        sandbox.wait_ready()
        arm = BaselineArm(sandbox, self, call_timeout_s)
        self._baseline = (key, arm)
        with self.trusting():
            load_s = sandbox.load(source, model=str(weights.path), device=device.torch_device, timeout_s=load_timeout_s)
        arm.start = Start(load_s, arm.generate(first, timeout_s=call_timeout_s).elapsed_s)
        return arm

    @contextlib.contextmanager
    def trusting(self) -> Iterator[None]:
        """What goes wrong inside is the baseline's fault: a SetupError, and its process is not used again."""
        try:
            yield
        except SolutionFault as fault:
            self.drop_baseline()
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

    def drop_baseline(self) -> None:
        """End the baseline's process; the next task, or the next start of a certification, loads it afresh."""
        if self._baseline is not None:
            self._baseline[1].close()
            self._baseline = None

    def close(self) -> None:
        """End every process."""
        self.standby.close()
        self.drop_baseline()


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
