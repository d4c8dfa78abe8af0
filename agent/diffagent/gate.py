"""What an idea must pass before a device sees it: it can work, it can reach the target, and nobody has tried it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffagent import bound
from diffagent.plan import Subject, canonical, problems

if TYPE_CHECKING:
    from diffagent.candidate import Idea, Memory
    from diffagent.knowledge import Knowledge
    from diffagent.plan import Plan
    from diffagent.profile import Profile


@dataclass(frozen=True)
class Gate:
    """For one task."""

    subject: Subject
    knowledge: Knowledge
    profile: Profile | None = None
    target: float | None = None
    """The speed-up that is wanted; None where there is none, or none that is a ratio."""

    def problems(self, idea: Idea, memory: Memory) -> list[str]:
        """Everything that speaks against measuring it; empty where nothing does."""
        found = problems(idea.plan, self.subject, self.knowledge)
        if found:
            return found
        if (known := memory.of_idea(idea)) is not None:
            return [f"it was tried already: {known.outcome}"]
        out_of_reach = self._out_of_reach(idea)
        return [out_of_reach] if out_of_reach is not None else []

    def _out_of_reach(self, idea: Idea) -> str | None:
        """Only of plans: what else a program may do has no bound."""
        if self.profile is None or self.target is None or idea.words or idea.source:
            return None
        return bound.problem(idea.plan, self.profile, self.subject, self.knowledge, self.target)

    def canonical(self, plan: Plan) -> Plan:
        """The plan as everybody would write it."""
        return canonical(plan, self.knowledge, self.subject.device_kind)
