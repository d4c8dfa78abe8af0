"""What an evaluation costs beside the language model and the measurement: planning, writing, checking, remembering.

Each way to search spends 28 evaluations on a machine that answers at once (`tests/agent/imagined.py`); what is left is
the agent's own. A scripted model that answers at once stands for the language model; its HTTP counts as the agent's.
With `--run` a real generation of seven cheap programs is measured too: what pytest and its processes take around the
stages themselves.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffagent.arms import NAMES, Arm, Setting
from diffagent.calls import Calls
from diffagent.generation import Order, Run
from diffagent.llm import LanguageModel, Settings

from pytest_diffbench import Task
from pytest_diffbench.demand import Markers, SpeedDemand, resolve
from pytest_diffbench.prompt import render
from tests.agent.demands import demand
from tests.agent.imagined import Imagined
from tests.agent.loopback import KEY, MODEL, Loopback
from tests.agent.scenario import Scenario
from tests.plugin.conftest import MODEL as FOLDER
from tests.plugin.conftest import SCORER, SOLUTIONS, furnish

if TYPE_CHECKING:
    from collections.abc import Iterator

EVALUATIONS = 28


def scripted() -> Scenario:
    """Plans enough for every way to search."""
    return Scenario([{"methods": [{"method": "dpm_solver", "parameters": {"steps": 6 + n % 45}}]} for n in range(200)])


def own_seconds(name: Any) -> float:
    """Of one evaluation."""
    task = demand("sd15", Markers(speed=SpeedDemand(100.0)), level=4)
    with tempfile.TemporaryDirectory() as folder, Loopback(scripted()) as server:
        os.environ |= {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}
        model, log = LanguageModel(Settings(MODEL)), Path(folder) / "log"
        calls = Calls(dict.fromkeys(("planner", "coder", "debugger"), model), Path(folder) / "answers", log)
        arm = Arm(name, Setting(Imagined(1000.0), "cpu", calls=calls))
        loop = arm.loop(task, render(task, device_kind="cpu", device_model="a core"))
        began = time.perf_counter()
        loop.spent_out(EVALUATIONS)
        return (time.perf_counter() - began) / len(loop.memory.tried)


def around_the_stages() -> tuple[float, float]:
    """Seconds of a real generation, per solution: in its stages, and around them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        furnish(folder)
        task = resolve(
            Task(FOLDER, baseline="baseline.py", prompts="prompts.txt", scorer=SCORER, size=64),
            Markers(speed=SpeedDemand(1.5)),
            task_id="mine",
            summary="Draw.",
            folder=folder,
            known_models={},
            known_methods={},
        )
        programs = {f"p{number}": f"{SOLUTIONS['fast']}\nX = {number}\n" for number in range(7)}
        began = time.perf_counter()
        found = Run((f"--rootdir={folder}",), folder).measure(task, programs, Order(1, "g0", quick=True))
        elapsed_s = time.perf_counter() - began
    measured_s = sum(fitness.elapsed_s for fitness in found.values())
    return measured_s / len(found), (elapsed_s - measured_s) / len(found)


def lines() -> Iterator[str]:
    """The second time of each: the first also imports what it needs."""
    for name in NAMES:
        first, again = own_seconds(name), own_seconds(name)
        yield f"{name}: {again:.3f} s an evaluation ({first:.3f} s with what is imported once)"
    if "--run" in sys.argv:
        inside, around = around_the_stages()
        yield f"a real generation of seven: {inside:.1f} s a solution in its stages, {around:.2f} s around them"


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
