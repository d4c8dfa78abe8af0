"""Which stages run, which fault is shown, and what an undecided task gets; no process is started here."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from pytest_diffbench import Task, clock, methods
from pytest_diffbench.comparison import Arms, Plans
from pytest_diffbench.demand import LatencyDemand, Markers, SpeedDemand, resolve
from pytest_diffbench.devices import inventory
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.isolation import Policy, Standby, Tier
from pytest_diffbench.providers import Solution
from pytest_diffbench.records import Cause, Outcome, Quality, RequestSet, Speed, Stage, Verdict, plain
from pytest_diffbench.stages import CERTIFYING_STARTS, ORDER, SECOND_TRY_FACTOR, Run, Settings, speed_fault
from pytest_diffbench.workbench import Start, Workbench
from pytest_diffbench.zoo import models
from pytest_diffbench.zoo.supply import is_public
from tests.test_comparison import WEIGHTS, Painter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_diffbench.comparison import Comparison
    from pytest_diffbench.demand import Demand
    from pytest_diffbench.stages import OnUndecided
    from pytest_diffbench.wire import Request
    from pytest_diffbench.zoo.supply import Weights

Script: TypeAlias = "dict[Stage, list[Cause | None]]"
"""For each stage how it ends, run by run; after the last entry it passes."""


def _demand(markers: Markers | None = None) -> Demand:
    return resolve(
        Task("sd15"),
        markers or Markers(speed=SpeedDemand(at_least=1.8)),
        task_id="test_it",
        summary="Do it.",
        folder=Path(),
        known_models={model.name: model for model in models.FAMILIES},
        known_methods={method.name: method for method in methods.BUILT_IN},
    )


class ScriptedRun(Run):
    """Stages that end as a script says, and write down when they ran."""

    def __init__(self, script: Script, settings: Settings | None = None, weights: Weights = WEIGHTS) -> None:
        super().__init__(
            _demand(),
            weights,
            Solution("", "the test"),
            "",
            bench=Workbench(inventory()[:1], Standby(Policy(Tier.NONE))),  # nothing is started
            settings=settings or Settings(),
            say=lambda _, line: self.said.append(line),
            name="test_it",
        )
        self.said: list[str] = []
        self.ran: list[str] = []
        self.observed: list[SolutionFault | None] = []
        """How each observed call ended; a test may put a fault into `contradiction` beforehand."""
        self.contradiction: SolutionFault | None = None
        self._script: dict[Stage, Iterator[Cause | None]] = {
            stage: itertools.chain(script.get(stage, []), itertools.repeat(None)) for stage in Stage
        }

    def _act(self, stage: Stage) -> None:
        self.ran.append(stage)
        if (cause := next(self._script[stage])) is not None:
            raise SolutionFault(cause, f"{stage} of run {self.undecided_runs}")

    def _check_executability(self) -> None:
        self._act(Stage.EXECUTABILITY)

    def _measure_speed(self) -> None:
        self._act(Stage.SPEED)

    def _judge_quality(self) -> None:
        self.quality = Quality((60.0,), (60.0,), 60.0, 0.0, 0.05)
        self._act(Stage.QUALITY)

    def _look_inside(self) -> None:
        self.observed.append(self.contradiction)
        if self.contradiction is not None:
            raise self.contradiction

    def _start_candidate(self, stage: Stage, model: Path | None = None) -> float:
        self.ran.append("start")
        assert (stage, model) == (Stage.SPEED, None)
        return 0.0


def _shown(run: Run) -> Cause | None:
    """What decides a run through all stages; None where it passes."""
    try:
        run.through(ORDER, next_model=None)
    except SolutionFault as fault:
        return fault.cause
    return None


ONCE = ["executability", "speed", "quality"]
TWICE = [*ONCE, "speed", "quality"]


@pytest.mark.parametrize(
    ("speed", "quality", "shown"),
    [
        (None, None, None),
        (None, Cause.RELATIVE_QUALITY, Cause.RELATIVE_QUALITY),
        (Cause.RELATIVE_SPEED, None, Cause.RELATIVE_SPEED),
        (Cause.RELATIVE_SPEED, Cause.GUARD, Cause.RELATIVE_SPEED),
        (Cause.RELATIVE_SPEED, Cause.UNDECIDED, Cause.RELATIVE_SPEED),
        (Cause.UNDECIDED, Cause.GUARD, Cause.GUARD),
    ],
)
def test_what_is_decided_is_shown_and_the_first_of_it(
    speed: Cause | None, quality: Cause | None, shown: Cause | None
) -> None:
    """Quality is judged beside a missed or undecided speed; a failure comes before an open question, and no retry."""
    run = ScriptedRun({Stage.SPEED: [speed], Stage.QUALITY: [quality]})

    assert _shown(run) is shown
    assert run.ran == ONCE
    assert [report.cause for report in run.reports] == [None, speed, quality]


@pytest.mark.parametrize("cause", [Cause.CRASH, Cause.TIMEOUT, Cause.SETUP_LIMIT, Cause.PROTOCOL, Cause.COMPILATION])
def test_what_ends_the_process_ends_the_run(cause: Cause) -> None:
    """A candidate that died while it was timed has no images to judge."""
    run = ScriptedRun({Stage.SPEED: [cause]})

    assert _shown(run) is cause
    assert run.ran == ["executability", "speed"]


def test_what_does_not_run_is_not_timed() -> None:
    """The first stage's fault is the only one."""
    run = ScriptedRun({Stage.EXECUTABILITY: [Cause.KEY_ATTRIBUTE]})

    assert _shown(run) is Cause.KEY_ATTRIBUTE
    assert run.ran == ["executability"]
    assert [(report.stage, report.verdict) for report in run.reports] == [(Stage.EXECUTABILITY, Verdict.FAIL)]


