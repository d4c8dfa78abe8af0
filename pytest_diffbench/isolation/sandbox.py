"""One candidate's process: started single-use, spoken to over a socket, stopped and killed as a group."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, Self

from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.isolation.channel import Channel, Faulted, Gone, Late, Violated
from pytest_diffbench.isolation.output import LIMIT_BYTES, Output
from pytest_diffbench.records import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_diffbench import wire
    from pytest_diffbench.isolation.channel import Reply

ISOLATION: Final = "none (own process only)"
"""Stamped on every record: a process of its own keeps the clock honest, it does not contain hostile code."""
START_TIMEOUT_S: Final = 180.0
REAP_TIMEOUT_S: Final = 5.0
_SOCKET_BUFFER_BYTES: Final = 4 * 1024 * 1024
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
"""Everything else of the parent's environment, keys above all, stays outside."""


class Sandbox:
    """A child process that holds one solution; everything it sends is checked, everything late or wrong ends it."""

    def __init__(self, *, cores: Sequence[int] = (), environment: Mapping[str, str] | None = None) -> None:
        """Start the process and return at once; it is importing until `wait_ready` returns."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
        read_end, write_end = os.pipe()
        # -I: nothing of ours or the folder's is on its path; -u: what it prints last is not lost with it
        command = [sys.executable, "-I", "-u", "-m", "pytest_diffbench.candidate"]
        command += [str(os.getpid()), str(theirs.fileno())]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                pass_fds=[theirs.fileno()],
                env={**_environment(cores), **(environment or {})},
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            os.close(read_end)
            raise SetupError(f"diffbench: cannot start a candidate's process: {error}") from error
        finally:
            theirs.close()
            os.close(write_end)
        self._channel = Channel(ours)
        self._ready = False
        self._limit: Cause | None = None
        self._output = Output(read_end, self._flooded)
        threading.Thread(target=self._watch, name="diffbench-watch", daemon=True).start()
        self.pin(cores)

    @property
    def pid(self) -> int:
        """The process's (and its group's) id."""
        return self._process.pid

    def pin(self, cores: Sequence[int]) -> None:
        """Keep every thread of the process on these cores (none given: wherever the parent may run).

        SetupError, and the end of the process, where there are no such cores.
        """
        allowed = set(cores) or os.sched_getaffinity(0)
        try:
            for thread in Path(f"/proc/{self.pid}/task").iterdir():
                with contextlib.suppress(ProcessLookupError):  # this thread may just have ended
                    os.sched_setaffinity(int(thread.name), allowed)
        except FileNotFoundError:  # the process may just have ended; whoever speaks to it next will notice
            return
        except OSError as error:
            self.close()
            raise SetupError(f"diffbench: cannot keep a process on cores {sorted(allowed)}: {error}") from error

    def wait_ready(self) -> None:
        """Return once the process has imported torch and diffusers; SetupError where it cannot."""
        if self._ready:
            return
        try:
            with self._ending():
                self._channel.wait_ready(timeout_s=START_TIMEOUT_S)
        except SolutionFault as fault:
            self.close()
            raise SetupError(
                f"diffbench: a candidate's process did not start ({fault.line}); does "
                f"`{sys.executable} -c 'import torch, diffusers, transformers'` work?\n{fault.detail}"
            ) from fault
        self._ready = True

    def load(self, source: str, *, model: str, device: str, timeout_s: float) -> float:
        """Let the process load a solution; seconds that it took."""
        with self._ending():
            return self._channel.load({"source": source, "model": model, "device": device}, timeout_s=timeout_s)

    def generate(self, requests: Sequence[wire.Request], *, timeout_s: float) -> Reply:
        """The images for these requests, and how long they took by the parent's clock."""
        with self._ending():
            return self._channel.generate(requests, timeout_s=timeout_s)

    def describe(self, *, timeout_s: float) -> wire.Record:
        """What the running pipeline says of itself; may only be used against it."""
        with self._ending():
            return self._channel.describe(timeout_s=timeout_s)

    def pause(self) -> None:
        """Stop the whole group where it stands."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def lives(self) -> bool:
        """Whether the process has not ended (it may wait, or be stopped)."""
        return not self._ended(0)

    def peak_memory_bytes(self) -> int:
        """Peak resident memory of the process so far; 0 where the system does not tell."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return 0

    def output_tail(self) -> str:
        """The end of what the process printed."""
        return self._output.tail()

    def close(self) -> None:
        """Kill the group and reap it; safe to call twice."""
        self._kill()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- how it ends -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Kill the process once its conversation breaks, and say so as the solution's fault."""
        try:
            yield
        except Faulted as fault:  # it is finished, and so is its process
            self._kill()
            raise SolutionFault(Cause.COMPILATION, fault.line, fault.detail) from fault
        except Late as late:
            self._kill()
            self._raise_limit()
            cause = Cause.SETUP_LIMIT if late.doing == "load" else Cause.TIMEOUT
            raise SolutionFault(cause, str(late), self.output_tail()) from late
        except Violated as violation:
            self._violated(str(violation))
        except Gone as gone:
            self._died(gone.doing)

    def _violated(self, what: str) -> NoReturn:
        self._kill()
        raise SolutionFault(Cause.PROTOCOL, f"the solution {what}", self.output_tail())

    def _died(self, doing: str) -> NoReturn:
        ended = self._ended(REAP_TIMEOUT_S)
        self._kill()  # the group first, the reaping after: once reaped, the group has no id to be killed by
        code = self._process.returncode if ended else None
        self._output.join(1.0)
        self._raise_limit()
        if code is None:
            self._violated("closed its channel")
        how = f"by {_signal_name(-code)}" if code < 0 else f"with exit code {code}"
        raise SolutionFault(Cause.CRASH, f"the process ended {how} ({doing})", self.output_tail())

    def _raise_limit(self) -> None:
        if self._limit is not None:
            raise SolutionFault(
                self._limit, f"the solution printed more than {LIMIT_BYTES // 2**20} MiB", self.output_tail()
            )

    def _flooded(self) -> None:
        self._limit = Cause.OUTPUT_LIMIT
        self._signal(signal.SIGKILL)

    def _watch(self) -> None:
        """Let the channel end with the process: a forked copy of it may hold the other end open."""
        with contextlib.suppress(OSError):  # reaped or closed already
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            self._channel.hang_up()  # what was sent before can still be read

    def _ended(self, wait_s: float) -> bool:
        """Whether the process has ended, or does within this time; it is not reaped."""
        deadline = time.monotonic() + wait_s
        while self._process.returncode is None:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return True

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:  # not yet reaped: the id is still its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(REAP_TIMEOUT_S)


def _signal_name(number: int) -> str:
    """Its name, where it has one: most real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _environment(cores: Sequence[int]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    if cores:
        # two contended threads are 5 to 100 times slower than one
        threads = str(len(cores))
        kept |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return kept | {"HF_HUB_OFFLINE": "1", "DIFFUSERS_VERBOSITY": "error", "TRANSFORMERS_VERBOSITY": "error"}
