"""The table of what works on what: generated, in the docs, and true in every cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffagent.catalogue import METHODS as CATALOGUE
from diffagent.methods import NotApplicable

from pytest_diffbench import Task, methods, static_check, support
from pytest_diffbench.cli import main
from pytest_diffbench.demand import Markers, resolve
from pytest_diffbench.errors import SolutionFault, TaskError
from pytest_diffbench.methods import SAMPLERS, Method
from pytest_diffbench.zoo.models import FAMILIES
from tests.methods.pipelines import BUILD, build, images
from tests.methods.test_methods import CELLS, METHODS

DOCS = Path(__file__).parents[2] / "docs" / "support.md"
USES = support.uses(FAMILIES)
KNOWN = {method.name: method for method in (*methods.BUILT_IN, *CATALOGUE)}
SAMPLER_CELLS = [(use, name) for use in USES for name in SAMPLERS]
METHOD_CELLS = [(use, method) for use in USES for method in CATALOGUE]
SOURCE = """
from diffusers import {scheduler}, {pipeline}

def load(model, device):
    pipeline = {pipeline}.from_pretrained(model)
    pipeline.scheduler = {scheduler}.from_config(pipeline.scheduler.config)
    return pipeline

def generate(pipeline, requests):
    return []
"""


def _built(use: support.Use) -> str:
    return f"{use.model.name}_image" if use.from_image else use.model.name


def _name(cell: Any) -> str:
    return cell.name if isinstance(cell, (support.Use, Method)) else str(cell)


def _resolve(use: support.Use, **declared: Any) -> Any:
    return resolve(
        Task(use.model.name, strength=0.6 if use.from_image else None, **declared),
        Markers(),
        task_id="test_it",
        summary="Do it.",
        folder=Path(),
        known_models={model.name: model for model in FAMILIES},
        known_methods=KNOWN,
    )


def test_the_table_in_the_docs_is_the_one_that_is_generated(capsys: pytest.CaptureFixture[str]) -> None:
    """Word for word, as the command prints it."""
    assert main(["support"]) == 0

    generated = capsys.readouterr().out
    assert generated.count(support.WORKS) > 90
    assert generated in DOCS.read_text()


def test_the_table_has_a_column_for_every_pipeline_that_is_tested() -> None:
    """And none besides: models, from noise and from an image."""
    assert {_built(use) for use in USES} == set(BUILD)


def test_the_table_and_the_tests_of_methods_agree() -> None:
    """A method works where the tests see it work, and nowhere else."""
    works = {(method.name, _built(use)) for use, method in METHOD_CELLS if not support.method_problem(method, use)}

    assert {(name.split(",")[0], family) for name, family in CELLS} == works


@pytest.mark.parametrize(("use", "sampler"), SAMPLER_CELLS, ids=_name)
def test_a_sampler_runs_or_is_refused(use: support.Use, sampler: str) -> None:
    """Where the table says no, a task cannot demand it, and a solution that uses it is told why."""
    problem = support.sampler_problem(sampler, use)
    if problem is None:
        pipeline = build(_built(use))
        own = getattr(diffusers, SAMPLERS[sampler][0])
        pipeline.scheduler = own.from_config(pipeline.scheduler.config)
        drawn = images(pipeline, _built(use))
        assert np.isfinite(drawn).all()
        assert drawn.std() > 0.01
        return
    with pytest.raises(TaskError, match=f"cannot run with sampler '{sampler}'"):
        _resolve(use, sampler=sampler)
    demand = _resolve(use)
    source = SOURCE.format(scheduler=SAMPLERS[sampler][0], pipeline=demand.pipeline_classes[0])
    with pytest.raises(SolutionFault, match="draws right with variance-preserving ones only"):
        static_check.check(source, demand)


@pytest.mark.parametrize(
    ("use", "method"), [cell for cell in METHOD_CELLS if support.method_problem(cell[1], cell[0])], ids=_name
)
def test_a_method_that_cannot_work_is_refused(use: support.Use, method: Method) -> None:
    """When a task demands it, and when a solution tries it all the same."""
    with pytest.raises(TaskError, match=f"method '{method.name}' cannot work on model '{use.model.name}'"):
        _resolve(use, level=2, methods=[method.name])
    pipeline = build(_built(use))
    with pytest.raises(NotApplicable), METHODS[method.name](pipeline):
        images(pipeline, _built(use))


@pytest.mark.parametrize("use", USES, ids=_name)
def test_every_pipeline_draws_in_half_precision(use: support.Use) -> None:
    """In bfloat16, nearly what it draws in float32, and not the same."""
    pipeline = build(_built(use))
    whole = images(pipeline, _built(use))
    half = images(pipeline.to(torch.bfloat16), _built(use))

    assert np.isfinite(half).all()
    assert 0 < np.abs(half - whole).mean() < 0.1
