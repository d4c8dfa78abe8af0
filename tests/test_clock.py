"""In which order the arms run, which pairs count, and what their times are turned into; no real time passes here."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_diffbench.clock import Pair, Trial, decide, evidence, percentile
from pytest_diffbench.demand import LatencyDemand, Markers, SpeedDemand
from pytest_diffbench.devices import Conditions
from pytest_diffbench.errors import SetupError
from pytest_diffbench.isolation import Reply
from pytest_diffbench.records import Outcome, plain
from pytest_diffbench.wire import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from pytest_diffbench.records import Speed

    Draw: TypeAlias = Callable[[], tuple[Request, ...]]

SECONDS = st.floats(1e-4, 1e4)
TIMES = st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=15)
WELL = Conditions()
OPPOSITE = {Outcome.ABOVE: Outcome.BELOW, Outcome.BELOW: Outcome.ABOVE, Outcome.OPEN: Outcome.OPEN}


@dataclass(frozen=True)
class Event:
    """One thing that an arm, or the watch, was told to do."""

    who: str
    what: str
    requests: tuple[Request, ...] = ()


@dataclass
class Arm:
    """An arm that answers at once with no image, and writes down what it is told."""

    name: str
    seconds: Iterator[float]
    log: list[Event]
    running: bool = True
    timeouts_s: list[float] = field(default_factory=list)

    def generate(self, requests: Sequence[Request], *, timeout_s: float) -> Reply:
        """No image, in the next of its times."""
        self.timeouts_s.append(timeout_s)
        self.log.append(Event(self.name, "generate", tuple(requests)))
        return Reply((), next(self.seconds))

    def pause(self) -> None:
        """From here on it is not running."""
        self.running = False
        self.log.append(Event(self.name, "pause"))

    def resume(self) -> None:
        """From here on it is running."""
        self.running = True
        self.log.append(Event(self.name, "resume"))


@dataclass
class Watch:
    """A watch that sees what the test says, by the number of the call; all is well around every other call."""

    log: list[Event]
    around: Mapping[int, tuple[Conditions, Conditions]] = field(default_factory=dict)
    always: tuple[Conditions, Conditions] = (WELL, WELL)
    calls: int = -1

    def before(self) -> Conditions:
        """What this call begins with."""
        self.calls += 1
        self.log.append(Event("watch", "before"))
        return self.around.get(self.calls, self.always)[0]

    def after(self) -> Conditions:
        """What this call ends with."""
        self.log.append(Event("watch", "after"))
        return self.around.get(self.calls, self.always)[1]

    def memory_bytes(self, pid: int) -> int | None:  # noqa: ARG002 (the protocol's)
        """Nothing is known."""
        return None


class Bench:
    """Two arms and a watch with one log, and a source of requests that never repeats."""

    def __init__(self) -> None:
        self.log: list[Event] = []
        self.baseline = Arm("B", itertools.repeat(2.0), self.log)
        self.candidate = Arm("C", itertools.repeat(1.0), self.log)
        self.watch = Watch(self.log)
        self._seeds = itertools.count()

    def trial(self, *, candidate_first: bool = False) -> Trial:
        """Both arms with nine seconds a call."""
        return Trial(self.baseline, self.candidate, timeout_s=9, candidate_first=candidate_first, watch=self.watch)

    def take(self, *, baseline: Iterable[float] | None = None, candidate: Iterable[float] | None = None) -> None:
        """Give an arm times of its own; the last one is kept to."""
        for arm, given_s in ((self.baseline, baseline), (self.candidate, candidate)):
            if given_s is not None:
                seconds = list(given_s)
                arm.seconds = itertools.chain(seconds, itertools.repeat(seconds[-1]))

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
    return _evidence(times).speedup


def _evidence(times: Sequence[tuple[float, float]], markers: Markers | None = None) -> Speed:
    return evidence([_pairs(times)], markers or Markers())


def _at_least(speedup: float) -> Markers:
    return Markers(speed=SpeedDemand(at_least=speedup))


def _around(ratio: float, count: int, deviation: float = 0.01) -> list[tuple[float, float]]:
    """Times of so many pairs, their ratios spread evenly about one."""
    return [(ratio * math.exp(deviation * shift), 1.0) for shift in np.linspace(-1, 1, count)]


# -- the order of things ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "order"), [(False, "BCCBBCCB"), (True, "CBBCCBBC")], ids=["B first", "C first"])
def test_the_arms_alternate_in_abba_order(first: bool, order: str, bench: Bench) -> None:  # noqa: FBT001 (a table's column)
    """Each pair starts with the arm that the last one ended with, so that a drift meets both arms alike."""
    trial = bench.trial(candidate_first=first)
    trial.extend(4, bench.draw)

    assert "".join(event.who for event in bench.turns()) == order
    assert "".join(pair.first for pair in trial.pairs) == order[::2]


def test_evidence_is_recorded_while_nothing_is_timed(bench: Bench) -> None:
    """Warm-up calls, pairs, and pairs that are timed again: each once, at a moment when both arms are stopped."""
    recorded: list[tuple[str, object]] = []

    def record(kind: str, body: Mapping[str, object]) -> None:
        assert not (bench.baseline.running)
        assert not (bench.candidate.running)
        recorded.append((kind, body.get("timed_again")))

    bench.watch.around = {6: (Conditions(idle=False), WELL)}
    trial = Trial(bench.baseline, bench.candidate, timeout_s=9, watch=bench.watch, record=record)
    trial.warm_up(bench.draw)
    trial.extend(4, bench.draw)

    kinds = [kind for kind, _ in recorded]
    assert kinds == ["warm-up"] * 2 + ["pair"] * 5
    assert len([again for kind, again in recorded if kind == "pair" and again]) == 1
    assert sum(trial.repeated.values()) == 1


def test_every_pair_holds_its_own_arms_times(bench: Bench) -> None:
    """Whichever arm went first, the baseline's time is the baseline's."""
    trial = bench.trial()
    trial.extend(4, bench.draw)

    found = [(pair.baseline.elapsed_s, pair.candidate.elapsed_s, pair.ratio) for pair in trial.pairs]
    assert found == [(2.0, 1.0, 2.0)] * 4


def test_each_call_is_bracketed_by_resume_and_pause(bench: Bench) -> None:
    """The device is looked at around each call, with the arm stopped, and the arm goes on for its call alone."""
    trial = bench.trial()
    assert bench.log == [Event("B", "pause"), Event("C", "pause")]
    trial.warm_up(bench.draw)
    trial.extend(3, bench.draw)

    turns = [bench.log[i : i + 5] for i in range(2, len(bench.log), 5)]
    assert len(turns) == 2 * (2 + 3)
    for looked, resumed, called, paused, looked_again in turns:
        assert (looked, looked_again) == (Event("watch", "before"), Event("watch", "after"))
        assert [resumed.what, called.what, paused.what] == ["resume", "generate", "pause"]
        assert resumed.who == called.who == paused.who


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
    bench.trial().extend(2, bench.draw)

    assert running_then == [(True, False), (False, True), (False, True), (True, False)]
    assert (bench.baseline.running, bench.candidate.running) == (False, False)


def test_both_arms_answer_the_same_requests(bench: Bench) -> None:
    """A pair compares like with like, warm-up included, and keeps the requests for the judge."""
    trial = bench.trial()
    trial.warm_up(bench.draw)
    trial.extend(3, bench.draw)

    turns = bench.turns()
    assert [turn.requests for turn in turns[::2]] == [turn.requests for turn in turns[1::2]]
    assert [pair.requests for pair in trial.pairs] == [turn.requests for turn in turns[4::2]]


def test_no_request_comes_twice(bench: Bench) -> None:
    """Every warm-up, every pair, and every pair that is timed again draws anew: what was seen before is not timed."""
    bench.watch.around = {5: (WELL, Conditions(foreign_processes=(7,)))}
    trial = bench.trial()
    trial.warm_up(bench.draw)
    trial.extend(3, bench.draw)

    asked = [turn.requests for turn in bench.turns()[::2]]
    seeds = [request.seed for requests in asked for request in requests]
    assert len(set(seeds)) == len(seeds) == 2 * (2 + 3 + 1)


def test_pairs_are_added_to_those_that_are_there(bench: Bench) -> None:
    """A later look asks for more pairs: nothing is timed twice, the order goes on, and fewer are no call at all."""
    trial = bench.trial()
    trial.extend(1, bench.draw)
    earlier = trial.pairs
    trial.extend(4, bench.draw)
    trial.extend(2, bench.draw)

    assert len(trial.pairs) == 4
    assert trial.pairs[:1] == earlier
    assert "".join(turn.who for turn in bench.turns()) == "BCCBBCCB"


def test_every_call_has_the_time_limit(bench: Bench) -> None:
    """Neither arm, warm or not, may take longer than the task allows."""
    trial = bench.trial()
    trial.warm_up(bench.draw)
    trial.extend(2, bench.draw)
    trial.ask_baseline(bench.draw())
    trial.ask_candidate(bench.draw())

    assert (bench.baseline.timeouts_s, bench.candidate.timeouts_s) == ([9] * 5, [9] * 5)


def test_what_is_asked_beside_the_pairs_does_not_count(bench: Bench) -> None:
    """A single question goes to one arm, which is stopped again; the pairs and their order are as if it never was."""
    trial = bench.trial()
    trial.extend(1, bench.draw)
    asked = bench.draw()
    replies = trial.ask_baseline(asked).elapsed_s, trial.ask_candidate(asked).elapsed_s
    trial.extend(2, bench.draw)

    assert replies == (2.0, 1.0)
    assert "".join(turn.who for turn in bench.turns()) == "BC" + "BC" + "CB"
    assert [turn.requests for turn in bench.turns()[2:4]] == [asked, asked]
    assert (len(trial.pairs), bench.baseline.running, bench.candidate.running) == (2, False, False)


@pytest.mark.parametrize("doing", ["warm_up", "extend", "ask_candidate"])
def test_an_arm_that_fails_is_stopped_too(doing: str, bench: Bench) -> None:
    """When a call raises, the arm does not go on beside whatever comes next."""

    def fail(requests: Sequence[Request], *, timeout_s: float) -> Reply:
        raise EOFError(len(requests), timeout_s)

    bench.candidate.generate = fail  # type: ignore[method-assign]
    trial = bench.trial()
    do: dict[str, Callable[[Draw], object]] = {
        "warm_up": trial.warm_up,
        "extend": lambda draw: trial.extend(1, draw),
        "ask_candidate": lambda draw: trial.ask_candidate(draw()),
    }

    with pytest.raises(EOFError):
        do[doing](bench.draw)
    assert Event("C", "resume") in bench.log
    assert (bench.baseline.running, bench.candidate.running) == (False, False)
    assert trial.pairs == ()


@pytest.mark.parametrize("elapsed_s", [math.nan, 0.0, math.inf, -0.5, -math.inf])
@pytest.mark.parametrize("arm", ["baseline", "candidate"])
@pytest.mark.parametrize("doing", ["warm_up", "extend"])
def test_a_clock_that_cannot_be_right_is_the_machines_fault(
    doing: str, arm: str, elapsed_s: float, bench: Bench
) -> None:
    """No time at all, a step backwards, or no number: said so, rather than turned into a speed-up or a verdict."""
    bench.take(**{arm: [elapsed_s]})
    trial = bench.trial()
    do: dict[str, Callable[[Draw], object]] = {"warm_up": trial.warm_up, "extend": lambda draw: trial.extend(1, draw)}

    with pytest.raises(SetupError, match=f"the clock gave {elapsed_s} s for a call: .*clock is broken"):
        do[doing](bench.draw)
    assert trial.pairs == ()
    assert (bench.baseline.running, bench.candidate.running) == (False, False)


# -- warming up -------------------------------------------------------------------------------------------------------

WARMING = {
    "steady": ([2.0], [1.0], 2),
    "getting slower": ([1.0, 2.0, 4.0], [1.0, 2.0, 4.0], 2),
    "faster by just the limit": ([1.0, 0.95], [1.0], 2),
    "faster by more": ([1.0, 0.94, 0.94], [1.0], 3),
    "candidate compiles": ([2.0], [60.0, 9.0, 1.0, 1.0], 4),
    "baseline compiles": ([60.0, 2.0, 2.0], [1.0], 3),
    "first one, then the other": ([2.0, 1.0, 1.0, 1.0, 1.0], [4.0, 4.0, 2.0, 2.0], 4),
    "never warm": ([2.0], [32.0, 16.0, 8.0, 4.0, 2.0, 1.0, 0.5], 5),
}


@pytest.mark.parametrize(("baseline", "candidate", "calls"), WARMING.values(), ids=WARMING)
def test_warming_up_goes_on_until_neither_arm_gets_faster(
    baseline: list[float], candidate: list[float], calls: int, bench: Bench
) -> None:
    """Two calls of each arm, or as many as it takes while one of them gains more than 5 %, but never more than five."""
    bench.take(baseline=baseline, candidate=candidate)
    trial = bench.trial()
    trial.warm_up(bench.draw)

    assert [len(seconds) for seconds in trial.warm_up_s] == [calls, calls]
    assert "".join(turn.who for turn in bench.turns()) == "BC" * calls


def test_warm_ups_are_not_counted(bench: Bench) -> None:
    """What an arm took to warm up is kept for its cost, and is in no pair."""
    bench.take(baseline=[5.0, 2.0, 2.0], candidate=[9.0, 3.0, 1.0, 1.0])
    trial = bench.trial()
    trial.warm_up(bench.draw)
    assert (trial.warm_up_s, trial.pairs) == (([5.0, 2.0, 2.0, 2.0], [9.0, 3.0, 1.0, 1.0]), ())

    trial.extend(2, bench.draw)
    assert [pair.ratio for pair in trial.pairs] == [2.0, 2.0]


# -- pairs that are timed again ---------------------------------------------------------------------------------------

BUSY, INTRUDED, THROTTLED = Conditions(idle=False), Conditions(foreign_processes=(7,)), Conditions(throttle_reasons=4)
DISTURBED = {
    "busy before": ((BUSY, WELL), "device not idle"),
    "intruded before": ((INTRUDED, WELL), "foreign process on the device"),
    "intruded after": ((WELL, INTRUDED), "foreign process on the device"),
    "throttled": ((WELL, THROTTLED), "clock throttled for one side only"),
}


@pytest.mark.parametrize("call", [2, 3], ids=["first of the pair", "second of the pair"])
@pytest.mark.parametrize(("seen", "cause"), DISTURBED.values(), ids=DISTURBED)
def test_a_disturbed_pair_is_timed_again(
    seen: tuple[Conditions, Conditions], cause: str, call: int, bench: Bench
) -> None:
    """Both sides of it, in the same order, with fresh requests; it is counted by its cause, and out of the evidence."""
    bench.watch.around = {call: seen}
    trial = bench.trial()
    trial.extend(4, bench.draw)

    assert dict(trial.repeated) == {cause: 1}
    turns = bench.turns()
    assert "".join(turn.who for turn in turns) == "BC" + "CB" + "CB" + "BC" + "CB"
    assert [pair.requests for pair in trial.pairs] == [turns[i].requests for i in (0, 4, 6, 8)]
    assert "".join(pair.first for pair in trial.pairs) == "BCBC"


def test_conditions_that_meet_both_sides_alike_are_no_cause(bench: Bench) -> None:
    """A card that is throttled all the time is throttled for both arms: their times compare."""
    bench.watch.always = (THROTTLED, THROTTLED)
    trial = bench.trial()
    trial.extend(4, bench.draw)

    assert (dict(trial.repeated), len(bench.turns())) == ({}, 8)


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=12))
@settings(deadline=None)
def test_no_pair_is_dropped_for_being_slow(times: list[tuple[float, float]]) -> None:
    """However long a call takes, if nothing else speaks against it its pair counts."""
    bench = Bench()
    bench.take(baseline=[baseline for baseline, _ in times], candidate=[candidate for _, candidate in times])
    trial = bench.trial()
    trial.extend(len(times), bench.draw)

    assert [(pair.baseline.elapsed_s, pair.candidate.elapsed_s) for pair in trial.pairs] == times
    assert trial.repeated.total() == 0


@given(st.lists(st.integers(1, 50), min_size=1, max_size=4).map(sorted))
@settings(deadline=None)
def test_at_most_a_quarter_of_the_pairs_is_timed_again(looks: list[int]) -> None:
    """A machine that is never quiet: one pair, or a quarter of those that count, then the pairs count as they are."""
    bench = Bench()
    bench.watch.always = (BUSY, WELL)
    trial = bench.trial()
    for count in looks:
        trial.extend(count, bench.draw)
        assert len(trial.pairs) == count
        assert 1 <= trial.repeated.total() <= max(1, count / 4)


@pytest.mark.parametrize(("count", "again"), [(1, 1), (4, 1), (8, 2), (16, 4), (24, 6)])
def test_a_quarter_of_the_pairs_may_be_timed_again(count: int, again: int, bench: Bench) -> None:
    """As long as pairs are disturbed the quarter is used up, and no more calls are made than it takes."""
    bench.watch.always = (BUSY, WELL)
    trial = bench.trial()
    trial.extend(count, bench.draw)

    assert (dict(trial.repeated), len(bench.turns())) == ({"device not idle": again}, 2 * (count + again))


def test_a_call_without_a_watch_is_never_disturbed(bench: Bench) -> None:
    """On a core there is nothing to ask: every pair counts."""
    trial = Trial(bench.baseline, bench.candidate, timeout_s=9)
    trial.extend(3, bench.draw)

    assert (len(trial.pairs), trial.repeated.total(), len(bench.turns())) == (3, 0, 6)
    assert [(pair.baseline_energy_j, pair.candidate_energy_j) for pair in trial.pairs] == [(None, None)] * 3


def test_a_pair_holds_what_each_side_cost_in_energy(bench: Bench) -> None:
    """Joules between the looks around a side's own call, whichever went first; None where a look had no counter."""

    def between(before_mj: int | None, after_mj: int | None) -> tuple[Conditions, Conditions]:
        return Conditions(energy_mj=before_mj), Conditions(energy_mj=after_mj)

    bench.watch.around = dict(enumerate([between(0, 5000), between(6000, 7500), between(0, 250), between(1000, None)]))
    trial = bench.trial()
    trial.extend(2, bench.draw)

    found = [(pair.baseline_energy_j, pair.candidate_energy_j) for pair in trial.pairs]
    assert found == [(5.0, 1.5), (None, 0.25)]


