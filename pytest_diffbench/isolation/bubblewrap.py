"""A root file system, process tree and network of a candidate's own: the command line of bubblewrap (`bwrap`).

bubblewrap started by root is no sandbox while its payload keeps the user id 0: such a payload could write
`/proc/sys/kernel/core_pattern`. So it keeps two capabilities with which the launcher gives itself an id of its own.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_diffbench.isolation.grant import scratch_environment

if TYPE_CHECKING:
    from pytest_diffbench.isolation.grant import Grant
    from pytest_diffbench.isolation.limits import Limits

PROGRAM: Final = "bwrap"
SCRATCH: Final = "/tmp"  # noqa: S108 (the sandbox's own, empty one)
_NAMESPACES: Final = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
_HIDDEN: Final = ("--size", "65536", "--perms", "0555", "--tmpfs")


def found() -> str | None:
    """Where the program is; None where it is not installed."""
    return shutil.which(PROGRAM)


def command(granted: Grant, limits: Limits, *, home: str = SCRATCH, launches: bool = True) -> list[str]:
    """Everything before the payload's own command line.

    `home` is where the payload may write, or a new folder in there; what `launches` nothing becomes no other user.
    """
    root = os.geteuid() == 0
    words = [PROGRAM, *_NAMESPACES, "--die-with-parent", "--new-session", "--clearenv", "--hostname", "candidate"]
    words += ["--cap-drop", "ALL"]
    if root and launches:
        words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    if not root:
        words.append("--unshare-user")
    for name, value in {**granted.environment, **scratch_environment(home)}.items():
        words += ["--setenv", name, value]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for node in granted.devices:  # a plain bind would forbid devices
        words += ["--dev-bind", node, node]
    for folder in ("/dev/shm", SCRATCH):  # noqa: S108 (likewise)
        words += ["--size", str(limits.disk_bytes), "--perms", "1777", "--tmpfs", folder]
    if home != SCRATCH:
        words += ["--perms", "1777", "--dir", home]
    words += _files(granted)
    words += ["--chdir", home, "--remount-ro", "/dev", "--remount-ro", "/", "--"]
    return words


def _files(granted: Grant) -> list[str]:
    """Readable paths, hidden ones over them, readable ones over those again; outer before inner."""
    words: list[str] = []
    made = {"/", SCRATCH, "/dev", "/proc"}
    mounts = {*granted.readable, *granted.hidden}
    for path in sorted(mounts, key=lambda one: (one.count("/"), one)):
        outer = next((str(parent) for parent in Path(path).parents if str(parent) in mounts), None)
        shown = outer is not None and outer not in granted.hidden  # a link's target is a readable path itself
        if shown != (path in granted.hidden):
            continue
        if path in granted.hidden:
            words += [*_HIDDEN, path]
            continue
        for parent in reversed(Path(path).parents):  # bubblewrap would make them for their owner only
            if str(parent) not in made and (outer is None or len(str(parent)) > len(outer)):
                words += ["--perms", "0755", "--dir", str(parent)]
                made.add(str(parent))
        words += (
            ["--symlink", str(Path(path).readlink()), path] if Path(path).is_symlink() else ["--ro-bind", path, path]
        )
    return words
