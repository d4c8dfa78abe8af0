"""One process in its sandbox, by one of the tiers: started, found, stopped, killed with everything that it started."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pytest_diffbench.errors import SetupError
from pytest_diffbench.isolation import bubblewrap, identity, landlock, scratch, tree
from pytest_diffbench.isolation.cgroup import memory_group
from pytest_diffbench.isolation.forkserver import CHANNEL, HOLD
from pytest_diffbench.isolation.grant import closed_to_others, expanded, scratch_environment
from pytest_diffbench.isolation.launch import SHARED_MEMORY, SIGNALLED, Order, forget, shared_memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_diffbench.isolation.cgroup import Cgroup
    from pytest_diffbench.isolation.forkserver import ForkServer
    from pytest_diffbench.isolation.grant import Grant
    from pytest_diffbench.isolation.limits import Limits

REAP_TIMEOUT_S: Final = 5.0
STANDS_WITHIN_S: Final = 30.0
"""How long bubblewrap may take to set a sandbox up."""
JOIN_WITHIN_S: Final = 5.0
PATIENCE_S: Final = 1.0
"""How long a wrapper gets to end by itself once its payload is dead."""
OWN_THREADS: Final = 8
"""What one more sandbox may take of its user's processes and threads outside."""
_LAUNCH: Final = ("-I", "-u", "-m", "pytest_diffbench.isolation.launch")
"""-I: nothing of ours or the folder's is on its path; -u: what it prints last is not lost with it."""
_READ_WRITE: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_PROC: Final = ("cpuinfo", "meminfo", "stat", "version", "filesystems", "uptime", "loadavg", "devices", "modules")


