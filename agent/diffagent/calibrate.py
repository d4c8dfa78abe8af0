"""The best certified answer to a scenario, whoever finds it: two searches, a grid, the worked answer.

What each found is only a quick look's word; the fastest few are measured once more as results to publish are: in
three starts of the processes, on a hundred fresh requests or more. The best of several is also the luckiest of
them, so it is certified once more on requests that did not choose it, and those have the last word. Everything is kept
by the task, so what was cut off goes on.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from diffagent.arms import Arm
from diffagent.candidate import normalised
from diffagent.fitness import AS_IT_IS, feasible
from diffagent.generation import Order
from diffagent.plan import Applied, Plan, Subject, canonical, in_words, problems
from diffagent.program import read, written
from pytest_diffbench.calibration import Best, key_of
from pytest_diffbench.demand import Demand, SpeedDemand
from pytest_diffbench.errors import SetupError
from pytest_diffbench.providers import Reference, baseline_source
from pytest_diffbench.records import Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from diffagent.arms import Setting
    from diffagent.fitness import Fitness
    from diffagent.generation import Run
    from diffagent.knowledge.base import Knowledge

FINALISTS: Final = 5
LONGER: Final = 2
"""So many times as long is the random search: what is surely slower than the finalists so far ends with its speed."""
GRID: Final = (0.2, 0.3, 0.4, 0.6)
"""Shares of today's steps that each sampler is tried with."""
INTERVALS: Final = (3, 4, 5)
STOPS: Final = (0.9, 0.7, 0.5)
"""Where sampler and steps are fixed: how often features are computed anew, and when guidance ends."""
SEED: Final = 20_000
"""Of the requests of the grid and of worked answers."""
HELD_OUT_SEED: Final = 30_000
"""Of the requests that choose the best of the finalists."""
AGAIN_SEED: Final = 40_000
"""Of those that it is held to."""
BASELINE: Final = "baseline"


@dataclass(frozen=True)
class _Found:
    how: str
    source: str
    program: str
    fitness: Fitness


def best(demand: Demand, run: Run, setting: Setting, evaluations: int, say: Callable[[str], None]) -> Best | None:
    """The fastest answer that was certified; None where no answer keeps the quality."""
    scenario = _as_scenario(demand)
    as_it_is = _as_it_is(scenario, run)
    found = [*_searched("search", scenario, setting, evaluations)]
    found += _searched("random", scenario, setting, LONGER * evaluations, _to_reach(found))
    found += _listed(scenario, run, setting, _to_reach(found))
    ranked = _fastest(found)
    for first in range(0, len(ranked), FINALISTS):  # the next five where none of the first is what it seemed
        finalists = ranked[first : first + FINALISTS]
        say(f"certifying {len(finalists)} of {len(found)} answers")
        if (upheld := _upheld(finalists, scenario, run, say, f"from-{first}")) is not None:
            return _told(*upheld, as_it_is)
    return None


def _as_scenario(demand: Demand) -> Demand:
    """The task without a target of its own: everything that is faster at all counts."""
    markers = replace(demand.markers, speed=SpeedDemand(AS_IT_IS), latency=None)
    name = f"{key_of(demand).replace('/', '-')}-calibration"
    return replace(demand, task=replace(demand.task, level=4), markers=markers, task_id=name)


def _searched(
    name: str, demand: Demand, setting: Setting, evaluations: int, to_reach: float = AS_IT_IS
) -> Iterator[_Found]:
    """What a search measured; who surely reaches less than that is not judged, and whoever reaches it is."""
    loop = Arm(name, setting).loop(_that_beats(to_reach, demand))  # type: ignore[arg-type]
    loop.spent_out(evaluations, to_reach)
    if loop.spent is not None:
        raise loop.spent
    for candidate in loop.memory.tried:
        if candidate.fitness is not None:
            yield _Found(str(candidate.idea), name, candidate.source, candidate.fitness)


def _listed(demand: Demand, run: Run, setting: Setting, to_reach: float) -> Iterator[_Found]:
    """What nobody has to search for: samplers with fewer steps, and what was worked out by hand; judged as above."""
    programs = {
        f"grid-{number}": (in_words(plan), "grid", written(plan, demand, setting.device_kind, setting.knowledge))
        for number, plan in enumerate(grid(demand, setting))
    }
    try:
        worked = Reference().solve(_that_beats(math.inf, demand), "", "")  # the boldest that there is
        how = in_words(read(worked.source, setting.knowledge))
        programs["worked"] = (how, "worked answer", worked.source)
    except SetupError:  # nobody has written one
        pass
    if not programs:
        return
    sources = {name: source for name, (_, _, source) in programs.items()}
    measured = run.measure(_that_beats(to_reach, demand), sources, Order(SEED, "listed", race=to_reach, quick=True))
    for name, (how, source, program) in programs.items():
        if name in measured:
            yield _Found(how, source, program, measured[name])


def grid(demand: Demand, setting: Setting) -> Iterator[Plan]:
    """Every sampler that fits with a few step counts; where those are fixed, the two methods that save other work."""
    subject, knowledge = Subject.of(demand, setting.device_kind), setting.knowledge
    plans = _method_plans(subject, knowledge) if demand.task.fixed_schedule else _schedules(demand, knowledge)
    for plan in plans:
        if not problems(plan, subject, knowledge):
            yield canonical(plan, knowledge, setting.device_kind)


