"""DiffAgent: makes diffusion pipelines faster, and proves it.

`apply(pipeline, plan)` accelerates a pipeline in memory, and gives a handle that takes it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffagent.acceleration import Acceleration, PlanRefused, apply
    from diffagent.plan import Applied, Plan

__all__ = ["Acceleration", "Applied", "Plan", "PlanRefused", "apply"]
_PLACES = {"Applied": "plan", "Plan": "plan"}


def __getattr__(name: str) -> Any:
    """Load what is asked for when it is asked for: pytest imports this package wherever it is installed."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_PLACES.get(name, 'acceleration')}"), name)
