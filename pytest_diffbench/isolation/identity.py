"""A user id of its own for each sandbox, where the harness runs as root and can give one."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Final

from pytest_diffbench.errors import SetupError

RESERVED: Final = (1_879_048_192, 2_147_000_000)
"""User ids that nothing uses (systemd, docs/UIDS-GIDS.md: left free above containers, below the sign bit)."""
LEAST: Final = 1000
_count = itertools.count()


def own_uid() -> int | None:
    """An id that no other process has; None where the harness is an ordinary user, whose own id it stays.

    SetupError in a container that maps too few ids.
    """
    if os.geteuid() != 0:
        return None
    low, high = _range()
    return low + (64 * os.getpid() + next(_count) % 64) % (high - low)


def _range() -> tuple[int, int]:
    """The reserved ids, or in a container that maps fewer, the upper half of those that it has."""
    low, high = RESERVED
    last = 0
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(number) for number in line.split())
        if first <= low and first + count >= high:
            return RESERVED
        last = max(last, first + count)
    if last < 2 * LEAST:
        raise SetupError(
            f"diffbench: this container maps only {last} user ids, so a candidate cannot get one of its own: map 65536 "
            "(subuid), run as an ordinary user, or pass --diffbench-isolation=external if the container is disposable"
        )
    return max(LEAST, last // 2), last - 1


def tasks_of(uid: int) -> int:
    """How many processes and threads this user has on the machine now."""
    found = 0
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if process.stat().st_uid == uid:
                    found += sum(1 for _ in (process / "task").iterdir())
            except OSError:  # it has just ended
                continue
    return found