# -- what the pairs decide --------------------------------------------------------------------------------------------


def test_nothing_is_decided_where_nothing_is_demanded() -> None:
    """Without a speed or latency marker there is no claim."""
    assert decide(_pairs(_around(9.0, 8)), Markers()) is None
    assert (_evidence(_around(9.0, 8)).decision, _evidence(_around(9.0, 8)).decided_after) == (None, None)


@pytest.mark.parametrize(
    ("ratio", "outcome", "after"),
    [(2.2, Outcome.ABOVE, 4), (1.6, Outcome.BELOW, 4), (1.8, Outcome.OPEN, 12)],
    ids=["clearly faster", "clearly slower", "just as demanded"],
)
def test_a_demanded_speedup_is_decided_by_the_ratios(ratio: float, outcome: Outcome, after: int) -> None:
    """Four quiet pairs tell 2.2 and 1.6 from a demanded 1.8; twelve about the demand itself leave it open."""
    times = _around(ratio, 4) * 3
    speed = _evidence(times, _at_least(1.8))

    assert (speed.decision, speed.decided_after) == (outcome, after)
    decision = decide(_pairs(times), _at_least(1.8))
    assert decision is not None
    assert (decision.outcome, decision.decided_after) == (outcome, after)


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=24), st.floats(0.2, 5))
@settings(deadline=None)
def test_exchanging_the_arms_turns_the_decision_round(times: list[tuple[float, float]], demanded: float) -> None:
    """Whoever is called the baseline: at least R one way is at most 1/R the other way."""
    there = decide(_pairs(times), _at_least(demanded))
    back = decide(_pairs([(candidate, baseline) for baseline, candidate in times]), _at_least(1 / demanded))

    assert there is not None
    assert back is not None
    # ratios that hit the demand, or each other, up to rounding may fall on either side of it
    averages = sorted(
        (math.log(a[0] / a[1]) + math.log(b[0] / b[1])) / 2 - math.log(demanded)
        for a, b in itertools.combinations_with_replacement(times, 2)
    )
    assume(all(abs(average) > 1e-9 for average in averages))
    assert (back.outcome, back.decided_after) == (OPPOSITE[there.outcome], there.decided_after)


