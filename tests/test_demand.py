"""Every way to declare a task wrongly, what is said about it, and what a right declaration demands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from diffagent.catalogue import METHODS

from pytest_diffbench import Task, methods
from pytest_diffbench.demand import (
    Demand,
    ExecutabilityDemand,
    LatencyDemand,
    Markers,
    QualityDemand,
    SpeedDemand,
    resolve,
)
from pytest_diffbench.errors import TaskError
from pytest_diffbench.zoo import models

PLAIN = Markers()
NAN = float("nan")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the task's file lies, with a diffusers folder `mine` beside it."""
    files = {
        "model_index.json": {"_class_name": "LatentPipeline"},
        "scheduler/scheduler_config.json": {"_class_name": "EulerDiscreteScheduler"},
        "unet/config.json": {"sample_size": 32},
        "vae/config.json": {"block_out_channels": [1, 1, 1]},
    }
    for name, content in files.items():
        file = tmp_path / "mine" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return tmp_path


def _resolve(task: Task, markers: Markers, folder: Path) -> Demand:
    return resolve(
        task,
        markers,
        task_id="test_it",
        summary="Do it.",
        folder=folder,
        known_models={model.name: model for model in models.FAMILIES},
        known_methods={method.name: method for method in methods.BUILT_IN},
    )