def _schedules(demand: Demand, knowledge: Knowledge) -> Iterator[Plan]:
    for entry, share in itertools.product(knowledge.of_kind("sampler"), GRID):
        steps = round(demand.steps * share)
        yield Plan(methods=(Applied(method=entry.name, parameters={"steps": steps}),))


def _method_plans(subject: Subject, knowledge: Knowledge) -> Iterator[Plan]:
    """The cache that gains most here, with guidance that ends early."""
    caches = [entry for entry in knowledge.of_kind("cache") if "interval" in entry.facts.parameters]
    fit = [each for each in caches if not problems(Plan(methods=(Applied(method=each.name),)), subject, knowledge)]
    fit.sort(key=lambda entry: max((figure.speedup or 0.0 for figure in entry.facts.gain), default=0.0))
    guided = [entry for entry in knowledge.of_kind("guidance") if "stop" in entry.facts.parameters]
    for cache, guidance, interval, stop in itertools.product(fit[-1:], guided, INTERVALS, STOPS):
        kept = Applied(method=cache.name, parameters={"interval": interval})
        yield Plan(methods=(kept, Applied(method=guidance.name, parameters={"stop": stop})))


def _fastest(found: list[_Found]) -> list[_Found]:
    """The fastest that kept the quality, by the quick look; equal programs once."""
    kept = [each for each in found if each.fitness.keeps_quality and each.fitness.speedup is not None]
    kept.sort(key=lambda each: feasible(each.fitness), reverse=True)
    first = {normalised(each.program): each for each in reversed(kept)}
    return [each for each in kept if first[normalised(each.program)] is each]


def _to_reach(found: list[_Found]) -> float:
    """What the last of the finalists surely reaches; while there are fewer, the baseline."""
    finalists = _fastest(found)[:FINALISTS]
    surely = finalists[-1].fitness.speedup_low if len(finalists) == FINALISTS else None
    return max(AS_IT_IS, surely or AS_IT_IS)


def _upheld(
    finalists: list[_Found], demand: Demand, run: Run, say: Callable[[str], None], label: str
) -> tuple[_Found, Fitness] | None:
    """The fastest that passes twice, and what the second time measured: the first chose it for being high.

    Who has failed once for anything but another's speed gets no second chance. `label` tells these finalists from
    others of the scenario: what was measured of those stays.
    """
    left = finalists
    while True:
        won, failed = _certified(left, demand, run, f"certified-{label}-{len(left)}")
        if won is None:
            return None
        chosen, _ = won
        order = Order(AGAIN_SEED, f"again-{label}-{len(left)}", certified=True)
        again = run.measure(demand, {"again": chosen.program}, order)["again"]
        if again.verdict == "PASS":
            return chosen, again
        say(f"{chosen.how} did not pass again ({again.line}): the next")
        left = [each for each in left if each is not chosen and each not in failed]


def _certified(
    finalists: list[_Found], demand: Demand, run: Run, label: str
) -> tuple[tuple[_Found, Fitness] | None, list[_Found]]:
    """The fastest that passes, and who fails: as many at once as there are devices, each to beat the best before it.

    So what is slower than that ends with its speed, which is no failure, and only what may win has its images judged.
    """
    best: tuple[_Found, Fitness] | None = None
    failed: list[_Found] = []
    abreast = max(1, run.workers)
    for first in range(0, len(finalists), abreast):
        those = {str(first + place): each for place, each in enumerate(finalists[first : first + abreast])}
        beaten = feasible(best[1]) if best is not None else AS_IT_IS
        programs = {name: each.program for name, each in those.items()}
        order = Order(HELD_OUT_SEED, f"{label}-{first}", race=beaten, certified=True)
        measured = run.measure(_that_beats(beaten, demand), programs, order)
        passed = [(those[name], fitness) for name, fitness in measured.items() if fitness.verdict == "PASS"]
        failed += [those[name] for name, fitness in measured.items() if _refused(fitness)]
        best = max([*([best] if best is not None else []), *passed], key=lambda each: feasible(each[1]), default=None)
    return best, failed


def _refused(fitness: Fitness) -> bool:
    """Whether it did not pass for anything but another's speed, which it missed or could not be told from."""
    by_speed = fitness.cause == Cause.RELATIVE_SPEED or (fitness.verdict == "UNDECIDED" and fitness.stage == "speed")
    return fitness.verdict not in ("PASS", "INFRA") and not by_speed


def _that_beats(speedup: float, demand: Demand) -> Demand:
    return replace(demand, markers=replace(demand.markers, speed=SpeedDemand(speedup)))


def _as_it_is(demand: Demand, run: Run) -> Fitness | None:
    """The baseline as its own candidate: how far from 1 its speed-up comes out is this machine's noise."""
    measured = run.measure(demand, {BASELINE: baseline_source(demand)}, Order(SEED, BASELINE, quick=True))
    return measured.get(BASELINE)


def _told(winner: _Found, fitness: Fitness, as_it_is: Fitness | None) -> Best:
    assert fitness.speedup is not None
    assert fitness.speedup_low is not None
    return Best(
        speedup=fitness.speedup,
        speedup_low=fitness.speedup_low,
        speedup_high=fitness.speedup_high if fitness.speedup_high is not None else fitness.speedup,
        clip_loss=fitness.loss or 0.0,
        how=winner.how,
        source=winner.source,
        program=winner.program,
        baseline_s=fitness.baseline_s,
        noise=abs(math.log(as_it_is.speedup)) if as_it_is is not None and as_it_is.speedup else 0.0,
    )
