"""What goes on at a device around a call, as far as it makes the call's time incomparable: asked of NVML, outside."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

    from pytest_diffbench.devices.inventory import Device

IDLE_WAIT_S: Final = 3.0
"""NVML averages utilisation over up to a second."""
_POLL_S: Final = 0.05


@dataclass(frozen=True)
class Conditions:
    """One look at a device."""

    idle: bool = True
    foreign_processes: tuple[int, ...] = ()
    """Process ids on the device that are none of ours."""
    throttle_reasons: int = 0
    """NVML's bit set of why the clock is lower than it could be; idleness left out."""
    energy_mj: int | None = None
    """The device's energy counter in millijoules; None where it has none."""


class Watch(Protocol):
    """Looks at a device before and after a call."""

    def before(self) -> Conditions:
        """Wait until the device is idle, then look."""

    def after(self) -> Conditions:
        """Look, without waiting."""

    def memory_bytes(self, pid: int) -> int | None:
        """The device's memory that a process holds; None where the device does not tell."""


class CoreWatch:
    """A CPU core, or a GPU that cannot be asked: the arm that is not timed is stopped, and that is all there is."""

    def before(self) -> Conditions:
        """Nothing to report."""
        return Conditions()

    def after(self) -> Conditions:
        """Nothing to report."""
        return Conditions()

    def memory_bytes(self, pid: int) -> int | None:  # noqa: ARG002 (a core has no memory of its own)
        """None: resident memory is the process's own."""
        return None


class GpuWatch:
    """A GPU through NVML; a question that this card or this user may not ask is answered as if all were well."""

    def __init__(self, device: Device, ours: Collection[int]) -> None:
        """`ours` is read anew at each look: the ids of the processes that may use the device."""
        import pynvml

        self._nvml: Any = pynvml
        self._nvml.nvmlInit()
        by_index = device.index.isdigit()
        find = self._nvml.nvmlDeviceGetHandleByIndex if by_index else self._nvml.nvmlDeviceGetHandleByUUID
        self._handle = find(int(device.index) if by_index else device.index)
        self._ours = ours

    def before(self) -> Conditions:
        """Wait until no kernel runs any more, or `IDLE_WAIT_S` have passed."""
        deadline = time.monotonic() + IDLE_WAIT_S
        while not self._idle() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return self._look(idle=self._idle())

    def after(self) -> Conditions:
        """The state right after a call."""
        return self._look(idle=True)

    def memory_bytes(self, pid: int) -> int | None:
        """What the driver books for the process: torch's allocator gives nothing back, so this is its peak."""
        for process in self._processes():
            if process.pid == pid and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
        return None

    def _look(self, *, idle: bool) -> Conditions:
        return Conditions(idle, self._foreign(), self._throttle_reasons(), self._energy_mj())

    def _foreign(self) -> tuple[int, ...]:
        seen, ours = sorted(process.pid for process in self._processes()), set(self._ours)
        if ours.isdisjoint(seen):  # a container's ids are not the driver's: only their number can be compared
            return tuple(seen[len(ours) :])
        return tuple(pid for pid in seen if pid not in ours)

    def _idle(self) -> bool:
        with contextlib.suppress(self._nvml.NVMLError):
            return bool(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu == 0)
        return True

    def _processes(self) -> list[Any]:
        with contextlib.suppress(self._nvml.NVMLError):
            return list(self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle))
        return []

    def _throttle_reasons(self) -> int:
        with contextlib.suppress(self._nvml.NVMLError):
            reasons = int(self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle))
            return reasons & ~int(self._nvml.nvmlClocksEventReasonGpuIdle)
        return 0

    def _energy_mj(self) -> int | None:
        with contextlib.suppress(self._nvml.NVMLError):
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        return None


def watch(device: Device, ours: Collection[int]) -> Watch:
    """Whatever can be known of this kind of device."""
    if device.kind != "cuda":
        return CoreWatch()
    import pynvml

    try:
        return GpuWatch(device, ours)
    except pynvml.NVMLError:  # a name that the driver does not know, such as a slice of a card
        return CoreWatch()


def obstacle(before: Collection[Conditions], after: Collection[Conditions]) -> str:
    """Why the calls of a pair cannot be compared, other than their times; '' where nothing speaks against it."""
    if any(not look.idle for look in before):
        return "device not idle"
    if any(look.foreign_processes for look in (*before, *after)):
        return "foreign process on the device"
    if len({look.throttle_reasons for look in after}) > 1:
        return "clock throttled for one side only"
    return ""
