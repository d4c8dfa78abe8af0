"""What the last look asks, what it makes of the answers, and what it lets be."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from pytest_diffbench.clock import Pair
from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.inspection import MOST_CALLS, Inspection, mean_difference
from pytest_diffbench.isolation import Reply
from pytest_diffbench.records import Cause, Observation
from pytest_diffbench.requests import Requests
from pytest_diffbench.wire import Record, Request
from tests.test_agreement import _demand
from tests.test_comparison import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.isolation import Sandbox

SEEN = Observation("UNet2DConditionModel", 16, 32, 16, 2, 8, 8, 1000, 1e9)
RECORD = Record("", "", "", 0, "UNet2DConditionModel", 16, 32, 16, 2, 8, 8, 1000)


def _task(level: int = 1, **more: object) -> Demand:
    return _demand(level, **({"sampler": "ddim", "steps": 16} | more))


class Solver:
    """A sandbox whose calls take as long as it is told: `plain_s`, or `watched_s` where somebody looks."""

    def __init__(self, plain_s: float, watched_s: float = 0.0, record: Record = RECORD, image: int = 0) -> None:
        self.calls: list[str] = []
        self._seconds = {"plain": plain_s, "watched": watched_s}
        self._record = record
        self._image = np.full((2, 2, 3), image, np.uint8)
        self._rng = random.Random(0)

    def _took(self, kind: str) -> float:
        self.calls.append(kind)
        return self._seconds[kind] * self._rng.uniform(0.98, 1.02)

    def generate(self, requests: Sequence[Request], *, timeout_s: float) -> Reply:
        """A flat image for each request."""
        del timeout_s
        return Reply(tuple(self._image for _ in requests), self._took("plain"))

    def watch(self, requests: Sequence[Request], *, timeout_s: float) -> tuple[Record, float]:
        """The record."""
        del requests, timeout_s
        return self._record, self._took("watched")


def _inspection(demand: Demand, source: str = "", record: Callable[..., None] = lambda *_: None) -> Inspection:
    return Inspection(
        demand,
        source,
        requests=lambda name: Requests(demand, WEIGHTS, random.Random(name)),
        call_timeout_s=1.0,
        say=lambda _: None,
        record=record,
    )


def _look_away(solver: Solver, demand: Demand, seen: Observation = SEEN, source: str = "") -> None:
    _inspection(demand, source).look_away(cast("Sandbox", solver), seen, SEEN)


def test_steps_for_show_take_time() -> None:
    """All sixteen when somebody looks, twelve of them else."""
    with pytest.raises(SolutionFault, match=r"1\.3\d times as long when its denoiser is looked at") as caught:
        _look_away(Solver(0.75, 1.0), _task())

    assert caught.value.cause is Cause.KEY_ATTRIBUTE


def test_an_honest_solution_pays_six_calls() -> None:
    """In turn; hooks may cost a little."""
    solver = Solver(1.0, 1.03)

    _look_away(solver, _task())

    assert solver.calls == ["plain", "watched"] * 3


def test_calls_that_are_seen_now_must_be_those_demanded() -> None:
    """Who tells a long look from a short one and makes fewer steps in the short one is seen by it."""
    fewer = Record("", "", "", 0, "UNet2DConditionModel", 12, 24, 12, 2, 8, 8, 1000)

    with pytest.raises(SolutionFault, match="called 12 times; the 16 steps that the task demands take 16 calls"):
        _look_away(Solver(1.0, 1.0, fewer), _task())


def test_a_fixed_schedule_takes_its_calls_too() -> None:
    """Whatever is computed in a step, each one calls the denoiser: fewer steps under another name are seen."""
    fewer = Record("", "", "", 0, "UNet2DConditionModel", 12, 24, 12, 2, 8, 8, 1000)

    with pytest.raises(SolutionFault, match="called 12 times; the 16 steps that the task demands take 16 calls"):
        _look_away(Solver(1.0, 1.0, fewer), _task(4, fixed_schedule=True))


def test_a_denoiser_may_not_hide_from_the_short_look() -> None:
    """The very modules that were called in the long one are looked at."""
    with pytest.raises(SolutionFault, match="called 16 times in one look, and not at all in another"):
        _look_away(Solver(1.0, 1.0, Record()), _task())


@pytest.mark.parametrize(
    ("demand", "seen", "source"),
    [
        (_task(4), SEEN, ""),
        (_task(2, sampler=None, methods=["skip_steps"]), SEEN, ""),
        (_task(), Observation(), ""),
        (_task(), SEEN, "pipeline.unet = torch.compile(pipeline.unet)"),
    ],
    ids=["free steps", "a method that leaves calls out", "nothing seen", "compiled"],
)
def test_where_no_calls_are_demanded_or_seen_nobody_looks(demand: Demand, seen: Observation, source: str) -> None:
    """There is nothing to show off; compiled code runs as it was written when it is looked at."""
    solver = Solver(0.75, 1.0)

    _look_away(solver, demand, seen, source)

    assert solver.calls == []


def _change_model(solver: Solver, timed_image: int = 0, slowest_s: float = 1.0) -> None:
    demand = _task(4)
    image = np.full((2, 2, 3), timed_image, np.uint8)
    pair = Pair(Requests(demand, WEIGHTS).batch(), Reply((image,), 9.0), Reply((image,), slowest_s), "B")
    _inspection(demand).change_model(cast("Sandbox", solver), pair, slowest_s)


def test_images_that_do_not_need_the_model_are_not_its() -> None:
    """Three levels are grain; a model in disorder makes something else altogether."""
    with pytest.raises(SolutionFault, match=r"change by 3\.0 of 255 levels") as caught:
        _change_model(Solver(1.0, image=103), timed_image=100)

    assert caught.value.cause is Cause.KEY_ATTRIBUTE
    _change_model(Solver(1.0, image=140), timed_image=100)


def test_who_asks_the_model_only_now_takes_longer() -> None:
    """It is asked some more times: a process that was just started may be slow."""
    solver = Solver(2.5, image=200)

    with pytest.raises(SolutionFault, match=r"takes 2\.\d+ s, 1 s at most when timed"):
        _change_model(solver)

    assert len(solver.calls) == MOST_CALLS


def test_one_slow_call_after_a_start_is_nothing() -> None:
    """The first one that is as fast as it was ends it."""

    class Starting(Solver):
        def __init__(self) -> None:
            super().__init__(1.0, image=200)
            self._pace: Iterator[float] = iter([5.0, 3.0, 1.1])

        def _took(self, kind: str) -> float:
            self.calls.append(kind)
            return next(self._pace)

    solver = Starting()
    _change_model(solver)

    assert len(solver.calls) == 3


def test_the_difference_of_several_images_is_the_least() -> None:
    """One image of a batch that does not change is one too many; and bytes do not wrap around."""
    dark, light = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 250, np.uint8)

    assert mean_difference([dark, light], [light, dark]) == 250
    assert mean_difference([dark, light], [light, light]) == 0


def test_what_was_found_is_recorded() -> None:
    """For whoever wonders why a solution did not pass, or did."""
    kept: list[tuple[str, Any]] = []
    inspection = _inspection(_task(), record=lambda kind, body: kept.append((kind, body)))

    inspection.look_away(cast("Sandbox", Solver(1.0, 1.0)), SEEN, SEEN)

    ((kind, body),) = kept
    assert kind == "inspected"
    assert [len(body[name]) for name in ("watched_s", "unwatched_s")] == [3, 3]
