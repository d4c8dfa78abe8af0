"""Which devices there are to be chosen from, and what a candidate is told of its own."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_diffbench.devices import Device, inventory
from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator

CORE = min(os.sched_getaffinity(0))
UUIDS = ["GPU-aaaa-1", "GPU-bbbb-2"]


@pytest.fixture
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose GPUs, if it has any, are out of sight."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose driver knows two GPUs; a stand-in, for no test may count on hardware."""
    driver = types.ModuleType("pynvml")
    known = {
        "NVMLError": type("NVMLError", (Exception,), {}),
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(UUIDS),
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda index: UUIDS[index],
        "nvmlDeviceGetMinorNumber": lambda index: index,
        "nvmlDeviceGetName": lambda index: f"Card {index}",
    }
    for name, value in known.items():
        monkeypatch.setattr(driver, name, value, raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: "nvidia" in path.name or exists(path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def one_core() -> Iterator[int]:
    """This process, kept on one core while the test lasts."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CORE})
    yield CORE
    os.sched_setaffinity(0, allowed)


@pytest.mark.usefixtures("no_gpus")
def test_without_gpus_every_core_is_a_device() -> None:
    """Each core that this process may use is a device of its own, in order."""
    names = [device.name for device in inventory()]

    assert names == [f"cpu:{core}" for core in sorted(os.sched_getaffinity(0))]


@pytest.mark.usefixtures("no_gpus")
def test_only_the_cores_of_this_process_count(one_core: int) -> None:
    """A process that is kept on one core finds that one, however many the machine has."""
    assert [device.name for device in inventory()] == [f"cpu:{one_core}"]


@pytest.mark.usefixtures("no_gpus")
def test_a_chosen_device_is_the_only_one() -> None:
    """`cpu:N` by name gives that core, once, even if it is named twice."""
    name = f"cpu:{CORE}"

    assert [device.name for device in inventory([name, name])] == [name]


@pytest.mark.usefixtures("no_gpus")
def test_an_unknown_device_is_refused_with_those_that_are_here() -> None:
    """Every unknown name is in the message, and so is what could have been chosen."""
    with pytest.raises(SetupError) as caught:
        inventory([f"cpu:{CORE}", "cuda:7", "cpu:x"])

    unknown, _, here = str(caught.value).partition(" is not here; this machine has ")
    assert unknown == "diffbench: device cuda:7, cpu:x"
    assert f"cpu:{CORE}" in here.split(", ")


@pytest.mark.usefixtures("two_gpus")
def test_gpus_come_before_cores() -> None:
    """Where there are GPUs the cores are left alone; a GPU is named by what never changes, its UUID."""
    assert [(device.kind, device.index, device.model) for device in inventory()] == [
        ("cuda", "GPU-aaaa-1", "Card 0"),
        ("cuda", "GPU-bbbb-2", "Card 1"),
    ]


@pytest.mark.usefixtures("two_gpus")
def test_a_core_can_be_chosen_beside_gpus() -> None:
    """Choosing by name reaches every device, in the order of the choice."""
    chosen = [f"cpu:{CORE}", "cuda:GPU-bbbb-2"]

    assert [device.name for device in inventory(chosen)] == chosen


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("visible", "names"),
    [
        pytest.param("0", ["cuda:GPU-aaaa-1"], id="by position"),
        pytest.param("1", ["cuda:GPU-bbbb-2"], id="the second"),
        pytest.param("1, 0", ["cuda:GPU-bbbb-2", "cuda:GPU-aaaa-1"], id="in another order"),
        pytest.param("GPU-bbbb", ["cuda:GPU-bbbb-2"], id="by the beginning of a UUID"),
        pytest.param("MIG-cccc", ["cuda:MIG-cccc"], id="a slice"),
    ],
)
def test_only_visible_gpus_are_devices(visible: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA_VISIBLE_DEVICES is respected, and a card has one name, and so one lock, however it is called there."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    devices = inventory()
    assert [device.name for device in devices] == names
    assert [f"cuda:{device.environment['CUDA_VISIBLE_DEVICES']}" for device in devices] == names


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("visible", ["", " ", "-1"])
def test_hidden_gpus_are_no_devices(visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty CUDA_VISIBLE_DEVICES, or -1, means cores."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    assert {device.kind for device in inventory()} == {"cpu"}


def test_a_core_is_one_core_without_gpu() -> None:
    """A candidate on a core is kept on it, loads on 'cpu', and sees no GPU."""
    device = Device("cpu", "3", "a processor")

    assert (device.name, device.torch_device, device.cores) == ("cpu:3", "cpu", (3,))
    assert device.environment == {"CUDA_VISIBLE_DEVICES": ""}


def test_a_gpu_is_the_only_one_that_its_candidate_sees() -> None:
    """A candidate on a GPU loads on 'cuda', sees this GPU alone, and may use any core."""
    device = Device("cuda", "GPU-aaaa-1", "a card")

    assert (device.name, device.torch_device, device.cores) == ("cuda:GPU-aaaa-1", "cuda", ())
    assert device.environment == {"CUDA_VISIBLE_DEVICES": "GPU-aaaa-1"}
