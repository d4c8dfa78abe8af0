"""A pipeline of no known family: it is looked into, planned for, and made faster all the same."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Final

import pytest
from diffagent import profile, program
from diffagent.arms import Arm, Setting
from diffagent.bound import most
from diffagent.knowledge import known
from diffagent.plan import Applied, Plan, Subject, problems

from pytest_diffbench import Task, static_check
from pytest_diffbench.demand import Markers, SpeedDemand, resolve
from pytest_diffbench.providers import baseline_source
from pytest_diffbench.zoo import supply
from pytest_diffbench.zoo.weights import TINY
from tests.agent.demands import KNOWN
from tests.agent.imagined import Imagined
from tests.agent.test_program import _run

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_diffbench.demand import Demand

CLASS: Final = "StableDiffusionPAGPipeline"
"""Of diffusers, and of no family here."""
BASELINE: Final = f"""
import torch
from diffusers import {CLASS}

def load(model, device):
    pipeline = {CLASS}.from_pretrained(model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)

def generate(pipeline, requests):
    return [
        pipeline(
            request.prompt,
            height=request.height,
            width=request.width,
            num_inference_steps=request.num_inference_steps,
            generator=torch.Generator().manual_seed(request.seed),
        ).images[0]
        for request in requests
    ]
"""


@pytest.fixture
def theirs(tmp_path: Path) -> Demand:
    """A task on a folder whose pipeline is of that class."""
    shutil.copytree(TINY / "sd15", tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": CLASS}))
    (tmp_path / "baseline.py").write_text(BASELINE)
    (tmp_path / "prompts.txt").write_text("\n".join(f"a red star number {number}" for number in range(60)))
    return resolve(
        Task("./model", baseline="baseline.py", prompts="prompts.txt", scorer=str(TINY / "scorer"), size=64, steps=6),
        Markers(speed=SpeedDemand(1.5)),
        task_id="theirs",
        summary="Make it faster.",
        folder=tmp_path,
        known_models={},
        known_methods=KNOWN,
    )


def test_it_is_looked_into(theirs: Demand) -> None:
    """Its call and its modules are what a planner is told; where its time goes bounds what plans can gain."""
    assert theirs.model.folder is not None
    weights = supply.own(theirs.model, theirs.folder / "prompts.txt", TINY / "scorer")
    found = profile.observe(theirs, weights, baseline_source(theirs))

    assert (found.pipeline_class, found.denoiser_class) == (CLASS, "UNet2DConditionModel")
    assert "pag_scale" in found.signature
    cached = Plan(methods=(Applied(method="deepcache", parameters={"interval": 3}),))
    assert 1 < most(cached, found, Subject.of(theirs, "cpu"), known()) < 3


def test_templates_are_written_for_its_own_class(theirs: Demand, tmp_path: Path) -> None:
    """They load and draw."""
    plan = Plan(methods=(Applied(method="unipc", parameters={"steps": 6}), Applied(method="deepcache")))
    assert problems(plan, Subject.of(theirs, "cpu"), known()) == []
    source = program.written(plan, theirs, "cpu", known())

    static_check.check(source, theirs)
    assert f"from diffusers import {CLASS}, UniPCMultistepScheduler" in source
    (image,) = _run(
        source.replace("from_pretrained(model,", f"from_pretrained({str(tmp_path / 'model')!r},"), tmp_path, theirs
    )
    assert image.size == (64, 64)


def test_it_is_searched_for(theirs: Demand) -> None:
    """As for any model."""
    best = Arm("search", Setting(Imagined(3.0), "cpu")).loop(theirs).best()

    assert best is not None
    assert best.passes
    assert CLASS in best.source