@pytest.mark.parametrize(
    ("speed", "quality"),
    [(Cause.UNDECIDED, None), (None, Cause.UNDECIDED), (Cause.UNDECIDED, Cause.UNDECIDED)],
    ids=["speed", "quality", "both"],
)
def test_an_undecided_run_is_made_once_more(speed: Cause | None, quality: Cause | None) -> None:
    """The second run counts, with a process of its own; the first stage is not repeated, and its report is kept."""
    run = ScriptedRun({Stage.SPEED: [speed], Stage.QUALITY: [quality]})

    assert _shown(run) is None
    assert (run.ran, run.undecided_runs) == (TWICE, 1)
    assert [(report.stage, report.verdict) for report in run.reports] == [(stage, Verdict.PASS) for stage in ORDER]
    assert any("once more with fresh requests" in line for line in run.said)


def test_a_run_that_stays_undecided_is_not_made_a_third_time() -> None:
    """Two tries, then the open question is the answer: the second one's."""
    run = ScriptedRun({Stage.SPEED: [Cause.UNDECIDED] * 9})

    with pytest.raises(SolutionFault, match="speed of run 1"):
        run.through(ORDER, next_model=None)
    assert (run.ran, run.undecided_runs) == (TWICE, 1)


def test_a_second_run_may_fail() -> None:
    """What the first run left open the second one decides, either way."""
    run = ScriptedRun({Stage.SPEED: [Cause.UNDECIDED, Cause.RELATIVE_SPEED]})

    assert _shown(run) is Cause.RELATIVE_SPEED
    assert [report.cause for report in run.reports] == [None, Cause.RELATIVE_SPEED, None]


def test_a_second_run_leaves_nothing_of_the_first() -> None:
    """A candidate that dies in its second run has no quality: that of the first run belongs to other requests."""
    run = ScriptedRun({Stage.SPEED: [Cause.UNDECIDED, Cause.CRASH]})

    assert _shown(run) is Cause.CRASH
    assert run.quality is None


