"""Language models as planner, coder and debugger, over real HTTP: what they get wrong is told to them, and mended."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from diffagent.arms import Arm, Setting
from diffagent.budget import Budget, Purse
from diffagent.calls import Calls, Price
from diffagent.knowledge import Knowledge, known
from diffagent.llm import LanguageModel, Settings
from diffagent.loop import Shape
from diffagent.plan import Plan
from diffagent.profile import Part, Profile
from diffagent.program import written
from diffagent.team import schema_of

from pytest_diffbench.demand import Markers, SpeedDemand
from pytest_diffbench.prompt import render
from tests.agent.demands import demand
from tests.agent.imagined import Imagined
from tests.agent.loopback import KEY, MODEL, Answer, Loopback
from tests.agent.scenario import BUGS, FORMATS, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from diffagent.candidate import Candidate
    from diffagent.loop import Loop

FAST = {"method": "dpm_solver", "parameters": {"steps": 15}}
CACHED = {"method": "deepcache", "parameters": {"interval": 3}}
TASK = demand("sd15", Markers(speed=SpeedDemand(3.0)), level=4)
PROMPT = render(TASK, device_kind="cpu", device_model="a core")


def _plan(*methods: Mapping[str, Any], **more: str) -> dict[str, Any]:
    return {"refines": "", "methods": list(methods), "also": "", **more}


def _steps(count: int) -> dict[str, Any]:
    return _plan({"method": "dpm_solver", "parameters": {"steps": count}})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where answers are kept, with the key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return tmp_path


@contextlib.contextmanager
def _served(place: Path, scenario: Scenario, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Iterator[Calls]:
    with Loopback(scenario) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        model = LanguageModel(Settings(MODEL, max_retries=1, timeout_s=20.0))
        roles = dict.fromkeys(("planner", "coder", "debugger", "solver"), model)
        yield Calls(roles, place / "answers", place / "log", **more)


def _loop(calls: Calls, machine: Imagined, name: Any = "diffagent", **more: Any) -> Loop:
    shape = more.pop("shape", Shape(population=3, parents=2))
    return Arm(name, Setting(machine, "cpu", calls=calls, shape=shape, **more)).loop(TASK, PROMPT)


def _ran(
    place: Path, scenario: Scenario, monkeypatch: pytest.MonkeyPatch, machine: Imagined | None = None, **more: Any
) -> tuple[Candidate | None, Loop]:
    machine = machine or Imagined(3.0)
    with _served(place, scenario, monkeypatch) as calls:
        loop = _loop(calls, machine, **more)
        return loop.best(), loop


def test_a_competent_model_meets_the_target(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline as it is first, then a generation of plans; the winner is confirmed."""
    scenario = Scenario([_steps(30), _plan(FAST), _plan(FAST, CACHED)])
    best, loop = _ran(place, scenario, monkeypatch)

    assert best is not None
    assert best.passes
    assert "DPMSolverMultistepScheduler" in best.source
    assert scenario.asked == ["coder", "planner", "coder", "coder", "coder"]
    assert loop.memory.lessons == ["after 2 calls"]


