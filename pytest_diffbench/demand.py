"""A task with its markers, checked, every default filled in: all that the stages need to know."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pytest_diffbench.errors import TaskError
from pytest_diffbench.methods import SAMPLERS
from pytest_diffbench.task import DEFAULT_MAX_LOSS, DIFFICULTIES, LEVELS
from pytest_diffbench.zoo import models

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_diffbench.methods import Method
    from pytest_diffbench.task import Task
    from pytest_diffbench.zoo.models import Model

LEAST_PAIRS: Final = 4
"""The first look of the test on speed, and enough for an interval where nothing is demanded."""
MEDIAN: Final = 50
MOST_PERCENTILE: Final = 92
"""0.92 to the power of 50 is below the level of the last look of `sequential.SHARE`."""
_SAME_SAMPLER_LEVELS = (1, 2, 3)
"""Levels that demand the pipeline as it is, but for the methods they name."""


@dataclass(frozen=True)
class SpeedDemand:
    """`@pytest.mark.speed(at_least=1.8)`."""

    at_least: float


@dataclass(frozen=True)
class LatencyDemand:
    """`@pytest.mark.latency(at_most_s=0.9, percentile=50)`.

    `at_most_of_baseline=0.5` states the limit as a share of the baseline's own median on this machine instead.
    """

    at_most_s: float | None = None
    at_most_of_baseline: float | None = None
    percentile: float = 50


@dataclass(frozen=True)
class QualityDemand:
    """`@pytest.mark.quality(max_loss=0.05, strict=False)`.

    `strict` demands a loss below 1.5 % beside it, and more than the baseline with fewer steps reaches.
    """

    max_loss: float = DEFAULT_MAX_LOSS
    strict: bool = False


@dataclass(frozen=True)
class ExecutabilityDemand:
    """`@pytest.mark.executability(timeout_s=60)`: the longest that loading, or one call, may take."""

    timeout_s: float | None = None


@dataclass(frozen=True)
class Markers:
    """What the other markers of a task demand."""

    speed: SpeedDemand | None = None
    latency: LatencyDemand | None = None
    quality: QualityDemand = field(default_factory=QualityDemand)
    executability: ExecutabilityDemand = field(default_factory=ExecutabilityDemand)


@dataclass(frozen=True)
class Demand:
    """One task, ready to be run."""

    task: Task
    task_id: str
    summary: str
    """What the test's or module's docstring says of it."""
    model: Model
    steps: int
    size: int
    sampler: str
    guidance: float
    methods: Mapping[str, Mapping[str, object]]
    known_methods: Mapping[str, Method]
    markers: Markers
    folder: Path
    """Where the task's file lies; relative paths start here."""

    @property
    def pipeline_classes(self) -> tuple[str, ...]:
        """Classes of diffusers that a solution may build; the first is what it is then."""
        begins_with_image = self.task.strength is not None
        return self.model.image_to_image_classes if begins_with_image else self.model.pipeline_classes

    @property
    def demanded_sampler(self) -> str | None:
        """The sampler that a solution must use; None where it is free."""
        chosen = [name for method in self.methods if (name := self.known_methods[method].sampler)]
        if chosen:
            return chosen[0]
        return self.sampler if self.keeps_schedule and self.sampler in SAMPLERS else None

    @property
    def demanded_steps(self) -> int | None:
        """The step count that a solution must use; None where it is free."""
        for name, parameters in self.methods.items():
            if self.known_methods[name].sampler:
                steps = parameters.get("steps")
                return steps if isinstance(steps, int) else None
        return self.steps if self.keeps_schedule else None

    @property
    def keeps_schedule(self) -> bool:
        """Whether sampler and steps stay as they are today, but for a sampler among the methods."""
        return self.task.fixed_schedule or self.task.level in _SAME_SAMPLER_LEVELS

    @property
    def fixes_calls(self) -> bool:
        """Whether it says how often the denoiser is called, by its steps and by methods that leave none out."""
        keeping = all(self.known_methods[name].keeps_calls for name in self.methods)
        return self.keeps_schedule and self.demanded_steps is not None and keeping

    @property
    def baseline_path(self) -> Path | None:
        """A user's own baseline; None means the one that comes with the model."""
        return self.folder / self.task.baseline if self.task.baseline is not None else None


def denoising_steps(steps: int, strength: float | None) -> int:
    """How many of so many steps are run: with an image to begin with, diffusers leaves out the first ones."""
    return steps if strength is None else min(int(steps * strength), steps)


def demanded_speedup(markers: Markers) -> float | None:
    """The demand as a ratio of the same pairs' times: a speed-up, or a median latency stated as a baseline's share."""
    if markers.speed is not None:
        return markers.speed.at_least
    latency = markers.latency
    if latency is not None and latency.at_most_of_baseline is not None and latency.percentile == MEDIAN:
        return 1 / latency.at_most_of_baseline
    return None


