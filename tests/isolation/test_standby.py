"""The next process: started early, handed out once, alive and on the right device when it is."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from pytest_diffbench.devices import Device
from pytest_diffbench.isolation import Sandbox, Standby
from pytest_diffbench.wire import Record
from pytest_diffbench.zoo.weights import TINY
from tests.isolation.conftest import LIGHT, policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT_S: Final = 60.0
MODEL: Final = str(TINY / "sd15")
CORES: Final = sorted(os.sched_getaffinity(0))
HERE: Final = Device("cpu", str(CORES[0]), "a core")
THERE: Final = Device("cpu", str(CORES[-1]), "another core, where there is one")
ELSEWHERE: Final = Device("cuda", "GPU-none", "a GPU that is never used")


@dataclass(frozen=True)
class _Taken:
    prepared: Sandbox
    sandbox: Sandbox


@pytest.fixture(scope="module")
def taken() -> Iterator[_Taken]:
    """A process prepared on one core, settled, and taken for another; loaded with a solution that tells its world."""
    standby = Standby(policy(), prepared=LIGHT)
    try:
        standby.prepare(HERE, MODEL)
        prepared = _waiting(standby)
        standby.settle()
        with standby.take(THERE, MODEL) as sandbox:
            yield _Taken(prepared, sandbox)
    finally:
        standby.close()


@pytest.fixture
def standby() -> Iterator[Standby]:
    """A standby with nothing waiting."""
    standby = Standby(policy(), prepared=LIGHT)
    yield standby
    standby.close()


def _waiting(standby: Standby) -> Sandbox:
    assert standby._waiting is not None
    return standby._waiting[-1]


def _waiting_pid(standby: Standby) -> int:
    return _waiting(standby).pid


def test_what_was_prepared_is_what_is_taken(taken: _Taken) -> None:
    """No second process is started where one waits."""
    assert taken.sandbox is taken.prepared


def test_a_taken_process_runs_on_the_devices_cores(taken: _Taken) -> None:
    """Every thread is moved from the core it was prepared on to the core it is taken for."""
    threads = [int(thread.name) for thread in Path(f"/proc/{taken.sandbox.pid}/task").iterdir()]

    assert [os.sched_getaffinity(thread) for thread in threads] == [{CORES[-1]}] * len(threads)


def test_a_taken_process_loads_with_one_thread_and_no_gpu(taken: _Taken) -> None:
    """On a CPU device torch has one thread and sees no GPU; it loads at once."""
    source = """
import torch

def load(model, device):
    print("threads", torch.get_num_threads(), "gpus", torch.cuda.device_count(), flush=True)

def generate(pipeline, requests):
    return []
"""
    taken.sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)
    taken.sandbox.describe(timeout_s=TIMEOUT_S)

    assert "threads 1 gpus 0" in taken.sandbox.output_tail()


def test_a_process_that_died_waiting_is_not_handed_out(standby: Standby, ends: Callable[[int], bool]) -> None:
    """A waiting process that the system killed is replaced: its death is no solution's fault."""
    standby.prepare(HERE, MODEL)
    standby.settle()
    os.kill(_waiting_pid(standby), signal.SIGKILL)
    assert ends(_waiting_pid(standby))

    with standby.take(HERE, MODEL) as sandbox:
        sandbox.load("def load(model, device): pass\ngenerate = load\n", model="", device="cpu", timeout_s=TIMEOUT_S)

        assert sandbox.describe(timeout_s=TIMEOUT_S) == Record()


def test_preparing_again_starts_nothing(standby: Standby) -> None:
    """One process waits for devices of the same environment, whichever core is named."""
    standby.prepare(HERE, MODEL)
    pid = _waiting_pid(standby)

    standby.prepare(THERE, MODEL)

    assert _waiting_pid(standby) == pid


def test_preparing_for_another_environment_replaces_what_waits(standby: Standby) -> None:
    """A process that was started for other devices cannot serve this one: it ends, another starts."""
    standby.prepare(HERE, MODEL)
    pid = _waiting_pid(standby)

    standby.prepare(ELSEWHERE, MODEL)

    assert _waiting_pid(standby) != pid
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("ready", [False, True])
def test_settling_drops_a_process_that_cannot_start(standby: Standby, ends: Callable[[int], bool], ready: bool) -> None:  # noqa: FBT001 (a row of a table)
    """Trouble of a waiting process is not raised between tasks, also where it comes late; nothing waits afterwards."""
    standby.prepare(HERE, MODEL)
    if ready:
        standby.settle()
    os.kill(_waiting_pid(standby), signal.SIGKILL)
    assert ends(_waiting_pid(standby))

    standby.settle()

    assert standby._waiting is None


def test_settling_with_nothing_waiting_is_fine(standby: Standby) -> None:
    """Nothing is started by settling."""
    standby.settle()

    assert standby._waiting is None


def test_close_ends_what_waits(standby: Standby, ends: Callable[[int], bool]) -> None:
    """No process is left behind; closing twice is fine."""
    standby.prepare(HERE, MODEL)
    pid = _waiting_pid(standby)

    standby.close()
    standby.close()

    assert ends(pid)
    assert standby._waiting is None


def test_a_process_is_handed_out_once(standby: Standby, taken: _Taken) -> None:
    """After a process is taken, the next one prepared is another."""
    standby.prepare(HERE, MODEL)

    assert _waiting_pid(standby) != taken.sandbox.pid


def test_only_what_runs_on_a_core_is_forked(standby: Standby) -> None:
    """A process whose parent has met CUDA cannot use it, so for a GPU each is started by itself."""
    if not policy().forks:
        pytest.skip("nothing is forked here")
    with standby.start(HERE, MODEL) as here, standby.start(ELSEWHERE, MODEL) as elsewhere:
        assert [sandbox._cell._forked is not None for sandbox in (here, elsewhere)] == [True, False]
