"""A task as text: all that will be checked is said, and nothing of the answer."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from diffagent import catalogue

from pytest_diffbench import Task, methods, static_check
from pytest_diffbench.demand import Demand, LatencyDemand, Markers, QualityDemand, SpeedDemand, resolve
from pytest_diffbench.methods import SAMPLERS
from pytest_diffbench.prompt import render
from pytest_diffbench.providers import Reference, baseline_source
from pytest_diffbench.requests import MAX_SEED
from pytest_diffbench.zoo import models

PLAIN = Markers()
FAST = Markers(speed=SpeedDemand(at_least=2.8))
SHARE = Markers(latency=LatencyDemand(at_most_of_baseline=0.36))
HALF: dict[str, dict[str, object]] = {"half_precision": {"dtype": "bfloat16"}}

TASKS: dict[str, tuple[Task, Markers]] = {
    "1": (Task("sd15", level=1, sampler="euler", steps=30, guidance=5.5, batch=2), PLAIN),
    "2 sampler": (Task("sd15", level=2, sampler="ddim", methods={"dpm_solver": {"steps": 17}}), PLAIN),
    "2 precision": (Task("sd15", level=2, sampler="ddim", steps=40, methods=HALF), PLAIN),
    "3": (Task("sd15", level=3, sampler="ddim", methods={"unipc": {"steps": 19}} | HALF), PLAIN),
    "4": (Task("sd15", level=4, sampler="ddim", scenario="ddim-50", difficulty="hard"), FAST),
    "5": (Task("sd15", level=5, scenario="euler-50", difficulty="easy"), SHARE),
    "5 fixed": (Task("sd15", level=5, sampler="ddim", fixed_schedule=True, scenario="ddim-50-fixed"), SHARE),
}


def _demand(task: Task, markers: Markers = PLAIN, *, summary: str = "Do it well.") -> Demand:
    return resolve(
        task,
        markers,
        task_id="test_it",
        summary=summary,
        folder=Path(),
        known_models={model.name: model for model in models.FAMILIES},
        known_methods={method.name: method for method in methods.BUILT_IN},
    )


def _prompt(demand: Demand) -> str:
    return render(demand, device_kind="cpu", device_model="A Processor 9000")


def _told(prompt: str) -> str:
    """The prompt without today's code, which names things too."""
    before, _, rest = prompt.partition("```python\n")
    return before + rest.partition("```")[2]


@pytest.mark.parametrize(("task", "markers"), TASKS.values(), ids=TASKS)
def test_all_that_the_static_check_demands_is_said(task: Task, markers: Markers) -> None:
    """Pipeline class, scheduler, steps, every method with its parameters, and both signatures stand in the text."""
    demand = _demand(task, markers)
    demanded = [demand.model.pipeline_classes[0], *(f"`{_signature(name)}" for name in static_check.CONTRACT)]
    if demand.demanded_sampler is not None:
        demanded.append(f"{SAMPLERS[demand.demanded_sampler][0]} is demanded")
    if demand.demanded_steps is not None:
        demanded.append(f"num_inference_steps={demand.demanded_steps}")
    for name, parameters in demand.methods.items():
        demanded += [demand.known_methods[name].summary, *(f"{key} = {value}" for key, value in parameters.items())]

    told = _told(_prompt(demand))
    assert [words for words in demanded if words not in told] == []


def _signature(name: str) -> str:
    return {"load": "load(model: str, device: str)`", "generate": "generate(pipeline, requests)`"}[name]


@pytest.mark.parametrize("name", [name for name in TASKS if name != "1"])  # there the baseline is the answer
def test_nothing_of_the_worked_answer_is_said(name: str) -> None:
    """No line that only the reference solution has stands in the prompt, and no word of where it lies."""
    demand = _demand(*TASKS[name])
    answer = Reference().solve(demand, "", "").source
    known = [line.strip() for line in baseline_source(demand).splitlines()]
    secret = [line.strip() for line in answer.splitlines() if line.strip() not in known and re.search(r"\w", line)]

    prompt = _prompt(demand)
    assert secret
    assert [line for line in secret if line in prompt] == []
    assert "reference" not in prompt


@pytest.mark.parametrize(("task", "markers"), TASKS.values(), ids=TASKS)
def test_todays_code_is_in_the_prompt(task: Task, markers: Markers) -> None:
    """The one block of code is the baseline of this very task, and keeps the contract itself."""
    demand = _demand(task, markers)

    (code,) = re.findall(r"```python\n(.*?)\n```", _prompt(demand), flags=re.DOTALL)
    assert code == baseline_source(demand).strip()
    assert set(static_check.read(code).functions) == set(static_check.CONTRACT)