@pytest.mark.parametrize("on_undecided", ["fail", "skip"])
def test_undecided_is_final_where_the_user_says_so(on_undecided: OnUndecided) -> None:
    """With `fail` or `skip` no second run is made."""
    run = ScriptedRun({Stage.SPEED: [Cause.UNDECIDED]}, Settings(on_undecided=on_undecided))

    assert _shown(run) is Cause.UNDECIDED
    assert (run.ran, run.undecided_runs) == (ONCE, 0)


def test_only_the_stages_that_are_asked_for_run() -> None:
    """A task may want to know only whether its solution runs."""
    run = ScriptedRun({})
    run.through((Stage.EXECUTABILITY,), next_model=None)

    assert run.ran == ["executability"]


def test_our_own_fault_is_infrastructure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SetupError is no verdict on the solution: its stage says INFRA, and nothing runs after it."""
    run = ScriptedRun({})

    def broken() -> None:
        raise SetupError("the clock is broken")

    monkeypatch.setattr(run, "_measure_speed", broken)
    with pytest.raises(SetupError):
        run.through(ORDER, next_model=None)
    assert [report.verdict for report in run.reports] == [Verdict.PASS, Verdict.INFRA]
    assert run.ran == ["executability"]


@pytest.mark.parametrize(
    ("script", "times"),
    [
        ({}, 1),
        ({Stage.SPEED: [Cause.UNDECIDED]}, 1),
        ({Stage.EXECUTABILITY: [Cause.KEY_ATTRIBUTE]}, 0),
        ({Stage.SPEED: [Cause.RELATIVE_SPEED]}, 0),
        ({Stage.QUALITY: [Cause.GUARD]}, 0),
        ({Stage.SPEED: [Cause.UNDECIDED] * 2}, 0),
    ],
    ids=["passed", "passed at last", "wrong", "slow", "bad", "undecided"],
)
def test_only_what_passed_everything_else_is_observed(script: Script, times: int) -> None:
    """Observing costs two calls: one that failed already needs none, and nothing is timed after it."""
    run = ScriptedRun(script)
    _shown(run)

    assert len(run.observed) == times


def test_what_contradicts_the_demand_fails_the_first_stage() -> None:
    """What a solution is belongs to executability, whenever it is seen; the other stages keep what they found."""
    run = ScriptedRun({})
    run.contradiction = SolutionFault(Cause.KEY_ATTRIBUTE, "its denoiser was called 25 times")

    assert _shown(run) is Cause.KEY_ATTRIBUTE
    assert [report.stage for report in run.reports] == list(ORDER)
    assert [report.verdict for report in run.reports] == [Verdict.FAIL, Verdict.PASS, Verdict.PASS]
    assert (run.reports[0].cause, run.reports[0].line) == (Cause.KEY_ATTRIBUTE, "its denoiser was called 25 times")


# -- with arms that pretend to run -----------------------------------------------------------------------------------


class PretendedRun(ScriptedRun):
    """Speed and quality as they are, of arms without a process; what the judge finds is real."""

    def __init__(
        self,
        baseline: Callable[[], Painter],
        candidate: Callable[[], Painter],
        settings: Settings | None = None,
        weights: Weights = WEIGHTS,
    ) -> None:
        super().__init__({}, settings, weights)
        self.comparisons: list[Comparison] = []
        self.painters: list[Painter] = []
        self._make = baseline, candidate

    def _arms(self, *, candidate_first: bool) -> Arms:
        self.ran.append("arms")
        assert self._comparison is not None
        if self._comparison not in self.comparisons:
            self.comparisons.append(self._comparison)
        baseline, candidate = (make() for make in self._make)
        self.painters += (baseline, candidate)
        trial = clock.Trial(baseline, candidate, timeout_s=9, candidate_first=candidate_first)
        return Arms(trial, Start(1.0, 1.0), Start(1.0, 1.0), lambda: (1, 1))

    def _measure_speed(self) -> None:
        Run._measure_speed(self)

    def _judge_quality(self) -> None:
        Run._judge_quality(self)


def _steady(seconds: float) -> Callable[[], Painter]:
    """An arm whose times hardly differ, and shrink with the steps."""

    def make() -> Painter:
        turn = itertools.cycle((1.0, 1.004, 0.997))
        return Painter(lambda request: seconds * next(turn) * request.num_inference_steps / 50)

    return make


def _wild(seconds: float) -> Callable[[], Painter]:
    """An arm whose times say nothing."""

    def make() -> Painter:
        turn = itertools.cycle((1.0, 3.0, 0.4, 2.0, 0.3))
        return Painter(lambda _: seconds * next(turn))

    return make


def test_a_second_run_is_stricter_and_asks_something_else() -> None:
    """Two tries must not make a wrong verdict twice as likely, nor see any request again."""
    run = PretendedRun(_wild(1.8), _steady(1.0))

    assert _shown(run) is Cause.UNDECIDED
    first, second = (comparison._plans for comparison in run.comparisons)
    assert first == Plans()
    assert second == first.second_try(SECOND_TRY_FACTOR)
    assert SECOND_TRY_FACTOR >= 2
    earlier, later = ({r for requests in arm.asked for r in requests} for arm in run.painters[1::2])
    assert earlier.isdisjoint(later)


@pytest.mark.parametrize(("most", "second"), [(8, (4, 6, 8)), (30, (12, 24))])
def test_no_try_times_more_pairs_than_may_be_timed(most: int, second: tuple[int, ...]) -> None:
    """`--diffbench-pairs` holds for both: also where the second would begin to look only after as many."""
    run = PretendedRun(_wild(1.8), _steady(1.0), settings=Settings(most_pairs=most))

    assert _shown(run) is Cause.UNDECIDED
    first, again = (comparison.plans.speed.looks for comparison in run.comparisons)
    assert first == tuple(look for look in Plans().speed.looks if look <= most)
    assert again == second


def test_the_same_seed_asks_the_same_again() -> None:
    """What `--diffbench-seed` repeats are the requests of every stage; another seed asks others."""
    asked = []
    for seed in (1, 1, 2):
        run = PretendedRun(_steady(2.0), _steady(1.0), Settings(seed=seed))
        assert _shown(run) is None
        asked.append(run.painters[1].asked)

    assert asked[0] == asked[1]
    assert {r for requests in asked[0] for r in requests}.isdisjoint(r for requests in asked[2] for r in requests)


def test_public_runs_ask_public_requests_only() -> None:
    """And secret ones, of the same number, secret ones only: in every stage, canaries and protection included."""
    weights = replace(WEIGHTS, public_problem="")
    for drawn_from in RequestSet:
        run = PretendedRun(_steady(2.0), _steady(1.0), Settings(seed=1, requests=drawn_from), weights)
        assert _shown(run) is None
        asked = [request for painter in run.painters for requests in painter.asked for request in requests]
        public = {is_public(text) for request in asked for text in (request.prompt or "", str(request.seed))}
        assert public == {drawn_from is RequestSet.PUBLIC}


def test_a_good_candidate_is_looked_at_closely() -> None:
    """One whose score holds meets every guard, its fidelity is known, and the control explains its time."""
    run = PretendedRun(_steady(2.0), _steady(1.0))

    assert _shown(run) is None
    assert run.quality is not None
    assert (len(run.quality.guards), run.quality.fidelity) == (14, 1)
    assert run.quality.step_control is not None
    assert run.quality.step_control.steps == 25
    assert run.quality.judge_s > 0


def test_a_candidate_that_fails_by_its_score_is_not_looked_at_closely() -> None:
    """Nothing more is asked of it than what was judged."""

    def grey() -> Painter:
        arm = _steady(1.0)()
        arm.look = lambda image, _: image // 32 + 120
        return arm

    run = PretendedRun(_steady(2.0), grey)

    assert _shown(run) is Cause.ABSOLUTE_QUALITY
    assert run.quality is not None
    assert (run.quality.fidelity, run.quality.step_control) == (None, None)
    assert len(run.painters[1].asked) == 2 + len(run.quality.candidate_clip)


def test_a_candidate_that_is_too_slow_has_no_control() -> None:
    """A speed-up that was shown to be missed needs no explanation."""
    run = PretendedRun(_steady(2.0), _steady(1.5))

    assert _shown(run) is Cause.RELATIVE_SPEED
    assert run.quality is not None
    assert run.quality.step_control is None
    assert run.quality.fidelity == 1


def test_a_certified_run_starts_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three starts of both processes, the candidate's first the one that has been probed; a hundred images."""
    run = PretendedRun(_steady(2.0), _steady(1.0), Settings(certify=True))
    monkeypatch.setattr(run._bench, "drop_baseline", lambda: run.ran.append("drop"))

    assert _shown(run) is None
    assert run.ran == ["executability", "drop", "arms", "start", "drop", "arms", "start", "drop", "arms"]
    assert run.speed is not None
    assert run.quality is not None
    assert len(run.speed.by_start) == CERTIFYING_STARTS == 3
    assert len(run.quality.candidate_clip) >= 100


