"""Tries every door from inside a sandbox, and says which were open: how a tier proves itself before it is used.

Runs in the place of a solution. What it says is believed, because it is ours and nothing untrusted has run in its
process; it says it in a fixed number of bytes all the same.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_diffbench import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_CLONE_NEWUSER: Final = 0x10000000
ALLOWED_CAPABILITIES: Final = (0, 1 << 2)
"""None; or, behind Landlock only, to search folders that are closed to others."""


def _environment(targets: Mapping[str, str]) -> bool:
    secret = targets["secret_name"].encode()
    pids = {"1", str(os.getppid()), targets["harness_pid"]}
    return any(secret in _read(f"/proc/{pid}/environ") for pid in pids) or targets["secret_name"] in os.environ


def _file(targets: Mapping[str, str]) -> bool:
    return any(_read(targets[name]) for name in ("secret_file", "public_file", "hidden_file"))


def _write(targets: Mapping[str, str]) -> bool:
    return any(_opens_for_writing(targets[name]) for name in ("public_file", "package_file"))


def _core_pattern(_: Mapping[str, str]) -> bool:
    return _opens_for_writing("/proc/sys/kernel/core_pattern")


def _loopback(targets: Mapping[str, str]) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(targets["port"])), timeout=1).close()
    except OSError:
        return False
    return True


def _signal(targets: Mapping[str, str]) -> bool:
    try:
        os.kill(int(targets["harness_pid"]), 0)
    except OSError:
        return False
    # in a namespace of its own another process may have this number
    return started(targets["harness_pid"]) in ("", targets["harness_started"])


def started(pid: str) -> str:
    """When a process was started, in ticks since this machine was; empty where that cannot be read."""
    return " ".join(_read(f"/proc/{pid}/stat").decode("utf-8", "replace").rpartition(")")[2].split()[19:20])


def _namespace(_: Mapping[str, str]) -> bool:
    return bool(ctypes.CDLL(None).unshare(_CLONE_NEWUSER) == 0)


def _capabilities(_: Mapping[str, str]) -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split()[0]: line.split()[1] for line in lines if line.startswith(("Cap", "NoNewPrivs"))}
    held = [int(found[f"Cap{name}:"], 16) for name in ("Prm", "Eff", "Amb")]
    return os.getuid() == 0 or not {*held} <= {*ALLOWED_CAPABILITIES} or found["NoNewPrivs:"] != "1"


def _group(_: Mapping[str, str]) -> bool:
    if (child := os.fork()) == 0:  # the leader of a group cannot leave it anyway
        libc = ctypes.CDLL(None)
        os._exit(int(libc.setpgid(0, 0) == 0 or libc.setsid() != -1))
    return os.waitpid(child, 0)[1] != 0


def _survivor(targets: Mapping[str, str]) -> bool:
    """Leave a process behind; the harness looks for its argument once this one is dead."""
    if os.fork() == 0:
        if os.fork() == 0:
            os.execv("/bin/sleep", ["sleep", targets["nap"]])  # noqa: S606
        os._exit(0)
    os.wait()
    return False


def _cannot_work(_: Mapping[str, str]) -> bool:
    """The other way round: what every solution needs must be possible."""
    try:
        with open("canary.txt", "w") as file:  # noqa: PTH123 (its own scratch folder)
            file.write("sings")
        subprocess.run([sys.executable, "-c", "import json"], check=True, timeout=60)
        Path("/dev/null").write_bytes(b"")
        return not Path("/proc/self/status").read_text()
    except (OSError, subprocess.SubprocessError):
        return True


CHECKS: Final[tuple[tuple[str, Callable[[Mapping[str, str]], bool]], ...]] = (
    ("the harness's environment can be read", _environment),
    ("the harness's files can be read", _file),
    ("the harness's files can be written", _write),
    ("/proc/sys/kernel/core_pattern can be written", _core_pattern),
    ("loopback can be reached", _loopback),
    ("the harness can be signalled", _signal),
    ("a user namespace can be made", _namespace),
    ("it has root's id, capabilities, or ways to new ones", _capabilities),
    ("a process group can be left", _group),
    ("files, subprocesses or /proc are missing", _cannot_work),
    ("", _survivor),
)
"""What is wrong if a check says yes."""


def main(descriptor: int, arguments: Sequence[str]) -> None:
    """Check all, say READY and a byte for each, and wait for the end."""
    channel = socket.socket(fileno=descriptor)
    targets = json.loads(arguments[0])
    channel.sendall(wire.READY + bytes(check(targets) for _, check in CHECKS))
    channel.recv(1)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (an error for a missing file is as good as any)
            return file.read()
    except OSError:
        return b""


def _opens_for_writing(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        return False
    return True
