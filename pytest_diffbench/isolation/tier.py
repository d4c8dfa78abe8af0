"""Which means keep a candidate in on this machine: tried out, never inferred from versions."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_diffbench import wire
from pytest_diffbench.errors import SetupError
from pytest_diffbench.isolation import bubblewrap, canary, landlock
from pytest_diffbench.isolation.cell import Cell, Tier
from pytest_diffbench.isolation.forkserver import ForkServers
from pytest_diffbench.isolation.grant import grant, scratch_environment
from pytest_diffbench.isolation.limits import Limits
from pytest_diffbench.isolation.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFERENCE: Final = (Tier.BUBBLEWRAP, Tier.LANDLOCK)
TRIAL_TIMEOUT_S: Final = 60.0
GONE_WITHIN_S: Final = 2.0
_MENDS: Final = {
    Tier.BUBBLEWRAP: "install it (apt-get install bubblewrap) and allow user namespaces (in Docker: "
    "--security-opt seccomp=unconfined; on Ubuntu 24.04: an AppArmor profile for bwrap)",
    Tier.LANDLOCK: "a kernel with Landlock switched on (5.13 or newer, 6.12 for an ordinary user; lsm=landlock)",
}


@dataclass(frozen=True)
class Policy:
    """How every candidate of a run is kept in."""

    tier: Tier
    limits: Limits = field(default_factory=Limits)
    readable: tuple[str, ...] = ()
    """Folders of the user's own that solutions may read."""
    forks: bool = False
    """Whether their processes are forked of one that has done the imports; not a difference in what holds them."""

    @property
    def stamp(self) -> str:
        """What every record says of it; records with different stamps are never compared."""
        return {Tier.EXTERNAL: "external (vouched for by the user)", Tier.NONE: "none (own process only)"}.get(
            self.tier, str(self.tier)
        )

    def refuse_closed(self, model: Path) -> None:
        """SetupError where a solution could not read its own model: started by root, it runs as another user."""
        if self.tier not in (Tier.BUBBLEWRAP, Tier.LANDLOCK) or os.geteuid() != 0:
            return
        for entry in (model, *model.rglob("*")):
            if not entry.stat().st_mode & (0o001 if entry.is_dir() else 0o004):
                raise SetupError(
                    f"diffbench: {entry} is closed to other users, and solutions run as one, for you are root: "
                    f"chmod -R a+rX {model}"
                )


def choose(name: str = "auto", limits: Limits | None = None, readable: tuple[str, ...] = ()) -> Policy:
    """The named tier, or the best one that holds here; SetupError that says what is missing, and the mend."""
    limits = limits or Limits()
    if name in (Tier.EXTERNAL, Tier.NONE):
        return Policy(Tier(name), limits, readable)
    found: list[str] = []
    for tier in PREFERENCE if name == "auto" else (Tier(name),):
        policy = Policy(tier, limits, readable)
        problem = trial(policy)
        if problem is None:
            forking = replace(policy, forks=True)
            return forking if tier is Tier.BUBBLEWRAP and trial(forking) is None else policy
        found.append(f"  {tier}: {problem}\n    mend: {_MENDS[tier]}")
    raise SetupError(
        "diffbench: nothing keeps an untrusted solution in on this machine:\n"
        + "\n".join(found)
        + "\n  or, on a disposable machine that you vouch for: --diffbench-isolation=external"
        + "\n  or, to run solutions with all your own rights, stamped so on every record: --diffbench-isolation=none"
    )


def trial(policy: Policy) -> str | None:
    """Try a tier out with the canary: what is wrong with it, or None where it holds."""
    if policy.tier is Tier.BUBBLEWRAP and bubblewrap.found() is None:
        return "the program bwrap is not installed"
    if policy.forks and os.geteuid() != 0:
        return "only a harness that is root can fork: there a candidate's process has an id of its own"
    if policy.tier is Tier.LANDLOCK:
        abi = landlock.version()
        if abi == 0:
            return "this kernel has no Landlock"
        if abi < landlock.SCOPES_SINCE and os.geteuid() != 0:
            return f"this kernel's Landlock (version {abi}) cannot keep a user's processes from signalling each other"
    try:
        with _targets() as (targets, port):
            return _sing(policy, {**targets, "port": str(port)})
    except (OSError, SetupError) as error:
        return str(error)


@contextlib.contextmanager
def _targets() -> Iterator[tuple[dict[str, str], int]]:
    """What the canary tries to reach."""
    package = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory(prefix="diffbench-canary-") as folder, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        Path(folder).chmod(0o755)
        secret, public = Path(folder, "secret"), Path(folder, "public")
        secret.touch(0o600)
        secret.write_text("sung")
        public.write_text("sung")
        public.chmod(0o666)
        yield (
            {
                "secret_name": _a_name_of_ours(),
                "harness_pid": str(os.getpid()),
                "harness_started": canary.started("self"),
                "secret_file": str(secret),
                "public_file": str(public),
                "hidden_file": str(package / "zoo/tiny/scorer/config.json"),
                "package_file": str(package / "__init__.py"),
                "nap": f"{60 + secrets.randbelow(10**9) / 10**9:.9f}",
            },
            listener.getsockname()[1],
        )


def _a_name_of_ours() -> str:
    """A variable that this process was started with, and that no candidate gets."""
    names = {entry.partition(b"=")[0].decode("utf-8", "replace") for entry in _environ()} & set(os.environ)
    passed = {*grant(()).environment, *scratch_environment("")}
    return max(names - passed, key=len, default="DIFFBENCH_CANARY")


def _environ() -> list[bytes]:
    return Path("/proc/self/environ").read_bytes().split(b"\0")


def _sing(policy: Policy, targets: Mapping[str, str]) -> str | None:
    ours, theirs = socket.socketpair()
    read_end, write_end = os.pipe()
    granted = grant(())
    with ours, contextlib.closing(ForkServers()) as servers:
        try:
            cell = Cell(
                policy.tier,
                policy.limits,
                granted,
                serve=canary.__name__,
                channel=theirs.fileno(),
                output=write_end,
                arguments=(json.dumps(targets),),
                server=servers.of(granted.environment, ()) if policy.forks else None,
            )
        finally:
            theirs.close()
            os.close(write_end)
        output = Output(read_end, policy.limits.output_bytes, cell.strike)
        try:
            ours.settimeout(TRIAL_TIMEOUT_S)
            answer = wire.receive(ours, 1 + len(canary.CHECKS))
        except (OSError, EOFError):  # too late, or gone
            answer = b""
        finally:
            cell.kill()
        output.join(1.0)
    if answer[:1] != wire.READY:
        said = output.tail().strip().splitlines()
        return f"it does not start: {said[-1] if said else 'it says nothing'}"
    open_doors = [name for (name, _), broke in zip(canary.CHECKS, answer[1:], strict=True) if broke]
    if _runs(targets["nap"]):
        open_doors.append("what it starts outlives it")
    return "; ".join(open_doors) or None


def _runs(argument: str) -> bool:
    """Whether a process with this argument is still there, a while after it should be gone."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while any(argument.encode() in _command_line(entry) for entry in Path("/proc").iterdir()):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.01)
    return False


def _command_line(process: Path) -> bytes:
    if not process.name.isdecimal():
        return b""
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
