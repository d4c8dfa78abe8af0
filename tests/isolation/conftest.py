"""Processes for these tests: single-use, so the next ones start while a test runs; without torch, which is slow."""

from __future__ import annotations

import functools
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from pytest_diffbench.isolation import Policy, Sandbox, choose
from pytest_diffbench.isolation.forkserver import ForkServers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAITING: Final = 2
"""How many processes import in the background."""
HANG_S: Final = 20.0
"""Long enough to tell a hang from a busy machine."""


LIGHT: Final = ("numpy", "PIL.Image")
"""All that these solutions need; those that import torch pay for it themselves."""
ONE_THREAD: Final = {"OMP_NUM_THREADS": "1"}
"""As on a core of one's own; with more, numpy starts threads as it is imported, and nothing is forked."""


@functools.cache
def policy() -> Policy:
    """The best tier of this machine."""
    return choose()


@pytest.fixture(scope="session")
def another() -> Iterator[Callable[[], Sandbox]]:
    """A ready process that no test has used; each call gives the next one, the caller closes it."""
    # started from this thread: a process dies with the thread that started it
    waiting: deque[Sandbox] = deque()
    servers = ForkServers()

    def take() -> Sandbox:
        while len(waiting) < WAITING + 1:
            waiting.append(Sandbox(policy(), prepared=LIGHT, environment=ONE_THREAD, servers=servers))
        sandbox = waiting.popleft()
        sandbox.wait_ready()
        return sandbox

    yield take
    for sandbox in waiting:
        sandbox.close()
    servers.close()


@pytest.fixture
def sandbox(another: Callable[[], Sandbox]) -> Iterator[Sandbox]:
    """A ready process of the test's own."""
    with another() as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def ends() -> Callable[[int], bool]:
    """Whether the process with this id stops running, waited for as long as a hang takes to show."""

    def wait(pid: int) -> bool:
        deadline = time.monotonic() + HANG_S
        while _runs(pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    return wait


def _runs(pid: int) -> bool:
    """A process that only waits to be reaped by its new parent does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
