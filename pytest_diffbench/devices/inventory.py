"""The devices of this machine that this process may use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


DRIVER_NODES: Final = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps", "dxg")
"""What CUDA needs beside the GPU's own node; uvm-tools from driver 570 on."""


@dataclass(frozen=True)
class Device:
    """One thing that can be timed on."""

    kind: str
    """'cpu' (one core, one thread) or 'cuda' (one GPU)."""
    index: str
    """Core number, or what CUDA_VISIBLE_DEVICES calls the GPU: index, UUID or MIG id."""
    model: str
    """The vendor's name for it."""
    minor: int | None = None
    """Of a GPU's device node; None for a core, or a slice of a GPU."""

    @property
    def name(self) -> str:
        """Unique on this machine: 'cpu:3', 'cuda:GPU-5f2c…'."""
        return f"{self.kind}:{self.index}"

    @property
    def torch_device(self) -> str:
        """What a solution's `load` gets as `device`."""
        return self.kind

    @property
    def cores(self) -> tuple[int, ...]:
        """The cores that a candidate is kept on; empty: any."""
        return (int(self.index),) if self.kind == "cpu" else ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The device files that a candidate needs: its own GPU's, no other's, and the driver's."""
        if self.kind != "cuda":
            return ()
        own = f"nvidia{self.minor}" if self.minor is not None else "nvidia[0-9]*"
        return tuple(str(path) for name in (own, *DRIVER_NODES) for path in sorted(Path("/dev").glob(name)))

    @property
    def environment(self) -> Mapping[str, str]:
        """What a candidate's process must have in its environment before it starts."""
        return {"CUDA_VISIBLE_DEVICES": self.index if self.kind == "cuda" else ""}


def inventory(chosen: Sequence[str] = ()) -> tuple[Device, ...]:
    """The chosen devices, else every visible GPU, else every core of this process's affinity.

    SetupError where a chosen name is none of them.
    """
    gpus, cores = _gpus(), _cores()
    if not chosen:
        return gpus or cores
    known = {device.name: device for device in (*gpus, *cores)}
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise SetupError(
            f"diffbench: device {', '.join(unknown)} is not here; this machine has {', '.join(sorted(known))}"
        )
    return tuple(known[name] for name in dict.fromkeys(chosen))


def _cores() -> tuple[Device, ...]:
    model = _processor()
    return tuple(Device("cpu", str(core), model) for core in sorted(os.sched_getaffinity(0)))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else os.uname().machine


def _gpus() -> tuple[Device, ...]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return ()
    if not Path("/proc/driver/nvidia").exists() and not Path("/dev/nvidiactl").exists():
        return ()
    # only where there is a driver at all
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        found = [
            Device("cuda", str(pynvml.nvmlDeviceGetUUID(h)), str(pynvml.nvmlDeviceGetName(h)), _minor(pynvml, h))
            for h in handles
        ]
    finally:
        pynvml.nvmlShutdown()
    if visible is None:
        return tuple(found)
    return tuple(_visible_gpu(name.strip(), found) for name in visible.split(",") if name.strip())


def _minor(pynvml: Any, handle: object) -> int | None:
    try:
        return int(pynvml.nvmlDeviceGetMinorNumber(handle))
    except pynvml.NVMLError:
        return None


def _visible_gpu(name: str, found: Sequence[Device]) -> Device:
    """A GPU by its position or the beginning of its UUID, under its UUID: a card has one lock, however it is called."""
    for position, device in enumerate(found):
        if name == str(position) or device.index.startswith(name):
            return device
    return Device("cuda", name, "CUDA device")  # a MIG slice has no row of its own
