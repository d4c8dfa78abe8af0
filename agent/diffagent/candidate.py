"""What the loop is about: an idea of what to do, the candidate that was made of it, and all that were tried."""

from __future__ import annotations

import ast
import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from diffagent.plan import Plan, digest, in_words
from diffagent.selection import score

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diffagent.fitness import Fitness
    from diffagent.knowledge import Knowledge

LEAST_WIDTH: Final = 0.02
"""Of half an interval: ten images of which none went wrong, or four quick calls, look surer than they are."""
_SHOWN: Final = 300
"""Characters of a failure that one line has room for."""


@dataclass(frozen=True)
class Idea:
    """What a candidate is to be."""

    plan: Plan
    words: str = ""
    """What its program should do beside the plan's methods; a language model's, for nobody else could write it."""
    parent: str = ""
    """The name of the candidate that it refines; '' for a fresh one."""
    source: str = ""
    """A program that somebody wrote already; '' where one is still to be written."""

    def digest(self, knowledge: Knowledge, device_kind: str) -> str:
        """Equal for equal ideas, however they were written down."""
        told = " ".join(self.words.casefold().split())
        own = f"{told}\n{normalised(self.source)}" if told or self.source else ""
        return hashlib.sha256(f"{digest(self.plan, knowledge, device_kind)}{own}".encode()).hexdigest()

    def __str__(self) -> str:
        methods = in_words(self.plan) if self.plan.methods or not (self.words or self.source) else ""
        return "; ".join(part for part in (methods, self.words, "as it was given" if self.source else "") if part)


@dataclass(frozen=True)
class Candidate:
    """An idea as a program, and what was measured of it."""

    name: str
    idea: Idea
    source: str
    fitness: Fitness | None = None
    """None where nothing could be measured: the program never came to that."""
    thorough: bool = False
    """Whether it was measured as a verdict is, on requests of its own: no quick look says more."""
    failure: str = ""
    """Why not, as its last report says."""

    @property
    def passes(self) -> bool:
        """Whether every demand was met."""
        return self.fitness is not None and self.fitness.verdict == "PASS"

    @property
    def runs(self) -> bool:
        """Whether it was seen to draw images as it should, however fast and good."""
        return self.fitness is not None and self.fitness.runs

    @property
    def keeps_quality(self) -> bool:
        """Whether it lost no more than the task allows, as far as is known."""
        return self.fitness is not None and self.fitness.keeps_quality

    @property
    def promises(self) -> bool:
        """Whether it would pass, by its estimates: worth a thorough look."""
        found = self.fitness
        if found is None or not found.keeps_quality:
            return False
        return self.passes or (found.verdict == "UNDECIDED" and (found.reached is None or found.reached >= 1))

    @property
    def assurance(self) -> float:
        """How surely it would pass again: the smaller of what lies between it and either demand, in half-intervals."""
        found = self.fitness
        if found is None or found.loss is None or found.max_loss is None:
            return -math.inf
        margins = [(found.max_loss - found.loss) / max(LEAST_WIDTH, (found.loss_high or found.loss) - found.loss)]
        if found.reached is not None and found.speedup is not None and found.speedup_low:
            width = math.log(found.speedup / found.speedup_low)
            margins.append(math.log(found.reached) / max(LEAST_WIDTH, width))
        return min(margins)

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """Better is more: who passes, then who keeps the quality, then by speed less what was lost."""
        if self.fitness is None:
            return False, False, 0.0
        reached = score(self.fitness) if self.fitness.measured else 0.0
        return self.passes, self.fitness.keeps_quality, reached

    @property
    def outcome(self) -> str:
        """What became of it, in a line."""
        if self.fitness is None:
            return f"never ran: {_cut(self.failure)}"
        found = self.fitness
        speed = f"{found.speedup:.2f}x" if found.speedup is not None else "not timed"
        loss = f", CLIP loss {found.loss:.1%}" if found.loss is not None else ""
        return f"{found.verdict} ({speed}{loss}{f'; {_cut(found.line)}' if found.line else ''})"


def _speedup(candidate: Candidate) -> float:
    return (candidate.fitness.speedup or 0.0) if candidate.fitness is not None else 0.0


def _loss(candidate: Candidate) -> float:
    return (candidate.fitness.loss or 0.0) if candidate.fitness is not None else math.inf


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def normalised(source: str) -> str:
    """A digest that two programs share where Python sees the same: comments, blanks and quotes are left out.

    What is no Python is as it is written.
    """
    try:
        text = ast.dump(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        text = source
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass
class Memory:
    """Everything that a search has tried, in its order: no idea and no program is measured twice."""

    knowledge: Knowledge
    device_kind: str
    tried: list[Candidate] = field(default_factory=list)
    lessons: list[str] = field(default_factory=list)
    """What planners made of it: the tuning experience so far."""
    _ideas: dict[str, Candidate] = field(default_factory=dict)
    _programs: dict[str, Candidate] = field(default_factory=dict)

    def add(self, candidate: Candidate) -> None:
        """Remember a candidate; of equal ideas and programs the first is the one that is known."""
        self.tried.append(candidate)
        self._ideas.setdefault(self.key(candidate.idea), candidate)
        if candidate.fitness is not None:
            self._programs.setdefault(normalised(candidate.source), candidate)

    def correct(self, candidate: Candidate) -> None:
        """What is known of a candidate is what was measured last: of a winner, by a thorough look."""
        for known in (self._ideas, self._programs):
            known.update({key: candidate for key, each in known.items() if each.name == candidate.name})
        self.tried = [candidate if each.name == candidate.name else each for each in self.tried]

    def key(self, idea: Idea) -> str:
        """Equal for equal ideas."""
        return idea.digest(self.knowledge, self.device_kind)

    def of_idea(self, idea: Idea) -> Candidate | None:
        """What became of an equal idea; None of a new one."""
        return self._ideas.get(self.key(idea))

    def of_program(self, source: str) -> Candidate | None:
        """What was measured of an equal program; None of a new one."""
        return self._programs.get(normalised(source))

    def best(self, count: int) -> list[Candidate]:
        """The best so far, those first that keep the quality; only what was measured is among them."""
        measured = [each for each in self.tried if each.fitness is not None and each.fitness.measured]
        return sorted(measured, key=lambda each: each.rank, reverse=True)[:count]

    def around_the_limit(self, count: int) -> list[Candidate]:
        """The fastest that keep the quality, at most so many, and as many that are faster and lose it, by the least."""
        measured = [each for each in self.tried if each.fitness is not None and each.fitness.measured]
        within = sorted((each for each in measured if each.keeps_quality), key=_speedup, reverse=True)[:count]
        reached = _speedup(within[0]) if within else 0.0
        beyond = [each for each in measured if not each.keeps_quality and _speedup(each) > reached]
        return within + sorted(beyond, key=_loss)[:count]

    def surely_reached(self) -> float | None:
        """The speed-up that the fastest candidate that keeps the quality surely has; None before there is one."""
        return max((low for low in self._lows()), default=None)

    def _lows(self) -> Iterator[float]:
        for each in self.tried:
            if each.fitness is not None and each.fitness.keeps_quality and each.fitness.speedup_low is not None:
                yield each.fitness.speedup_low
