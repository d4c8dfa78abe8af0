"""A sibling of a set of tasks: the same grid with other numbers, for claims that must not rest on published ones.

Nobody has published answers to what one seed draws, and whoever keeps the seed to himself can publish the result.
Nothing proves that every sibling can be solved; targets are those of the tasks that they were drawn from, in proportion
to the steps where a solution may take fewer (limits in seconds stay). Tasks of one scenario stay tasks of one scenario,
which is another one.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pytest_diffbench.calibration import as_share, rounded_down
from pytest_diffbench.declaration import PATHS, docstring, of_markers, of_task
from pytest_diffbench.demand import denoising_steps, resolve
from pytest_diffbench.errors import SetupError, TaskError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_diffbench.demand import Demand, Markers
    from pytest_diffbench.task import Task

STEPS: Final = (0.8, 1.2)
GUIDANCE: Final = (0.8, 1.2)
PARAMETERS: Final = (0.8, 1.25)
"""Factors between which the numbers of a task are drawn anew."""
LEAST_SPEEDUP: Final = 1.05
"""Of a target."""
TRIES: Final = 100
_HEAD: Final = '''"""Drawn with seed {seed}: not to be published, nor shown to whoever is scored with it."""

import pytest

from pytest_diffbench import Task
'''
_TEST: Final = """

@pytest.mark.diffbench({task})
{markers}
def test_{name}(executability, speed, quality):
    {summary}
"""


def written(demands: Sequence[Demand], seed: int) -> dict[str, str]:
    """Files by name, one a level and model; SetupError of tasks that no sibling can be drawn of."""
    rng = random.Random(seed)  # noqa: S311 (whoever knows the seed may know the tasks)
    files: dict[str, str] = {}
    drawn: dict[tuple[object, ...], tuple[int, float]] = {}
    known = {of_task(_in_full(demand)) for demand in demands}
    for number, demand in enumerate(demands):
        if demand.model.folder is not None:
            raise SetupError(f"diffbench: {demand.task_id} is of a model of your own: siblings are drawn of the zoo's")
        if own := [name for name in PATHS if getattr(demand.task, name) is not None]:
            raise SetupError(
                f"diffbench: {demand.task_id} has files of your own ({', '.join(own)}): siblings are drawn of tasks "
                "that rest on the zoo's alone"
            )
        scenario = (demand.task.model, demand.task.strength, demand.task.scenario)
        sibling = _sibling(demand, known, rng, drawn.get(scenario))
        known.add(of_task(sibling))
        steps, guidance = sibling.steps, sibling.guidance
        assert steps is not None
        assert guidance is not None
        if demand.task.scenario is not None:
            drawn[scenario] = steps, guidance
            named = f"{demand.task.scenario}-with-{steps}-steps-guidance-{guidance:g}"
            sibling = replace(sibling, scenario=named)
        level = "no_level" if demand.task.level is None else f"level{demand.task.level}"
        file = f"test_{level}_{demand.model.name}.py"
        test = _TEST.format(
            task=of_task(sibling),
            markers="\n".join(of_markers(_retargeted(demand, steps / demand.steps))),
            name=f"{number:03d}",
            summary=docstring(demand.summary),
        )
        files[file] = files.get(file, _HEAD.format(seed=seed)) + test
    return files


def write(demands: Sequence[Demand], seed: int, folder: Path) -> int:
    """Write the files into a folder that is new or empty; how many. SetupError where that cannot be done."""
    if folder.is_dir() and any(folder.iterdir()):
        raise SetupError(f"diffbench: {folder} is not empty: name another folder")
    files = written(demands, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SetupError(f"diffbench: cannot write {folder}: {error.strerror or error}") from error
    return len(files)


def _in_full(demand: Demand) -> Task:
    """The task with the numbers that it leaves to its model, so that equal tasks are seen to be equal."""
    methods = {name: dict(given) for name, given in demand.methods.items()}
    return replace(demand.task, steps=demand.steps, guidance=demand.guidance, methods=methods)


def _retargeted(demand: Demand, factor: float) -> Markers:
    """The markers for so many times the steps, if these are free: with half as many to begin with, half is gained."""
    markers = demand.markers
    if demand.demanded_steps is not None:
        return markers
    if markers.speed is not None:
        least = min(LEAST_SPEEDUP, markers.speed.at_least)
        wanted = max(least, rounded_down(markers.speed.at_least * factor))
        return replace(markers, speed=replace(markers.speed, at_least=wanted))
    if markers.latency is not None and markers.latency.at_most_of_baseline is not None:
        speedup = 1 / markers.latency.at_most_of_baseline
        share = as_share(max(min(LEAST_SPEEDUP, speedup), speedup * factor))
        return replace(markers, latency=replace(markers.latency, at_most_of_baseline=share))
    return markers


def _sibling(demand: Demand, known: Container[str], rng: random.Random, drawn: tuple[int, float] | None) -> Task:
    """Other numbers than the task's own, and than those of any other that it was drawn beside.

    Steps and guidance are those that were `drawn` for its scenario, if it is not the first of it.
    """
    for _ in range(TRIES):
        steps, guidance = drawn or (
            max(4, round(demand.steps * rng.uniform(*STEPS))),
            round(max(1.5, demand.guidance * rng.uniform(*GUIDANCE)), 1),
        )
        methods = {name: _varied(name, given, demand, rng) for name, given in demand.methods.items()}
        sibling = replace(_in_full(demand), steps=steps, guidance=guidance, methods=methods)
        if of_task(sibling) not in known and _works(sibling, demand):
            return sibling
    raise SetupError(f"diffbench: no sibling of {demand.task_id} could be drawn in {TRIES} tries: try another seed")


def _varied(name: str, given: Mapping[str, object], demand: Demand, rng: random.Random) -> dict[str, object]:
    """Each number anew, where the method takes it."""
    found = dict(given)
    for parameter, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        low, high = (value * factor for factor in PARAMETERS)
        if isinstance(value, int):  # small ones too: by one at least
            anew: float = rng.randint(min(value - 1, round(low)), max(value + 1, round(high)))
        else:
            anew = round(rng.uniform(low, high), 2)
        if demand.known_methods[name].parameters[parameter](anew):
            found[parameter] = anew
    return found


def _works(task: Task, demand: Demand) -> bool:
    """Whether it could be declared, and what lay below a number of steps still does."""
    try:
        found = resolve(
            task,
            demand.markers,
            task_id=demand.task_id,
            summary=demand.summary,
            folder=demand.folder,
            known_models={demand.model.name: demand.model},
            known_methods=demand.known_methods,
        )
    except TaskError:
        return False
    return all(drawn for public, drawn in zip(_below(demand), _below(found), strict=True) if public)


def _below(demand: Demand) -> Iterator[bool]:
    """Whether the demanded steps are fewer than today's, and of each whole number whether steps are left behind it."""
    yield (demand.demanded_steps or 0) < demand.steps
    run = denoising_steps(demand.demanded_steps or demand.steps, demand.task.strength)
    for given in demand.methods.values():
        yield from (value < run for value in given.values() if isinstance(value, int))
