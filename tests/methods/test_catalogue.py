"""What tasks may demand of the agent's methods, how sources spell them, and how one without effect shows."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffagent.methods
import pytest
from diffagent.catalogue import METHODS

from pytest_diffbench import Task, methods, static_check
from pytest_diffbench.demand import Demand, Markers, SpeedDemand, resolve
from pytest_diffbench.errors import TaskError
from pytest_diffbench.records import Executability, Observation
from pytest_diffbench.zoo import models

BY_NAME = {method.name: method for method in METHODS}
PLAIN = Observation("UNet2DConditionModel", 50, 100, 50, 2, 16, 16, 1000, 2e9, 1e9, 256)
SOURCE = """
def load(model, device):
    return model

def generate(pipeline, requests):
    {}
"""


def _demand(model: str, method: str, parameters: dict[str, object] | None = None, **task: Any) -> Demand:
    level = task.pop("level", 2)
    return resolve(
        Task(model, level=level, methods={method: parameters or {}}, **({"sampler": "ddim"} | task)),
        Markers(speed=SpeedDemand(at_least=1.5) if level == 4 else None),
        task_id="test_it",
        summary="Do it.",
        folder=Path(),
        known_models={model.name: model for model in models.FAMILIES},
        known_methods={method.name: method for method in (*methods.BUILT_IN, *METHODS)},
    )


def _problem(method: str, line: str, **demanded: object) -> str | None:
    return BY_NAME[method].source_problem(static_check.read(SOURCE.format(line)), demanded)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_parameter_is_one_of_the_function(method: methods.Method) -> None:
    """What a task may give, the function of that name takes."""
    takes = inspect.signature(getattr(diffagent.methods, method.name)).parameters

    assert set(method.parameters) <= set(takes)


@pytest.mark.parametrize(
    ("method", "line", "demanded"),
    [
        ("deepcache", "with deepcache(pipeline, interval=3): pass", {"interval": 3}),
        ("deepcache", "with deepcache(pipeline): pass", {"interval": 3}),
        ("deepcache", "with deepcache(pipeline, 4, 1): pass", {"interval": 4, "branch": 1}),
        ("deepcache", "with diffagent.methods.deepcache(pipeline, interval=n()): pass", {"interval": 3}),
        ("deepcache", "helper.set_params(cache_interval=5, cache_branch_id=0)", {"interval": 5, "branch": 0}),
        ("token_merging", "tomesd.apply_patch(pipeline, ratio=0.3)", {"ratio": 0.3}),
        ("token_merging", "token_merging(pipeline, 0.3, **more)", {"ratio": 0.3, "max_downsample": 2}),
        ("tgate", "TgateSDXLLoader(pipeline, gate_step=10); pipeline.tgate('a fox', gate_step=10)", {"gate_step": 10}),
        ("tgate", "with tgate(pipeline, 8): pass", {"gate_step": 8, "sp_interval": 5}),
        ("block_reuse", "block.forward = mine", {"interval": 2}),
        ("block_reuse", "one.forward, other.forward = mine", {"interval": 2}),
        ("guidance_window", "pipeline.unet(latents, t, states).sample", {"stop": 0.5}),
        ("guidance_window", "pipeline('a fox', callback_on_step_end=cut)", {"stop": 0.5}),
        ("guidance_window", "pipeline.unet.register_forward_pre_hook(cut)", {"stop": 0.5}),
    ],
)
def test_a_method_may_be_spelled_in_many_ways(method: str, line: str, demanded: dict[str, object]) -> None:
    """Ours, the published package's, by keyword, by position or left to a default, and by hand."""
    assert _problem(method, line, **demanded) is None


@pytest.mark.parametrize(
    ("method", "line", "demanded", "says"),
    [
        (
            "deepcache",
            "with deepcache(pipeline, interval=2): pass",
            {"interval": 3},
            "sets interval to 2; .* demands 3",
        ),
        ("deepcache", "with deepcache(pipeline): pass", {"interval": 5}, "sets interval to 3; .* demands 5"),
        ("deepcache", "helper.set_params(cache_interval=5)", {"branch": 1}, "sets branch to 0; .* demands 1"),
        ("deepcache", "return pipeline(requests).images", {"interval": 3}, r"deepcache\(pipeline, interval=3\)"),
        (
            "token_merging",
            "tomesd.apply_patch(pipeline, ratio=0.3)",
            {"ratio": 0.5},
            "sets ratio to 0.3; .* demands 0.5",
        ),
        ("tgate", "with deepcache(pipeline): pass", {}, "nothing in it applies what the task demands"),
    ],
)
def test_what_is_not_as_demanded_is_told(method: str, line: str, demanded: dict[str, object], says: str) -> None:
    """With what was found, and a call that would do."""
    problem = _problem(method, line, **demanded)

    assert problem is not None
    assert re.search(says, problem)