@pytest.mark.parametrize("bug", BUGS)
def test_the_debugger_mends_every_class_of_bug(place: Path, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """What was wrong is said by the static check, or by the run; one repair is enough for a model that can."""
    right = written(Plan(), TASK, "cpu", known())
    broken = BUGS[bug](right)
    assert broken != right

    class Strict(Imagined):
        def fitness(self, source: str) -> Any:
            """Only what is not broken runs."""
            found = super().fitness(source)
            problem = replace(found, verdict="FAIL", cause="compilation error", stage="executability", speedup=None)
            return problem if _is_broken(bug, source) else found

    scenario = Scenario([_plan(FAST), _plan(FAST, CACHED), _steps(40)], bugs=[bug])
    best, loop = _ran(place, scenario, monkeypatch, Strict(3.0))

    assert best is not None
    assert best.passes
    assert scenario.asked.count("debugger") == 1
    assert all(candidate.fitness is not None and candidate.fitness.runs for candidate in loop.memory.tried)


def _is_broken(bug: str, source: str) -> bool:
    """Whether a program has this bug: mending it and breaking it again gives the same."""
    marks = {
        "a missing import": "import torch\n" not in source,
        "a wrong argument": " guidance=" in source,
        "an image of the wrong shape": "resize" in source,
        "a method that the architecture does not have": "pipeline.unet = None" in source,
        "a device that is not there": "cuda:7" in source,
        "no image": "return []" in source,
    }
    return marks.get(bug, False)


@pytest.mark.parametrize("form", FORMATS)
def test_a_reply_that_is_no_program_is_asked_for_again(place: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Never taken for a program; the coder is told what was wrong with it."""
    scenario = Scenario([_plan(FAST), _plan(FAST, CACHED), _steps(40)], formats=[form])
    best, _ = _ran(place, scenario, monkeypatch)

    assert best is not None
    assert best.passes
    assert scenario.asked.count("coder") == 5
    assert "What went wrong before" in scenario.prompts[1][1]


def test_edits_that_do_not_fit_are_told_then_the_whole_file_is_asked_for(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice; then whole files are the form that every model can keep."""
    nowhere = Answer("<<<<<<< SEARCH\nnowhere\n=======\nelse\n>>>>>>> REPLACE")
    whole = Answer(f"```python\n{written(Plan(), TASK, 'cpu', known())}```")
    scenario = Scenario([_plan(FAST)], bugs=["no Python"], faults=[nowhere, nowhere, whole])
    _, loop = _ran(place, scenario, monkeypatch, shape=Shape(population=1, generations=1))

    told = [said for role, said in scenario.prompts if role == "debugger"]
    assert len(told) == 3
    assert "its SEARCH is nowhere in the program" in told[1]
    assert "Give the whole file instead" in told[2]
    assert loop.memory.tried[0].fitness is not None


def test_a_debugger_that_changes_nothing_uses_up_its_tries(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three repairs, then the program is written anew, five times at most; then the idea is given up."""

    class Never(Imagined):
        def fitness(self, source: str) -> Any:
            """Nothing of DeepCache runs here."""
            return super().fitness(source + "\nraise" if "deepcache" in source else source)

    lazy = [Answer("Reflection: all is well.\n```python\nX = 1\n```")] * 99
    scenario = Scenario([_plan(CACHED)], faults=lazy)
    _, loop = _ran(place, scenario, monkeypatch, Never(3.0), shape=Shape(population=1, generations=1, replans=0))

    (candidate,) = loop.memory.tried
    assert candidate.fitness is None or not candidate.fitness.runs
    assert scenario.asked.count("coder") == 1 + 5
    assert scenario.asked.count("debugger") == 5 * 3 * 3


def test_a_model_that_returns_what_it_was_given_costs_no_measurement(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told so, T_code times in all; then the idea is given up."""
    plans = [_plan(FAST), _plan(also="the same, but better"), _plan(also="the same, but nicer")]
    scenario, machine = Scenario(plans), Imagined(100.0)
    _, loop = _ran(place, scenario, monkeypatch, machine, shape=Shape(population=3, generations=1, replans=0))

    assert len(loop.memory.tried) == 3
    assert [len(each) for each in machine.generations] == [
        1,
        1,
        1,
        1,
    ]  # as it is, the one that is new, the finalist, twice
    assert [each.fitness is None for each in loop.memory.tried] == [False, True, True]
    assert "the one to start from" in loop.memory.tried[1].failure
    assert scenario.asked.count("coder") == 1 + 1 + 2 * 5


def test_a_coder_that_never_gives_a_program_is_asked_five_times(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T_code, and there is nothing to repair; the search goes on without the idea, be it the first of all."""
    scenario = Scenario([_plan(FAST)], formats=["prose"] * 10)
    best, loop = _ran(place, scenario, monkeypatch, shape=Shape(population=1, generations=1, replans=0))

    assert best is None
    (candidate,) = loop.memory.tried
    assert candidate.fitness is None
    assert candidate.failure
    assert scenario.asked.count("coder") == 5 + 5
    assert "debugger" not in scenario.asked


def test_the_schema_holds_what_is_known() -> None:
    """Each method with its parameters and their ranges; where nothing is known, nothing is demanded of names."""
    (deepcache,) = [
        each
        for each in schema_of(known())["$defs"]["Applied"]["anyOf"]
        if each["properties"]["method"]["const"] == "deepcache"
    ]
    interval = deepcache["properties"]["parameters"]["properties"]["interval"]

    assert (interval["type"], interval["minimum"], interval["maximum"]) == ("integer", 2, 5)
    assert "anyOf" not in schema_of(Knowledge({}))["$defs"]["Applied"]
    json.dumps(schema_of(known()))


def test_a_server_without_schemas_is_asked_for_text(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever way it says that it knows none."""
    for status, times in ((400, 2), (422, 2), (501, 4)):  # the SDK tries a 501 once more
        baseline = Answer(f"```python\n{written(Plan(), TASK, 'cpu', known())}```")
        scenario = Scenario([_plan(FAST)], first=[baseline, *[Answer("no such form", status=status)] * times])
        shape = Shape(population=1, generations=1)
        best, _ = _ran(place / str(status), scenario, monkeypatch, shape=shape)
        assert best is not None
        assert best.passes


def test_who_plans_without_memory_is_told_no_outcome(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of best-of-n no plan knows of another: not even by what it is refused for."""
    scenario = Scenario([_plan(FAST), _plan(FAST), _steps(30)])
    _ran(place, scenario, monkeypatch, Imagined(100.0), name="best-of-n", shape=Shape(population=1, generations=2))

    said = [text for role, text in scenario.prompts if role == "planner"]
    assert any("it is taken: choose another" in text for text in said)
    assert not any("2.50x" in text for text in said)


def test_plans_that_cannot_work_are_told_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is wrong with each; others are asked for in their place."""
    impossible = _plan({"method": "deepcache", "parameters": {"interval": 90}})
    unknown = _plan({"method": "magic", "parameters": {}})
    scenario = Scenario([impossible, unknown, _plan(FAST), _steps(30), _steps(40)])
    _, loop = _ran(place, scenario, monkeypatch)

    told = [said for role, said in scenario.prompts if role == "planner"][1]
    assert "deepcache.interval: 90 is no whole number from 2 to 5" in told
    assert "'magic' is unknown" in told
    assert "Give 2 plans in their place" in told
    assert len(loop.memory.tried) == 3


@pytest.mark.parametrize("text", ["Let me think.", "{", '{"ideas": []}', '{"ideas": 3}', "```json\n[1]\n```"])
def test_a_plan_that_is_no_json_is_asked_for_again(place: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Once; a planner that can read is not lost for its form."""
    scenario = Scenario([_plan(FAST), _steps(30), _steps(40)])
    baseline = Answer(f"```python\n{written(Plan(), TASK, 'cpu', known())}```")
    scenario._first.extend([baseline, Answer(text)])
    best, _ = _ran(place, scenario, monkeypatch)

    assert best is not None
    assert best.passes


def test_a_plan_in_a_fenced_block_among_words_is_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server without schemas may give."""
    baseline = Answer(f"```python\n{written(Plan(), TASK, 'cpu', known())}```")
    wordy = Answer(f"Sure!\n```json\n{json.dumps({'ideas': [_plan(FAST)]})}\n```\nGood luck.")
    scenario = Scenario(first=[baseline, wordy])
    best, _ = _ran(place, scenario, monkeypatch, shape=Shape(population=1, generations=1))

    assert best is not None
    assert best.passes


def test_what_was_tried_and_learned_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next plans are made with every measurement, the lessons, and the parents by name."""
    scenario = Scenario([_steps(count) for count in (40, 35, 30, 28, 26, 24)])
    _ran(place, scenario, monkeypatch, Imagined(100.0), shape=Shape(population=3, parents=2, generations=2))

    second = [said for role, said in scenario.prompts if role == "planner"][1]
    assert "dpm_solver(steps=40, use_karras_sigmas=True): FAIL (1.25x, CLIP loss 0.0%)" in second
    assert "- after 2 calls" in second
    assert "The first 2 refine these" in second
    assert "- p03: dpm_solver(steps=30" in second


def test_best_of_n_knows_nothing_of_before(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many plans, none of which builds upon another: the honest rival of evolution."""
    scenario = Scenario([_steps(count) for count in (40, 35, 30, 28, 26, 24)])
    shape = Shape(population=3, generations=2)
    _ran(place, scenario, monkeypatch, Imagined(100.0), name="best-of-n", shape=shape)

    planners = [said for role, said in scenario.prompts if role == "planner"]
    assert "What was tried" not in planners[1]


def test_sequential_refines_one_at_a_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many evaluations, each with all that was measured before it."""
    scenario = Scenario([_steps(count) for count in (40, 35, 30, 28, 26, 24)])
    machine = Imagined(100.0)
    shape = Shape(population=3, generations=2)
    _, loop = _ran(place, scenario, monkeypatch, machine, name="sequential", shape=shape)

    assert [len(each) for each in machine.generations[1:-2]] == [1] * 6
    assert len(loop.memory.tried) == 6


@pytest.mark.parametrize(
    ("part", "seen"),
    [("knowledge", "Methods that are known"), ("debugger", "You repair"), ("evolution", "What was tried")],
)
def test_parts_can_be_left_out(place: Path, monkeypatch: pytest.MonkeyPatch, part: str, seen: str) -> None:
    """As the paper's ablation does; what is left out is not there."""
    plans = [_plan(also=f"take {count} steps") for count in range(9)] if part == "knowledge" else [_plan(FAST)] * 9
    texts = {}
    for without in (frozenset(), frozenset({part})):
        scenario = Scenario(plans if without else [_steps(count) for count in range(20, 40)], bugs=["no Python"])
        folder = place / f"without{len(without)}"
        _ran(folder, scenario, monkeypatch, Imagined(100.0), without=without)
        with_roles = [f"{role} {said}" for role, said in scenario.prompts]
        texts[bool(without)] = "\n".join(
            [*with_roles, *("You repair" for role in scenario.asked if role == "debugger")]
        )

    assert seen in texts[False]
    assert seen not in texts[True]


def test_the_planner_knows_where_the_time_goes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what the pipeline is, by its signature and modules: a model of no known family can be planned for."""
    profile = Profile(
        parts=(Part("deep", "rest", 0.75), Part("outside", "vae", 0.25)),
        pipeline_class="TheirPipeline",
        signature="(prompt, knob=3)",
        modules="pipeline.mixer: Mixer",
    )
    scenario = Scenario([_plan(FAST)])
    _ran(place, scenario, monkeypatch, profile=lambda _: profile)

    (first, *_) = [said for role, said in scenario.prompts if role == "planner"]
    assert "75.0 % rest (deep)" in first
    assert "TheirPipeline.__call__(prompt, knob=3)" in first
    assert "pipeline.mixer: Mixer" in first


def test_where_methods_are_demanded_one_program_is_planned(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels 1 to 3: one coding plan, the demanded methods in it; it need only run and keep the quality."""
    task = demand("sd15", level=2, sampler="ddim", methods={"deepcache": {"interval": 2}})
    prompt = render(task, device_kind="cpu", device_model="a core")
    scenario = Scenario([_plan(also="Load it, then wrap the call.")])
    with _served(place, scenario, monkeypatch) as calls:
        arm = Arm("diffagent", Setting(Imagined(0.0), "cpu", calls=calls))
        solution = arm.solve(task, prompt, "")

    assert "deepcache(pipeline, interval=2" in solution.source
    assert scenario.asked == ["planner", "coder"]
    assert "The task demands its methods: deepcache(interval=2)" in scenario.prompts[0][1]


def test_a_search_that_is_repeated_pays_no_call(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is kept by what was asked: from the first to the last."""
    scenario = Scenario([_steps(30), _plan(FAST), _plan(FAST, CACHED)], bugs=["no Python"])
    with _served(place, scenario, monkeypatch) as calls:
        first = _loop(calls, Imagined(3.0)).best()
        asked = len(scenario.asked)
        again = _loop(calls, Imagined(3.0)).best()

    assert again == first
    assert len(scenario.asked) == asked


def test_a_budget_that_is_spent_gives_the_best_so_far(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search stops before it asks for what it cannot pay."""
    scenario = Scenario([_steps(count) for count in range(30, 50)])
    budget = Budget(place / "money", {Purse.USD: 0.5})
    said: list[str] = []
    with _served(place, scenario, monkeypatch, budget=budget, prices={"": Price(1000.0, 5000.0)}) as calls:
        best = _loop(calls, Imagined(100.0), say=said.append, shape=Shape(population=1)).best()

    assert best is None  # not even the pipeline as it is could be paid for
    assert any("the budget of $0.50 is spent" in line for line in said)
    assert budget.spent(Purse.USD) <= 0.5


def test_no_key_is_in_what_is_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in answers nor in the journal of calls."""
    _ran(place, Scenario([_plan(FAST)]), monkeypatch)

    files = [file for file in place.rglob("*") if file.is_file()]
    assert len(files) > 3
    assert all(KEY.encode() not in file.read_bytes() for file in files)


def test_what_a_search_asks_first_is_asked_before(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And once: the search finds the answers that came meanwhile. Who asks no model asks nothing ahead."""
    plain = replace(demand("sd15", level=2, methods={"dpm_solver": {"steps": 20}}), task_id="plain")
    scenario = Scenario([_plan(), _plan(FAST)])
    with _served(place, scenario, monkeypatch) as calls:
        arm = Arm("diffagent", Setting(Imagined(3.0), "cpu", calls=calls, shape=Shape(population=1, generations=1)))
        for task in (TASK, plain):
            arm.prefetch([(task, PROMPT, ""), (task, PROMPT, "")])
            deadline = time.monotonic() + 20
            while len(scenario.asked) < (1 if task is TASK else 3):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert scenario.asked == ["coder", "planner", "coder"]
        while any(thread.daemon and "_ask_first" in thread.name for thread in threading.enumerate()):
            time.sleep(0.01)
        arm.loop(plain, PROMPT).best()
        assert scenario.asked == ["coder", "planner", "coder"]
        arm.loop(TASK, PROMPT).best()
        assert scenario.asked == ["coder", "planner", "coder", "planner", "coder"]
        Arm("search", Setting(Imagined(3.0), "cpu")).prefetch([(TASK, PROMPT, "")])
        assert len(scenario.asked) == 5