@pytest.mark.parametrize(
    ("candidate_s", "outcome", "after"), [(0.9, Outcome.ABOVE, 8), (1.1, Outcome.BELOW, 8)], ids=["kept", "missed"]
)
def test_a_latency_in_seconds_is_decided_by_the_calls_within_it(
    candidate_s: float, outcome: Outcome, after: int
) -> None:
    """The candidate's own calls against the limit, however fast the baseline was: eight show where the median lies."""
    markers = Markers(latency=LatencyDemand(at_most_s=1.0))

    assert decide(_pairs([(1.0, candidate_s)] * 7), markers) == decide(_pairs([(9.0, candidate_s)] * 7), markers)
    speed = _evidence([(9.0, candidate_s)] * 12, markers)
    assert (speed.decision, speed.decided_after) == (outcome, after)


def test_a_call_of_just_the_limit_is_within_it() -> None:
    """`at_most_s` says at most."""
    assert _evidence([(2.0, 1.0)] * 8, Markers(latency=LatencyDemand(at_most_s=1.0))).decision is Outcome.ABOVE


def test_a_median_as_share_of_the_baselines_is_decided_by_the_ratios() -> None:
    """On a machine that is now fast, now slow, each pair still shows that it took 45 % of the baseline's time.

    Half of the calls are beyond half of the baseline's median, so their number would show nothing.
    """
    times = [(second, 0.45 * share * second) for second, share in [(1.0, 1.0), (3.0, 1.01)] * 12]
    share = Markers(latency=LatencyDemand(at_most_of_baseline=0.5))
    speed = _evidence(times, share)

    assert (speed.decision, speed.decided_after) == (Outcome.ABOVE, 4)
    limit_s = speed.demanded_latency_s
    in_seconds = _evidence(times, Markers(latency=LatencyDemand(at_most_s=limit_s)))
    assert in_seconds.decision is Outcome.OPEN


