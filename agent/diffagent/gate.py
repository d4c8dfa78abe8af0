"""What an idea must pass before a device sees it: it can work and make faster, and nobody has tried it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffagent import bound
from diffagent.knowledge.base import Choice
from diffagent.plan import Subject, canonical, problems

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        if found := problems(idea.plan, self.subject, self.knowledge) or [*self._slower(idea.plan)]:
            return found
        if (known := memory.of_idea(idea)) is not None:
            return [f"it was tried already: {known.outcome}"]
        out_of_reach = self._out_of_reach(idea)
        return [out_of_reach] if out_of_reach is not None else []

    def _slower(self, plan: Plan) -> Iterator[str]:
        """What is known to cost time on this kind of device, where time is what the task is about."""
        kind = self.subject.device_kind
        for applied in plan.methods if self.target is not None else ():
            entry = self.knowledge[applied.method]
            for name, value in entry.parameters(applied.parameters, kind).items():
                parameter = entry.facts.parameters[name]
                if isinstance(parameter, Choice) and value in parameter.slower_on.get(kind, ()):
                    better = parameter.default_on(kind)
                    yield f"{applied.method}.{name}: {value!r} makes it slower on a {kind}: use {better!r}"

    def _out_of_reach(self, idea: Idea) -> str | None:
        """Only of plans: what else a program may do has no bound."""
        if self.profile is None or self.target is None or idea.words or idea.source:
            return None
        return bound.problem(idea.plan, self.profile, self.subject, self.knowledge, self.target)

    def canonical(self, plan: Plan) -> Plan:
        """The plan as everybody would write it."""
        return canonical(plan, self.knowledge, self.subject.device_kind)
