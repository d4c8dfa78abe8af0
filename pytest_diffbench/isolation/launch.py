"""The first thing that runs in a candidate's process: gives up every right that it was started with, then serves.

Where there is no PID namespace the process first forks: the parent stays outside as a supervisor that ends everything
its child ever started, whoever dies first. No solution is here yet; the code below is ours and trusted.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import select
import signal
import struct
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from pytest_diffbench.isolation import scratch

if TYPE_CHECKING:
    from collections.abc import Mapping

SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 (where glibc keeps it)
SWEEP_S: Final = 5.0
"""How long the supervisor tries to end what does not end."""
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS, _PR_SET_CHILD_SUBREAPER, _PR_CAP_AMBIENT = 1, 8, 38, 36, 47
_AMBIENT_RAISE = 2
_CAPABILITY_VERSION = 0x20080522
CAP_DAC_READ_SEARCH: Final = 2
SIGNALLED: Final = 128


@dataclass(frozen=True)
class Order:
    """How a process confines itself; travels as JSON (a command line, or a message to what forks), with no secret."""

    serve: str
    """The module whose `main(channel, arguments)` serves once everything else is done."""
    channel: int
    arguments: tuple[str, ...] = ()
    rlimits: Mapping[str, int] | None = None
    cores: tuple[int, ...] = ()
    uid: int | None = None
    search_right: bool = False
    """Keep the right to search and read folders that are closed to others (only ever behind Landlock)."""
    landlock: tuple[tuple[str, int], ...] | None = None
    seccomp: bool = False
    supervised: int | None = None
    """The end of a pipe that closes with the harness."""
    scratch: str | None = None
    """What the supervisor removes at the end."""
    parent: int | None = None
    """Whose death is ours; None where a PID namespace sees to that."""

    def encode(self) -> str:
        """As one word of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Order:
        """What `encode` made."""
        return cls(**json.loads(text))


def confine(order: Order) -> None:
    """Give up everything that the order does not leave; OSError where the kernel refuses any of it."""
    if order.cores:
        os.sched_setaffinity(0, order.cores)
    with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 (pathlib costs milliseconds here)
        file.write("1000")  # if memory runs out, this goes first
    for name, most in (order.rlimits or {}).items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(number, (least, least))
    if order.uid is not None:
        _become(order.uid, search_right=order.search_right)
    if order.parent is not None:
        _die_with(order.parent)
    if order.landlock is not None:
        from pytest_diffbench.isolation import landlock

        own = (f"/proc/{os.getpid()}", landlock.READ | landlock.Access.WRITE_FILE)  # CUDA names its threads there
        landlock.restrict([*((path, landlock.Access(rights)) for path, rights in order.landlock), own])
    if order.seccomp:
        from pytest_diffbench.isolation import seccomp

        seccomp.load(owner=order.landlock is not None and order.uid is None)


def _become(uid: int, *, search_right: bool) -> None:
    """Become an ordinary user; with the identity go all capabilities, but for one where it is asked for."""
    os.setgroups([])
    if search_right:
        _prctl(_PR_SET_KEEPCAPS, 1)
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if search_right:
        keep_capabilities(1 << CAP_DAC_READ_SEARCH)
        _prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, CAP_DAC_READ_SEARCH)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def keep_capabilities(kept: int) -> None:
    """Give up all capabilities but those whose bits are set; OSError where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), struct.pack("=6I", kept, kept, kept, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "the kernel refused the capability set")


def exit_code(status: int) -> int:
    """The exit code that tells of a wait status, as shells do: a death by signal is a code above `SIGNALLED`."""
    code = os.waitstatus_to_exitcode(status)
    return SIGNALLED - code if code < 0 else code


def _die_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _prctl(option: int, value: int, more: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, more, 0, 0):
        raise OSError(ctypes.get_errno(), f"the kernel refused prctl({option})")


def supervise(child: int, order: Order) -> NoReturn:
    """Wait for the child or the harness to end, then end all that is left, and exit as the child did."""
    assert order.supervised is not None
    for descriptor in range(3, 256):  # the channel is the child's
        if descriptor != order.supervised:
            try:
                os.close(descriptor)
            except OSError:
                continue
    poll = select.poll()
    poll.register(os.pidfd_open(child), select.POLLIN)
    poll.register(order.supervised, select.POLLIN)
    poll.poll()
    code = _sweep(child)
    if order.uid is not None:
        forget(order.uid)
    if order.scratch is not None:
        scratch.remove(order.scratch)
    os._exit(code)


def forget(uid: int) -> None:
    """Remove what a user that exists only for one sandbox has left in shared memory."""
    for entry in shared_memory(uid):
        try:
            os.unlink(entry.path)  # noqa: PTH108 (see above)
        except OSError:  # somebody else was faster
            continue


def shared_memory(uid: int) -> list[os.DirEntry[str]]:
    """A user's files there."""
    try:
        return [entry for entry in os.scandir(SHARED_MEMORY) if entry.stat(follow_symlinks=False).st_uid == uid]
    except OSError:  # there is none, or a file has just gone
        return []


def _sweep(child: int) -> int:
    """End the child's group, which nothing in it can leave, then whatever became ours; the child's exit code."""
    code, deadline = 255, time.monotonic() + SWEEP_S
    while time.monotonic() < deadline:
        _kill(child, group=True)
        for orphan in _children():
            _kill(orphan, group=False)
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    code = exit_code(ended[1])
        except ChildProcessError:
            break
        time.sleep(0.002)
    return code


def _kill(number: int, *, group: bool) -> None:
    try:
        (os.killpg if group else os.kill)(number, signal.SIGKILL)
    except OSError:  # it has ended
        return


def _children() -> list[int]:
    own = os.getpid()
    try:
        with open(f"/proc/{own}/task/{own}/children") as file:  # noqa: PTH123 (see above)
            return [int(number) for number in file.read().split()]
    except OSError:
        return []


def main() -> None:
    """Carry out the order on the command line."""
    order = Order.decode(sys.argv[1])
    if order.supervised is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        supervisor, child = os.getpid(), os.fork()
        if child:
            supervise(child, order)
        os.setsid()
        os.close(order.supervised)
        assert order.parent is None
        order = Order(**{**asdict(order), "parent": supervisor})
    confine(order)
    importlib.import_module(order.serve).main(order.channel, order.arguments)


if __name__ == "__main__":
    main()