def test_another_percentile_of_the_latency_is_decided_by_the_binomial_plan() -> None:
    """Forty calls within the limit show that nine in ten are; a tenth beyond it leaves that open."""
    share = Markers(latency=LatencyDemand(at_most_of_baseline=0.5, percentile=90))
    kept = _around(1.0, 50)
    fast = [(baseline, 0.4) for baseline, _ in kept]
    hiccups = [(baseline, 0.6 if index % 10 == 4 else 0.4) for index, (baseline, _) in enumerate(kept)]
    slow = [(baseline, 0.6) for baseline, _ in kept]

    found = [_evidence(times, share) for times in (fast, fast[:24], hiccups, slow)]
    assert [(speed.decision, speed.decided_after) for speed in found] == [
        (Outcome.ABOVE, 40),
        (Outcome.OPEN, 24),
        (Outcome.OPEN, 50),
        (Outcome.BELOW, 8),
    ]


JUST_FASTER = [(1.802 * math.exp(0.02 * side), 1.0) for side in [1, -1, -1, 1] * 6]


def test_a_borderline_decision_says_so() -> None:
    """Pairs that stay within 2 % of the demand to the last look: the estimate's side is taken, and flagged."""
    speed = _evidence(JUST_FASTER, _at_least(1.8))

    assert (speed.decision, speed.borderline, speed.decided_after) == (Outcome.ABOVE, True, 24)
    assert not _evidence(_around(2.2, 24), _at_least(1.8)).borderline


