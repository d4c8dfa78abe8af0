"""Plans as programs: every template, on every family that it names, keeps the contract, loads and draws."""

from __future__ import annotations

import ast
import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from diffagent.knowledge import known
from diffagent.plan import Applied, Plan, Subject, problems
from diffagent.program import demanded, written
from PIL import Image

from pytest_diffbench import providers, static_check
from pytest_diffbench.wire import Request
from pytest_diffbench.zoo import weights
from pytest_diffbench.zoo.models import FAMILIES
from tests.agent.demands import KNOWN, demand

if TYPE_CHECKING:
    from pathlib import Path

    from diffagent.knowledge.base import Value

    from pytest_diffbench.demand import Demand

STEPS = 8
USES = [
    (model, strength) for model in FAMILIES for strength in (None, 0.6) if not strength or model.image_to_image_classes
]


def _plan(name: str) -> Plan:
    parameters: dict[str, Value] = {"steps": STEPS} if "steps" in known()[name].facts.parameters else {}
    parameters |= {"gate_step": 4} if name == "tgate" else {}
    return Plan(methods=(Applied(method=name, parameters=parameters),))


CELLS = [
    (model, strength, name)
    for model, strength in USES
    for name in known().entries
    if not problems(_plan(name), Subject.of(demand(model.name, strength=strength, steps=STEPS), "cpu"), known())
]
EVERY_CELL = pytest.mark.parametrize(
    ("model", "strength", "name"), CELLS, ids=lambda value: getattr(value, "name", str(value))
)


def _run(source: str, folder: Path, task: Demand) -> Any:
    file = folder / "solution.py"
    file.write_text(source)
    found = importlib.util.spec_from_file_location("solution", file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    edits = task.task.strength is not None
    classes = task.model.conditioning == "class"
    request = Request(
        prompt=None if classes else "a small red star on a plain white background",
        class_label=3 if classes else None,
        image=Image.new("RGB", (64, 64), "white") if edits else None,
        strength=task.task.strength,
        height=64,
        width=64,
        num_inference_steps=task.steps,
        guidance_scale=task.guidance,
        seed=1,
    )
    return module.generate(module.load(str(weights.TINY / task.model.name), "cpu"), [request])


@EVERY_CELL
def test_a_template_answers_a_task_that_demands_it(model: Any, strength: float | None, name: str) -> None:
    """The static check finds the demanded method, its parameters and the steps, and nothing else."""
    given = {k: v for k, v in _plan(name).methods[0].parameters.items() if k in KNOWN[name].parameters}
    task = demand(model.name, strength=strength, steps=STEPS, level=2, methods={name: given})

    source = written(demanded(task), task, "cpu", known())
    static_check.check(source, task)  # raises SolutionFault otherwise
    assert set(static_check.read(source).functions) >= set(static_check.CONTRACT)


@EVERY_CELL
def test_it_loads_and_draws(tmp_path: Path, model: Any, strength: float | None, name: str) -> None:
    """On the tiny model of the family: one image of the size that was asked for, not flat."""
    task = demand(model.name, strength=strength, steps=STEPS)

    (image,) = _run(written(_plan(name), task, "cpu", known()), tmp_path, task)
    assert np.asarray(image).shape == (64, 64, 3)
    assert np.asarray(image).std() > 0


def test_several_methods_stand_together(tmp_path: Path) -> None:
    """One of each kind, in one program that reads like one."""
    methods = ("unipc", "half_precision", "token_merging", "deepcache", "tgate")
    plan = Plan(methods=tuple(applied for name in methods for applied in _plan(name).methods))
    task = demand("sd15", steps=STEPS)

    source = written(plan, task, "cpu", known())
    assert "from diffagent.methods import deepcache, tgate, token_merging\n" in source
    assert "dtype=torch.bfloat16" in source
    assert np.asarray(_run(source, tmp_path, task)[0]).std() > 0


@pytest.mark.parametrize(("model", "strength"), USES, ids=lambda value: getattr(value, "name", str(value)))
def test_no_method_is_the_baseline_in_other_words(model: Any, strength: float | None) -> None:
    """The program of the empty plan builds and calls what the trusted baseline does."""
    task = demand(model.name, strength=strength)
    ours, theirs = (
        static_check.read(source) for source in (written(Plan(), task, "cpu", known()), providers.baseline_source(task))
    )

    assert ours.schedulers == theirs.schedulers
    assert ours.pipelines == theirs.pipelines


@pytest.mark.parametrize(("sampler", "scheduler"), [("pndm", "PNDMScheduler"), ("heun", "HeunDiscreteScheduler")])
def test_a_sampler_that_saves_nothing_is_written_where_it_is_demanded(sampler: str, scheduler: str) -> None:
    """It has no folder; at levels 1 to 3 it is part of the pipeline all the same."""
    task = demand("sd15", level=2, sampler=sampler, steps=12, methods={"deepcache": {"interval": 2}})
    source = written(demanded(task), task, "cpu", known())

    static_check.check(source, task)
    assert f"{scheduler}.from_config(" in source


def test_a_program_is_the_same_for_equal_plans() -> None:
    """However the plan was written down."""
    task = demand("sd15")
    one = Plan(methods=(Applied(method="deepcache"), Applied(method="unipc")))
    other = Plan(methods=(Applied(method="unipc"), Applied(method="deepcache", parameters={"interval": 3})))

    assert written(one, task, "cpu", known()) == written(other, task, "cpu", known())


@EVERY_CELL
def test_programs_are_python(model: Any, strength: float | None, name: str) -> None:
    """Also for a GPU."""
    ast.parse(written(_plan(name), demand(model.name, strength=strength), "cuda", known()))
