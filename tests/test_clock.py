"""In which order the arms run, and what their times are turned into; no real time passes here."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench.clock import Pair, evidence, measure, percentile, quartiles
from pytest_diffbench.demand import LatencyDemand, Markers, SpeedDemand
from pytest_diffbench.isolation import Reply
from pytest_diffbench.wire import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SECONDS = st.floats(1e-4, 1e4)
TIMES = st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=15)


@dataclass(frozen=True)
class Event:
    """One thing that an arm was told to do."""

    arm: str
    what: str
    requests: tuple[Request, ...] = ()


@dataclass
class Arm:
    """An arm that answers at once with no image, and writes down what it is told."""

    name: str
    elapsed_s: float
    log: list[Event]
    running: bool = True
    timeouts_s: list[float] = field(default_factory=list)

    def generate(self, requests: Sequence[Request], *, timeout_s: float) -> Reply:
        """No image, in always the same time."""
        self.timeouts_s.append(timeout_s)
        self.log.append(Event(self.name, "generate", tuple(requests)))
        return Reply((), self.elapsed_s)

    def pause(self) -> None:
        """From here on it is not running."""
        self.running = False
        self.log.append(Event(self.name, "pause"))

    def resume(self) -> None:
        """From here on it is running."""
        self.running = True
        self.log.append(Event(self.name, "resume"))

    def peak_memory_bytes(self) -> int:
        """None at all."""
        return 0


class Bench:
    """Two arms with one log, and a source of requests that never repeats."""

    def __init__(self) -> None:
        self.log: list[Event] = []
        self.baseline, self.candidate = Arm("B", 2.0, self.log), Arm("C", 1.0, self.log)
        self._seeds = itertools.count()

    def draw(self) -> tuple[Request, ...]:
        """Two requests with seeds that never were."""
        return tuple(Request("a fox", next(self._seeds), 64, 64, 50) for _ in range(2))

    def turns(self) -> list[Event]:
        """The calls alone."""
        return [event for event in self.log if event.what == "generate"]


@pytest.fixture
def bench() -> Bench:
    """A fresh pair of arms."""
    return Bench()


def _pairs(times: Sequence[tuple[float, float]]) -> list[Pair]:
    return [Pair((), Reply((), baseline), Reply((), candidate), "B") for baseline, candidate in times]


def _speedup(times: Sequence[tuple[float, float]]) -> float:
    return evidence(_pairs(times), Markers(), peak_memory_ratio=1.0).speedup


@pytest.mark.parametrize(("first", "order"), [(False, "BCCBBCCB"), (True, "CBBCCBBC")], ids=["B first", "C first"])
def test_the_arms_alternate_in_abba_order(first: bool, order: str, bench: Bench) -> None:  # noqa: FBT001 (a table's column)
    """Each pair starts with the arm that the last one ended with, so that a drift meets both arms alike."""
    pairs = measure(
        bench.baseline, bench.candidate, bench.draw, pairs=4, timeout_s=9, candidate_first=first, warm_ups=0
    )

    assert "".join(event.arm for event in bench.turns()) == order
    assert "".join(pair.first for pair in pairs) == order[::2]


def test_every_pair_holds_its_own_arms_times(bench: Bench) -> None:
    """Whichever arm went first, the baseline's time is the baseline's."""
    pairs = measure(bench.baseline, bench.candidate, bench.draw, pairs=4, timeout_s=9)

    assert [(pair.baseline.elapsed_s, pair.candidate.elapsed_s, pair.ratio) for pair in pairs] == [(2.0, 1.0, 2.0)] * 4


def test_each_call_is_bracketed_by_resume_and_pause(bench: Bench) -> None:
    """An arm goes on right before its call, and is stopped right after it."""
    measure(bench.baseline, bench.candidate, bench.draw, pairs=3, timeout_s=9)

    assert [event.what for event in bench.log[:2]] == ["pause", "pause"]
    turns = [bench.log[i : i + 3] for i in range(2, len(bench.log), 3)]
    assert all([event.what for event in turn] == ["resume", "generate", "pause"] for turn in turns)
    assert all(len({event.arm for event in turn}) == 1 for turn in turns)


def test_only_one_arm_runs_at_a_time(bench: Bench) -> None:
    """While one arm answers, the other is stopped; in the end both are."""
    running_then: list[tuple[bool, bool]] = []
    answer = bench.baseline.generate, bench.candidate.generate

    def watched(generate: Callable[..., Reply]) -> Callable[..., Reply]:
        def call(requests: Sequence[Request], *, timeout_s: float) -> Reply:
            running_then.append((bench.baseline.running, bench.candidate.running))
            return generate(requests, timeout_s=timeout_s)

        return call

    bench.baseline.generate, bench.candidate.generate = watched(answer[0]), watched(answer[1])  # type: ignore[method-assign]
    measure(bench.baseline, bench.candidate, bench.draw, pairs=2, timeout_s=9, warm_ups=0)

    assert running_then == [(True, False), (False, True), (False, True), (True, False)]
    assert (bench.baseline.running, bench.candidate.running) == (False, False)


def test_both_arms_answer_the_same_requests(bench: Bench) -> None:
    """A pair compares like with like, and keeps the requests for the judge."""
    pairs = measure(bench.baseline, bench.candidate, bench.draw, pairs=3, timeout_s=9, warm_ups=0)

    turns = bench.turns()
    assert [turn.requests for turn in turns[::2]] == [turn.requests for turn in turns[1::2]]
    assert [pair.requests for pair in pairs] == [turn.requests for turn in turns[::2]]


def test_no_request_comes_twice(bench: Bench) -> None:
    """Every pair and every warm-up draws anew: what an arm has seen before is never timed."""
    pairs = measure(bench.baseline, bench.candidate, bench.draw, pairs=3, timeout_s=9, warm_ups=2)

    warm_ups = [turn.requests for turn in bench.turns()[:4]]
    seeds = [request.seed for requests in [*warm_ups, *(pair.requests for pair in pairs)] for request in requests]
    assert len(set(seeds)) == len(seeds) == 2 * (4 + 3)


def test_warm_ups_come_first_and_are_not_counted(bench: Bench) -> None:
    """Each arm is warmed up as often as asked for before anything is timed."""
    pairs = measure(bench.baseline, bench.candidate, bench.draw, pairs=2, timeout_s=9, warm_ups=3)

    assert "".join(turn.arm for turn in bench.turns()[:6]) == "BBBCCC"
    assert len(pairs) == 2


def test_every_call_has_the_time_limit(bench: Bench) -> None:
    """Neither arm, warm or not, may take longer than the task allows."""
    measure(bench.baseline, bench.candidate, bench.draw, pairs=2, timeout_s=9)

    assert (bench.baseline.timeouts_s, bench.candidate.timeouts_s) == ([9, 9, 9], [9, 9, 9])


def test_an_arm_that_fails_is_stopped_too(bench: Bench) -> None:
    """When a call raises, the arm does not go on beside whatever comes next."""

    def fail(requests: Sequence[Request], *, timeout_s: float) -> Reply:
        raise EOFError(len(requests), timeout_s)

    bench.candidate.generate = fail  # type: ignore[method-assign]

    with pytest.raises(EOFError):
        measure(bench.baseline, bench.candidate, bench.draw, pairs=1, timeout_s=9)
    assert (bench.baseline.running, bench.candidate.running) == (False, False)


@given(TIMES)
@settings(deadline=None)
def test_exchanging_the_arms_inverts_the_speedup(times: list[tuple[float, float]]) -> None:
    """Neither arm is favoured: twice as fast one way is half as fast the other way."""
    exchanged = [(candidate, baseline) for baseline, candidate in times]

    assert _speedup(exchanged) == pytest.approx(1 / _speedup(times))


@given(st.lists(SECONDS, min_size=1, max_size=15))
@settings(deadline=None)
def test_equal_times_are_no_speedup(times: list[float]) -> None:
    """An answer that takes what the baseline takes has a speed-up of exactly 1, without spread."""
    speed = evidence(_pairs([(seconds, seconds) for seconds in times]), Markers(), peak_memory_ratio=1.0)

    assert (speed.speedup_low, speed.speedup, speed.speedup_high) == (1, 1, 1)


@given(TIMES, st.floats(0.1, 10))
@settings(deadline=None)
def test_a_slower_machine_changes_no_speedup(times: list[tuple[float, float]], factor: float) -> None:
    """The speed-up is free of the unit: all times stretched alike leave it where it was."""
    stretched = [(factor * baseline, factor * candidate) for baseline, candidate in times]

    assert _speedup(stretched) == pytest.approx(_speedup(times))


def test_one_disturbed_pair_does_not_move_the_speedup() -> None:
    """The speed-up is the median of the pairs' ratios, not the ratio of sums."""
    assert _speedup([(2, 1), (2, 1), (2, 1), (2, 1), (2, 1000)]) == 2


