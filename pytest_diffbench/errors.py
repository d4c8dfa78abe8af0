"""What can go wrong, told apart by whose fault it is.

DiffbenchError
├── TaskError       the task's author: becomes a collection error
├── SetupError      the machine or the command line: becomes a pytest ERROR, verdict INFRA
└── SolutionFault   the solution: becomes a verdict, never an exception that a user sees
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_diffbench.records import Cause


class DiffbenchError(Exception):
    """Anything that this project raises on purpose."""


class TaskError(DiffbenchError):
    """A task declares something wrong or contradictory; the message says what would be right."""


class SetupError(DiffbenchError):
    """A task cannot be measured for a reason that is not the solution's; the message says the mend."""

    def __init__(self, message: str, *, cause: Cause | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class SolutionFault(DiffbenchError):
    """A solution did something that ends its stage: a cause, one line, and the detail behind it."""

    def __init__(self, cause: Cause, line: str, detail: str = "") -> None:
        super().__init__(line)
        self.cause = cause
        self.line = line
        self.detail = detail