PROBLEMS: dict[str, tuple[Task, Markers, list[str]]] = {
    "model is no name": (Task(15), PLAIN, ["model is 15", "sd15", "./my-model"]),  # type: ignore[arg-type]
    "model unknown": (Task("sd16"), PLAIN, ["'sd16' is unknown", "sd15", "./my-model"]),
    "model folder missing": (Task("./nowhere"), PLAIN, ["'./nowhere'", "no diffusers folder", "model_index.json"]),
    "model folder without scheduler": (Task("./bare"), PLAIN, ["'./bare' has no scheduler", "scheduler_config.json"]),
    "steps zero": (Task("sd15", steps=0), PLAIN, ["steps is 0", "1 to 1000"]),
    "steps too many": (Task("sd15", steps=1001), PLAIN, ["steps is 1001", "1 to 1000"]),
    "steps a share": (Task("sd15", steps=2.5), PLAIN, ["steps is 2.5", "whole number"]),  # type: ignore[arg-type]
    "steps a truth": (Task("sd15", steps=True), PLAIN, ["steps is True", "whole number"]),
    "steps in words": (Task("sd15", steps="20"), PLAIN, ["steps is '20'", "whole"]),  # type: ignore[arg-type]
    "size too small": (Task("sd15", size=56), PLAIN, ["size is 56", "64 to 4096"]),
    "size too large": (Task("sd15", size=4104), PLAIN, ["size is 4104", "64 to 4096"]),
    "size uneven": (Task("sd15", size=100), PLAIN, ["size is 100", "multiple of 8"]),
    "sampler unknown": (Task("sd15", sampler="dpm"), PLAIN, ["sampler 'dpm' is unknown", "dpm_solver", "ddim"]),
    "guidance below zero": (Task("sd15", guidance=-1), PLAIN, ["guidance is -1", "0 to 50"]),
    "guidance above fifty": (Task("sd15", guidance=50.5), PLAIN, ["guidance is 50.5", "0 to 50"]),
    "guidance no number": (Task("sd15", guidance=NAN), PLAIN, ["guidance is nan", "0 to 50"]),
    "batch zero": (Task("sd15", batch=0), PLAIN, ["batch is 0", "1 to 64"]),
    "batch too large": (Task("sd15", batch=65), PLAIN, ["batch is 65", "1 to 64"]),
    "strength without image": (
        Task("pixart_alpha", strength=0.5),
        PLAIN,
        ["strength is 0.5", "no input image", "leave it"],
    ),
    "strength of nothing": (Task("sd15", strength=0.0), PLAIN, ["strength is 0.0", "above 0, at most 1"]),
    "strength beyond all": (Task("sd15", strength=1.5), PLAIN, ["strength is 1.5", "above 0, at most 1"]),
    "strength without a step": (
        Task("sd15", steps=20, strength=0.01),
        PLAIN,
        ["leaves none of 20 steps", "more of either"],
    ),
    "images without strength": (Task("sd15", images="./photos"), PLAIN, ["images is './photos'", "strength=0.6"]),
    "another size by class": (Task("dit", size=512), PLAIN, ["size is 512", "draws 256 pixels only", "leave it"]),
    "a schedule that is not a flag": (
        Task("sd15", fixed_schedule="yes"),  # type: ignore[arg-type]
        PLAIN,
        ["fixed_schedule is 'yes'", "True or False"],
    ),
    "a fixed schedule with another sampler": (
        Task("sd15", fixed_schedule=True, methods="unipc"),
        PLAIN,
        ["fixed_schedule keeps the sampler", "demands unipc", "leave one of the two out"],
    ),
    "slower than it is today": (
        Task("sd15"),
        Markers(latency=LatencyDemand(at_most_of_baseline=1.5)),
        ["at_most_of_baseline=1.5", "a share up to 1"],
    ),
    "difficulty unknown": (Task("sd15", difficulty="nasty"), PLAIN, ["'nasty' is unknown", "easy, medium, hard"]),
    "level unknown": (Task("sd15", level=6), PLAIN, ["level is 6", "1 to 5"]),
    "level 1 with a method": (Task("sd15", level=1, methods="ddim"), PLAIN, ["level 1", "demands ddim", "level 2 or"]),
    "level 2 without a method": (Task("sd15", level=2), PLAIN, ["level 2 demands one method, not 0", "methods={"]),
    "level 2 with two": (Task("sd15", level=2, methods=["ddim", "half_precision"]), PLAIN, ["one method, not 2"]),
    "level 3 with one": (Task("sd15", level=3, methods="ddim"), PLAIN, ["level 3", "two methods or more, not 1"]),
    "level 4 without speed": (Task("sd15", level=4), PLAIN, ["level 4", "@pytest.mark.speed(at_least=1.8)"]),
    "level 4 with latency": (
        Task("sd15", level=4),
        Markers(latency=LatencyDemand(at_most_s=1)),
        ["level 4", "@pytest.mark.speed(at_least=1.8)"],
    ),
    "level 5 without latency": (Task("sd15", level=5), PLAIN, ["level 5", "@pytest.mark.latency(at_most_s=0.9)"]),
    "level 1 with speed": (Task("sd15", level=1), Markers(speed=SpeedDemand(2)), ["level 1", "remove the speed"]),
    "level 2 with latency": (
        Task("sd15", level=2, methods="ddim"),
        Markers(latency=LatencyDemand(at_most_s=1)),
        ["level 2 has no speed target", "level 4 or 5"],
    ),
    "methods a number": (Task("sd15", methods=5), PLAIN, ["methods is 5", "give names"]),  # type: ignore[arg-type]
    "methods without mapping": (
        Task("sd15", methods={"ddim": 30}),
        PLAIN,
        ["methods is {'ddim': 30}", "{'dpm_solver': {'steps': 20}}"],
    ),
    "method unknown": (Task("sd15", methods="magic"), PLAIN, ["method 'magic' is unknown", "half_precision, unipc"]),
    "parameter unknown": (
        Task("sd15", methods={"ddim": {"stpes": 20}}),
        PLAIN,
        ["method 'ddim' has no parameter 'stpes'", "it takes steps"],
    ),
    "parameter out of range": (
        Task("sd15", methods={"ddim": {"steps": 0}}),
        PLAIN,
        ["method 'ddim'", "steps=0 is out of range"],
    ),
    "parameter of the wrong kind": (
        Task("sd15", methods={"ddim": {"steps": True}}),
        PLAIN,
        ["method 'ddim'", "steps=True is out of range"],
    ),
    "dtype unknown": (
        Task("sd15", methods={"half_precision": {"dtype": "float8"}}),
        PLAIN,
        ["method 'half_precision'", "dtype='float8' is out of range"],
    ),
    "two samplers": (Task("sd15", methods=["ddim", "unipc"]), PLAIN, ["methods ddim and unipc", "demand one"]),
    "speed and latency": (
        Task("sd15"),
        Markers(speed=SpeedDemand(2), latency=LatencyDemand(at_most_s=1)),
        ["speed and latency contradict each other", "keep one"],
    ),
    "speed below one": (Task("sd15"), Markers(speed=SpeedDemand(0.9)), ["speed(at_least=0.9)", "1 or more"]),
    "speed no number": (Task("sd15"), Markers(speed=SpeedDemand(NAN)), ["speed(at_least=nan)", "1 or more"]),
    "speed in words": (
        Task("sd15"),
        Markers(speed=SpeedDemand("2")),  # type: ignore[arg-type]
        ["speed(at_least='2')", "1 or more"],
    ),
    "latency without limit": (Task("sd15"), Markers(latency=LatencyDemand()), ["latency needs one limit", "at_most_s"]),
    "latency with two limits": (
        Task("sd15"),
        Markers(latency=LatencyDemand(at_most_s=1, at_most_of_baseline=0.5)),
        ["latency needs one limit", "at_most_of_baseline=0.5"],
    ),
    "latency zero": (Task("sd15"), Markers(latency=LatencyDemand(at_most_s=0)), ["latency limit", "above 0"]),
    "latency below zero": (
        Task("sd15"),
        Markers(latency=LatencyDemand(at_most_of_baseline=-0.5)),
        ["latency limit -0.5", "above 0"],
    ),
    "percentile zero": (
        Task("sd15"),
        Markers(latency=LatencyDemand(at_most_s=1, percentile=0)),
        ["latency(percentile=0)", "above 0, at most 92"],
    ),
    "percentile beyond fifty calls": (
        Task("sd15"),
        Markers(latency=LatencyDemand(at_most_s=1, percentile=95)),
        ["latency(percentile=95)", "above 0, at most 92"],
    ),
    "loss of everything": (
        Task("sd15"),
        Markers(quality=QualityDemand(max_loss=1)),
        ["quality(max_loss=1)", "between 0 and 1"],
    ),
    "loss below zero": (
        Task("sd15"),
        Markers(quality=QualityDemand(max_loss=-0.1)),
        ["quality(max_loss=-0.1)", "between 0 and 1"],
    ),
    "no loss at all": (
        Task("sd15"),
        Markers(quality=QualityDemand(max_loss=0)),
        ["quality(max_loss=0)", "between 0 and 1"],
    ),
    "timeout zero": (
        Task("sd15"),
        Markers(executability=ExecutabilityDemand(timeout_s=0)),
        ["executability(timeout_s=0)", "seconds above 0"],
    ),
}