def test_a_certified_run_ends_with_a_start_that_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim cannot hold any more: no other start is made, and the failure is told as any."""
    run = PretendedRun(_steady(1.0), _steady(1.0), Settings(certify=True))
    monkeypatch.setattr(run._bench, "drop_baseline", lambda: run.ran.append("drop"))

    assert _shown(run) is Cause.RELATIVE_SPEED
    assert run.ran.count("arms") == 1


@pytest.mark.parametrize("look", ["honest", "grey"])
def test_no_record_holds_a_prompt(look: str) -> None:
    """What is kept of a run, passed or failed, tells nobody what was asked for."""

    def candidate() -> Painter:
        arm = _steady(1.0)()
        arm.look = (lambda image, _: image // 8 + 120) if look == "grey" else arm.look
        return arm

    run = PretendedRun(_steady(2.0), candidate)
    shown = _shown(run)

    asked = [request for painter in run.painters for requests in painter.asked for request in requests]
    record = json.dumps(plain([run.reports, run.executability, run.speed, run.quality, run.cost])) + "".join(run.said)
    assert (shown is None) is (look == "honest")
    assert len(asked) > 20
    assert not [request.prompt for request in asked if (request.prompt or "") in record]
    assert not [request.seed for request in asked if str(request.seed) in record]


# -- the baseline's protection ---------------------------------------------------------------------------------------


class Machine:
    """Where a baseline's time depends on who else is there: processes come and go with the run's own steps."""

    def __init__(self, *, beside: float, later: float | None = None, alone: float = 2.0) -> None:
        self.beside, self.later, self.alone = beside, later, alone
        self.starts = 0
        self.present = False
        self._turn = itertools.cycle((1.0, 1.004, 0.997))

    def baseline(self) -> Painter:
        """Takes a time of its own beside a candidate; from its second process on, perhaps another one."""

        def seconds(request: Request) -> float:
            beside = self.later if self.later is not None and self.starts else self.beside
            steps = request.num_inference_steps / 50
            return steps * (beside if self.present else self.alone) * next(self._turn)

        return Painter(seconds)


class WatchedRun(PretendedRun):
    """A run on a machine that knows whether the candidate's process lives."""

    def __init__(self, machine: Machine, settings: Settings | None = None) -> None:
        super().__init__(machine.baseline, _steady(1.0), settings)
        self.machine = machine

    def _arms(self, *, candidate_first: bool) -> Arms:
        self.machine.present = True
        return super()._arms(candidate_first=candidate_first)

    def _start_candidate(self, stage: Stage, model: Path | None = None) -> float:
        self.machine.present = True
        self.machine.starts += 1
        return super()._start_candidate(stage, model)

    def _end_candidate(self) -> None:
        self.machine.present = False
        super()._end_candidate()


