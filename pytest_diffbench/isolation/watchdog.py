"""Looks ten times a second at what a candidate uses, and says when it is more than it may."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Final

from pytest_diffbench.isolation import scratch, tree
from pytest_diffbench.isolation.limits import size
from pytest_diffbench.records import Cause

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_diffbench.isolation.cell import Cell
    from pytest_diffbench.isolation.limits import Limits

INTERVAL_S: Final = 0.1
NEARLY: Final = 0.99
"""A sized file system refuses what would make it full, so full is a little less."""


class Watchdog:
    """Calls `exceeded` once, from a thread of its own, with a cause and a line for a report."""

    def __init__(self, cell: Cell, limits: Limits, exceeded: Callable[[Cause, str], None]) -> None:
        self._cell = cell
        self._limits = limits
        self._exceeded = exceeded
        self._done = threading.Event()
        threading.Thread(target=self._run, name="diffbench-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._done.set()

    def _run(self) -> None:
        while not self._done.wait(INTERVAL_S):
            if (found := self._processes() or self._disk()) is not None:
                self._exceeded(*found)
                return

    def _processes(self) -> tuple[Cause, str] | None:
        limits, everything = self._limits, self._cell.everything()
        tasks = sum(map(tree.threads, everything))
        if tasks >= limits.processes:
            return (
                Cause.PROCESS_LIMIT,
                f"the solution ran {tasks} processes and threads; {limits.processes} are allowed",
            )
        if self._cell.cgroup is not None and self._cell.cgroup.ran_out():  # which may have ended a part of it only
            return (
                Cause.MEMORY,
                f"the solution needed more memory than the {size(limits.memory_bytes)} that are allowed",
            )
        if sum(map(tree.resident_bytes, everything)) > limits.memory_bytes:
            used = sum(map(tree.proportional_bytes, everything))  # slower, and counts what they share once
            if used > limits.memory_bytes:
                return Cause.MEMORY, f"the solution held {size(used)}; {size(limits.memory_bytes)} are allowed"
        return None

    def _disk(self) -> tuple[Cause, str] | None:
        limits = self._limits
        for folder in self._cell.own_filesystems():
            try:
                found = os.statvfs(folder)
            except OSError:  # it is ending
                continue
            used, files = (found.f_blocks - found.f_bfree) * found.f_frsize, found.f_files - found.f_ffree
            if used >= NEARLY * limits.disk_bytes or files > limits.files:
                return _too_much(used, files, limits)
        if self._cell.scratch is not None:
            try:
                used, files = scratch.usage(self._cell.scratch, most_files=limits.files)
            except scratch.TooDeepError:
                return Cause.DISK_LIMIT, f"the solution put folders more than {scratch.DEEPEST} deep into each other"
            except OSError:  # it is ending
                return None
            for entry in self._cell.in_shared_memory():
                with contextlib.suppress(OSError):  # it has just gone
                    used, files = used + entry.stat(follow_symlinks=False).st_blocks * 512, files + 1
            if used > limits.disk_bytes or files > limits.files:
                return _too_much(used, files, limits)
        return None


def _too_much(used: int, files: int, limits: Limits) -> tuple[Cause, str]:
    allowed = f"{size(limits.disk_bytes)} in {limits.files} files are allowed"
    return Cause.DISK_LIMIT, f"the solution wrote {size(used)} in {files} files; {allowed}"
