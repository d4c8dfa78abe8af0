"""From marked test functions to tasks: checked, named, and multiplied where several answers are asked for."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, TypeVar

import pytest

from pytest_diffbench.demand import (
    Demand,
    ExecutabilityDemand,
    LatencyDemand,
    Markers,
    QualityDemand,
    SpeedDemand,
    resolve,
)
from pytest_diffbench.errors import TaskError
from pytest_diffbench.plugin import answers
from pytest_diffbench.plugin.fixtures import ATTEMPT_FIXTURE, STAGES
from pytest_diffbench.plugin.keys import ATTEMPT, DEMAND
from pytest_diffbench.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_diffbench.plugin.session import Session

_Declared = TypeVar("_Declared")

NEEDED_FIXTURE: Final = {"speed": "speed", "latency": "speed", "quality": "quality"}
"""The fixture without which a marker would never be checked."""
LONG: Final = 2.0
"""Times the median: a task of that kind is begun early."""


def multiply(metafunc: pytest.Metafunc, session: Session) -> None:
    """Ask for every answer that a task may have; `tasks` drops those that a task turns out not to have."""
    names = session.attempts()
    if names:
        if session.agent_path is not None and (
            problem := answers.misplaced(session.agent_path, task_id(metafunc.definition.nodeid))
        ):
            raise pytest.Collector.CollectError(problem)
        choices = [name or pytest.param("", id=pytest.HIDDEN_PARAM) for name in names]
        metafunc.parametrize(ATTEMPT_FIXTURE, choices, indirect=True)


def tasks(items: Sequence[object], session: Session) -> list[object]:
    """The items of one function, its tasks checked; a CollectError names file, task and mend."""
    made: list[object] = []
    for item in items:
        if not isinstance(item, pytest.Function) or item.get_closest_marker("diffbench") is None:
            made.append(item)
            continue
        attempt = _attempt(item)
        try:
            demand = _demand(item, session, task_id(_without_attempt(item, attempt)))
        except TaskError as error:
            raise pytest.Collector.CollectError(f"diffbench: {item.path}: task {item.name}: {error}") from None
        if session.answers(demand, attempt):
            first = session.nodes.setdefault((demand.task_id, attempt), item.nodeid)
            if first != item.nodeid:  # an answer's file would mean both
                raise pytest.Collector.CollectError(
                    f"diffbench: {first} and {item.nodeid} share the task id {demand.task_id!r}: rename one"
                )
            item.stash[DEMAND] = demand
            item.stash[ATTEMPT] = attempt
            if demand.task.level is not None:
                item.add_marker(f"level{demand.task.level}")
            made.append(item)
    return made


def _attempt(item: pytest.Function) -> str:
    return str(item.callspec.params.get(ATTEMPT_FIXTURE, "")) if hasattr(item, "callspec") else ""


def _without_attempt(item: pytest.Function, attempt: str) -> str:
    """The node id of the task itself: 'test_x[a-plan_1]' and 'test_x[plan_1]' answer 'test_x[a]' and 'test_x'."""
    if not attempt:
        return item.nodeid
    return item.nodeid.removesuffix(f"[{attempt}]").replace(f"-{attempt}]", "]")


def longest_first(items: list[pytest.Item], seconds: Mapping[str, float]) -> None:
    """Order tasks so that no worker begins a long one when the others are done; what is not known goes first.

    The others stay as they are: neighbours share a baseline's process.
    """
    # imported here: slow, and needed by spread runs only
    import statistics

    ordinary_s = LONG * statistics.median_low(seconds.values()) if seconds else 0.0

    def ahead(item: pytest.Item) -> float:
        if DEMAND not in item.stash:
            return -1.0
        expected_s = seconds.get(item.stash[DEMAND].task_id, math.inf)
        return expected_s if expected_s > ordinary_s else 0.0

    items.sort(key=ahead, reverse=True)  # stable: of equals the first stays first


def task_id(nodeid: str) -> str:
    """A name for files: last folder, module and test of a node id, without 'test_', joined by '-'."""
    path, _, name = nodeid.partition("::")
    parts = PurePosixPath(path)
    words = [parts.parent.name, parts.stem.removeprefix("test_"), *(w.removeprefix("test_") for w in name.split("::"))]
    return re.sub(r"[^\w.+-]+", "-", "-".join(word for word in words if word)).strip("-")


def _demand(item: pytest.Function, session: Session, name: str) -> Demand:
    task = _task(item)
    used = [stage for stage in STAGES if stage in item.fixturenames]
    if not used:
        raise TaskError(f"the test asks for none of the fixtures {', '.join(STAGES)}: nothing would be measured")
    for marker, fixture in NEEDED_FIXTURE.items():
        if item.get_closest_marker(marker) is not None and fixture not in used:
            raise TaskError(f"the marker {marker!r} needs the fixture {fixture!r}: add it to the test's arguments")
    demand = resolve(
        task,
        Markers(
            speed=_declared(item, "speed", SpeedDemand),
            latency=_declared(item, "latency", LatencyDemand),
            quality=_declared(item, "quality", QualityDemand) or QualityDemand(),
            executability=_declared(item, "executability", ExecutabilityDemand) or ExecutabilityDemand(),
        ),
        task_id=name,
        summary=_summary(item),
        folder=item.path.parent,
        known_models=session.models,
        known_methods=session.methods,
    )
    return session.with_target(demand)


def _task(item: pytest.Function) -> Task:
    markers = list(item.iter_markers("diffbench"))
    arguments = [*markers[0].args, *markers[0].kwargs.values()]
    if len(arguments) != 1 or not isinstance(arguments[0], Task):
        given = ", ".join(type(argument).__name__ for argument in arguments) or "nothing"
        raise TaskError(f"the marker diffbench holds {given}; give one Task: @pytest.mark.diffbench(Task('sd15'))")
    return arguments[0]


def _declared(item: pytest.Function, name: str, kind: type[_Declared]) -> _Declared | None:
    marker = item.get_closest_marker(name)
    if marker is None:
        return None
    try:
        return kind(*marker.args, **marker.kwargs)
    except TypeError as error:
        parameters = ", ".join(inspect.signature(kind).parameters)
        raise TaskError(f"the marker {name} takes {parameters}: {error}") from error


def _summary(item: pytest.Function) -> str:
    """What the test says of itself, else what its module says."""
    for thing in _documented(item):
        text = inspect.getdoc(thing)
        if text:
            return text
    return ""


def _documented(item: pytest.Function) -> Iterator[object]:
    yield item.obj
    if item.cls is not None:
        yield item.cls
    if item.module is not None:
        yield item.module
