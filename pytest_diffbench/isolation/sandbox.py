"""One candidate's process: started single-use, spoken to over a socket, stopped and killed as a group."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, Self

from pytest_diffbench import wire
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.isolation.output import LIMIT_BYTES, Output, clean
from pytest_diffbench.records import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

ISOLATION: Final = "none (own process only)"
"""Stamped on every record: a process of its own keeps the clock honest, it does not contain hostile code."""
START_TIMEOUT_S: Final = 180.0
REAP_TIMEOUT_S: Final = 5.0
SUMMARY_LIMIT: Final = 500
"""Characters of a fault's one line."""
SILENCE_S: Final = 0.005
"""How long the channel must stay silent after a reply."""
_SOCKET_BUFFER_BYTES: Final = 4 * 1024 * 1024
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
"""Everything else of the parent's environment, keys above all, stays outside."""


@dataclass(frozen=True)
class Reply:
    """Images as (height, width, 3) bytes each, and the parent's own seconds from request sent to last byte held."""

    images: tuple[NDArray[np.uint8], ...]
    elapsed_s: float


@dataclass(frozen=True)
class _Step:
    """One exchange with the child, and when it is too late."""

    doing: str
    timeout_s: float
    deadline: float

    @staticmethod
    def of(doing: str, timeout_s: float) -> _Step:
        return _Step(doing, timeout_s, time.monotonic() + timeout_s)


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
        self._channel = ours
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
            self._receive(1, _Step.of("starting", START_TIMEOUT_S))
        except SolutionFault as fault:
            self.close()
            raise SetupError(
                f"diffbench: a candidate's process did not start ({fault.line}); does "
                f"`{sys.executable} -c 'import torch, diffusers, transformers'` work?\n{fault.detail}"
            ) from fault
        self._ready = True

    def load(self, source: str, *, model: str, device: str, timeout_s: float) -> float:
        """Let the process load a solution; seconds that it took."""
        body = {"source": source, "model": model, "device": device}
        began = time.perf_counter()
        self._exchange(wire.LOAD, body, wire.LOADED, 0, _Step.of("load", timeout_s))
        return time.perf_counter() - began

    def generate(self, requests: Sequence[wire.Request], *, timeout_s: float) -> Reply:
        """The images for these requests, and how long they took by the parent's clock."""
        # imported here: collecting tasks must not load it
        import numpy as np

        sizes = [request.height * request.width * 3 for request in requests]
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        message = wire.encode_requests(nonce, requests)
        pixels = np.empty(sum(sizes), np.uint8)
        pixels.fill(0xA5)  # touched beforehand, so that no page fault of ours is timed
        self._expect_silence("before a request", 0)
        step = _Step.of("generate", timeout_s)
        began = time.perf_counter_ns()
        self._send(message, step)
        self._receive_header(nonce, wire.IMAGES, step)
        self._receive_into(pixels.data, step)
        elapsed_s = (time.perf_counter_ns() - began) / 1e9
        self._expect_silence("after its answer", SILENCE_S)
        ends = np.cumsum(sizes)[:-1]
        images = (
            part.reshape(request.height, request.width, 3)
            for part, request in zip(np.split(pixels, ends), requests, strict=True)
        )
        return Reply(tuple(images), elapsed_s)

    def describe(self, requests: Sequence[wire.Request] = (), *, timeout_s: float) -> wire.Record:
        """What the running pipeline says of itself; may only be used against it.

        With requests, it answers them once, untimed, and what is observed of that call is in the record too.
        """
        step = _Step.of("describe", timeout_s)
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        self._expect_silence("before describe", 0)
        self._send(wire.encode_requests(nonce, requests, wire.DESCRIBE), step)
        self._receive_header(nonce, wire.RECORD, step)
        return wire.Record.decode(self._receive(wire.Record.SIZE, step))

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

    # -- the conversation ------------------------------------------------------------------------------------------

    def _exchange(self, kind: bytes, body: object, answer: bytes, size: int, step: _Step) -> bytes:
        self._expect_silence(f"before {step.doing}", 0)
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        self._send(wire.encode_message(kind, nonce, body), step)
        self._receive_header(nonce, answer, step)
        return self._receive(size, step)

    def _send(self, message: bytes, step: _Step) -> None:
        self._channel.settimeout(step.timeout_s)
        try:
            self._channel.sendall(message)
        except TimeoutError:
            self._late(step)
        except OSError:
            self._died(step.doing)

    def _receive_header(self, nonce: bytes, answer: bytes, step: _Step) -> None:
        header = self._receive(wire.NONCE_BYTES + 1, step)
        kind = header[wire.NONCE_BYTES :]
        if header[: wire.NONCE_BYTES] != nonce or kind not in (answer, wire.FAULT):
            self._violated(f"wrote something else than the answer to {step.doing}")
        if kind == wire.FAULT:
            self._faulted(step)

    def _receive(self, count: int, step: _Step) -> bytes:
        data = bytearray(count)
        self._receive_into(memoryview(data), step)
        return bytes(data)

    def _receive_into(self, view: memoryview, step: _Step) -> None:
        while view:
            left_s = step.deadline - time.monotonic()
            if left_s <= 0:
                self._late(step)
            self._channel.settimeout(left_s)
            try:
                received = self._channel.recv_into(view)
            except TimeoutError:
                self._late(step)
            except OSError:
                received = 0
            if received == 0:
                self._died(step.doing)
            view = view[received:]

    def _expect_silence(self, when: str, wait_s: float) -> None:
        poll = select.poll()  # select cannot see descriptors above 1023
        poll.register(self._channel, select.POLLIN)
        if poll.poll(1000 * wait_s):
            if not self._channel.recv(1, socket.MSG_PEEK):
                self._died(when)
            self._violated(f"wrote to the channel unasked {when}")

    # -- how it ends -----------------------------------------------------------------------------------------------

    def _faulted(self, step: _Step) -> NoReturn:
        """The solution's own fault, in its own words; it is finished, and so is its process."""
        code = self._receive(1, step)
        (length,) = wire.LENGTH.unpack(self._receive(wire.LENGTH.size, step))
        if length > wire.FAULT_LIMIT:
            self._violated("announced a longer error text than allowed")
        summary, _, detail = clean(self._receive(length, step)).partition("\n")
        self._kill()
        summary = summary[:SUMMARY_LIMIT]
        line = summary if code == wire.BROKE_CONTRACT else f"{step.doing} raised {summary}"
        raise SolutionFault(Cause.COMPILATION, line, detail)

    def _late(self, step: _Step) -> NoReturn:
        self._kill()
        self._raise_limit()
        line = f"{step.doing} did not finish within {step.timeout_s:g} s"
        raise SolutionFault(Cause.TIMEOUT, line, self.output_tail())

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
            self._channel.shutdown(socket.SHUT_RDWR)  # what was sent before can still be read

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