class Tier(StrEnum):
    """By what means a candidate is kept in."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    EXTERNAL = "external"
    """Nothing of ours: the user vouches for a disposable machine."""
    NONE = "none"


class Cell:
    """A process and all that it starts; what it holds outside itself is gone with it."""

    def __init__(
        self,
        tier: Tier,
        limits: Limits,
        granted: Grant,
        *,
        serve: str,
        channel: int,
        output: int,
        arguments: Sequence[str] = (),
        cores: Sequence[int] = (),
        server: ForkServer | None = None,
    ) -> None:
        """Start it and return at once; SetupError where it cannot be started.

        With a `server` it is forked of it, which only bubblewrap's sandboxes can be.
        """
        self.tier = tier
        self._limits = limits
        self._leader: int | None = None
        self._group: int | None = None
        self._group_alive: int | None = None
        self._leader_alive: int | None = None
        self._control: int | None = None
        self._forked: int | None = None
        self.scratch: str | None = None
        self.cgroup: Cgroup | None = memory_group(limits.memory_bytes) if _confines(tier) else None
        self._uid = uid = identity.own_uid() if _confines(tier) else None
        order = Order(
            serve=serve,
            channel=channel,
            arguments=tuple(arguments),
            cores=tuple(cores),
            uid=uid,
            rlimits=_rlimits(limits, uid) if _confines(tier) else None,
            seccomp=_confines(tier),
        )
        try:
            if server is None:
                self._start(order, granted, output)
            else:
                self._fork(order, granted, output, server)
            self._joining = threading.Thread(target=self._join, name="diffbench-cgroup", daemon=True)
            self._joining.start()
        except OSError as error:
            self._clean_up()
            raise SetupError(f"diffbench: cannot start a candidate's process: {error}") from error

    def _start(self, order: Order, granted: Grant, output: int) -> None:
        passed = [order.channel]
        wrapper: list[str] = []
        environment: Mapping[str, str] = {"PATH": os.environ.get("PATH", os.defpath)}
        control: int | None = None
        if self.tier is Tier.BUBBLEWRAP:
            # its own environment stays readable inside, so the candidate's comes as arguments
            wrapper = bubblewrap.command(granted, self._limits)
        else:
            self.scratch = tempfile.mkdtemp(prefix="diffbench-")
            environment = {**granted.environment, **scratch_environment(self.scratch)}
            if order.uid is not None:
                os.chown(self.scratch, order.uid, order.uid)
        if self.tier is Tier.LANDLOCK:
            assert self.scratch is not None
            control, self._control = os.pipe()
            passed.append(control)
            closed = order.uid is not None and closed_to_others([*granted.readable, self.scratch])
            order = replace(
                order,
                landlock=tuple(_rules(granted, self.scratch, shared=order.uid is not None)),
                search_right=closed,
                supervised=control,
                scratch=self.scratch,
            )
            if order.uid is None:  # a pool of compilers would share semaphores in /dev/shm, which is everybody's
                environment = {**environment, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        elif self.tier is not Tier.BUBBLEWRAP:
            order = replace(order, parent=os.getpid())
        try:
            self._process = subprocess.Popen(
                [*wrapper, sys.executable, *_LAUNCH, order.encode()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=passed,
                env=dict(environment),
                start_new_session=True,
                cwd=self.scratch or "/",
            )
        finally:
            if control is not None:
                os.close(control)

    def _fork(self, order: Order, granted: Grant, output: int, server: ForkServer) -> None:
        """A sandbox that is held open for a fork, and the fork in it; OSError where either is refused."""
        wrapper = bubblewrap.command(granted, self._limits, home=server.scratch, launches=False)
        with contextlib.ExitStack() as held, contextlib.ExitStack() as refused:
            stands, standing = os.pipe()
            told, ended = os.pipe()
            for descriptor in (stands, told, ended):
                held.callback(os.close, descriptor)
            try:
                self._process = subprocess.Popen(
                    [*wrapper, sys.executable, "-I", "-S", "-c", HOLD],
                    stdin=told,
                    stdout=standing,
                    stderr=output,
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    start_new_session=True,
                    cwd="/",
                )
            finally:
                os.close(standing)
            refused.callback(self._process.wait)
            refused.callback(self._process.kill)
            holder = os.pidfd_open(self._holder(stands))
            held.callback(os.close, holder)
            there = replace(order, channel=CHANNEL)
            self._forked = server.fork(there, channel=order.channel, output=output, holder=holder, ended=ended)
            self._leader_alive = os.pidfd_open(self._forked)
            refused.pop_all()

    def _holder(self, stands: int) -> int:
        """The process that holds the sandbox open, once it says that the sandbox stands; OSError where none does."""
        stood = _wait_readable(stands, STANDS_WITHIN_S) and os.read(stands, 1)
        found = self._payload()
        if not stood or found is None:
            raise OSError("bubblewrap did not set a sandbox up")
        return found

    # -- who is in it ----------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The payload's process id, or the wrapper's until the payload was found."""
        return self._leader if self._leader is not None else self._process.pid

    @property
    def forked(self) -> bool:
        """Whether the payload was forked, and not started by itself."""
        return self._forked is not None

    def find(self) -> None:
        """Find the payload, once it has said that it is ready; nothing untrusted has run in it yet."""
        self._joining.join()
        leader = self._payload()
        if leader is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._group = os.getpgid(leader)
            self._group_alive = os.pidfd_open(self._group)
            if self._leader_alive is None:
                self._leader_alive = os.pidfd_open(leader)
            self._leader = leader
        if self.cgroup is not None and not self.cgroup.holds(leader):
            try:
                self.cgroup.join(leader)
            except OSError:  # then the watchdog alone looks at its memory
                self.cgroup.close()
                self.cgroup = None

    def _payload(self) -> int | None:
        """The process that the solution will run in; None while it is not there."""
        if self._forked is not None:
            return self._forked
        found = self._process.pid
        for _ in range({Tier.BUBBLEWRAP: 2, Tier.LANDLOCK: 1}.get(self.tier, 0)):  # bubblewrap's init; our supervisor
            below = tree.children(found)
            if not below:
                return None
            found = below[0]
        return found

    def _join(self) -> None:
        """Move the payload into its group while it imports: waiting for the kernel then delays nobody."""
        if self.cgroup is None:
            return
        deadline = time.monotonic() + JOIN_WITHIN_S
        while time.monotonic() < deadline and self.lives():
            # a supervisor takes its child along; bubblewrap is still starting programs, which would have to wait
            if (pid := self._process.pid if self.tier is Tier.LANDLOCK else self._payload()) is not None:
                with contextlib.suppress(OSError):  # looked at again once it is ready
                    self.cgroup.join(pid)
                return
            time.sleep(0.002)

    def everything(self) -> list[int]:
        """Every process in it now, wrappers included."""
        first = [self._process.pid]
        if self._forked is not None and self._leader_alive is not None and not _readable(self._leader_alive):
            first.append(self._forked)
        return [*first, *(below for one in first for below in tree.descendants(one))]

    def own_filesystems(self) -> list[str]:
        """Where one can ask how full the sandbox's own file systems are; nothing in them is ever opened from here."""
        if self.tier is not Tier.BUBBLEWRAP or self._leader is None:
            return []
        return [f"/proc/{self._leader}/root{folder}" for folder in (bubblewrap.SCRATCH, SHARED_MEMORY)]

    def in_shared_memory(self) -> list[os.DirEntry[str]]:
        """Its files in the machine's shared memory, where it may have any."""
        return shared_memory(self._uid) if self.tier is Tier.LANDLOCK and self._uid is not None else []

    def lives(self) -> bool:
        """Whether it has not ended (it may wait, or be stopped); its wrapper may take a moment longer to end."""
        return not self.ended(0) and not (self._leader_alive is not None and _readable(self._leader_alive))

    def ended(self, wait_s: float) -> bool:
        """Whether it has ended, or does within this time; it is not reaped."""
        deadline = time.monotonic() + wait_s
        while self._process.returncode is None:
            if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return True

    def wait_end(self) -> None:
        """Return when it has ended; it is not reaped."""
        with contextlib.suppress(OSError):  # reaped already
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)

    @property
    def returncode(self) -> int | None:
        """The payload's: negative for a signal; None while it is not reaped."""
        code = self._process.returncode
        if code is not None and code > SIGNALLED and _confines(self.tier):
            return SIGNALLED - code
        return code

    # -- what is done to it ----------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop every process in it where it stands: they are one group, which none of them can leave."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def strike(self) -> None:
        """End what the solution started; `kill` does the rest."""
        self._signal(signal.SIGKILL)

    def kill(self) -> None:
        """End and reap everything in it, and remove what it held; safe to call twice."""
        if self._process.returncode is None:
            if self._group is None:
                for number in reversed(self.everything()):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(number, signal.SIGKILL)
            self._signal(signal.SIGKILL)
            self._let_go()
            if _confines(self.tier) and not self.ended(PATIENCE_S):
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(REAP_TIMEOUT_S)
        self._clean_up()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is not None:  # reaped: its id may be another's by now
            return
        group = self._group if self._group is not None else self._process.pid
        if self._group_alive is not None and _readable(self._group_alive):
            return  # dead, and perhaps reaped by its init or supervisor
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)

    def _let_go(self) -> None:
        """What the supervisor takes for the harness's death."""
        if self._control is not None:
            os.close(self._control)
            self._control = None

    def _clean_up(self) -> None:
        self._let_go()
        if self._group_alive is not None:
            _wait_readable(self._group_alive, REAP_TIMEOUT_S)
            os.close(self._group_alive)
            self._group_alive = None
        if self._leader_alive is not None:
            os.close(self._leader_alive)
            self._leader_alive = None
        if self._uid is not None and self.tier is Tier.LANDLOCK:
            forget(self._uid)
        if self.scratch is not None:  # everything that could write there is dead
            scratch.remove(self.scratch)
        if self.cgroup is not None:
            self.cgroup.close()


