"""A throw-away shell: a command sees this machine and may break all of it, and nothing stays broken.

`python -m pytest_diffbench.throwaway COMMAND …` gives a command its own mounts (the whole file system under an overlay
in memory), processes, network, IPC and host name, a reaping init, a limit on processes and memory, and no power over
the clock, the kernel's modules or its settings. It contains exploits that run without isolation; it is no sandbox for
hostile code that looks for the way out.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MARK: Final = "DIFFBENCH_THROWAWAY"
MOST_PROCESSES: Final = 1500
MOST_MEMORY_BYTES: Final = 6 << 30
DISK_BYTES: Final = 1 << 30
_CONTROLLERS: Final = {"pids": ("pids.max", MOST_PROCESSES), "memory": ("memory.limit_in_bytes", MOST_MEMORY_BYTES)}
_CGROUPS: Final = Path("/sys/fs/cgroup")
_NODES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_PR_CAPBSET_DROP: Final = 24
_MNT_DETACH: Final = 2
_SYS_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
_DROPPED: Final = (16, 17, 18, 20, 22, 25, 26, 27, 29, 30, 32, 33, 34, 35, 37, 40)
"""Modules, raw I/O, chroot, accounting, reboot, clock, tty, nodes, audit, MAC, syslog, wake alarm, checkpoints."""


def inside() -> bool:
    """Whether this process runs in a throw-away shell: its init and all processes beside it were made by one."""
    mark = os.environ.get(MARK, "")
    try:
        return bool(mark) and f"{MARK}={mark}".encode() in Path("/proc/1/environ").read_bytes().split(b"\0")
    except OSError:
        return False


@dataclass(frozen=True)
class Ended:
    """How a command in a shell ended."""

    status: int
    output: str


def obstacle() -> str:
    """Why no shell can be made here; '' where one can."""
    if os.getuid() != 0:
        return "a throw-away shell is made by root"
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return "a throw-away shell needs unshare and setpriv (util-linux)"
    missing = [name for name in _CONTROLLERS if not os.access(_CGROUPS / name, os.W_OK)]
    if missing:
        return f"a throw-away shell needs the writable cgroup controllers {', '.join(missing)} (version 1)"
    return ""


def run(command: Sequence[str], *, timeout_s: float) -> Ended:
    """What a command printed in a shell of its own, and its exit status (124: it took too long).

    SetupError where no shell can be made.
    """
    with _started(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
            return Ended(process.returncode, output.decode("utf-8", "replace"))
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            return Ended(124, output.decode("utf-8", "replace"))


@contextlib.contextmanager
def _started(command: Sequence[str], **streams: int) -> Iterator[subprocess.Popen[bytes]]:
    if problem := obstacle():
        raise SetupError(f"diffbench: {problem}")
    mark = secrets.token_hex(8)
    root = Path(tempfile.mkdtemp(prefix="diffbench-throwaway-"))
    groups = [_CGROUPS / name / f"diffbench-{mark}" for name in _CONTROLLERS]
    try:
        for group, (limit, value) in zip(groups, _CONTROLLERS.values(), strict=True):
            group.mkdir()
            (group / limit).write_text(str(value))
        init = [sys.executable, "-m", "pytest_diffbench.throwaway", "--init", str(root), str(Path.cwd())]
        init += [str(group / "cgroup.procs") for group in groups]
        namespaces = ["--mount", "--pid", "--ipc", "--uts", "--net", "--fork", "--kill-child"]
        shell = ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "--propagation", "private", "--"]
        process = subprocess.Popen(
            [*shell, *init, "--", *command],
            env={**os.environ, MARK: mark},
            stdin=subprocess.DEVNULL,
            **streams,  # type: ignore[call-overload]
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
    finally:
        for group in groups:
            _emptied(group)
        with contextlib.suppress(OSError):
            root.rmdir()  # its mounts ended with the namespace: nothing of the command is in it


def _emptied(group: Path) -> None:
    """Remove a control group once its last process has ended."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            for pid in (group / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            group.rmdir()
            return
        time.sleep(0.02)


