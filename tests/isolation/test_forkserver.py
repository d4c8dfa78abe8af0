"""Forks begin where imports ended, know nothing of each other, and can always be done without."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.isolation import Policy, Sandbox, Tier, forkserver
from pytest_diffbench.isolation.forkserver import ForkServers
from pytest_diffbench.isolation.launch import Order
from pytest_diffbench.isolation.tier import trial
from tests.isolation.conftest import LIGHT, ONE_THREAD

if TYPE_CHECKING:
    from collections.abc import Iterator

FORKING: Final = Policy(Tier.BUBBLEWRAP, forks=True)
TIMEOUT_S: Final = 60.0


@pytest.fixture
def servers() -> Iterator[ForkServers]:
    """None started yet; all ended afterwards."""
    if (problem := trial(FORKING)) is not None:
        pytest.skip(problem)
    found = ForkServers()
    yield found
    found.close()


def _sandbox(servers: ForkServers) -> Sandbox:
    return Sandbox(FORKING, prepared=LIGHT, environment=ONE_THREAD, servers=servers)


def _says(sandbox: Sandbox, body: str) -> str:
    source = f"""
import os, random, sys, tempfile
def load(model, device):
    raise ValueError(f"<{{{body}}}>")
generate = load
"""
    with pytest.raises(SolutionFault) as caught:
        sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)
    return caught.value.line.partition("<")[2].rpartition(">")[0]


def test_a_fork_has_what_was_imported(servers: ForkServers) -> None:
    """Nothing is imported twice; no descriptor is inherited but its own, and no parent is to be seen."""
    with _sandbox(servers) as sandbox:
        sandbox.wait_ready()
        said = _says(sandbox, "['PIL.Image' in sys.modules, os.listdir('/proc/self/fd'), os.getppid()]")

    # its channel, standard streams, and what lists them
    assert said == "[True, ['0', '1', '2', '3', '4'], 0]"


def test_forks_know_nothing_of_each_other(servers: ForkServers) -> None:
    """Neither files, nor shared memory, nor processes of one that runs beside them."""
    leaves = """
import os, tempfile
def load(model, device):
    for folder in (tempfile.gettempdir(), "/tmp", "/dev/shm"):
        open(f"{folder}/left", "w").close()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "60"])
generate = load
"""
    with _sandbox(servers) as first, _sandbox(servers) as second:
        for sandbox in (first, second):
            sandbox.wait_ready()
        first.load(leaves, model="", device="cpu", timeout_s=TIMEOUT_S)
        files = "[name for folder in (tempfile.gettempdir(), '/tmp', '/dev/shm') for name in os.listdir(folder)]"
        processes = "len([name for name in os.listdir('/proc') if name.isdecimal()])"
        said = _says(second, f"'left' in {files}, {processes}")

    assert said == "(False, 3)"  # bubblewrap's own, what holds the sandbox open, and itself


def test_forks_draw_different_numbers(servers: ForkServers) -> None:
    """Chance is not inherited: who asked it for noise would look as if it had asked for none."""
    said = []
    for _ in range(2):
        with _sandbox(servers) as sandbox:
            sandbox.wait_ready()
            said.append(_says(sandbox, "random.random(), sys.modules['numpy'].random.random()"))

    one, other = (each.strip("()").split(", ") for each in said)
    assert [first != second for first, second in zip(one, other, strict=True)] == [True, True]


def test_a_server_that_has_died_is_done_without(servers: ForkServers) -> None:
    """The next process is started by itself, in the same sandbox, and those after it too."""
    with _sandbox(servers) as forked:
        forked.wait_ready()
        (server,) = servers._found.values()
        assert server is not None
        os.kill(server._process.pid, signal.SIGKILL)
        server._process.wait()
        with _sandbox(servers) as started, _sandbox(servers) as another:
            for sandbox in (started, another):
                sandbox.wait_ready()
                assert not sandbox.forked
                assert _says(sandbox, "1 + 1") == "2"
        assert forked.lives()


def test_a_server_that_hangs_is_done_without(servers: ForkServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for as long as imports may take, and no longer."""
    with _sandbox(servers) as forked:
        forked.wait_ready()
        (server,) = servers._found.values()
        assert server is not None
        os.kill(server._process.pid, signal.SIGSTOP)
        monkeypatch.setattr(forkserver, "ANSWER_TIMEOUT_S", 0.5)
        with _sandbox(servers) as started:
            started.wait_ready()
            assert (forked.forked, started.forked) == (True, False)


