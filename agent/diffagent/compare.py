"""`diffagent compare`: several ways to search spend the same budget on the same task; does evolution pay here?

Every search spends all of its evaluations. The best that each found is measured once more, all of them in one run on
the same requests that none of them knew: the best of many noisy figures is better than it is.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from diffagent.arms import NAMES, Arm
from diffagent.budget import BudgetSpent, Purse
from diffagent.fitness import AS_IT_IS, feasible
from diffagent.generation import Order, RunError
from diffagent.workplace import Workplace
from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Mapping, Sequence

    from diffagent.arms import Name
    from diffagent.candidate import Candidate
    from diffagent.fitness import Fitness

HELP: Final = (
    "Every search spends its whole budget on the same task, several times; what each found best is measured once more, "
    "side by side. The verdict is in the intervals: three repetitions tell little, ten something."
)
FILE: Final = "compare.json"
CONFIDENCE: Final = 0.95
RESAMPLES: Final = 5000


@dataclass(frozen=True)
class Trial:
    """One search by one arm."""

    arm: str
    repetition: int
    curve: tuple[float, ...]
    """The best speed-up at allowed quality after each evaluation, as measured then."""
    best: str = ""
    """What it found, in words."""
    speedup: float = AS_IT_IS
    """Of that, measured once more; 1 where its images lost too much there."""
    measured: bool = True
    """False as long as what it found was not measured once more, and where a budget or our own fault kept it from
    that: it says nothing. A search that found nothing without being kept from it found the pipeline as it is."""
    evaluations: int = 0
    device_s: float = 0.0
    usd: float = 0.0
    """Paid for a language model now; what was answered before costs nothing again."""


def add_arguments(parser: ArgumentParser) -> None:
    """What this command has of its own."""
    parser.add_argument(
        "--arms", default="search,evolution,random", metavar="LIST", help=f"comma-separated, of {', '.join(NAMES)}"
    )
    parser.add_argument("--budget", type=int, default=28, metavar="N", help="evaluations of each search (default 28)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="searches of each arm (default 3)")


def compare(asked: Namespace) -> int:
    """Search in every way, measure what was found side by side, and say which found more."""
    names = _arms(asked.arms)
    if asked.budget < 1 or asked.repeats < 1:
        raise SetupError("diffagent: --budget and --repeats: give 1 or more")
    place = Workplace.of(asked)
    place.weights  # noqa: B018 (what is missing is said before anything is measured)
    for name in names:
        place.setting(name)
    trials: list[Trial] = []
    found: dict[str, Candidate] = {}
    for repetition in range(asked.repeats):
        for name in names:
            print(f"{name}, {repetition + 1} of {asked.repeats}", flush=True)
            trial, best = _search(place, name, repetition, asked.budget)
            trials.append(trial)
            if best is not None:
                found[f"{name}-{repetition}"] = best
            _keep(place, trials)
    try:
        trials = [_again(trial, fitness) for trial, fitness in _side_by_side(place, trials, found)]
    except (BudgetSpent, RunError) as spent:
        print(f"what each found was not measured once more: {spent}", flush=True)
    _keep(place, trials)
    print(f"\n{table(trials)}\n\n{place.out / FILE}")
    return 0


def _keep(place: Workplace, trials: Sequence[Trial]) -> None:
    """Write what is known so far: whatever ends the rest, this stays."""
    (place.out / FILE).write_text(json.dumps([asdict(trial) for trial in trials], indent=1) + "\n")


def _arms(listed: str) -> list[Name]:
    names = [name.strip() for name in listed.split(",") if name.strip()]
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise SetupError(f"diffagent: --arms={listed}: {', '.join(unknown) or 'nothing'} is none of {', '.join(NAMES)}")
    return list(dict.fromkeys(names))  # type: ignore[arg-type]


def _search(place: Workplace, name: Name, repetition: int, budget: int) -> tuple[Trial, Candidate | None]:
    setting = place.setting(name, say=lambda line: print(f"  {line}", flush=True))
    spent = place.budget.spent(Purse.USD)
    loop = Arm(name, setting).loop(place.demand, place.prompt, f"-{repetition}")
    best = loop.spent_out(budget)
    trial = Trial(
        name,
        repetition,
        curve(loop.evaluations),
        str(best.idea) if best is not None else "",
        measured=best is None and loop.spent is None,
        evaluations=len(loop.evaluations),
        device_s=loop.device_s,
        usd=place.budget.spent(Purse.USD) - spent,
    )
    return trial, best


def curve(evaluations: Sequence[Fitness]) -> tuple[float, ...]:
    """The best speed-up at allowed quality after each evaluation."""
    best, found = AS_IT_IS, []
    for fitness in evaluations:
        best = max(best, feasible(fitness))
        found.append(best)
    return tuple(found)


def _side_by_side(
    place: Workplace, trials: Sequence[Trial], found: Mapping[str, Candidate]
) -> list[tuple[Trial, Fitness | None]]:
    """Every search's best with its fitness on requests that none of them knew; equal programs are measured once."""
    sources = {name: candidate.source for name, candidate in found.items()}
    firsts = {source: name for name, source in reversed(list(sources.items()))}
    measured: Mapping[str, Fitness] = {}
    if sources:
        print(f"what each found, side by side: {len(firsts)} programs", flush=True)
        unique = {name: source for source, name in firsts.items()}
        measured = place.run().measure(place.demand, unique, Order(2**31 - 1, "side-by-side"))
    names = [f"{trial.arm}-{trial.repetition}" for trial in trials]
    return [
        (trial, measured.get(firsts[sources[name]]) if name in sources else None)
        for trial, name in zip(trials, names, strict=True)
    ]