# -- inside ------------------------------------------------------------------------------------------------------------


def _become_init(root: Path, folder: str, groups: Sequence[str], command: Sequence[str]) -> int:
    """Process 1: limit, mount, give up powers, start the command, reap until it ends."""
    for group in groups:
        Path(group).write_text("0")
    new = _mounted(root)
    _enter(new)
    os.chdir(folder)
    socket.sethostname("throwaway")
    _raise_loopback()
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in _DROPPED:
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    process = subprocess.Popen(command, start_new_session=True)
    while True:
        pid, status = os.wait()
        if pid == process.pid:
            return os.waitstatus_to_exitcode(status) % 256


def _enter(new: Path) -> None:
    """Make this the root, and nothing of the old one reachable (in a mere chroot nobody may make a user namespace)."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.chdir(new)
    if libc.syscall(_SYS_PIVOT_ROOT[os.uname().machine], b".", b".") or libc.umount2(b".", _MNT_DETACH):
        raise OSError(ctypes.get_errno(), f"cannot make {new} the root")


def _mounted(root: Path) -> Path:
    """The machine's files under an overlay in memory, with fresh /proc, /dev, /sys and /dev/shm."""
    _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(root))
    upper, work, new = (root / name for name in ("upper", "work", "new"))
    for folder in (upper, work, new):
        folder.mkdir()
    _mount("-t", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", "overlay", str(new))
    for mounted in _elsewhere():
        _mount("--bind", "-o", "ro", str(mounted), f"{new}{mounted}")
    _mount("-t", "proc", "proc", f"{new}/proc")
    _mount("--bind", f"{new}/proc/sys", f"{new}/proc/sys")
    _mount("-o", "remount,bind,ro", f"{new}/proc/sys")
    if Path(f"{new}/proc/sysrq-trigger").exists():
        _mount("--bind", "/dev/null", f"{new}/proc/sysrq-trigger")
    (root / "core_pattern").write_bytes(Path("/proc/sys/kernel/core_pattern").read_bytes())
    _mount("--bind", str(root / "core_pattern"), f"{new}/proc/sys/kernel/core_pattern")
    _mount("-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", f"{new}/dev")
    for node in _NODES:
        Path(f"{new}/dev/{node}").touch()
        _mount("--bind", f"/dev/{node}", f"{new}/dev/{node}")
    for link, target in {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
        Path(f"{new}/dev/{link}").symlink_to(f"/proc/self/{target}")
    for name, kind, options in (("shm", "tmpfs", "size=256m,mode=1777"), ("mqueue", "mqueue", "noexec")):
        (new / "dev" / name).mkdir()
        _mount("-t", kind, "-o", options, kind, f"{new}/dev/{name}")
    _mount("-t", "sysfs", "-o", "ro", "sysfs", f"{new}/sys")
    return new


def _elsewhere() -> Iterator[Path]:
    """Folders that this interpreter needs and that lie on another file system than the root."""
    needed = {Path(sys.prefix), Path(sys.base_prefix), *(Path(entry) for entry in sys.path), Path(__file__).parents[1]}
    device = Path("/").stat().st_dev
    yield from (path for path in sorted(needed) if path.is_dir() and path.stat().st_dev != device)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)  # noqa: S607 (found as the shell would)


def _raise_loopback() -> None:
    """Bring `lo` up, so that what listens on it can be reached."""
    set_flags, up_and_running = 0x8914, 0x41
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anything:
        import fcntl  # only here: Linux

        fcntl.ioctl(anything, set_flags, struct.pack("16sh22x", b"lo", up_and_running))


def main(arguments: Sequence[str]) -> int:
    """Run a command in a shell, its output passed on; its exit status."""
    if arguments[:1] == ["--init"]:
        split = arguments.index("--")
        root, folder, *groups = arguments[1:split]
        return _become_init(Path(root), folder, groups, arguments[split + 1 :])
    if not arguments:
        print("usage: python -m pytest_diffbench.throwaway COMMAND …", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that it is cleaned up after
    try:
        with _started(arguments) as process:
            return process.wait()
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
