"""`--diffbench-calibrate`: no task is run; for each scenario among them the best answer is sought, and kept."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from pytest_diffbench import calibration
from pytest_diffbench.calibration import Best, Calibration
from pytest_diffbench.errors import SetupError
from pytest_diffbench.plugin.keys import DEMAND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.plugin.session import Session

CERTIFYING_MINUTES: Final = 5.0
"""Of one scenario's finalists, and once more of the best, on two cores of a CPU."""
MINUTES_AN_EVALUATION: Final = 0.29
"""Of both searches."""
LEAST_HOURS: Final = 2
"""Less is said in minutes."""


def run(session: pytest.Session, ours: Session) -> bool:
    """Calibrate every scenario that was collected; True, for there is nothing left to run."""
    config = session.config
    if config.getoption("dist", default="no") != "no":
        raise pytest.UsageError("--diffbench-calibrate uses every device itself: leave -n out")
    if ours.zoo.name == "architecture":
        raise pytest.UsageError(
            "--diffbench-calibrate: random weights draw nothing that could be judged, so no answer could be certified: "
            "use --diffbench-zoo=tiny or full"
        )
    scenarios = _scenarios([item.stash[DEMAND] for item in session.items if DEMAND in item.stash])
    if not scenarios:
        raise pytest.UsageError(
            "--diffbench-calibrate: none of the tasks has a scenario and a difficulty: name some, such as "
            "suites/level4_speed"
        )
    if not config.hook.pytest_diffbench_calibrate.get_hookimpls():
        raise pytest.UsageError(
            "--diffbench-calibrate: nothing here searches for answers: install diffagent, or leave -p no:diffagent out"
        )
    reporter: pytest.TerminalReporter = config.pluginmanager.getplugin("terminalreporter")
    say = reporter.write_line
    evaluations = config.getoption("diffbench_calibrate_evaluations")
    if evaluations < 1:
        raise pytest.UsageError(f"--diffbench-calibrate-evaluations={evaluations}: give 1 or more")
    machine = ours.machine
    editions = {key: ours.scenario_edition(demand) for key, demand in scenarios.items()}
    kept = _kept(machine)
    left = [key for key in scenarios if key not in kept or editions[key] not in (None, kept[key].edition)]
    minutes = CERTIFYING_MINUTES + MINUTES_AN_EVALUATION * evaluations
    say(
        f"calibrating {len(scenarios)} scenarios ({len(scenarios) - len(left)} are known already), about "
        f"{_duration(len(left) * minutes)} on two cores; what is measured is kept, so it can be cut off"
    )
    began = time.monotonic()
    for number, key in enumerate(left, start=1):
        each_s = (time.monotonic() - began) / max(1, number - 1)
        told = f"; about {_duration(each_s / 60 * (len(left) - number + 1))} left" if number > 1 else ""
        say(f"{key} ({number} of {len(left)}{told})")
        try:
            found = _sought(config, scenarios[key], evaluations, say)
        except SetupError as error:  # the other scenarios are no worse for it
            session.testsfailed += 1
            say(f"{key}: {error}")
            continue
        with contextlib.suppress(pytest.UsageError):  # a file that got lost in between costs nothing of this
            kept |= _kept(machine)  # others may calibrate beside this one
        kept[key] = replace(found, edition=editions[key] or "")
        calibration.write(calibration.own_file(machine), Calibration(machine, kept))
        say(f"{key}: {_told(found)}")
        if not calibration.is_resolved(found):
            say(f"{key}: its difficulties hardly differ: too little can be gained, or this machine is too noisy")
    if kept:
        say(f"{calibration.own_file(machine)}: use it with --diffbench-targets=own")
    return True


def _duration(minutes: float) -> str:
    return f"{minutes / 60:.1f} hours" if minutes > LEAST_HOURS * 60 else f"{minutes:.0f} minutes"


def _sought(config: pytest.Config, demand: Demand, evaluations: int, say: Callable[[str], None]) -> Best:
    """SetupError where nothing was found."""
    found: Best | None = config.hook.pytest_diffbench_calibrate(
        config=config, demand=demand, evaluations=evaluations, say=say
    )
    if found is None:
        raise SetupError("no answer could be certified to keep its quality")
    return found


def _kept(machine: Mapping[str, str]) -> dict[str, Best]:
    """What is known already of this machine."""
    if not calibration.own_file(machine).is_file():
        return {}
    try:
        return dict(calibration.of_machine(machine).scenarios)
    except SetupError as error:
        raise pytest.UsageError(f"{error}, once that file is out of the way") from error


def _scenarios(demands: Sequence[Demand]) -> dict[str, Demand]:
    """One task of each scenario, in the order of the tasks; a speed-up's before a latency's."""
    named = [each for each in demands if each.task.scenario is not None and each.task.difficulty is not None]
    ordered = sorted(named, key=lambda demand: demand.markers.speed is None)
    found: dict[str, Demand] = {}
    for demand in ordered:
        found.setdefault(calibration.key_of(demand), demand)
    return found


def _told(best: Best) -> str:
    told = ", ".join(f"{name} {target:g}x" for name, target in calibration.targets(best.speedup).items())
    return (
        f"{best.speedup:.2f}x [{best.speedup_low:.2f}, {best.speedup_high:.2f}], CLIP loss {best.clip_loss:.1%}, by "
        f"{best.source}: {best.how}; targets {told}; the baseline ({best.baseline_s:.2f} s a call) came out "
        f"{math.expm1(best.noise):.1%} off itself"
    )
