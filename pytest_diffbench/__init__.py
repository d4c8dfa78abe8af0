"""Measure whether code that accelerates a diffusion pipeline really is faster, and still good."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_diffbench.task import Task

__version__ = "0.1.0"
__all__ = ["Task", "__version__"]


def __getattr__(name: str) -> object:
    """`Task`, when it is first asked for: every pytest run imports this package, few declare tasks."""
    if name == "Task":
        from pytest_diffbench.task import Task

        return Task
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