def test_an_honest_run_pays_four_calls_for_its_protection() -> None:
    """The baseline alone, after the candidate's end, and nothing more; the figures are kept."""
    run = WatchedRun(Machine(beside=2.0))

    assert _shown(run) is None
    assert run.speed is not None
    assert len(run.speed.baseline_alone_s) == 4
    assert run.speed.baseline_slowdown == pytest.approx(1, abs=0.01)
    assert run.machine.starts == 0
    baseline, candidate = run.painters
    assert set(baseline.asked[-4:]).isdisjoint(candidate.asked)


def test_who_slows_the_baseline_down_is_a_cheat() -> None:
    """It looked twice as fast as it is; the slowness goes with its process, and comes back with it."""
    run = WatchedRun(Machine(beside=4.0, alone=2.0))

    with pytest.raises(SolutionFault, match=r"2\.00 times slower beside the candidate than alone, and again") as caught:
        run.through(ORDER, next_model=None)
    assert caught.value.cause is Cause.BASELINE_SLOWED
    assert caught.value.cause.verdict is Verdict.CHEAT
    assert caught.value.detail.count("with it") == run.machine.starts == 5
    assert run.speed is not None
    assert len(run.speed.baseline_alone_s) == 24
    assert [(r.stage, r.verdict) for r in run.reports] == [
        (Stage.EXECUTABILITY, Verdict.PASS),
        (Stage.SPEED, Verdict.CHEAT),
        (Stage.QUALITY, Verdict.PASS),
    ]


