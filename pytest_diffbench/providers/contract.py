"""What a provider is: something that turns a task into source text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_diffbench.demand import Demand


@dataclass(frozen=True)
class Solution:
    """Source text that answers a task; trusted by nobody."""

    source: str
    origin: str
    """Where it came from, for people: a path, a model's name."""

    @property
    def sha256(self) -> str:
        """Equal source, equal digest."""
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()


class Provider(Protocol):
    """Supplies solutions; called in a task's set-up, holding no device.

    It may also have `label`, which records name it by (such as a model's name with its own), and `prefetch(upcoming)`,
    called before each task is answered with the next few, each as (demand, prompt, attempt): what it prepares then, no
    device has to wait for.
    """

    def solve(self, demand: Demand, prompt: str, attempt: str) -> Solution:
        """The answer to a task. SetupError where none can be had, SolutionFault where the answer is no program.

        `prompt` is the task as text for a solver; `attempt` tells several answers to one task apart ('' for one).
        """