def test_how_the_model_is_run_today_is_said() -> None:
    """Steps, scheduler, guidance, size, batch, device and seeds are told in numbers."""
    told = _told(_prompt(_demand(*TASKS["1"])))

    assert "30 steps of EulerDiscreteScheduler, guidance scale 5.5, 512 x 512 pixels, batches of 2" in told
    assert 'A Processor 9000 (one core, one thread; device "cpu")' in told
    assert f"between 0 and {MAX_SEED}" in told


def test_a_gpu_is_said_to_be_one() -> None:
    """On a GPU the prompt names it, and the device that `load` is given."""
    prompt = render(_demand(Task("sd15")), device_kind="cuda", device_model="A Card 2")

    assert 'A Card 2 (one GPU; device "cuda")' in prompt


@pytest.mark.parametrize(
    ("markers", "target"),
    [
        pytest.param(FAST, "at least 2.8 times faster", id="speed"),
        pytest.param(SHARE, "at most 0.36 of the time that the code below takes, at percentile 50", id="share"),
        pytest.param(
            Markers(latency=LatencyDemand(at_most_s=0.9, percentile=90)),
            "at most 0.9 s a call at percentile 90",
            id="s",
        ),
        pytest.param(Markers(quality=QualityDemand(max_loss=0.025)), "fall by at most 2.5 % against", id="quality"),
        pytest.param(Markers(quality=QualityDemand(strict=True)), "to fall by at most 1.5 %, and", id="strict"),
    ],
)
def test_every_target_is_said(markers: Markers, target: str) -> None:
    """What decides between pass and fail is told as a number."""
    assert target in _prompt(_demand(Task("sd15"), markers))


@pytest.mark.parametrize(
    ("name", "faster", "free"),
    [
        ("1", "runs a diffusion pipeline", []),
        ("4", "makes a diffusion pipeline faster", ["are free"]),
        ("5 fixed", "makes a diffusion pipeline faster", ["stay as they are"]),
    ],
    ids=["plain", "speed", "fixed"],
)
def test_the_prompt_asks_for_what_the_level_is_about(name: str, faster: str, free: list[str]) -> None:
    """A plain task asks for no speed; a speed-up task says what is free and what is not."""
    prompt = _prompt(_demand(*TASKS[name]))

    assert prompt.startswith(f"Write a Python file that {faster}.")
    assert [words for words in ("are free", "stay as they are") if words in prompt] == free
    assert ("Target:" in prompt) == bool(free)


def test_the_authors_own_words_are_said_as_they_are() -> None:
    """A task's docstring goes in unchanged, with braces, angle brackets and all."""
    summary = "Keep <b>it</b> {{ sharp }} & {% quick %}."

    assert summary in _prompt(_demand(Task("sd15"), summary=summary))


@pytest.mark.parametrize(("device_kind", "dtype"), [("cpu", "bfloat16"), ("cuda", "float16")])
def test_half_precision_is_said_to_be_the_devices_own(device_kind: str, dtype: str) -> None:
    """A task that leaves the dtype open tells which one is fast on this device."""
    demand = _demand(Task("sd15", level=2, sampler="ddim", methods=["half_precision"]))

    assert f"dtype = {dtype}" in _told(render(demand, device_kind=device_kind, device_model="It"))


def test_a_demanded_dtype_is_not_overruled() -> None:
    """What the task says stands, on any device."""
    told = _told(render(_demand(*TASKS["2 precision"]), device_kind="cuda", device_model="A Card 2"))

    assert "dtype = bfloat16" in told
    assert "dtype = float16" not in told


def test_a_stand_in_is_said_to_be_one() -> None:
    """Who plans for a thousand pixels would plan for another model; the published one is named as it is."""
    demand = _demand(Task("sdxl"))
    stand_in = render(demand, device_kind="cpu", device_model="It", side_px=64)

    assert "a stand-in: a tiny model of the same classes, with images of 64 x 64 pixels." in stand_in
    assert "stand-in" not in _prompt(demand)


@pytest.mark.parametrize("method", catalogue.METHODS, ids=lambda method: method.name)
def test_a_method_is_explained(method: methods.Method) -> None:
    """What each number of it means, and how it must show."""
    values = {**dict.fromkeys(method.parameters, 2), **method.examples[0]}
    given = {name: value for name, value in values.items() if method.parameters[name](value)}
    demand = replace(
        _demand(Task("sd15", sampler="ddim")),
        methods={method.name: given},
        known_methods={method.name: method},
    )
    told = _told(_prompt(demand))

    assert given
    assert {*method.meanings} == {*method.parameters}
    assert [name for name, value in given.items() if f"{name} = {value} ({method.meanings[name]})" not in told] == []
    assert f"It must show: {method.effect}." in told


def test_steps_that_must_be_run_are_said_to_be() -> None:
    """Where none may be left out, that is told."""
    assert "(num_inference_steps=30), and each calls the unet." in _prompt(_demand(*TASKS["1"]))
