"""A plan at work on a pipeline in memory: it does what its program does, and leaves nothing behind."""

from __future__ import annotations

import inspect
import shutil
from typing import TYPE_CHECKING, Any

import diffagent
import numpy as np
import pytest
import torch
from diffagent import planfile
from diffagent.acceleration import made_for
from diffagent.knowledge.base import HERE
from diffagent.plan import Applied, Plan
from diffagent.planfile import Evidence, PlanFile, PlanFileError
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.test_plan import plans
from tests.methods.pipelines import build, images

if TYPE_CHECKING:
    from pathlib import Path

UNET = ("unipc", "token_merging", "deepcache", "tgate")
TRANSFORMER = ("dpm_solver", "block_reuse", "guidance_window")
EVERY_FAMILY = pytest.mark.parametrize(
    ("name", "methods"),
    [("sd15", UNET), ("sd21", UNET), ("sdxl", UNET), ("dit", TRANSFORMER), ("pixart_alpha", TRANSFORMER)],
)
STEPS = 6


def _plan(*names: str) -> Plan:
    own: dict[str, dict[str, Any]] = {"tgate": {"gate_step": 3}, "unipc": {"steps": 5}, "dpm_solver": {"steps": 6}}
    return Plan(methods=tuple(Applied(method=name, parameters=own.get(name, {})) for name in names))


def _state(pipeline: Any) -> dict[str, torch.Tensor]:
    modules = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {f"{name}.{key}": value for name, part in modules.items() for key, value in part.state_dict().items()}


@EVERY_FAMILY
def test_a_pipeline_is_accelerated_and_given_back(name: str, methods: tuple[str, ...]) -> None:
    """Other images while the plan is at work; afterwards the same, to the bit, and the same class and scheduler."""
    pipeline = build(name)
    own, scheduler = type(pipeline), pipeline.scheduler
    before = images(pipeline, name)

    with diffagent.apply(pipeline, _plan(*methods)) as handle:
        during = images(pipeline, name)
        assert handle.pipeline is pipeline

    assert not np.array_equal(before, during)
    assert np.array_equal(before, images(pipeline, name))
    assert type(pipeline) is own
    assert pipeline.scheduler is scheduler


def test_a_method_of_ones_own_is_applied_by_its_template(tmp_path: Path) -> None:
    """A plan that was found with a folder of knowledge works with it, and is refused without."""
    shutil.copytree(HERE / "deepcache", tmp_path / "shallowcache")
    pipeline, plan = build("sd15"), _plan("shallowcache")
    before = images(pipeline, "sd15")
    with pytest.raises(diffagent.PlanRefused, match="'shallowcache' is unknown"):
        diffagent.apply(pipeline, plan)

    with diffagent.apply(pipeline, plan, knowledge=tmp_path):
        mine = images(pipeline, "sd15")
    with diffagent.apply(pipeline, _plan("deepcache")):
        known = images(pipeline, "sd15")

    assert np.array_equal(mine, known)
    assert not np.array_equal(mine, before)
    code = tmp_path / "shallowcache" / "code.jinja"
    code.write_text(code.read_text().replace("deepcache(pipeline, ", "pipeline.cached("))
    with pytest.raises(diffagent.PlanRefused, match="calls no function that it imports"):
        diffagent.apply(pipeline, plan, knowledge=tmp_path)
    assert np.array_equal(before, images(pipeline, "sd15"))


def test_precision_comes_back_exactly() -> None:
    """Rounded weights would be other weights."""
    pipeline = build("sd15")
    before = {name: value.clone() for name, value in _state(pipeline).items()}

    handle = diffagent.apply(pipeline, _plan("half_precision"))
    assert {value.dtype for value in _state(pipeline).values() if value.is_floating_point()} == {torch.bfloat16}
    handle.undo()
    handle.undo()

    after = _state(pipeline)
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())


def test_a_plans_steps_are_the_default_and_no_more() -> None:
    """Who asks for other steps gets them."""
    pipeline = build("sd15")
    counted: list[int] = []

    def count(_: Any, step: int, __: Any, tensors: Any) -> Any:
        counted.append(step)
        return tensors

    asked = {"height": 32, "width": 32, "callback_on_step_end": count, "output_type": "latent"}
    with diffagent.apply(pipeline, _plan("unipc")):
        pipeline("a red star", **asked)
        assert len(counted) == 5
        pipeline("a red star", num_inference_steps=3, **asked)
        assert len(counted) == 8


@pytest.mark.parametrize(
    ("name", "plan", "said"),
    [
        ("dit", _plan("deepcache"), "deepcache is for a unet"),
        ("sd15", _plan("tgate", "guidance_window"), "both of the kind guidance"),
        ("sd15", _plan("deepcash"), "'deepcash' is unknown"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(name: str, plan: Plan, said: str) -> None:
    """And nothing has been touched."""
    pipeline = build(name)
    before = images(pipeline, name)

    with pytest.raises(diffagent.PlanRefused, match=said):
        diffagent.apply(pipeline, plan)
    assert np.array_equal(before, images(pipeline, name))


def test_a_plan_travels_in_a_file(tmp_path: Path) -> None:
    """With the evidence that earned it; it works as the plan itself does."""
    pipeline, file, plan = build("sd15"), tmp_path / "plan.toml", _plan(*UNET)
    evidence = Evidence(speedup=2.4, clip_loss=0.01, device="cpu:0", solution_sha256="12ab")
    planfile.save(file, PlanFile(made_for=made_for(pipeline), evidence=evidence, methods=plan.methods))

    with diffagent.apply(pipeline, plan):
        expected = images(pipeline, "sd15")
    with diffagent.apply(pipeline, file):
        assert np.array_equal(images(pipeline, "sd15"), expected)
    assert planfile.load(file).evidence == evidence


def test_a_plan_of_another_model_is_refused(tmp_path: Path) -> None:
    """With what is different."""
    file = tmp_path / "plan.toml"
    planfile.save(file, PlanFile(made_for=made_for(build("sd15")), methods=_plan("unipc").methods))

    with pytest.raises(diffagent.PlanRefused, match=r"found for a denoiser_parameters \d+, not \d+"):
        diffagent.apply(build("sdxl"), file)


@given(plans(), st.text(max_size=20))
def test_a_file_says_what_was_saved(tmp_path_factory: pytest.TempPathFactory, plan: Plan, device: str) -> None:
    """Any plan, any words."""
    file = tmp_path_factory.mktemp("plan") / "plan.toml"
    of = planfile.MadeFor(denoiser_class="UNet2DConditionModel", denoiser_parameters=7, num_inference_steps=50)
    content = PlanFile(made_for=of, evidence=Evidence(speedup=2, clip_loss=-0.1, device=device), methods=plan.methods)

    planfile.save(file, content)
    assert planfile.load(file) == content


@pytest.mark.parametrize("text", ["", "methods = 3", "[made_for]\n", "{", "[made_for]\nspeed = 1\n"])
def test_what_is_no_plan_file_is_refused(tmp_path: Path, text: str) -> None:
    """With its path."""
    file = tmp_path / "plan.toml"
    file.write_text(text)

    with pytest.raises(PlanFileError, match=str(file)):
        planfile.load(file)
    with pytest.raises(PlanFileError):
        planfile.load(tmp_path / "none.toml")


def test_the_package_shows_what_it_has() -> None:
    """Loaded when it is asked for; a name that it has not is an ordinary mistake."""
    assert all(inspect.isclass(getattr(diffagent, name)) for name in diffagent.__all__ if name != "apply")
    with pytest.raises(AttributeError, match="nothing"):
        _ = diffagent.nothing