@pytest.mark.parametrize(
    ("model", "method", "says"),
    [
        ("dit", "deepcache", "a transformer has none"),
        ("pixart_alpha", "deepcache", "a transformer has none"),
        ("dit", "tgate", "a model that draws by class has none"),
    ],
)
def test_no_task_demands_what_cannot_be(model: str, method: str, says: str) -> None:
    """It is refused at collection."""
    with pytest.raises(TaskError, match=f"method '{method}' cannot work on model '{model}': .*{says}"):
        _demand(model, method)


@pytest.mark.parametrize(
    ("method", "parameters", "task", "says"),
    [
        ("token_merging", {"ratio": 0}, {}, "ratio=0 merges no tokens"),
        ("tgate", {"gate_step": 50, "sp_interval": 1}, {}, "gate_step=50 leaves none of 50 steps"),
        ("tgate", {"gate_step": 30, "sp_interval": 1}, {"strength": 0.6}, "gate_step=30 leaves none of 30"),
        ("block_reuse", {"interval": 2, "warm_up": 49}, {}, "warm_up=49 leaves no step .* give less than 49"),
        ("guidance_window", {"start": 0.0, "stop": 1.0}, {}, "50 of 50 steps are guided"),
        ("guidance_window", {"start": 0.0, "stop": 0.98}, {"sampler": "pndm"}, "50 of 51 steps are guided"),
        ("guidance_window", {"start": 0.8, "stop": 0.2}, {}, "give start <= stop"),
        ("guidance_window", {"stop": 0.5}, {"guidance": 1.0}, "there is none to leave out"),
    ],
)
def test_no_task_demands_what_could_not_show(
    method: str, parameters: dict[str, object], task: dict[str, Any], says: str
) -> None:
    """Its every answer would fail for having no effect: it is refused at collection, with what would do."""
    with pytest.raises(TaskError, match=f"method '{method}' can have no effect here: .*{says}"):
        _demand("sd15", method, parameters, **task)


@pytest.mark.parametrize(
    ("method", "parameters", "task"),
    [
        ("tgate", {"gate_step": 49, "sp_interval": 1}, {}),
        ("tgate", {"gate_step": 50}, {}),  # before the gate it reuses self-attention
        ("tgate", {"gate_step": 50, "sp_interval": 1}, {"sampler": "pndm"}),  # which makes 51
        ("block_reuse", {"warm_up": 48}, {}),
        ("guidance_window", {"stop": 1.0}, {}),  # the solution may start late
        ("guidance_window", {"start": 0.0, "stop": 0.98}, {}),
        ("guidance_window", {"start": 0.5, "stop": 0.5}, {}),
        ("block_reuse", {"warm_up": 100}, {"level": 4}),  # it may take more steps
    ],
)
def test_the_least_that_could_show_may_be_demanded(
    method: str, parameters: dict[str, object], task: dict[str, Any]
) -> None:
    """One step may be enough; whether it was is seen when it runs."""
    assert _demand("sd15", method, parameters, **task).methods == {method: parameters}


@pytest.mark.parametrize("model", ["sd15", "sdxl", "pixart_sigma"])
def test_what_can_be_may_be_demanded(model: str) -> None:
    """Token Merging works on every family."""
    assert list(_demand(model, "token_merging", {"ratio": 0.5}).methods) == ["token_merging"]


def test_a_sampler_that_a_model_cannot_run_with_is_refused() -> None:
    """DiT's pipeline never scales its noise for Euler's."""
    with pytest.raises(TaskError, match="model 'dit' cannot run with sampler 'euler': use one of pndm, ddim"):
        resolve(
            Task("dit", level=1, sampler="euler"),
            Markers(),
            task_id="test_it",
            summary="Do it.",
            folder=Path(),
            known_models={"dit": models.DIT},
            known_methods={},
        )


@pytest.mark.parametrize("method", [name for name in BY_NAME if name != "token_merging"])
def test_a_method_that_saves_nothing_has_no_effect(method: str) -> None:
    """Step for step, so that fewer steps are no excuse; what was not counted contradicts nothing."""
    half = replace(PLAIN, denoiser_flops=0.5e9)
    fewer_steps = replace(PLAIN, denoiser_calls=25, denoiser_flops=0.5e9)

    assert "has no effect: a step of its denoiser takes 2e+07 FLOPs" in (_running(method, PLAIN) or "")
    assert "has no effect" in (_running(method, fewer_steps) or "")
    assert _running(method, half) is None
    assert _running(method, Observation()) is None
    assert BY_NAME[method].running_problem(Executability(1.0, 1.0, 1.0), {}) is None


def test_merging_shows_by_the_tokens_that_attend() -> None:
    """It may cost a tiny model more than it saves; and a method that reuses attention does not pass for it."""
    assert "has no effect: 256 tokens attend" in (_running("token_merging", replace(PLAIN, denoiser_flops=1e8)) or "")
    assert _running("token_merging", replace(PLAIN, attention_tokens=128)) is None
    assert _running("token_merging", Observation()) is None


def _running(method: str, seen: Observation) -> str | None:
    running = Executability(1.0, 1.0, 1.0, observed=seen, baseline_observed=PLAIN)
    return BY_NAME[method].running_problem(running, {})