# -- several starts ---------------------------------------------------------------------------------------------------

FASTER, SLOWER, UNTOLD = _around(2.2, 4), _around(1.6, 4), _around(1.8, 4, deviation=0.5)
STARTS = {
    "all faster": ([FASTER, FASTER, FASTER], Outcome.ABOVE),
    "one untold": ([FASTER, UNTOLD, FASTER], Outcome.OPEN),
    "one slower": ([FASTER, FASTER, SLOWER], Outcome.BELOW),
    "slower and untold": ([UNTOLD, SLOWER, FASTER], Outcome.BELOW),
    "all untold": ([UNTOLD, UNTOLD, UNTOLD], Outcome.OPEN),
}


@pytest.mark.parametrize(("starts", "outcome"), STARTS.values(), ids=STARTS)
def test_every_start_must_say_the_same(starts: list[list[tuple[float, float]]], outcome: Outcome) -> None:
    """One start that misses the demand misses it, one that leaves it open leaves it open, in whatever order."""
    for order in itertools.permutations(starts):
        speed = evidence([_pairs(times) for times in order], _at_least(1.8))

        assert speed.decision is outcome
        assert speed.decided_after == sum(map(len, starts))


def test_the_speedup_of_each_start_stands_beside_that_of_all() -> None:
    """With several starts each one's own speed-up is on record, in order; one start has nothing to be told from."""
    speed = evidence([_pairs(_around(ratio, 4)) for ratio in (2.0, 2.5, 2.0)], _at_least(1.8))

    assert speed.by_start == pytest.approx((2.0, 2.5, 2.0))
    assert min(speed.by_start) <= speed.speedup <= max(speed.by_start)
    assert (len(speed.baseline_s), speed.order) == (12, "B" * 12)
    assert evidence([_pairs(_around(2.0, 12))], _at_least(1.8)).by_start == ()