@given(TIMES)
@settings(deadline=None)
def test_the_evidence_keeps_what_was_measured(times: list[tuple[float, float]]) -> None:
    """Every time of both arms is on record, in order, with the middle half of the ratios around the speed-up."""
    speed = evidence(_pairs(times), Markers(), peak_memory_ratio=1.25)

    assert list(zip(speed.baseline_s, speed.candidate_s, strict=True)) == times
    assert speed.speedup_low <= speed.speedup <= speed.speedup_high
    assert (speed.order, speed.peak_memory_ratio) == ("B" * len(times), 1.25)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 100))
@settings(deadline=None)
def test_a_percentile_is_numpys(values: list[float], percent: float) -> None:
    """Linear interpolation, as numpy's default has it."""
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), abs=1e-6)


def test_quartiles_are_three_percentiles() -> None:
    """First quartile, median and third quartile of one to five, in any order."""
    assert quartiles([5, 1, 4, 2, 3]) == (2, 3, 4)


TIMED = [(4.0, 1.0), (5.0, 2.0), (6.0, 6.0)]


def test_a_demanded_speedup_is_on_record() -> None:
    """What was demanded stands beside what was measured; without a latency there is no limit."""
    speed = evidence(_pairs(TIMED), Markers(speed=SpeedDemand(at_least=1.8)), peak_memory_ratio=1.0)

    assert (speed.demanded_speedup, speed.demanded_latency_s, speed.speedup) == (1.8, None, 2.5)


def test_without_a_demand_the_latency_is_the_median() -> None:
    """Speed is reported where nothing is demanded, too."""
    speed = evidence(_pairs(TIMED), Markers(), peak_memory_ratio=1.0)

    assert (speed.latency_s, speed.demanded_latency_s, speed.demanded_speedup) == (2.0, None, None)


def test_a_latency_in_seconds_is_taken_as_it_is() -> None:
    """The limit is the task's, the latency the candidate's at the demanded percentile."""
    markers = Markers(latency=LatencyDemand(at_most_s=0.9, percentile=100))

    speed = evidence(_pairs(TIMED), markers, peak_memory_ratio=1.0)
    assert (speed.latency_s, speed.demanded_latency_s) == (6.0, 0.9)


def test_a_latency_as_a_share_is_of_the_baselines_median() -> None:
    """`at_most_of_baseline` becomes seconds on this machine."""
    markers = Markers(latency=LatencyDemand(at_most_of_baseline=0.5))

    speed = evidence(_pairs(TIMED), markers, peak_memory_ratio=1.0)
    assert speed.demanded_latency_s == 0.5 * statistics.median([4.0, 5.0, 6.0])
