"""Where the plugin keeps its own values on pytest's objects."""

from __future__ import annotations

from typing import Final

import pytest

SESSION: Final = pytest.StashKey["Session"]()
BENCHMARK_ONLY: Final = pytest.StashKey[bool]()

DEMAND: Final = pytest.StashKey["Demand"]()
"""On every item that is a task."""
ATTEMPT: Final = pytest.StashKey[str]()
"""Which of several answers an item stands for; '' for the only one."""
NEXT_ITEM: Final = pytest.StashKey[bool]()
RUN: Final = pytest.StashKey["Run"]()
"""On every task whose set-up succeeded."""