def test_one_borderline_start_makes_the_whole_borderline() -> None:
    """What is known only just is said to be, however clear the other starts were."""
    speed = evidence([_pairs(times) for times in (FASTER, JUST_FASTER)], _at_least(1.8))

    assert (speed.decision, speed.borderline) == (Outcome.ABOVE, True)


# -- the evidence -----------------------------------------------------------------------------------------------------


@given(TIMES)
@settings(deadline=None)
def test_exchanging_the_arms_inverts_the_speedup(times: list[tuple[float, float]]) -> None:
    """Neither arm is favoured: twice as fast one way is half as fast the other way, bounds included."""
    there, back = _evidence(times), _evidence([(candidate, baseline) for baseline, candidate in times])

    assert back.speedup == pytest.approx(1 / there.speedup)
    inverted = 1 / there.speedup_low if there.speedup_low > 0 else None
    assert back.speedup_high == (pytest.approx(inverted) if inverted is not None else None)


@given(st.lists(SECONDS, min_size=1, max_size=15))
@settings(deadline=None)
def test_equal_times_are_no_speedup(times: list[float]) -> None:
    """An answer that takes what the baseline takes has a speed-up of exactly 1.

    Without any spread nothing bounds it while there are fewer values than ranks need, and nothing else fits from there.
    """
    speed = _evidence([(seconds, seconds) for seconds in times], _at_least(1.0))

    bounds = (1, 1) if len(times) >= 7 else (0, None)
    assert (speed.speedup, speed.speedup_low, speed.speedup_high) == (1, *bounds)
    assert speed.decision is Outcome.OPEN