def resolve(
    task: Task,
    markers: Markers,
    *,
    task_id: str,
    summary: str,
    folder: Path,
    known_models: Mapping[str, Model],
    known_methods: Mapping[str, Method],
) -> Demand:
    """The demand that a task makes; TaskError with every problem of its declaration, and what would be right."""
    model = _model(task, folder, known_models)
    demand = Demand(
        task=task,
        task_id=task_id,
        summary=summary,
        model=model,
        steps=task.steps if task.steps is not None else model.steps,
        size=task.size if task.size is not None else model.size,
        sampler=task.sampler if task.sampler is not None else model.sampler,
        guidance=task.guidance if task.guidance is not None else model.guidance,
        methods=_methods(task),
        known_methods=known_methods,
        markers=markers,
        folder=folder,
    )
    found = [*_value_problems(demand), *_level_problems(demand), *_method_problems(demand), *_marker_problems(markers)]
    if found := found or [*_hopeless_problems(demand)]:
        raise TaskError("; ".join(found))
    return demand


def _model(task: Task, folder: Path, known: Mapping[str, Model]) -> Model:
    if not isinstance(task.model, str):
        raise TaskError(f"model is {task.model!r}; give a name ({', '.join(sorted(known))}) or a folder ('./my-model')")
    if models.is_folder(task.model):
        return models.foreign((folder / task.model).resolve(), task.model)
    if task.model not in known:
        raise TaskError(
            f"model {task.model!r} is unknown: use one of {', '.join(sorted(known))}, or a folder such as './my-model'"
        )
    return known[task.model]


def _methods(task: Task) -> dict[str, dict[str, object]]:
    try:
        return task.method_parameters()
    except (TypeError, ValueError) as error:
        raise TaskError(
            f"methods is {task.methods!r}; give names, or a mapping such as {{'dpm_solver': {{'steps': 20}}}}"
        ) from error


def _value_problems(demand: Demand) -> Iterator[str]:
    task = demand.task
    if not _whole(demand.steps, 1, 1000):
        yield f"steps is {demand.steps!r}; give a whole number from 1 to 1000"
    if not _whole(demand.size, 64, 4096) or demand.size % 8:
        yield f"size is {demand.size!r}; give pixels, a multiple of 8 from 64 to 4096"
    if demand.sampler not in (*SAMPLERS, demand.model.sampler):
        yield f"sampler {demand.sampler!r} is unknown: use one of {', '.join(SAMPLERS)}"
    elif demand.sampler not in (*demand.model.samplers, demand.model.sampler):
        runs = ", ".join(demand.model.samplers)
        yield f"model {demand.model.name!r} cannot run with sampler {demand.sampler!r}: use one of {runs}"
    if not _number(demand.guidance) or not 0 <= demand.guidance <= 50:
        yield f"guidance is {demand.guidance!r}; give a scale from 0 to 50"
    if not _whole(task.batch, 1, 64):
        yield f"batch is {task.batch!r}; give a whole number from 1 to 64"
    if demand.model.conditioning == "class" and demand.size != demand.model.size:
        yield f"size is {demand.size!r}, but {demand.model.name!r} draws {demand.model.size} pixels only: leave it out"
    yield from _image_to_image_problems(demand)
    yield from _schedule_problems(demand)
    if task.difficulty is not None and task.difficulty not in DIFFICULTIES:
        yield f"difficulty {task.difficulty!r} is unknown: use one of {', '.join(DIFFICULTIES)}"


def _image_to_image_problems(demand: Demand) -> Iterator[str]:
    strength = demand.task.strength
    if strength is None:
        if demand.task.images is not None:
            yield f"images is {demand.task.images!r}, but nothing says how much of them to keep: add strength=0.6"
        return
    if not demand.model.image_to_image_classes:
        able = ", ".join(models.IMAGE_TO_IMAGE)
        yield (
            f"strength is {strength!r}, but {demand.model.name!r} takes no input image (only {able} do): leave it out"
        )
    elif not _number(strength) or not 0 < strength <= 1:
        yield f"strength is {strength!r}; give a number above 0, at most 1"
    elif _whole(demand.steps, 1, 1000) and not denoising_steps(demand.steps, strength):
        yield f"strength {strength!r} leaves none of {demand.steps} steps to run: give more of either"


def _schedule_problems(demand: Demand) -> Iterator[str]:
    fixed, samplers = demand.task.fixed_schedule, [name for name in demand.methods if name in SAMPLERS]
    if not isinstance(fixed, bool):
        yield f"fixed_schedule is {fixed!r}; give True or False"
    elif fixed and samplers:
        yield f"fixed_schedule keeps the sampler, yet the task demands {samplers[0]}: leave one of the two out"


