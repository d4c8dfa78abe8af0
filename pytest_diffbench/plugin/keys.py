"""Where the plugin keeps its own values on pytest's objects, and the one value that says whether a run is its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from pytest_diffbench.demand import Demand
    from pytest_diffbench.plugin.ledger import Attempt, Place
    from pytest_diffbench.plugin.session import Session
    from pytest_diffbench.stages import Run

NULL: Final = "diffbench-null"
"""The name of A/A runs, and of the property of their reports that holds what they found."""

SESSION: pytest.StashKey[Session] = pytest.StashKey()
BENCHMARK_ONLY: pytest.StashKey[bool] = pytest.StashKey()

DEMAND: pytest.StashKey[Demand] = pytest.StashKey()
"""On every item that is a task."""
ATTEMPT: pytest.StashKey[str] = pytest.StashKey()
"""Which of several answers an item stands for; '' for the only one."""
NEXT_ITEM: pytest.StashKey[pytest.Item | None] = pytest.StashKey()
"""Whether another task follows this one."""
PLACE: pytest.StashKey[Place] = pytest.StashKey()
"""Where the run's journal is."""
EDITION: pytest.StashKey[str] = pytest.StashKey()
"""On every task that could be looked at: see `edition.of_task`."""
TRIED: pytest.StashKey[Attempt] = pytest.StashKey()
"""On every task that has begun, or is known."""
BODY: pytest.StashKey[bool] = pytest.StashKey()
"""On every task whose stages have ended, so that its test's own body runs."""
RUN: pytest.StashKey[Run] = pytest.StashKey()
"""On every task whose set-up succeeded."""

DEFAULT_AGENT: Final = "reference"
ZOOS: Final = ("tiny", "full", "architecture")
"""Where model weights can come from."""


def agent_is_chosen(config: pytest.Config) -> bool:
    """Whether the user says where solutions come from, and so that this is a run of ours."""
    return config.getoption("diffbench_agent") is not None or config.getini("diffbench_agent") != DEFAULT_AGENT