@given(TIMES, st.floats(0.1, 10))
@settings(deadline=None)
def test_a_slower_machine_changes_no_speedup(times: list[tuple[float, float]], factor: float) -> None:
    """The speed-up is free of the unit: all times stretched alike leave it where it was."""
    stretched = [(factor * baseline, factor * candidate) for baseline, candidate in times]

    assert _speedup(stretched) == pytest.approx(_speedup(times))


def test_one_disturbed_pair_does_not_move_the_speedup() -> None:
    """The speed-up is a median over the pairs' ratios, not the ratio of sums."""
    assert _speedup([(2, 1), (2, 1), (2, 1), (2, 1), (2, 1000)]) == pytest.approx(2)


@given(TIMES, st.sampled_from([Markers(), _at_least(1.8), Markers(latency=LatencyDemand(at_most_s=1.0))]))
@settings(deadline=None)
def test_the_evidence_can_be_written_down(times: list[tuple[float, float]], markers: Markers) -> None:
    """The speed-up lies within its bounds, and nothing is NaN or infinite: a bound that is not there is None."""
    speed = _evidence(times, markers)

    assert list(zip(speed.baseline_s, speed.candidate_s, strict=True)) == times
    assert 0 <= speed.speedup_low <= speed.speedup * (1 + 1e-9)
    assert speed.speedup_high is None or speed.speedup <= speed.speedup_high * (1 + 1e-9)
    made = plain(speed)
    assert isinstance(made, dict)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert {name for name in ("speedup", "speedup_low", "latency_s") if made[name] is None} == set()
    assert (made["speedup_high"] is None) == (speed.speedup_high is None)


