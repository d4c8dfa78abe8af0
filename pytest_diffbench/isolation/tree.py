"""The processes below one, as the kernel lists them."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE: int = os.sysconf("SC_PAGE_SIZE")


def children(pid: int) -> list[int]:
    """Those that its threads started and that have not been reaped; none where it has ended."""
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except OSError:  # it, or one of its threads, has just ended
        return found
    return found


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, nearest first."""
    found, level = [], [pid]
    while level:
        level = [child for parent in level for child in children(parent)]
        found += level
    return found


def resident_bytes(pid: int) -> int:
    """Memory that a process holds, shared pages included; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def proportional_bytes(pid: int) -> int:
    """The same with each shared page divided among those that share it; resident memory where that is not told."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resident_bytes(pid)


def threads(pid: int) -> int:
    """How many threads a process has; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[17])
    except (OSError, IndexError):
        return 0
