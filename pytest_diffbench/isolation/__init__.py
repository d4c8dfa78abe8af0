"""The only door to untrusted code: what it may reach, how it is started, spoken to, stopped and killed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pytest_diffbench.isolation.cell import Tier
    from pytest_diffbench.isolation.channel import Reply
    from pytest_diffbench.isolation.limits import Limits
    from pytest_diffbench.isolation.sandbox import Sandbox
    from pytest_diffbench.isolation.standby import Standby
    from pytest_diffbench.isolation.tier import Policy, choose

__all__ = ["Limits", "Policy", "Reply", "Sandbox", "Standby", "Tier", "choose"]

_WHERE: Final = {
    "Limits": "limits",
    "Policy": "tier",
    "Reply": "channel",
    "Sandbox": "sandbox",
    "Standby": "standby",
    "Tier": "cell",
    "choose": "tier",
}


def __getattr__(name: str) -> Any:
    """Imported when asked for: a candidate's process imports its own side of this package only, and starts faster."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
