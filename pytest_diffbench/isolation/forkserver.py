"""A process of ours that has done the imports, of which candidates' processes are forked: one starts in milliseconds.

Nothing untrusted ever runs in it, so nothing leaks from one candidate to the next. A fork goes over into the namespaces
of a sandbox that bubblewrap has built for it alone, and gives up every right there before it is spoken to. What waits
for its end stays outside, where it cannot be seen; what holds the sandbox open is root's, and cannot be touched. So
only a harness that is root forks: else all three would have one user's id, and `/proc/self/exe`, which leads to where
Python lies outside, would be that user's file.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Final, TypeVar

from pytest_diffbench.errors import SetupError
from pytest_diffbench.isolation import bubblewrap, scratch
from pytest_diffbench.isolation.grant import scratch_environment
from pytest_diffbench.isolation.launch import Order, confine, exit_code

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_T = TypeVar("_T")
HOLD: Final = "import os; os.write(1, b'-'); code = os.read(0, 1); os._exit(code[0] if code else 255)"
"""What keeps a sandbox open for a fork: says that it stands, and ends as the fork did."""
ANSWER_TIMEOUT_S: Final = 180.0
"""For the imports, which the first fork waits for."""
CHANNEL: Final = 3
"""Where a fork finds its channel, as its order must say."""
HANDED: Final = 5
"""Descriptors that travel with an order."""
_ANSWER: Final = struct.Struct("=i")
_LONGEST_ORDER: Final = 65536
_NAMESPACES: Final = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
"""Of mounts, control groups, host names, shared memory, processes and the network (linux/sched.h)."""


class ForkServer:
    """The parent's handle on one such process, and on the name that its forks know their scratch folder by."""

    def __init__(self, environment: Mapping[str, str], prepared: Sequence[str]) -> None:
        """Start it and return at once; OSError where it cannot be started."""
        # imports remember where they may write. Here that is an empty folder of ours, and in each sandbox its own
        self.scratch = tempfile.mkdtemp(prefix="diffbench-", dir=bubblewrap.SCRATCH)
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.ExitStack() as refused:
            refused.callback(scratch.remove, self.scratch)
            refused.callback(self._socket.close)
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-u", "-m", __name__, str(theirs.fileno()), self.scratch, *prepared],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**environment, **scratch_environment(self.scratch)},
                start_new_session=True,
                cwd="/",
            )
            refused.pop_all()

    def fork(self, order: Order, *, channel: int, output: int, holder: int, ended: int) -> int:
        """The id of a new process that has carried out the order in a holder's namespaces; OSError where there is none.

        `holder` is the pidfd of what keeps them open; the byte that tells how the process ended goes to `ended`.
        """
        # a pipe for each order: whoever dies before it has answered closes it, and no answer is read by the next
        read_end, answered = os.pipe()
        try:
            try:
                with self._lock:
                    handed = [channel, output, holder, ended, answered]
                    socket.send_fds(self._socket, [order.encode().encode()], handed)
            finally:
                os.close(answered)
            there = select.select([read_end], [], [], ANSWER_TIMEOUT_S)[0]
            answer = os.read(read_end, _ANSWER.size) if there else b""
        finally:
            os.close(read_end)
        if len(answer) != _ANSWER.size:
            raise OSError("the process that forks has ended" if there else "the process that forks does not answer")
        (found,) = _ANSWER.unpack(answer)
        if found <= 0:
            raise OSError(-found, f"cannot go over into a sandbox: {os.strerror(-found)}")
        return int(found)

    def close(self) -> None:
        """End it; what was forked of it lives on. Safe to call twice."""
        self._socket.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        scratch.remove(self.scratch)


class ForkServers:
    """One for each environment and set of imports, as long as it does not fail; from then on there is none."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], ForkServer | None] = {}

    def of(self, environment: Mapping[str, str], prepared: Sequence[str]) -> ForkServer | None:
        """The one to fork from."""
        key = (*sorted(environment.items()), *prepared)
        if key not in self._found:
            try:
                self._found[key] = ForkServer(environment, prepared)
            except OSError:
                self._found[key] = None
        return self._found[key]

    def begin(
        self, environment: Mapping[str, str], prepared: Sequence[str], start: Callable[[ForkServer | None], _T]
    ) -> _T:
        """What `start` makes with a server to fork from; with none where there is none, or has just failed."""
        server = self.of(environment, prepared)
        if server is not None:
            try:
                return start(server)
            except SetupError:
                self._give_up(server)
        return start(None)

    def _give_up(self, server: ForkServer) -> None:
        """Use this one no more, nor another in its place."""
        for key, known in self._found.items():
            if known is server:
                self._found[key] = None
        server.close()

    def close(self) -> None:
        """End all."""
        for server in self._found.values():
            if server is not None:
                server.close()
        self._found.clear()


# -- the process itself ------------------------------------------------------------------------------------------------


def main(connection: socket.socket, folder: str, prepared: Sequence[str]) -> None:
    """Import, then fork whenever asked to, until the parent has gone; returns in a fork too, once that has served."""
    # imported here: numpy, which the parent's side must not load
    from pytest_diffbench.candidate import prepare

    prepare(prepared)
    while can_be_forked():
        words, descriptors, _, _ = socket.recv_fds(connection, _LONGEST_ORDER, HANDED)
        if not words:
            break
        _reap()
        order = Order.decode(words.decode())
        if order.cores:  # or it would fork on the core that was leased first, where others may be timing by now
            os.sched_setaffinity(0, order.cores)
        if os.fork() == 0:
            connection.detach()
            _serve(order, descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
    scratch.remove(folder)


def can_be_forked() -> bool:
    """Whether forks would share nothing that one could change for another, and this is the only thread."""
    with open("/proc/self/smaps") as file:  # noqa: PTH123 (it is some lines of text a mapping)
        flags = [set(line.split()[1:]) for line in file if line.startswith("VmFlags:")]
    shared = any({"sh", "mw"} <= each for each in flags)  # shared, and may be made writable if it is not
    return not shared and len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 (likewise)


def _serve(order: Order, descriptors: Sequence[int]) -> None:
    """What a fork does, until its channel ends."""
    _go_over(descriptors)
    confine(order)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # as in any process; `random` does so by itself
    importlib.import_module(order.serve).main(order.channel, order.arguments)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _go_over(descriptors: Sequence[int]) -> None:
    """Return as the first process of a fork that is inside; the one that was called waits outside for its end."""
    channel, output, holder, ended, answered = descriptors
    for standard in (1, 2):
        os.dup2(output, standard)
    try:
        _enter(holder)
        inside = os.fork()
    except OSError as error:
        os.write(answered, _ANSWER.pack(-(error.errno or 1)))
        os._exit(1)
    if inside:
        os.write(answered, _ANSWER.pack(inside))
        _wait(inside, ended)
    os.dup2(channel, CHANNEL)
    os.closerange(CHANNEL + 1, os.sysconf("SC_OPEN_MAX"))
    os.setsid()
    os.chdir(os.environ["HOME"])


def _enter(holder: int) -> None:
    """Join every namespace of a process; OSError where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(holder, _NAMESPACES):
        raise OSError(ctypes.get_errno(), "the kernel refused setns")


def _wait(inside: int, ended: int) -> None:
    """Tell the holder how the process inside ended, and end."""
    os.closerange(0, ended)
    os.closerange(ended + 1, os.sysconf("SC_OPEN_MAX"))
    code = exit_code(os.waitpid(inside, 0)[1])
    with contextlib.suppress(OSError):  # the sandbox was ended from outside
        os.write(ended, bytes([code]))
    os._exit(0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3:])
