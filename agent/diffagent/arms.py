"""The ways to search, by name: who plans, writes, repairs and selects in each. Each is a provider of the benchmark.

Without a language model: `search` (Optuna), `evolution` (crossing and mutation), and two controls: `random`, and
`steps-only`, which knows no method but samplers and their steps. With one:
`diffagent` (the paper's loop), `best-of-n` (as many plans, none of which knows of another), `sequential` (one plan at
a time, each with all that was measured before it).
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, get_args

from diffagent import program, selection
from diffagent.candidate import Memory
from diffagent.evolution import Evolution
from diffagent.gate import Gate
from diffagent.knowledge import Knowledge, known
from diffagent.loop import Loop, Roles, Shape
from diffagent.plan import Plan, Subject, in_words
from diffagent.program import Templates
from diffagent.search import Search
from diffagent.team import Brief, LanguageCoder, LanguageDebugger, LanguagePlanner
from pytest_diffbench.demand import demanded_speedup
from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.providers import Solution, baseline_source
from pytest_diffbench.records import Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diffagent.calls import Calls
    from diffagent.candidate import Candidate
    from diffagent.loop import Machine, Planner, Selector
    from diffagent.profile import Profile
    from pytest_diffbench.demand import Demand

Name = Literal["search", "evolution", "random", "steps-only", "diffagent", "best-of-n", "sequential"]
Selection = Literal["pareto", "paper"]
NAMES: Final[tuple[Name, ...]] = get_args(Name)
LANGUAGE: Final[tuple[Name, ...]] = ("diffagent", "best-of-n", "sequential")
"""Those that ask a language model."""
RECIPES: Final = "recipes"
PARTS: Final = ("knowledge", "evolution", "debugger", RECIPES)
"""What can be left out: the first three, of those that ask a language model, as the paper's ablation does."""


def without(text: str, name: Name, knowledge: Knowledge) -> frozenset[str]:
    """What a comma-separated list leaves out of an arm; ValueError where that is nothing it could do without."""
    named = frozenset(part for part in text.split(",") if part)
    allowed = (*(PARTS if name in LANGUAGE else (RECIPES,)), *knowledge.entries)
    if unknown := sorted(named - set(allowed)):
        raise ValueError(f"{unknown[0]!r} is nothing that {name} could do without: {', '.join(allowed)}")
    return named


@dataclass(frozen=True)
class Setting:
    """What a run decides for all of its searches."""

    machine: Machine
    device_kind: str
    knowledge: Knowledge = field(default_factory=known)
    shape: Shape = field(default_factory=Shape)
    selection: Selection = "pareto"
    without: frozenset[str] = frozenset()
    """Parts, or methods by name."""
    calls: Calls | None = None
    """Needed by those that ask a language model."""
    model: str = ""
    """Its name, for records."""
    profile: Callable[[Demand], Profile | None] = lambda _: None
    told: tuple[str, ...] = ()
    """What else is not as usual, for records."""
    given: str = ""
    """A program to begin with."""
    say: Callable[[str], None] = lambda _: None


