"""The loop of the paper: ideas are proposed, written, repaired, measured and selected, until one meets the target.

Who proposes, writes, repairs and selects is handed in: language models, Optuna, templates, chance (arXiv 2601.03178,
section 4, and its numbers as defaults). This is the one place that knows their order.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Final, Protocol

from diffagent.budget import BudgetSpent
from diffagent.candidate import Candidate, Idea, Memory, normalised
from diffagent.fitness import AS_IT_IS, Fitness, feasible
from diffagent.generation import Order, RunError
from diffagent.plan import Plan
from diffagent.reply import ReplyFault
from diffagent.taskfile import STAGES
from pytest_diffbench import static_check
from pytest_diffbench.errors import SolutionFault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.errors import SetupError

EXECUTABILITY: Final = ("executability",)


@dataclass(frozen=True)
class Shape:
    """The numbers of a search; those of the paper, by its symbols."""

    population: int = 7
    """P: ideas a generation."""
    parents: int = 4
    """M: how many of them are built upon; P - M ideas of the next generation are fresh."""
    generations: int = 4
    """T_sel."""
    writes: int = 5
    """T_code: how often a program is written from its idea before the idea is given up."""
    repairs: int = 3
    """T_debug: how often a written program is repaired before it is written anew."""
    replans: int = 1
    """How often a generation gets other ideas in place of those that never ran."""
    finalists: int = 5
    """Measured once more where nothing met the target: the best of many noisy figures is better than it is."""


def shaped(text: str) -> Shape:
    """The shape that 'population=4,generations=2' names, the paper's numbers otherwise; ValueError of what is none."""
    least = {"repairs": 0, "replans": 0}
    found: dict[str, int] = {}
    known = [each.name for each in fields(Shape)]
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        if name.strip() not in known:
            raise ValueError(f"{name.strip()!r} is none of {', '.join(known)}")
        if not number.strip().isdecimal() or int(number) < least.get(name.strip(), 1):
            raise ValueError(f"{part.strip()!r}: give a whole number of at least {least.get(name.strip(), 1)}")
        found[name.strip()] = int(number)
    return Shape(**found)


class Planner(Protocol):
    """Has ideas."""

    def ideas(self, count: int, parents: Sequence[Candidate], memory: Memory) -> list[Idea]:
        """Ideas that can work and that nobody has tried, at most so many; refined ones of parents, and fresh ones."""

    def learn(self, measured: Sequence[Candidate]) -> None:
        """What became of its ideas."""

    def baseline(self) -> Idea | None:
        """What is written first, so that ideas have a working program to start from; None: they need none."""


class Coder(Protocol):
    """Writes programs."""

    @property
    def abreast(self) -> int:
        """How many programs may be asked for at once."""

    @property
    def tries(self) -> int:
        """How many different programs it may write for one idea."""

    def written(self, idea: Idea, base: str, failures: Sequence[str]) -> str:
        """An idea as a program; ReplyFault where there was none in the answer.

        `base` is the program of the pipeline as it is, or that of the idea's parent; '' for none. `failures` are the
        last reports of programs that were written for it before.
        """


class Debugger(Protocol):
    """Repairs programs."""

    def repaired(self, idea: Idea, source: str, report: str, reflections: list[str]) -> str:
        """The program with what the report says mended; ReplyFault where there was none in the answer.

        What it has learned it appends to `reflections`, and reads there what it learned before (Shinn et al. 2023,
        Reflexion, arXiv 2303.11366).
        """


class Selector(Protocol):
    """Says who is built upon."""

    def __call__(self, generation: Sequence[Candidate], memory: Memory, count: int) -> list[Candidate]:
        """At most so many of the candidates."""


class Machine(Protocol):
    """Measures programs; `generation.Run` does so by running pytest."""

    def measure(self, demand: Demand, solutions: Mapping[str, str], order: Order) -> Mapping[str, Fitness]:
        """The fitness of solutions by name."""


@dataclass(frozen=True)
class Roles:
    """Who does what."""

    planner: Planner
    coder: Coder
    selector: Selector
    debugger: Debugger | None = None
    """None: what does not run is written anew."""