def _again(trial: Trial, fitness: Fitness | None) -> Trial:
    if not trial.best:
        return trial
    measured = fitness is not None and fitness.verdict != "INFRA"
    return replace(trial, speedup=feasible(fitness), measured=measured)


# -- what it says ------------------------------------------------------------------------------------------------------


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean, and its bootstrap interval (Efron 1979, percentiles); of one value, no interval."""
    # imported here: half a second
    import numpy as np
    from scipy import stats

    mean = sum(values) / len(values)
    if len(values) < 2 or max(values) == min(values):
        return mean, mean if len(values) > 1 else -math.inf, mean if len(values) > 1 else math.inf
    found = stats.bootstrap(
        (np.array(values),),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return mean, float(found.low), float(found.high)


def table(trials: Sequence[Trial]) -> str:
    """A row an arm: what it found, how soon, and whether that is more than the first arm found."""
    # imported here: only where there is something to show
    from rich import box
    from rich.console import Console
    from rich.table import Table

    arms = list(dict.fromkeys(trial.arm for trial in trials))
    most = max(len(trial.curve) for trial in trials)
    marks = sorted({1, *range(7, most + 1, 7), most})
    grid = Table(box=box.SIMPLE, pad_edge=False)
    grid.add_column("arm", no_wrap=True)
    paid = any(trial.usd for trial in trials)
    marked = (f"after {mark}" for mark in marks)
    for heading in ("found (95 %)", f"against {arms[0]}", *marked, "device s", *(["$"] if paid else [])):
        grid.add_column(heading, justify="right", no_wrap=True)
    first = _by_repetition(trials, arms[0])
    for arm in arms:
        mine = [trial for trial in trials if trial.arm == arm]
        ours = _by_repetition(trials, arm)
        differences = [ours[each] - first[each] for each in ours if each in first]
        against = _told(differences, signed=True) if arm != arms[0] else ""
        reached = [
            _mean([trial.curve[min(mark, len(trial.curve)) - 1] for trial in mine if trial.curve]) for mark in marks
        ]
        seconds = _mean([trial.device_s for trial in mine])
        cost = [f"{_mean([trial.usd for trial in mine]):.2f}"] if paid else []
        curve_cells = (f"{each:.2f}x" for each in reached)
        grid.add_row(arm, _told(list(ours.values())), against, *curve_cells, f"{seconds:.0f}", *cost)
    stream = io.StringIO()
    Console(file=stream, width=200, markup=False).print(grid)
    return "\n".join(line.rstrip() for line in stream.getvalue().strip("\n").splitlines())


def _by_repetition(trials: Sequence[Trial], arm: str) -> dict[int, float]:
    return {trial.repetition: trial.speedup for trial in trials if trial.arm == arm and trial.measured}


def _told(values: Sequence[float], *, signed: bool = False) -> str:
    if not values:
        return "not measured"
    mean, low, high = interval(values)
    sign = "+" if signed else ""
    ends = f"[{low:{sign}.2f}, {high:{sign}.2f}]" if math.isfinite(low) else "[once: no interval]"
    return f"{mean:{sign}.2f}x {ends}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else AS_IT_IS