def _confines(tier: Tier) -> bool:
    return tier in (Tier.BUBBLEWRAP, Tier.LANDLOCK)


def _rlimits(limits: Limits, uid: int | None) -> dict[str, int]:
    # a user's own are counted with the sandbox's, and we are about to start threads that watch it
    already = 0 if uid is not None else identity.tasks_of(os.getuid()) + OWN_THREADS
    return {
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": already + limits.processes,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_FSIZE": limits.disk_bytes,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_NICE": 0,
        "RLIMIT_RTPRIO": 0,
    }


def _rules(granted: Grant, own_folder: str, *, shared: bool) -> list[tuple[str, int]]:
    """The Landlock rules for a grant; `shared` memory only for a user whose files there can be told from others'."""
    rules = [(path, int(landlock.READ if whole else landlock.LIST)) for path, whole in expanded(granted)]
    rules += [(f"/proc/{name}", int(landlock.READ)) for name in (*_PROC, "sys/vm", "sys/kernel")]
    rules += [(path, int(landlock.DEVICE)) for path in (*_READ_WRITE, *granted.devices)]
    if shared:
        rules.append((SHARED_MEMORY, int(landlock.FILES)))
    return [*rules, (own_folder, int(landlock.WRITE))]


def _readable(descriptor: int) -> bool:
    return _wait_readable(descriptor, 0)


def _wait_readable(descriptor: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(1000 * timeout_s))
