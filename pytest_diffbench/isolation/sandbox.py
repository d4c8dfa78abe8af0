"""One candidate's process: started single-use, spoken to over a socket, stopped and killed as a group."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, Self

from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.isolation.cell import Cell
from pytest_diffbench.isolation.channel import Channel, Faulted, Gone, Late, Violated
from pytest_diffbench.isolation.grant import grant
from pytest_diffbench.isolation.limits import size
from pytest_diffbench.isolation.output import Output
from pytest_diffbench.isolation.watchdog import Watchdog
from pytest_diffbench.records import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_diffbench import wire
    from pytest_diffbench.isolation.channel import Reply
    from pytest_diffbench.isolation.forkserver import ForkServer, ForkServers
    from pytest_diffbench.isolation.tier import Policy

START_TIMEOUT_S: Final = 180.0
HANG_UP_S: Final = 1.5
"""How long a process that has hung up gets to end: one that dies closes its files last."""
SERVE: Final = "pytest_diffbench.candidate"
PREPARED: Final = (
    "numpy",
    "PIL.Image",
    "torch",
    "transformers",
    "diffusers",
    # diffusers imports lazily; without these the first load would pay for it
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.auto_pipeline",
)
"""What a process has imported before it is ready."""
_SOCKET_BUFFER_BYTES: Final = 4 * 1024 * 1024


class Sandbox:
    """A child process that holds one solution; everything it sends is checked, everything late or wrong ends it."""

    def __init__(
        self,
        policy: Policy,
        *,
        models: Sequence[str] = (),
        cores: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
        gpu_nodes: Sequence[str] = (),
        prepared: Sequence[str] = PREPARED,
        servers: ForkServers | None = None,
    ) -> None:
        """Start the process; by itself it is importing until `wait_ready` returns.

        `models` are the folders that its solution may read; SetupError where the process cannot be started. Where the
        policy says so, it is forked of one of the `servers`, and the first fork of each waits here for its imports.
        """
        self._limits = policy.limits
        granted = grant(
            models,
            gpu_nodes=gpu_nodes,
            threads=len(cores) or None,
            environment=environment,
            more=policy.readable,
        )
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
        read_end, write_end = os.pipe()

        def start(server: ForkServer | None) -> Cell:
            return Cell(
                policy.tier,
                policy.limits,
                granted,
                serve=SERVE,
                channel=theirs.fileno(),
                output=write_end,
                arguments=prepared,
                cores=cores,
                server=server,
            )

        try:
            if servers is not None and policy.forks:
                self._cell = servers.begin(granted.environment, prepared, start)
            else:
                self._cell = start(None)
        except SetupError:
            ours.close()
            os.close(read_end)
            raise
        finally:
            theirs.close()
            os.close(write_end)
        self._channel = Channel(ours)
        self._ready = False
        self._exceeded: tuple[Cause, str] | None = None
        self._output = Output(read_end, policy.limits.output_bytes, self._flooded)
        self._watchdog: Watchdog | None = None
        threading.Thread(target=self._watch, name="diffbench-watch", daemon=True).start()

    @property
    def pid(self) -> int:
        """The id of the process that the solution runs in."""
        return self._cell.pid

    @property
    def forked(self) -> bool:
        """Whether it was forked, and not started by itself."""
        return self._cell.forked

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
        self._cell.find()
        self._watchdog = Watchdog(self._cell, self._limits, self._exceeds)

    def load(self, source: str, *, model: str, device: str, timeout_s: float) -> float:
        """Let the process load a solution; seconds that it took."""
        with self._ending():
            return self._channel.load({"source": source, "model": model, "device": device}, timeout_s=timeout_s)

    def generate(self, requests: Sequence[wire.Request], *, timeout_s: float) -> Reply:
        """The images for these requests, and how long they took by the parent's clock."""
        with self._ending():
            return self._channel.generate(requests, timeout_s=timeout_s)

    def describe(self, requests: Sequence[wire.Request] = (), *, timeout_s: float) -> wire.Record:
        """What the running pipeline says of itself; may only be used against it.

        With requests, it answers them once, untimed, and what is observed of that call is in the record too.
        """
        with self._ending():
            return self._channel.describe(requests, timeout_s=timeout_s)

    def watch(self, requests: Sequence[wire.Request], *, timeout_s: float) -> tuple[wire.Record, float]:
        """What `describe` tells of a call, but for FLOPs, and the seconds that the call took."""
        with self._ending():
            return self._channel.watch(requests, timeout_s=timeout_s)

    def pause(self) -> None:
        """Stop the whole group where it stands."""
        self._cell.pause()

    def resume(self) -> None:
        """Let it go on."""
        self._cell.resume()

    def lives(self) -> bool:
        """Whether the process has not ended (it may wait, or be stopped)."""
        return self._cell.lives()

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
        """Kill everything in it and reap it; safe to call twice."""
        if self._watchdog is not None:
            self._watchdog.stop()
        self._cell.kill()
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
            self._end()
            raise SolutionFault(Cause.COMPILATION, fault.line, fault.detail) from fault
        except Late as late:
            self._end()
            cause = Cause.SETUP_LIMIT if late.doing == "load" else Cause.TIMEOUT
            raise SolutionFault(cause, str(late), self.output_tail()) from late
        except Violated as violation:
            self._violated(str(violation))
        except Gone as gone:
            self._died(gone.doing)

    def _violated(self, what: str) -> NoReturn:
        self._end()
        raise SolutionFault(Cause.PROTOCOL, f"the solution {what}", self.output_tail())

    def _died(self, doing: str) -> NoReturn:
        ended = self._cell.ended(HANG_UP_S)
        self._end()
        code = self._cell.returncode if ended else None
        self._output.join(1.0)
        if code is None:
            self._violated("closed its channel")
        how = f"by {_signal_name(-code)}" if code < 0 else f"with exit code {code}"
        raise SolutionFault(Cause.CRASH, f"the process ended {how} ({doing})", self.output_tail())

    def _end(self) -> None:
        """Kill the process; where it had used more than it may, that is what ended it, whatever it did then."""
        ran_out = self._cell.cgroup is not None and self._cell.cgroup.ran_out()
        if self._watchdog is not None:
            self._watchdog.stop()
        self._cell.kill()
        if ran_out and self._exceeded is None:
            allowed = size(self._limits.memory_bytes)
            self._exceeded = (Cause.MEMORY, f"the solution needed more memory than the {allowed} that are allowed")
        if self._exceeded is not None:
            raise SolutionFault(*self._exceeded, self.output_tail())

    def _exceeds(self, cause: Cause, line: str) -> None:
        if self._exceeded is None:
            self._exceeded = (cause, line)
        self._cell.strike()  # whoever speaks to it notices, and ends the rest

    def _flooded(self) -> None:
        self._exceeds(Cause.OUTPUT_LIMIT, f"the solution printed more than {size(self._limits.output_bytes)}")

    def _watch(self) -> None:
        """Let the channel end with the process: a forked copy of it may hold the other end open."""
        self._cell.wait_end()
        with contextlib.suppress(OSError):  # closed already
            self._channel.hang_up()  # what was sent before can still be read


def _signal_name(number: int) -> str:
    """Its name, where it has one: most real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