@given(TIMES)
@settings(deadline=None)
def test_more_of_the_same_bounds_the_speedup_closer(times: list[tuple[float, float]]) -> None:
    """The same ratios seen six times over: the bounds do not get wider, and the estimate is the same."""
    once, often = _evidence(times * 2), _evidence(times * 12)

    assert often.speedup_low >= once.speedup_low * (1 - 1e-9)
    assert once.speedup_high is None or (often.speedup_high or math.inf) <= once.speedup_high * (1 + 1e-9)


def test_what_the_trial_knows_is_in_the_evidence() -> None:
    """Warm-up calls, repeated pairs and memory stand beside the times; without a word of them, nothing is made up."""
    repeated = {"device not idle": 2}
    speed = evidence([_pairs(TIMED)], Markers(), warm_up_calls=3, repeated=repeated, peak_memory_ratio=1.25)

    assert (speed.warm_up_calls, speed.repeated, speed.peak_memory_ratio) == (3, repeated, 1.25)
    silent = _evidence(TIMED)
    assert (silent.warm_up_calls, silent.repeated, silent.peak_memory_ratio) == (0, {}, None)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 100))
@settings(deadline=None)
def test_a_percentile_is_numpys(values: list[float], percent: float) -> None:
    """Linear interpolation, as numpy's default has it."""
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), abs=1e-6)


TIMED = [(4.0, 1.0), (5.0, 2.0), (6.0, 6.0)]


def test_a_demanded_speedup_is_on_record() -> None:
    """What was demanded stands beside what was measured; without a latency there is no limit."""
    speed = _evidence(TIMED, _at_least(1.8))

    assert (speed.demanded_speedup, speed.demanded_latency_s) == (1.8, None)


def test_without_a_demand_the_latency_is_the_median() -> None:
    """Speed is reported where nothing is demanded, too."""
    speed = _evidence(TIMED)

    assert (speed.latency_s, speed.demanded_latency_s, speed.demanded_speedup) == (2.0, None, None)


def test_a_latency_in_seconds_is_taken_as_it_is() -> None:
    """The limit is the task's, the latency the candidate's at the demanded percentile."""
    speed = _evidence(TIMED, Markers(latency=LatencyDemand(at_most_s=0.9, percentile=100)))

    assert (speed.latency_s, speed.demanded_latency_s) == (6.0, 0.9)


@pytest.mark.parametrize("percentile_", [50, 90])
def test_a_latency_as_a_share_is_of_the_baselines_median(percentile_: float) -> None:
    """`at_most_of_baseline` becomes seconds on this machine, and is no demanded speed-up in the report."""
    speed = _evidence(TIMED, Markers(latency=LatencyDemand(at_most_of_baseline=0.5, percentile=percentile_)))

    assert speed.demanded_latency_s == 0.5 * statistics.median([4.0, 5.0, 6.0])
    assert speed.demanded_speedup is None