def test_an_order_that_is_refused_costs_the_next_nothing(servers: ForkServers) -> None:
    """What goes wrong with one fork is told to whoever asked for it, and to nobody else."""
    with _sandbox(servers) as forked:
        forked.wait_ready()
        (server,) = servers._found.values()
        assert server is not None
        with Path(os.devnull).open("rb") as no_process, pytest.raises(OSError, match="cannot go over into a sandbox"):
            server.fork(Order("none", 3), channel=0, output=2, holder=no_process.fileno(), ended=1)
    with _sandbox(servers) as another:
        another.wait_ready()
        assert another.forked


def test_an_ordinary_user_forks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds the sandbox open would have the candidate's id, and could be stopped by it."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert "only a harness that is root can fork" in (trial(FORKING) or "")


def test_a_fork_outlives_its_server(servers: ForkServers) -> None:
    """What is loaded goes on being measured, and its end is told as it was."""
    with _sandbox(servers) as sandbox:
        sandbox.wait_ready()
        servers.close()
        source = "import os\ndef load(model, device):\n    os._exit(7)\ngenerate = load\n"
        with pytest.raises(SolutionFault, match="exit code 7"):
            sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)


def test_a_death_by_signal_is_told(servers: ForkServers) -> None:
    """As for any process."""
    with _sandbox(servers) as sandbox:
        sandbox.wait_ready()
        source = "import os\ndef load(model, device):\n    os.kill(os.getpid(), 11)\ngenerate = load\n"
        with pytest.raises(SolutionFault, match="SIGSEGV"):
            sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)


def test_each_environment_has_its_own(servers: ForkServers) -> None:
    """What imports read of it, such as which GPU is seen, is the fork's own."""
    found = [servers.of({"PATH": os.environ["PATH"], "CUDA_VISIBLE_DEVICES": name}, ()) for name in ("0", "1", "0")]

    assert found[0] is found[2]
    assert found[0] is not found[1]


def test_nothing_is_left_of_a_server(servers: ForkServers) -> None:
    """Its folder on the host stays empty while it lives, and goes with it, however its parent ends."""
    with _sandbox(servers) as sandbox:
        sandbox.wait_ready()
        (server,) = servers._found.values()
        assert server is not None
        assert list(Path(server.scratch).iterdir()) == []
    servers.close()
    assert not Path(server.scratch).exists()

    script = (
        "import os; from pytest_diffbench.isolation.forkserver import ForkServer\n"
        "server = ForkServer(dict(PATH=os.environ['PATH']), ())\n"
        "print(server._process.pid, server.scratch, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout.split()
    deadline = time.monotonic() + 20
    while (Path("/proc", said[0]).exists() or Path(said[1]).exists()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(said[1]).exists()


@pytest.mark.parametrize(
    ("first", "forks"),
    [
        ("pass", True),
        ("import mmap; kept = mmap.mmap(-1, 4096)", False),  # writable by every fork, and read by the others
        ("import mmap; kept = mmap.mmap(-1, 4096, prot=mmap.PROT_READ)", False),  # mprotect makes it so
        ("import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()", False),
    ],
    ids=["nothing", "memory", "memory that may become writable", "thread"],
)
def test_what_forks_would_share_is_looked_for(first: str, forks: bool) -> None:  # noqa: FBT001 (a row of the table)
    """Libraries that map writable shared memory, or start a thread, as they are imported: then nothing is forked."""
    script = f"from pytest_diffbench.isolation import forkserver\n{first}\nprint(forkserver.can_be_forked())"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == str(forks)
