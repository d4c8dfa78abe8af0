"""Does the debugging loop recover from every class of bug that a coder makes? On the tiny DiT, programs run in earnest.

A scripted model (no language model: `tests/agent/scenario.py`) plans one candidate for each bug, writes each with its
bug, and repairs what it is told of. What is measured is the loop: whether each failure is seen, reported well enough to
be repaired, and repaired within T_debug and T_code. It says nothing of any model's skill.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from diffagent.arms import Arm, Setting
from diffagent.calls import Calls
from diffagent.catalogue import METHODS
from diffagent.generation import Run
from diffagent.llm import LanguageModel, Settings
from diffagent.loop import Shape

from pytest_diffbench import Task, methods
from pytest_diffbench.demand import Markers, SpeedDemand, resolve
from pytest_diffbench.prompt import render
from pytest_diffbench.zoo.models import FAMILIES
from tests.agent.loopback import KEY, MODEL, Loopback
from tests.agent.scenario import BUGS, FORMATS, Scenario

STEPS = 20


def main() -> None:
    """One generation, a candidate a bug; then what became of each."""
    scenario = _scenario()
    with tempfile.TemporaryDirectory() as name, Loopback(scenario) as server:
        folder = Path(name)
        os.environ |= {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}
        task = resolve(
            Task("dit", steps=STEPS, level=4),
            Markers(speed=SpeedDemand(50.0)),
            task_id="debugging",
            summary="Make it faster.",
            folder=folder,
            known_models={model.name: model for model in FAMILIES},
            known_methods={method.name: method for method in (*methods.BUILT_IN, *METHODS)},
        )
        model = LanguageModel(Settings(MODEL))
        setting = Setting(
            Run((f"--rootdir={folder}", "-c", "/dev/null"), folder),
            "cpu",
            calls=Calls(dict.fromkeys(("planner", "coder", "debugger"), model), folder / "answers", folder / "log"),
            shape=Shape(population=len(BUGS) + len(FORMATS), generations=1),
            say=lambda line: print(line, flush=True),
        )
        loop = Arm("diffagent", setting).loop(task, render(task, device_kind="cpu", device_model="one core"))
        loop.spent_out(len(BUGS) + len(FORMATS))
    ran = [each for each in loop.memory.tried if each.fitness is not None and each.fitness.runs]
    print(f"\n{len(ran)} of {len(loop.memory.tried)} candidates run in the end")
    print(f"calls: {', '.join(f'{scenario.asked.count(role)} {role}' for role in dict.fromkeys(scenario.asked))}")


def _scenario() -> Scenario:
    count = len(BUGS) + len(FORMATS)
    plans = [{"methods": [{"method": "ddim", "parameters": {"steps": 8 + number}}]} for number in range(count)]
    return Scenario(plans, bugs=["a missing import", *BUGS], formats=list(FORMATS))


if __name__ == "__main__":
    main()
