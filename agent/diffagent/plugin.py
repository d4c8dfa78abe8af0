"""What the agent's package adds to the benchmark, by the hooks that any package has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_diffbench.methods import Method


@pytest.hookimpl(optionalhook=True)  # nobody asks where the benchmark is switched off
def pytest_diffbench_methods(config: pytest.Config) -> Iterable[Method]:
    """Token Merging, DeepCache, T-GATE, the guidance window and the reuse of blocks."""
    from diffagent.catalogue import METHODS

    del config
    return METHODS