@pytest.mark.parametrize(("task", "markers", "words"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_wrong_declaration_is_refused_and_mended(
    task: Task, markers: Markers, words: list[str], folder: Path
) -> None:
    """A wrong task is a TaskError that names what is wrong and says what would be right."""
    (folder / "bare").mkdir()
    (folder / "bare" / "model_index.json").write_text("{}")

    with pytest.raises(TaskError) as caught:
        _resolve(task, markers, folder)
    assert [word for word in words if word not in str(caught.value)] == []


def test_all_problems_are_told_at_once(folder: Path) -> None:
    """An author mends a task in one go: every problem is in the message."""
    task = Task("sd15", level=4, steps=0, size=1, methods="magic")

    with pytest.raises(TaskError) as caught:
        _resolve(task, Markers(quality=QualityDemand(max_loss=2)), folder)
    assert len(str(caught.value).split("; ")) >= 5
    assert all(word in str(caught.value) for word in ("steps", "size", "level 4", "magic", "max_loss"))


VALID: dict[str, tuple[Task, Markers]] = {
    "no level": (Task("sd15"), PLAIN),
    "no level, with speed": (Task("sd15"), Markers(speed=SpeedDemand(1))),
    "level 1": (Task("sd15", level=1, sampler="euler", steps=1000, size=64, guidance=0, batch=64), PLAIN),
    "level 2": (Task("sd15", level=2, methods={"half_precision": {"dtype": "float16"}}), PLAIN),
    "level 3": (Task("sd15", level=3, methods=["unipc", "half_precision"]), PLAIN),
    "level 4": (Task("sd15", level=4, difficulty="hard"), Markers(speed=SpeedDemand(2.8))),
    "level 5 in seconds": (Task("sd15", level=5), Markers(latency=LatencyDemand(at_most_s=0.9, percentile=92))),
    "level 5 of baseline": (Task("sd15", level=5), Markers(latency=LatencyDemand(at_most_of_baseline=0.5))),
    "hardly any loss": (Task("sd15"), Markers(quality=QualityDemand(max_loss=0.001, strict=True))),
}


@pytest.mark.parametrize(("task", "markers"), VALID.values(), ids=VALID)
def test_a_right_declaration_is_taken(task: Task, markers: Markers, folder: Path) -> None:
    """Every level has a form that is taken, at the edges of what is allowed too; the task itself stays as written."""
    demand = _resolve(task, markers, folder)

    assert (demand.task, demand.markers, demand.model) == (task, markers, models.SD15)


@pytest.mark.parametrize(
    ("task", "markers", "kept"),
    [
        pytest.param(Task("sd15", sampler="ddim", steps=40), PLAIN, (None, None), id="free"),
        pytest.param(Task("sd15", level=1, sampler="ddim", steps=40), PLAIN, ("ddim", 40), id="level 1"),
        pytest.param(
            Task("sd15", level=4, sampler="ddim", steps=40, fixed_schedule=True),
            Markers(speed=SpeedDemand(1.5)),
            ("ddim", 40),
            id="fixed",
        ),
    ],
)
def test_a_fixed_schedule_is_demanded(
    task: Task, markers: Markers, kept: tuple[str | None, int | None], folder: Path
) -> None:
    """Sampler and steps stay as they are where a task says so; else a target leaves them free."""
    demand = _resolve(task, markers, folder)

    assert (demand.demanded_sampler, demand.demanded_steps) == kept


def test_methods_that_exclude_each_other_are_refused() -> None:
    """A task that no solution could satisfy is told when it is collected, and why."""
    known = {method.name: method for method in (*methods.BUILT_IN, *METHODS)}

    with pytest.raises(TaskError, match="tgate and guidance_window do not go together: both leave guidance out"):
        resolve(
            Task("sd15", methods=["tgate", "guidance_window"]),
            PLAIN,
            task_id="it",
            summary="",
            folder=Path(),
            known_models={"sd15": models.SD15},
            known_methods=known,
        )


def test_what_a_task_leaves_out_comes_from_its_model(folder: Path) -> None:
    """Steps, size, sampler and guidance default to the model's own."""
    demand = _resolve(Task("sd15"), PLAIN, folder)

    assert (demand.steps, demand.size, demand.sampler, demand.guidance) == (50, 512, "pndm", 7.5)


def test_what_a_task_says_overrides_its_model(folder: Path) -> None:
    """Steps, size, sampler and guidance of the task win, also where they are zero."""
    demand = _resolve(Task("sd15", steps=30, size=256, sampler="ddim", guidance=0), PLAIN, folder)

    assert (demand.steps, demand.size, demand.sampler, demand.guidance) == (30, 256, "ddim", 0)


def test_a_folder_beside_the_task_is_a_model(folder: Path) -> None:
    """A user's own diffusers folder is found relative to the task's file, and states its own defaults."""
    demand = _resolve(Task("./mine"), PLAIN, folder)

    assert demand.model.folder == folder / "mine"
    assert (demand.model.pipeline_classes[0], demand.sampler, demand.size) == ("LatentPipeline", "euler", 128)


def test_a_scheduler_of_no_sampler_here_stays_the_models_own(folder: Path) -> None:
    """It is named as it is, nothing is demanded of it, and no other name is taken for it."""
    (folder / "mine/scheduler/scheduler_config.json").write_text('{"_class_name": "FlowMatchEulerDiscreteScheduler"}')

    demand = _resolve(Task("./mine", level=1), PLAIN, folder)

    assert (demand.sampler, demand.demanded_sampler) == ("FlowMatchEulerDiscreteScheduler", None)
    with pytest.raises(TaskError, match="sampler 'lcm' is unknown: use one of"):
        _resolve(Task("./mine", sampler="lcm"), PLAIN, folder)


@pytest.mark.parametrize(
    ("task", "markers", "sampler", "steps"),
    [
        pytest.param(Task("sd15"), PLAIN, None, None, id="no level"),
        pytest.param(Task("sd15", level=1, sampler="ddim", steps=30), PLAIN, "ddim", 30, id="1"),
        pytest.param(
            Task("sd15", level=2, sampler="ddim", methods={"unipc": {"steps": 20}}), PLAIN, "unipc", 20, id="2 sampler"
        ),
        pytest.param(Task("sd15", level=2, methods="unipc"), PLAIN, "unipc", None, id="2 sampler, steps free"),
        pytest.param(
            Task("sd15", level=2, sampler="ddim", methods="half_precision"), PLAIN, "ddim", 50, id="2 precision"
        ),
        pytest.param(
            Task("sd15", level=3, methods={"half_precision": {}, "ddim": {"steps": 30}}), PLAIN, "ddim", 30, id="3"
        ),
        pytest.param(Task("sd15", level=4), Markers(speed=SpeedDemand(2)), None, None, id="4"),
        pytest.param(
            Task("sd15", level=4, methods={"unipc": {"steps": 20}}),
            Markers(speed=SpeedDemand(2)),
            "unipc",
            20,
            id="4 with a sampler",
        ),
        pytest.param(Task("sd15", level=5), Markers(latency=LatencyDemand(at_most_s=1)), None, None, id="5"),
    ],
)
def test_a_level_decides_what_is_free(
    task: Task, markers: Markers, sampler: str | None, steps: int | None, folder: Path
) -> None:
    """Levels 1 to 3 demand sampler and steps (a demanded sampler's own first); elsewhere both are the solver's."""
    demand = _resolve(task, markers, folder)

    assert (demand.demanded_sampler, demand.demanded_steps) == (sampler, steps)


def test_a_baseline_of_ones_own_lies_beside_the_task(folder: Path) -> None:
    """`baseline` is relative to the task's file; without it the model's own baseline is meant."""
    assert _resolve(Task("sd15", baseline="slow.py"), PLAIN, folder).baseline_path == folder / "slow.py"
    assert _resolve(Task("sd15"), PLAIN, folder).baseline_path is None
