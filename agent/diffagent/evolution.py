"""The genetic planner without a language model: parents are crossed and mutated, the rest of a generation is fresh.

Its first generation is the known recipes, filled up by chance. Each plan's kinds of methods are its genes
(`plan.crossed`, `plan.mutated`).
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Final

from diffagent.candidate import Idea
from diffagent.plan import Plan, crossed, mutated
from diffagent.space import Space

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from diffagent.candidate import Candidate, Memory
    from diffagent.gate import Gate

TRIES: Final = 200
"""Of finding new plans for one generation."""
CROSSED: Final = 0.5
"""Share of the refined plans that have two parents; the others are one parent's mutants."""


class Evolution:
    """A planner that knows who its parents are."""

    def __init__(self, gate: Gate, *, seed: int) -> None:
        self._gate = gate
        self._rng = random.Random(seed)  # noqa: S311 (no secret)
        self._recipes = Space(gate.subject, gate.knowledge).recipes()

    def baseline(self) -> Idea | None:
        """Templates begin with nothing."""
        return None

    def learn(self, measured: Sequence[Candidate]) -> None:
        """What it has learned is who its parents are."""

    def ideas(self, count: int, parents: Sequence[Candidate], memory: Memory) -> list[Idea]:
        """One refined plan a parent, then recipes, then plans of chance; all of them new."""
        found: dict[str, Idea] = {}
        for idea in itertools.chain(self._refined(parents), self._fresh()):
            if not self._gate.problems(idea, memory):
                found.setdefault(memory.key(idea), idea)
            if len(found) >= count:  # before another recipe is taken from the list
                break
        return list(found.values())

    def _refined(self, parents: Sequence[Candidate]) -> Iterator[Idea]:
        for parent in parents:
            child = self._child(parent, parents)
            if child is not None:
                yield Idea(child, parent=parent.name)

    def _child(self, parent: Candidate, parents: Sequence[Candidate]) -> Plan | None:
        subject, knowledge = self._gate.subject, self._gate.knowledge
        others = [each for each in parents if each is not parent]
        if others and self._rng.random() < CROSSED:
            other = self._rng.choice(others)
            child = crossed(parent.idea.plan, other.idea.plan, subject, knowledge, self._rng)
            if child not in (None, self._gate.canonical(parent.idea.plan), self._gate.canonical(other.idea.plan)):
                return child
        return mutated(parent.idea.plan, subject, knowledge, self._rng)

    def _fresh(self) -> Iterator[Idea]:
        while self._recipes:
            yield Idea(self._gate.canonical(self._recipes.pop(0)))
        plan: Plan | None = Plan()
        for _ in range(TRIES):
            for _ in range(self._rng.randint(1, 6)):
                plan = mutated(plan or Plan(), self._gate.subject, self._gate.knowledge, self._rng)
            yield Idea(plan or Plan())
