"""A candidate that is no faster than the baseline, and slows that down instead: with processes that run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_diffbench import Task, methods
from pytest_diffbench.demand import Markers, SpeedDemand, resolve
from pytest_diffbench.devices import inventory
from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.isolation import Policy, Standby, Tier
from pytest_diffbench.providers import Solution
from pytest_diffbench.records import Cause, Outcome
from pytest_diffbench.stages import ORDER, Run, Settings
from pytest_diffbench.workbench import Workbench
from pytest_diffbench.zoo import models
from tests.test_comparison import WEIGHTS

WORKER = """
import os, time
import numpy as np
from pytest_diffbench.zoo import drawings

def load(model, device):
    return None

def generate(pipeline, requests):
    began = time.process_time()
    while time.process_time() - began < 0.05:  # work, not sleep: what shares the core takes of it
        pass
    return [draw(request) for request in requests]

def draw(request):
    words = drawings.stated(request.prompt)
    if len(words) < 6:
        return np.zeros((request.height, request.width, 3), np.uint8)
    return drawings.draw(drawings.Scene(**words), np.random.default_rng(request.seed))
"""
"""As long as the baseline, which is the same."""

SPOILER = (
    WORKER
    + """
def load(model, device):
    own = os.getpid()
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()  # out of the group that is stopped with the candidate
            os.closerange(0, 1024)
            spoil(own)
            os._exit(0)

def spoil(own):
    until = time.monotonic() + 60  # harmless: it ends with the candidate, and by itself
    while time.monotonic() < until:
        try:
            with open(f"/proc/{own}/stat") as file:
                state = file.read().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state in "ZX":
            return
        spin_until = time.monotonic() + 0.005
        while state == "T" and time.monotonic() < spin_until:
            pass
        if state != "T":
            time.sleep(0.002)
"""
)
"""The same, and three processes that work on the same core whenever the candidate is stopped."""


def test_who_slows_the_baseline_down_does_not_pass() -> None:
    """It may seem fast enough, and is found out; where nothing can run beside a stopped candidate it is just slow."""
    demand = resolve(
        Task("sd15"),
        Markers(speed=SpeedDemand(at_least=1.5)),
        task_id="test_it",
        summary="Do it.",
        folder=Path(),
        known_models={model.name: model for model in models.FAMILIES},
        known_methods={method.name: method for method in methods.BUILT_IN},
    )
    bench = Workbench(inventory(["cpu:0"]), Standby(Policy(Tier.NONE)))
    run = Run(
        demand,
        WEIGHTS,
        Solution(SPOILER, "the test"),
        WORKER,
        name="test_it",
        bench=bench,
        settings=Settings(),
        say=lambda *_: None,
    )
    try:
        with pytest.raises(SolutionFault) as caught:
            run.through(ORDER, next_model=None)
    finally:
        bench.close()
    assert run.speed is not None
    seemed_fast = run.speed.decision is Outcome.ABOVE
    found_out = (Cause.BASELINE_SLOWED, Cause.UNDECIDED)
    assert caught.value.cause in (found_out if seemed_fast else (*found_out, Cause.RELATIVE_SPEED)), caught.value.line