@dataclass
class _Draft:
    """An idea on its way to a program that runs."""

    name: str
    idea: Idea
    source: str = ""
    report: str = ""
    """Why the program that it has cannot be used; '' where that is not known, or where there is none yet."""
    failures: list[str] = field(default_factory=list)
    reflections: list[str] = field(default_factory=list)
    writes: int = 0
    repairs: int = 0
    """Since it was last written."""


class Loop:
    """One search for one task."""

    def __init__(
        self,
        demand: Demand,
        roles: Roles,
        machine: Machine,
        memory: Memory,
        *,
        name: str,
        shape: Shape | None = None,
        given: str = "",
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`name` tells searches of one task apart: their folders, and the requests that they are measured with.

        `given` is a program that somebody wrote already: it is measured with the first generation.
        """
        self.memory = memory
        self.evaluations: list[Fitness] = []
        """Of programs that were measured for speed and quality, repaired ones and those that did not run among them."""
        self.device_s = 0.0
        """What all measurements took, those of whether something runs among them."""
        self.spent: SetupError | None = None
        """What ended the search before its time."""
        self._demand = demand
        self._roles = roles
        self._machine = machine
        self._name = name
        self._shape = shape or Shape()
        self._writes = min(self._shape.writes, roles.coder.tries)
        self._repairs = self._shape.repairs if roles.debugger is not None else 0
        self._has_target = demand.markers.speed is not None or demand.markers.latency is not None
        self._say = say
        self._base = ""
        self._given = given
        self._beaten = AS_IT_IS

    def best(self) -> Candidate | None:
        """The candidate that met the target twice, on different requests; else the best of the finalists.

        None where nothing ran, or all that ran is surely slower than the pipeline as it is. Where a budget ends the
        search, or nothing can be measured any more, what was found until then; None where that is nothing.
        """
        try:
            return self._searched() or self._of_finalists()
        except (BudgetSpent, RunError) as spent:
            return self._broken_off(spent)

    def _broken_off(self, spent: SetupError) -> Candidate | None:
        self.spent = spent
        self._say(str(spent).removeprefix("diffbench: "))
        return next(iter(self.memory.best(1)), None)

    def spent_out(self, evaluations: int, race: float = AS_IT_IS) -> Candidate | None:
        """The best candidate once so many programs were measured, whatever they reached; None where none could be.

        What the last generation has to repair is measured too, so it may become a few more. What misses its target and
        is surely less than `race` times faster is not judged: it is known that others are better.
        """
        self._beaten = race
        try:
            self._write_baseline()
            parents: list[Candidate] = []
            number = 0
            while (left := evaluations - max(len(self.evaluations), len(self.memory.tried))) > 0:
                measured = self._generation(number, parents, min(left, self._shape.population))
                if not measured:
                    break
                parents = self._roles.selector(measured, self.memory, self._shape.parents)
                number += 1
        except (BudgetSpent, RunError) as spent:
            return self._broken_off(spent)
        return next(iter(self.memory.best(1)), None)

    def _searched(self) -> Candidate | None:
        self._write_baseline()
        parents: list[Candidate] = []
        for number in range(self._shape.generations):
            measured = self._generation(number, parents, self._shape.population, self._shape.generations)
            winners = sorted((each for each in measured if each.promises), key=_assurance, reverse=True)
            if winners:
                (confirmed,) = self._again(winners[:1], f"confirmed-{number}", quick=False)
                if confirmed.promises:  # what noise leaves open, the task's own verdict will try twice
                    return confirmed
            parents = self._roles.selector(measured, self.memory, self._shape.parents)
        return None

    def _of_finalists(self) -> Candidate | None:
        best = self.memory.best(self._shape.finalists)
        finalists = [each for each in best if feasible(each.fitness) > AS_IT_IS] or best[:1]
        known = [each for each in finalists if each.thorough]
        others = self._again([each for each in finalists if not each.thorough], "finalists", quick=True)
        ranked = sorted([*known, *others], key=_rank, reverse=True)
        gained = (each for each in ranked if feasible(each.fitness) > AS_IT_IS)
        kept = (looked for each in gained if (looked := self._thoroughly(each)).keeps_quality)
        return next(kept, next(iter(ranked), None))

    def _thoroughly(self, candidate: Candidate) -> Candidate:
        """What a quick look takes for luck may be a habit."""
        if candidate.thorough:
            return candidate
        (looked,) = self._again([candidate], f"thorough-{candidate.name}", quick=False)
        return looked

    def _write_baseline(self) -> None:
        """The pipeline as it is, as a program that runs: what a planner that asks for it builds upon."""
        idea = self._roles.planner.baseline()
        if idea is None:
            return
        self._say("writing the pipeline as it is")
        done: dict[str, Candidate] = {}
        self._realise([_Draft("baseline", idea)], "baseline", EXECUTABILITY, done)
        self._base = done["baseline"].source if done["baseline"].runs else ""

    def _generation(
        self, number: int, parents: Sequence[Candidate], wanted: int, most: int | None = None
    ) -> list[Candidate]:
        """A generation of so many candidates, measured; ideas that never ran make room for others, once."""
        measured: list[Candidate] = []
        for replanned in range(self._shape.replans + 1):
            given = [Idea(Plan(), source=self._given)] if self._given and not self.memory.tried else []
            ideas = [*given, *self._roles.planner.ideas(max(1, wanted - len(given)), parents, self.memory)]
            self._say(
                f"generation {number + 1}{f' of {most}' if most is not None else ''}: {len(ideas)} ideas"
                f"{' in place of those that never ran' if replanned else ''}"
            )
            before = len(self.memory.tried)
            drafts = [_Draft(f"p{before + index + 1:02d}", idea) for index, idea in enumerate(ideas)]
            done: dict[str, Candidate] = {}
            try:
                self._realise(drafts, f"{number}{f'-replanned-{replanned}' if replanned else ''}", STAGES, done)
            finally:  # what is measured is known, wherever a budget or a server ended the rest
                found = [done[draft.name] for draft in drafts if draft.name in done]
                self._remember(found)
            self._roles.planner.learn(found)
            measured += found
            wanted = sum(not each.runs for each in found)
            if not wanted:
                break
        return measured

    def _remember(self, found: Sequence[Candidate]) -> None:
        for candidate in found:
            self.memory.add(candidate)
            self._say(f"  {candidate.idea}: {candidate.outcome}")

    # -- from ideas to programs that run ---------------------------------------------------------------------------

    def _realise(self, drafts: list[_Draft], label: str, stages: Sequence[str], done: dict[str, Candidate]) -> None:
        """Every draft as a candidate: written, measured together, repaired and measured again until all run or end.

        They are put into `done` by name, each as soon as nobody will touch it any more.
        """
        waiting = list(drafts)
        for number in range(self._writes * (self._repairs + 1)):
            self._write(waiting)
            waiting = [draft for draft in waiting if not self._is_settled(draft, done)]
            ready = [draft for draft in waiting if not draft.report]
            seed, name = self._seed(f"{label}-{number}"), f"{self._name}-{label}-{number}"
            order = Order(seed, name, race=self._race(), quick=True, stages=stages)
            for draft, fitness in self._measured(ready, order):
                if fitness.runs or self._is_last_chance(draft, fitness):
                    done[draft.name] = Candidate(draft.name, draft.idea, draft.source, fitness)
                    waiting.remove(draft)
                else:
                    draft.report = report_of(fitness)
            if not waiting:
                break

    def _measured(self, drafts: Sequence[_Draft], order: Order) -> list[tuple[_Draft, Fitness]]:
        """The fitness of each draft; equal programs are measured once."""
        firsts = {normalised(draft.source): draft for draft in reversed(drafts)}
        solutions = {draft.name: draft.source for draft in drafts if draft in firsts.values()}
        found = self._machine.measure(self._demand, solutions, order) if solutions else {}
        self.device_s += sum(fitness.elapsed_s for fitness in found.values())
        if tuple(order.stages) == tuple(STAGES):
            self.evaluations += [found[name] for name in solutions if name in found]
        return [(draft, found.get(firsts[normalised(draft.source)].name, _NO_ENTRY)) for draft in drafts]

    def _is_last_chance(self, draft: _Draft, fitness: Fitness) -> bool:
        """Whether nobody will touch the program any more, so that how it failed is what is known of it."""
        return self._is_used_up(draft) or fitness.verdict in ("CHEAT", "INFRA")

    def _is_used_up(self, draft: _Draft) -> bool:
        """Whether it may be neither repaired nor written anew; what is no program cannot be repaired."""
        return draft.writes >= self._writes and (not draft.source or draft.repairs >= self._repairs)

    def _is_settled(self, draft: _Draft, done: dict[str, Candidate]) -> bool:
        """Whether a draft needs no measurement: it has used up its tries, or is a program that was measured already."""
        if draft.report:
            ended = self._is_used_up(draft)
            if ended:
                done[draft.name] = Candidate(draft.name, draft.idea, draft.source, failure=draft.report)
            return ended
        known = self.memory.of_program(draft.source)
        if known is None or known.fitness is None:
            return False
        done[draft.name] = Candidate(draft.name, draft.idea, draft.source, known.fitness)
        return True

    def _write(self, drafts: Sequence[_Draft]) -> None:
        """Write or repair each draft that has no program to be measured, several at once where the coder may be."""
        abreast = self._roles.coder.abreast
        if abreast > 1 and len(drafts) > 1:
            with ThreadPoolExecutor(min(abreast, len(drafts)), "diffagent-write") as pool:
                list(pool.map(self._worked_on, drafts))
        else:
            for draft in drafts:
                self._worked_on(draft)

    def _worked_on(self, draft: _Draft) -> None:
        """One step of a draft: its source is new and its report empty, or its report says why it cannot be used."""
        if draft.idea.source and not draft.writes:
            draft.source, draft.writes = draft.idea.source, 1
        elif draft.source and draft.report and self._roles.debugger and draft.repairs < self._repairs:
            draft.repairs += 1
            try:
                draft.source = self._roles.debugger.repaired(draft.idea, draft.source, draft.report, draft.reflections)
            except ReplyFault:  # its program, and what is wrong with it, stay as they were
                return
        else:
            draft.failures += [draft.report] if draft.report else []
            draft.writes, draft.repairs = draft.writes + 1, 0
            try:
                draft.source = self._roles.coder.written(draft.idea, self._base_of(draft.idea), draft.failures)
            except ReplyFault as fault:
                draft.source, draft.report = "", str(fault)
                return
        draft.report = self._static_problem(draft.source)

    def _base_of(self, idea: Idea) -> str:
        parent = next((each for each in self.memory.tried if each.name == idea.parent), None) if idea.parent else None
        return parent.source if parent is not None else self._base

    def _static_problem(self, source: str) -> str:
        """What the benchmark would say of a program without running it; '' where nothing is wrong so far."""
        try:
            static_check.check(source, self._demand)
        except SolutionFault as fault:
            return f"{fault.cause}: {fault.line}\n{fault.detail}".strip()
        return ""

    # -- measuring once more ---------------------------------------------------------------------------------------

    def _again(self, candidates: Sequence[Candidate], label: str, *, quick: bool) -> list[Candidate]:
        """The same on other requests."""
        if not candidates:
            return []
        self._say(f"{label}: measuring {len(candidates)} again, on other requests")
        order = Order(self._seed(label), f"{self._name}-{label}", quick=quick)
        sources = {each.name: each.source for each in candidates}
        found = self._machine.measure(self._demand, sources, order)
        measured = [replace(each, fitness=found.get(each.name, _NO_ENTRY), thorough=not quick) for each in candidates]
        for candidate in measured:
            self.memory.correct(candidate)
            self._say(f"  {candidate.idea}: {candidate.outcome}")
        return measured

    def _race(self) -> float | None:
        """What a candidate must not surely be slower than: the pipeline as it is, or what is known to be faster.

        None where speed is not what is asked for.
        """
        if not self._has_target:
            return None
        return max(self._beaten, self.memory.surely_reached() or 0.0)

    def _seed(self, label: str) -> int:
        """Fixed by the task, so that a search that is repeated asks for the same."""
        whole = hashlib.sha256(f"{self._demand.task_id} {self._name} {label}".encode())
        return int.from_bytes(whole.digest()[:6])


_NO_ENTRY: Final = Fitness("", "INFRA", line="the run has no entry of it")


def _rank(candidate: Candidate) -> tuple[bool, bool, float]:
    return candidate.rank


def _assurance(candidate: Candidate) -> float:
    return candidate.assurance


def report_of(fitness: Fitness) -> str:
    """What a debugger is told of a program that does not run."""
    head = f"[{fitness.stage}] {fitness.cause}: {fitness.line}" if fitness.cause else fitness.line
    return f"{head}\n{fitness.detail}".strip()
