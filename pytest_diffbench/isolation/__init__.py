"""The only door to untrusted code: what it may reach, how it is started, spoken to, stopped and killed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_diffbench.isolation.sandbox import Reply, Sandbox
    from pytest_diffbench.isolation.standby import Standby

__all__ = ["ISOLATION", "Reply", "Sandbox", "Standby"]

_WHERE = {"ISOLATION": "sandbox", "Reply": "sandbox", "Sandbox": "sandbox", "Standby": "standby"}


def __getattr__(name: str) -> Any:
    """Imported when asked for: a candidate's process imports its own side of this package only, and starts faster."""
    if name not in _WHERE:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