class Arm:
    """One way to search, for any task."""

    def __init__(self, name: Name, setting: Setting) -> None:
        self.name = name
        self._setting = setting
        self._ahead: set[tuple[str, str]] = set()

    @property
    def label(self) -> str:
        """Its name, with the model that it asks, and whatever is not as usual: results of others are never its own."""
        model = f":{self._setting.model}" if self.name in LANGUAGE and self._setting.model else ""
        others = [f"without {part}" for part in sorted(self._setting.without)]
        if self._setting.selection != "pareto":
            others.append(f"selection {self._setting.selection}")
        ours, usual = asdict(self._setting.shape), asdict(Shape())
        others += [f"{name} {ours[name]}" for name in ours if ours[name] != usual[name]]
        return f"{self.name}{model}{''.join(f' {each}' for each in (*others, *self._setting.told))}"

    def solve(self, demand: Demand, prompt: str, attempt: str) -> Solution:
        """The best program that was found; SolutionFault where there is none.

        Where methods are demanded and no language model is asked, the program that has just those: nothing is searched.
        """
        if self.name not in LANGUAGE and not _has_target(demand):
            plan = program.demanded(demand)
            source = program.written(plan, demand, self._setting.device_kind, self._setting.knowledge)
            return Solution(source, f"{self.label}: {in_words(plan)}")
        loop = self.loop(demand, prompt, attempt)
        best = loop.best()
        if best is None and loop.spent is None and self._is_left_as_it_is(loop.memory):
            return Solution(baseline_source(demand), f"{self.label}: {in_words(Plan())}")
        best = best or next(iter(loop.memory.tried[::-1]), None)
        if (best is None or not best.source) and loop.spent is not None:
            raise loop.spent  # that is no failure of whoever searched
        if best is None or not best.source:
            raise SolutionFault(Cause.COMPILATION, f"{self.label} found no program", best.failure if best else "")
        return Solution(best.source, f"{self.label}: {best.idea}")

    def _is_left_as_it_is(self, memory: Memory) -> bool:
        """Whether it is known that nothing could work, or that all that ran is slower than the pipeline as it is."""
        if any(each.runs for each in memory.tried):
            return True
        return not memory.tried and self.name not in LANGUAGE

    def prefetch(self, upcoming: Sequence[tuple[Demand, str, str]]) -> None:
        """Ask a language model now what the next searches will ask first, in threads that nobody has to wait for.

        Every answer is kept by its question, so the search finds it; the rest of what it asks hangs on measurements.
        """
        for demand, prompt, attempt in upcoming if self.name in LANGUAGE else ():
            if (demand.task_id, attempt) not in self._ahead:
                self._ahead.add((demand.task_id, attempt))
                threading.Thread(target=self._ask_first, args=(demand, prompt, attempt), daemon=True).start()

    def _ask_first(self, demand: Demand, prompt: str, attempt: str) -> None:
        """The pipeline as it is, as a program; without a target the plan and its program."""
        setting, knowledge = self._setting, _known(self._setting, self.name)
        roles = self._roles(demand, prompt, attempt, Gate(Subject.of(demand, setting.device_kind), knowledge), 0)
        with contextlib.suppress(Exception):  # the search will meet it itself, and say so
            first = roles.planner.baseline()
            ideas = [first] if first is not None else roles.planner.ideas(1, [], Memory(knowledge, setting.device_kind))
            for idea in ideas:
                roles.coder.written(idea, "", [])

    def loop(self, demand: Demand, prompt: str = "", attempt: str = "") -> Loop:
        """A search for one task, ready to begin."""
        setting = self._setting
        knowledge = _known(setting, self.name)
        profile = setting.profile(demand) if self.name != "random" and _has_target(demand) else None
        gate = Gate(Subject.of(demand, setting.device_kind), knowledge, profile, _target(demand, profile))
        seed = int.from_bytes(hashlib.sha256(f"{demand.task_id} {self.name} {attempt}".encode()).digest()[:4])
        return Loop(
            demand,
            self._roles(demand, prompt, attempt, gate, seed),
            setting.machine,
            Memory(knowledge, setting.device_kind),
            name=f"{self.name}{attempt}",
            shape=self._shape(demand),
            given=setting.given,
            say=setting.say,
        )

    def _shape(self, demand: Demand) -> Shape:
        shape = self._setting.shape
        if self.name not in LANGUAGE:
            return replace(shape, replans=0)
        if self.name == "sequential":
            shape = replace(shape, population=1, parents=1, generations=shape.population * shape.generations)
        if "evolution" in self._setting.without:
            shape = replace(shape, generations=1)
        return shape if _has_target(demand) else replace(shape, population=1, parents=1)

    def _roles(self, demand: Demand, prompt: str, attempt: str, gate: Gate, seed: int) -> Roles:
        selector = selector_of(self._setting.selection, seed)
        if self.name not in LANGUAGE:
            coder = Templates(demand, self._setting.device_kind, gate.knowledge)
            return Roles(self._own_planner(gate, seed), coder, selector)
        assert self._setting.calls is not None
        brief = Brief(demand, prompt, gate, self._setting.calls, attempt)
        return Roles(
            LanguagePlanner(brief, remembers=self.name != "best-of-n"),
            LanguageCoder(brief, self._setting.shape.writes),
            selector,
            None if "debugger" in self._setting.without else LanguageDebugger(brief),
        )

    def _own_planner(self, gate: Gate, seed: int) -> Planner:
        if self.name == "evolution":
            return Evolution(gate, seed=seed)
        begin = [plan] if (plan := program.read(self._setting.given, gate.knowledge)) and plan.methods else []
        return Search(gate, seed=seed, kind="random" if self.name == "random" else "tpe", begin=begin)


def _known(setting: Setting, name: Name) -> Knowledge:
    """The knowledge base without what is to be left out of it."""
    if "knowledge" in setting.without:
        return Knowledge({})
    rest = setting.knowledge.without(*setting.without)
    if name == "steps-only":
        rest = rest.without(*(entry.name for entry in rest.entries.values() if entry.facts.kind != "sampler"))
    return Knowledge(rest.entries) if RECIPES in setting.without else rest


def _target(demand: Demand, profile: Profile | None) -> float | None:
    """The speed-up that is wanted; of a latency in seconds, or at the slow end, about: by what one call takes today."""
    latency = demand.markers.latency
    if (exact := demanded_speedup(demand.markers)) is not None or latency is None:
        return exact
    if latency.at_most_of_baseline is not None:
        return 1 / latency.at_most_of_baseline
    seconds = profile.seconds if profile is not None else 0.0
    return seconds / latency.at_most_s if seconds and latency.at_most_s else None


def _has_target(demand: Demand) -> bool:
    return demand.markers.speed is not None or demand.markers.latency is not None


def selector_of(kind: Selection, seed: int) -> Selector:
    """Who is built upon: by the paper's lottery, or the front of all that was measured."""
    return partial(_drawn, rng=random.Random(seed)) if kind == "paper" else _front  # noqa: S311 (no secret)


def _drawn(generation: Sequence[Candidate], memory: Memory, count: int, *, rng: random.Random) -> list[Candidate]:
    """Of the last generation, each with its share of the weighted sums as probability."""
    del memory
    named = {each.name: each for each in generation if each.fitness is not None}
    scores = {name: selection.score(each.fitness) for name, each in named.items() if each.fitness is not None}
    return [named[name] for name in selection.drawn(scores, count, rng)]


def _front(generation: Sequence[Candidate], memory: Memory, count: int) -> list[Candidate]:
    """Of all that was tried: whom nobody surely surpasses, then the best of the rest."""
    del generation
    named = {each.name: each for each in memory.tried}
    fitness = {name: each.fitness for name, each in named.items() if each.fitness is not None}
    chosen = [named[name] for name in selection.front(fitness)]
    rest = [each for each in memory.best(len(memory.tried)) if each not in chosen]
    return (chosen + rest)[:count]