def test_a_machine_that_was_disturbed_is_no_cheat() -> None:
    """The baseline was slow during the pairs, and not again: undecided, and the second try passes."""
    run = WatchedRun(Machine(beside=4.0, later=2.0))

    assert _shown(run) is None
    assert run.undecided_runs == 1
    assert any("not each time that was tried" in line for line in run.said)


def test_a_machine_that_was_disturbed_leaves_it_undecided_where_there_is_one_try() -> None:
    """Such a speed-up is not believed."""
    run = WatchedRun(Machine(beside=4.0, later=2.0), Settings(on_undecided="fail"))

    assert _shown(run) is Cause.UNDECIDED
    assert [report.verdict for report in run.reports if report.stage is Stage.SPEED] == [Verdict.UNDECIDED]


def test_who_fails_anyway_costs_no_more_calls() -> None:
    """Only what would pass is worth the protection."""
    run = WatchedRun(Machine(beside=1.2))

    assert _shown(run) is Cause.RELATIVE_SPEED
    assert run.speed is not None
    assert (run.speed.baseline_alone_s, run.speed.baseline_slowdown) == ((), None)
    assert not any("alone" in line for line in run.said)


# -- what is said of a speed -----------------------------------------------------------------------------------------


def _speed(decision: Outcome | None, *, borderline: bool = False, latency: bool = False) -> Speed:
    return Speed(
        baseline_s=(2.0,) * 4,
        candidate_s=(1.0,) * 4,
        order="BCBC",
        speedup=2.0,
        speedup_low=1.9,
        speedup_high=2.1,
        decision=decision,
        borderline=borderline,
        demanded_speedup=None if latency else 2.5,
        latency_s=1.0,
        demanded_latency_s=0.9 if latency else None,
    )


@pytest.mark.parametrize("decision", [Outcome.ABOVE, None])
def test_a_speed_that_is_shown_or_not_demanded_is_no_fault(decision: Outcome | None) -> None:
    """Only what was demanded can be missed."""
    assert speed_fault(_speed(decision), _demand().markers) is None