def _level_problems(demand: Demand) -> Iterator[str]:
    level, count, markers = demand.task.level, len(demand.methods), demand.markers
    if level is None:
        return
    if not _whole(level, 1, len(LEVELS)):
        yield f"level is {level!r}; give 1 to 5, or leave it out"
    if level == 1 and count:
        yield f"level 1 is a plain pipeline, yet it demands {', '.join(demand.methods)}: use level 2 or 3"
    if level == 2 and count != 1:
        yield f"level 2 demands one method, not {count}: methods={{'dpm_solver': {{'steps': 20}}}}"
    if level == 3 and count < 2:
        yield f"level 3 combines two methods or more, not {count}"
    if level == 4 and markers.speed is None:
        yield "level 4 demands a speed-up: add @pytest.mark.speed(at_least=1.8)"
    if level == 5 and markers.latency is None:
        yield "level 5 demands a latency: add @pytest.mark.latency(at_most_s=0.9)"
    if level in _SAME_SAMPLER_LEVELS and (markers.speed or markers.latency):
        yield f"level {level} has no speed target: remove the speed or latency marker, or use level 4 or 5"


def _method_problems(demand: Demand) -> Iterator[str]:
    known = demand.known_methods
    for name, parameters in demand.methods.items():
        if name not in known:
            yield f"method {name!r} is unknown: use one of {', '.join(sorted(known))}"
            continue
        if problem := known[name].model_problem(demand.model):
            yield f"method {name!r} cannot work on model {demand.model.name!r}: {problem}"
        for parameter, value in parameters.items():
            valid = known[name].parameters.get(parameter)
            if valid is None:
                takes = ", ".join(known[name].parameters) or "none"
                yield f"method {name!r} has no parameter {parameter!r}: it takes {takes}"
            elif not valid(value):
                yield f"method {name!r}: {parameter}={value!r} is out of range"
    for one, other in itertools.combinations([name for name in demand.methods if name in known], 2):
        if why := known[one].conflicts.get(other) or known[other].conflicts.get(one):
            yield f"methods {one} and {other} do not go together: {why}; demand one"
    samplers = [name for name in demand.methods if name in known and known[name].sampler]
    if len(samplers) > 1:
        yield f"methods {' and '.join(samplers)} are both samplers: demand one"


def _hopeless_problems(demand: Demand) -> Iterator[str]:
    """Of a demand that is valid in itself: what no solution could show, in the steps and with the guidance that it has.

    Where steps are free, a solution may take as many as it needs.
    """
    if demand.demanded_steps is None:
        return
    steps = denoising_steps(demand.demanded_steps, demand.task.strength)
    steps += demand.demanded_sampler == "pndm"  # which begins with one more
    for name, parameters in demand.methods.items():
        if problem := demand.known_methods[name].nothing_to_see(parameters, steps, demand.guidance):
            yield f"method {name!r} can have no effect here: {problem}"


def _marker_problems(markers: Markers) -> Iterator[str]:
    speed, latency, quality = markers.speed, markers.latency, markers.quality
    if speed and latency:
        yield "speed and latency contradict each other: keep one of the markers"
    if speed and (not _number(speed.at_least) or speed.at_least < 1):
        yield f"speed(at_least={speed.at_least!r}): give a factor of 1 or more"
    if latency:
        yield from _latency_problems(latency)
    if not _number(quality.max_loss) or not 0 < quality.max_loss < 1:
        yield f"quality(max_loss={quality.max_loss!r}): give a share between 0 and 1, such as 0.05"
    if not isinstance(quality.strict, bool):
        yield f"quality(strict={quality.strict!r}): give True or False"
    timeout_s = markers.executability.timeout_s
    if timeout_s is not None and (not _number(timeout_s) or timeout_s <= 0):
        yield f"executability(timeout_s={timeout_s!r}): give seconds above 0"


def _latency_problems(latency: LatencyDemand) -> Iterator[str]:
    limits = (latency.at_most_s, latency.at_most_of_baseline)
    if sum(limit is not None for limit in limits) != 1:
        yield "latency needs one limit: at_most_s=0.9 (seconds) or at_most_of_baseline=0.5"
    elif not any(_number(limit) and limit > 0 for limit in limits if limit is not None):
        given = limits[0] if limits[0] is not None else limits[1]
        yield f"latency limit {given!r} must be a number above 0"
    elif latency.at_most_of_baseline is not None and latency.at_most_of_baseline > 1:
        yield f"latency(at_most_of_baseline={latency.at_most_of_baseline!r}): give a share up to 1, as it is today"
    if not _number(latency.percentile) or not 0 < latency.percentile <= MOST_PERCENTILE:
        yield (
            f"latency(percentile={latency.percentile!r}): give a number above 0, at most {MOST_PERCENTILE}: "
            "more cannot be shown with fifty calls"
        )


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
