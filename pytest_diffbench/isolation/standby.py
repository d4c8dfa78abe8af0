"""Single-use processes: forked where that is possible, else the next one is started early, to have done its imports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_diffbench.errors import SetupError
from pytest_diffbench.isolation.forkserver import ForkServers
from pytest_diffbench.isolation.sandbox import PREPARED, Sandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_diffbench.devices import Device
    from pytest_diffbench.isolation.tier import Policy


class Standby:
    """At most one waiting process, for one device and the model that its solution may read.

    It holds no solution, so nothing leaks from one to the next. Where the policy forks, neither does what it is forked
    of; that has imported torch and never used it, for a process that has run a parallel operation cannot be forked.
    """

    def __init__(self, policy: Policy, *, prepared: Sequence[str] = PREPARED) -> None:
        self.policy = policy
        self._prepared = prepared
        self._servers = ForkServers()
        self._waiting: tuple[Device, str, Sandbox] | None = None

    def start(self, device: Device, model: str) -> Sandbox:
        """A process that is importing, and that nothing waits for."""
        return Sandbox(
            self.policy,
            models=(model,),
            cores=device.cores,
            environment=device.environment,
            gpu_nodes=device.nodes,
            prepared=self._prepared,
            servers=self._servers if device.kind == "cpu" else None,  # CUDA must not be met before a fork
        )

    def prepare(self, device: Device, model: str) -> None:
        """Start importing, if nothing waits for these; call it only while nothing is timed on the device."""
        if self._waiting is not None and _fits(self._waiting, device, model):
            return
        self._drop()
        self._waiting = (device, model, self.start(device, model))

    def settle(self) -> None:
        """Return once the waiting process, if any, has done its imports; one that cannot, or has died, is dropped."""
        if self._waiting is None:
            return
        try:
            self._waiting[-1].wait_ready()
        except SetupError:  # the task that needs the next one will meet the error, and report it
            self._drop()
        else:
            if not self._waiting[-1].lives():  # it died after it had said that it was ready
                self._drop()

    def take(self, device: Device, model: str) -> Sandbox:
        """A process ready to load a solution for this model on this device."""
        if self._waiting is not None and not self._waiting[-1].lives():
            self._drop()
        self.prepare(device, model)
        assert self._waiting is not None
        (prepared_for, _, sandbox), self._waiting = self._waiting, None
        sandbox.wait_ready()
        if prepared_for.cores != device.cores:
            sandbox.pin(device.cores)
        return sandbox

    def close(self) -> None:
        """Kill whatever waits, and what it would have been forked of."""
        self._drop()
        self._servers.close()

    def _drop(self) -> None:
        if self._waiting is not None:
            self._waiting[-1].close()
            self._waiting = None


def _fits(waiting: tuple[Device, str, Sandbox], device: Device, model: str) -> bool:
    """Whether it can serve: its core can still be changed, the rest was settled when it was started."""
    return waiting[0].environment == device.environment and waiting[1] == model
