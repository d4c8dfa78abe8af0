"""The loop by itself, with roles that a test plays: its order, its counts, and what it does when something fails."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from diffagent.budget import BudgetSpent
from diffagent.candidate import Candidate, Idea, Memory, normalised
from diffagent.knowledge import known
from diffagent.loop import Loop, Roles, Shape, shaped
from diffagent.plan import Applied, Plan
from diffagent.reply import FaultKind, ReplyFault
from hypothesis import given
from hypothesis import strategies as st

from pytest_diffbench.demand import Markers, SpeedDemand
from tests.agent.demands import demand
from tests.agent.imagined import BROKEN, Imagined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diffagent.fitness import Fitness
    from diffagent.generation import Order

    from pytest_diffbench.demand import Demand

TASK = demand("sd15", Markers(speed=SpeedDemand(3.0)), level=4)
HEAD = "def load(model, device): ...\ndef generate(pipeline, requests): ...\n"


def program(steps: int, *, runs: bool = True) -> str:
    """What the imagined machine makes something of."""
    return f"{HEAD}pipeline(num_inference_steps={steps})\n{'' if runs else f'{BROKEN} Fault'}\n"


@dataclass
class Played:
    """Planner, coder and debugger: steps are planned from a list; programs run, or not, as told."""

    steps: list[int]
    runs: Mapping[int, int] = field(default_factory=dict)
    """By steps: how many programs, or repairs of one, do not run before one does."""
    replies: Mapping[int, int] = field(default_factory=dict)
    """By steps: how many replies hold no program."""
    abreast: int = 4
    tries: int = 9
    parents: list[list[str]] = field(default_factory=list)
    told: list[list[str]] = field(default_factory=list)
    """What each coder was told of failures."""
    repairs: int = 0
    reflections: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._failures, self._faults = dict(self.runs), dict(self.replies)

    def baseline(self) -> Idea | None:
        """None is needed."""
        return None

    def learn(self, measured: Sequence[Candidate]) -> None:
        """Nothing."""

    def ideas(self, count: int, parents: Sequence[Candidate], memory: Memory) -> list[Idea]:
        """The next of the list."""
        del memory
        self.parents.append([parent.name for parent in parents])
        taken, self.steps = self.steps[:count], self.steps[count:]
        return [Idea(Plan(methods=(Applied(method="dpm_solver", parameters={"steps": each}),))) for each in taken]

    def written(self, idea: Idea, base: str, failures: Sequence[str]) -> str:
        """A program of that many steps."""
        del base
        self.told.append(list(failures))
        return self._program(idea)

    def repaired(self, idea: Idea, source: str, report: str, reflections: list[str]) -> str:
        """Another one."""
        assert BROKEN in source
        assert BROKEN in report
        self.repairs += 1
        self.reflections.append(list(reflections))
        reflections.append(f"repair {self.repairs}")
        return self._program(idea)

    def _program(self, idea: Idea) -> str:
        steps = int(str(idea.plan.methods[0].parameters["steps"]))
        if self._faults.get(steps, 0) > 0:
            self._faults[steps] -= 1
            raise ReplyFault(FaultKind.PROSE, "there was no program")
        left = self._failures.get(steps, 0)
        self._failures[steps] = left - 1
        return program(steps, runs=left <= 0) + f"# {left}\nX = {max(0, left)}\n"


def _fittest(generation: Sequence[Candidate], memory: Memory, count: int) -> list[Candidate]:
    del generation
    return memory.best(count)


def _loop(played: Played, machine: Imagined, shape: Shape | None = None, *, debugs: bool = True) -> Loop:
    roles = Roles(played, played, _fittest, played if debugs else None)
    return Loop(TASK, roles, machine, Memory(known(), "cpu"), name="it", shape=shape)


def test_the_numbers_are_the_papers() -> None:
    """P, M, T_sel, T_code and T_debug of arXiv 2601.03178."""
    shape = Shape()

    assert (shape.population, shape.parents, shape.generations, shape.writes, shape.repairs) == (7, 4, 4, 5, 3)


def test_other_numbers_can_be_given() -> None:
    """By name; no repairs are allowed, no population is not."""
    assert shaped("") == Shape()
    assert shaped("population=4, repairs=0") == Shape(population=4, repairs=0)
    for wrong in ("luck=1", "population", "population=-1", "writes=0", "population=x"):
        with pytest.raises(ValueError, match=r"none of|whole number"):
            shaped(wrong)


def test_parents_of_a_generation_are_the_selectors_choice() -> None:
    """None at first, then those of all before."""
    played = Played([40, 30, 20, 49, 48, 47])
    _loop(played, Imagined(100.0), Shape(population=3, parents=2, generations=2)).best()

    assert played.parents == [[], ["p03", "p02"]]


def test_it_stops_as_soon_as_the_target_is_surely_met() -> None:
    """After the generation that met it, and one measurement more on other requests."""
    machine = Imagined(3.0)
    best = _loop(Played([40, 15, 30, 20]), machine, Shape(population=2)).best()

    assert best is not None
    assert best.passes
    assert [len(each) for each in machine.generations] == [2, 1]


def test_a_winner_that_does_not_win_twice_is_none() -> None:
    """Luck is found out by other requests; the search goes on."""

    class Lucky(Imagined):
        def measure(self, demand: Demand, solutions: Mapping[str, str], order: Order) -> dict[str, Fitness]:
            """The target is met once, in the first generation."""
            self.target = 3.0 if not self.generations else 100.0
            return super().measure(demand, solutions, order)

    machine = Lucky(3.0)
    best = _loop(Played([15, 20, 25, 30]), machine, Shape(population=1, generations=3)).best()

    assert best is not None
    assert not best.passes
    assert [len(each) for each in machine.generations] == [1, 1, 1, 1, 2]  # of three finalists one is known thoroughly


def test_what_a_quick_look_took_for_luck_is_no_answer() -> None:
    """Where the target is out of reach, the best of the finalists is looked at thoroughly; then the next."""

    class Thorough(Imagined):
        def measure(self, demand: Demand, solutions: Mapping[str, str], order: Order) -> dict[str, Fitness]:
            """Fewer than 18 steps break images now and then, as a hundred of them show."""
            found = super().measure(demand, solutions, order)
            broken = {name for name, source in solutions.items() if not order.quick and "steps=15" in source}
            return {
                name: replace(each, verdict="FAIL", cause="guard") if name in broken else each
                for name, each in found.items()
            }

    machine = Thorough(100.0)
    best = _loop(Played([15, 20, 25]), machine, Shape(population=3, generations=1)).best()

    assert best is not None
    assert "steps=20" in best.source
    assert [len(each) for each in machine.generations] == [3, 3, 1, 1]


@given(fails=st.integers(0, 25), writes=st.integers(1, 5), repairs=st.integers(0, 3))
def test_tries_are_counted(fails: int, writes: int, repairs: int) -> None:
    """A program is repaired T_debug times, then written anew, T_code times in all; not once more."""
    played, machine = Played([20], {20: fails}), Imagined(100.0)
    loop = _loop(played, machine, Shape(population=1, generations=1, writes=writes, repairs=repairs, replans=0))
    loop.best()

    (candidate,) = loop.memory.tried
    allowed = writes * (repairs + 1)
    assert candidate.fitness is not None
    assert candidate.fitness.runs is (fails < allowed)
    assert len(played.told) + played.repairs == min(fails + 1, allowed)
    assert len(played.told) == min(fails // (repairs + 1) + 1, writes)


def test_failures_and_reflections_go_with_the_idea() -> None:
    """Each rewriting is told every report before it; each repair reads what was learned from the ones before."""
    played = Played([20], {20: 5})
    _loop(played, Imagined(100.0), Shape(population=1, generations=1, writes=3, repairs=2)).best()

    assert [len(told) for told in played.told] == [0, 1]
    assert BROKEN in played.told[1][0]
    assert played.reflections[:3] == [[], ["repair 1"], ["repair 1", "repair 2"]]


def test_a_reply_without_a_program_is_no_measurement() -> None:
    """The idea is written again; a machine never sees prose."""
    played, machine = Played([20], replies={20: 2}), Imagined(100.0)
    _loop(played, machine, Shape(population=1, generations=1)).best()

    assert played.told == [[], ["there was no program"], ["there was no program"] * 2]
    assert [order.label for order in machine.orders] == ["it-0-2", "it-finalists", "it-thorough-p01"]


def test_ideas_that_never_ran_make_room_for_others() -> None:
    """Back to planning, once a generation."""
    played = Played([20, 30, 40], {20: 99, 30: 99})
    loop = _loop(played, Imagined(100.0), Shape(population=2, generations=1, writes=1, repairs=0))
    loop.best()

    assert [str(each.idea.plan.methods[0].parameters["steps"]) for each in loop.memory.tried] == ["20", "30", "40"]


def test_the_generation_is_repaired_together() -> None:
    """One run measures all that wait: its start is paid once, not once a program."""
    machine = Imagined(100.0)
    _loop(Played([20, 30, 40], {20: 1, 30: 1}), machine, Shape(population=3, generations=1)).best()

    assert [len(each) for each in machine.generations] == [3, 2, 3, 1]


def test_equal_programs_are_measured_once() -> None:
    """Comments and blanks do not make another program of one."""
    played, machine = Played([20, 21]), Imagined(100.0)
    played._program = lambda idea: program(20) + f"# {idea}\n"  # type: ignore[method-assign]
    loop = _loop(played, machine, Shape(population=2, generations=1))
    loop.best()

    assert [len(each) for each in machine.generations] == [1, 2, 1]
    assert loop.memory.tried[0].fitness == loop.memory.tried[1].fitness


def test_what_a_device_cannot_afford_ends_the_search() -> None:
    """With the best so far; nothing at all is None."""

    class Poor(Imagined):
        def measure(self, demand: Demand, solutions: Mapping[str, str], order: Order) -> dict[str, Fitness]:
            """One generation is paid for."""
            if self.generations:
                raise BudgetSpent("the budget is spent")
            return super().measure(demand, solutions, order)

    best = _loop(Played([20, 30]), Poor(100.0), Shape(population=1)).best()
    assert best is not None
    assert "num_inference_steps=20" in best.source

    poorer = Poor(100.0)
    poorer.generations.append({})
    assert _loop(Played([20]), poorer, Shape(population=1)).best() is None


def test_a_cheat_is_not_repaired() -> None:
    """Tampering is no bug."""

    class Strict(Imagined):
        def fitness(self, source: str) -> Fitness:
            """Everything cheats."""
            found = super().fitness(source)
            return type(found)("", "CHEAT", "PROTOCOL", "answered before it was asked", stage="executability")

    played = Played([20])
    best = _loop(played, Strict(3.0), Shape(population=1, generations=1)).best()
    assert best is None
    assert played.repairs == 0


def test_the_race_is_against_the_best_so_far() -> None:
    """No candidate is judged that is surely slower than the pipeline as it is, or than one that keeps the quality."""
    machine = Imagined(100.0)
    _loop(Played([25, 20, 30]), machine, Shape(population=1, generations=3)).best()

    assert [order.race for order in machine.orders] == [1.0, 2.0, 2.5, None, None]


@pytest.mark.parametrize("debugs", [True, False])
def test_a_coder_that_writes_the_same_is_asked_once(debugs: bool) -> None:  # noqa: FBT001 (a case)
    """Templates: what they write and does not run, stays so."""
    played = Played([20], {20: 9}, tries=1)
    loop = _loop(played, Imagined(100.0), Shape(population=1, generations=1), debugs=debugs)
    loop.best()

    assert len(played.told) == 1
    assert played.repairs == (3 if debugs else 0)


def test_normalised_sees_what_python_sees() -> None:
    """Comments, blanks and quotes are nothing; a number is something; what is no Python is as it is."""
    assert normalised("x = 'a'  # b\n") == normalised('\nx = "a"')
    assert normalised("x = 1") != normalised("x = 2")
    assert normalised("x = (") != normalised("x = [")
    assert normalised("\ud800") != normalised("x")


def test_what_was_measured_before_the_budget_ended_is_known() -> None:
    """A repair that cannot be paid for loses none of its generation."""

    class Poor(Played):
        def repaired(self, *_: object) -> str:
            """There is no money for it."""
            raise BudgetSpent("the budget is spent")

    loop = _loop(Poor([15, 30, 40], runs={30: 1}), Imagined(100.0), Shape(population=3))
    best = loop.best()

    assert best is not None
    assert "num_inference_steps=15" in best.source
    assert len(loop.memory.tried) == 2
    assert loop.spent is not None


def test_a_winner_that_loses_is_a_loser_from_then_on() -> None:
    """What is known of it is the thorough look: nobody is told that it passed, and nobody has to outrun it."""

    class Thorough(Imagined):
        def measure(self, demand: Demand, solutions: Mapping[str, str], order: Order) -> dict[str, Fitness]:
            """Slower, where it is looked at thoroughly."""
            found = super().measure(demand, solutions, order)
            return found if order.quick else {name: self._slow(each) for name, each in found.items()}

        def _slow(self, found: Fitness) -> Fitness:
            return replace(found, speedup=1.0, speedup_low=1.0, verdict="FAIL", cause="relative-speed error")

    machine = Thorough(3.0)
    loop = _loop(Played([15, 30]), machine, Shape(population=1, generations=2))
    loop.best()

    first = loop.memory.tried[0]
    assert first.fitness is not None
    assert first.fitness.verdict == "FAIL"
    assert loop.memory.of_program(first.source) == first
    assert {order.race for order in machine.orders} == {1.0, None}


def test_every_program_that_was_measured_is_counted() -> None:
    """Repaired ones too: a budget of evaluations is the same for who repairs and who does not."""
    loop = _loop(Played([15, 20, 30], runs={15: 1, 20: 1, 30: 1}), Imagined(100.0), Shape(population=1))
    loop.spent_out(4)

    assert len(loop.evaluations) == 4
    assert loop.device_s == sum(each.elapsed_s for each in loop.evaluations)
    assert len(loop.memory.tried) == 2