@pytest.mark.parametrize(
    ("speed", "cause", "line"),
    [
        (_speed(Outcome.BELOW), Cause.RELATIVE_SPEED, "speed-up 2.00x [1.90, 2.10] < 2.50x over 4 pairs"),
        (
            _speed(Outcome.BELOW, borderline=True),
            Cause.RELATIVE_SPEED,
            "speed-up 2.00x [1.90, 2.10] < 2.50x over 4 pairs, borderline",
        ),
        (_speed(Outcome.OPEN), Cause.UNDECIDED, "speed-up 2.00x [1.90, 2.10], not told from 2.50x over 4 pairs"),
        (_speed(Outcome.BELOW, latency=True), Cause.RELATIVE_SPEED, "latency p90 1.000 s > 0.900 s over 4 pairs"),
        (
            _speed(Outcome.OPEN, latency=True),
            Cause.UNDECIDED,
            "latency p90 1.000 s, not told from 0.900 s over 4 pairs",
        ),
    ],
    ids=["missed", "borderline", "open", "late", "open latency"],
)
def test_a_speed_fault_says_what_was_found_and_demanded(speed: Speed, cause: Cause, line: str) -> None:
    """The measured value, the limit, the number of pairs; and whether it was told apart at all."""
    limit = LatencyDemand(at_most_s=0.9, percentile=90) if speed.demanded_speedup is None else None
    markers = Markers(latency=limit) if limit is not None else None

    found = speed_fault(speed, _demand(markers).markers)
    assert found is not None
    assert (found.cause, found.line) == (cause, line)


def test_what_was_timed_before_a_process_died_is_not_lost() -> None:
    """A candidate that dies in its eighth call leaves the pairs that both arms had answered."""

    def dying() -> Painter:
        calls = itertools.count(1)

        def seconds(_: Request) -> float:
            if next(calls) == 8:
                raise SolutionFault(Cause.CRASH, "the process ended by SIGKILL (generate)")
            return 1.0

        return Painter(seconds)

    run = PretendedRun(_steady(2.0), dying)

    assert _shown(run) is Cause.CRASH
    assert run.speed is not None
    assert len(run.speed.baseline_s) == len(run.speed.candidate_s) == 5  # two calls were warm-ups
    assert run.cost is not None


# -- how the arms were started ---------------------------------------------------------------------------------------


class Process(Painter):
    """A sandbox without a process, that says how it was started."""

    def __init__(self, *, forked: bool) -> None:
        super().__init__(lambda _: 1.0)
        self.forked = forked
        self.pid = os.getpid()

    def wait_ready(self) -> None:
        """It imports nothing."""

    def load(self, _source: str, **_options: object) -> float:
        """It loads nothing."""
        return 1.0

    def peak_memory_bytes(self) -> int:
        """As much as it says of itself."""
        return self.memory_bytes

    def close(self) -> None:
        """Never ask it again."""
        self.ended = True


@pytest.mark.parametrize("forked", [True, False])
@pytest.mark.parametrize("kept", [True, False])
def test_arms_are_started_alike(monkeypatch: pytest.MonkeyPatch, forked: bool, kept: bool) -> None:  # noqa: FBT001
    """A forked process meets pages that it has to copy; a kept baseline that never does would look faster for it."""
    run = ScriptedRun({})
    run.device = inventory()[0]
    started = [Process(forked=kept), Process(forked=forked)]
    waiting = iter(started)
    monkeypatch.setattr(run._bench.standby, "start", lambda *_: next(waiting))
    run._baseline()  # by an earlier task, which has kept it
    candidate = Process(forked=forked)
    monkeypatch.setattr(run, "_candidate", candidate)

    arms = run._arms(candidate_first=False)

    used = started[0] if kept is forked else started[1]
    asked_before = len(used.asked)
    arms.trial.ask_baseline(run._probes.batch())
    assert len(used.asked) == asked_before + 1
    assert used.forked is candidate.forked
    assert started[0].ended is (kept is not forked), "a process that is not used any more must not run beside others"
