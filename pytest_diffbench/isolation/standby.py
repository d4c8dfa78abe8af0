"""The next single-use process, started early so that its imports are done before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_diffbench.errors import SetupError
from pytest_diffbench.isolation.sandbox import Sandbox

if TYPE_CHECKING:
    from pytest_diffbench.devices import Device


class Standby:
    """At most one waiting process, for one device.

    It holds no solution, so nothing leaks from one to the next. A warm torch process cannot be forked instead: it
    hangs once torch has run a parallel operation.
    """

    def __init__(self) -> None:
        self._waiting: tuple[Device, Sandbox] | None = None

    def prepare(self, device: Device) -> None:
        """Start importing, if nothing waits for this device; call it only while nothing is timed on it."""
        if self._waiting is not None and self._waiting[0].environment == device.environment:
            return
        self.close()
        self._waiting = (device, Sandbox(cores=device.cores, environment=device.environment))

    def settle(self) -> None:
        """Return once the waiting process, if any, has done its imports; one that cannot is dropped."""
        if self._waiting is not None:
            try:
                self._waiting[1].wait_ready()
            except SetupError:  # the task that needs the next one will meet the error, and report it
                self.close()

    def take(self, device: Device) -> Sandbox:
        """A process ready to load a solution on this device."""
        if self._waiting is not None and not self._waiting[1].lives():
            self.close()
        self.prepare(device)
        assert self._waiting is not None
        sandbox, self._waiting = self._waiting[1], None
        sandbox.pin(device.cores)
        sandbox.wait_ready()
        return sandbox

    def close(self) -> None:
        """Kill whatever waits."""
        if self._waiting is not None:
            self._waiting[1].close()
            self._waiting = None
