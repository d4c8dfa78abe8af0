"""Tasks for the agent's tests, resolved as pytest would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffagent.catalogue import METHODS

from pytest_diffbench import Task, methods
from pytest_diffbench.demand import Demand, Markers, resolve
from pytest_diffbench.zoo.models import FAMILIES

KNOWN = {method.name: method for method in (*methods.BUILT_IN, *METHODS)}


def demand(model: str, markers: Markers | None = None, **declared: Any) -> Demand:
    """A task on a model of the zoo."""
    return resolve(
        Task(model, **declared),
        markers or Markers(),
        task_id="test_it",
        summary="Do it.",
        folder=Path(),
        known_models={model.name: model for model in FAMILIES},
        known_methods=KNOWN,
    )
