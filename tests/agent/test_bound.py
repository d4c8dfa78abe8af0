"""Where the time goes, on real pipelines, and what a plan can gain at most by that."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from diffagent import profile
from diffagent.bound import TOLERANCE, most, problem
from diffagent.knowledge import known
from diffagent.plan import Plan, Subject
from diffagent.profile import Part, Profile, Watch, is_deep
from hypothesis import given
from hypothesis import strategies as st

from pytest_diffbench.devices import inventory
from pytest_diffbench.errors import SetupError
from pytest_diffbench.providers import baseline_source
from pytest_diffbench.zoo import supply
from tests.agent.demands import demand
from tests.methods.pipelines import build, images

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

UNET = Subject("unet", "text", ("variance-preserving", "sigma-scaled", "distilled"), 50)
CELLS = [(depth, layer) for depth in ("deep", "outer") for layer in (*profile.LAYERS.values(), "rest")]
CELLS += [("outside", layer) for layer in ("text_encoder", "vae", "overhead")]


def _plan(**methods: dict[str, Any]) -> Plan:
    return Plan.model_validate({"methods": [{"method": name, "parameters": own} for name, own in methods.items()]})


def _all_in(depth: str, layer: str) -> Profile:
    return Profile(parts=(Part(depth, layer, 1.0),))


@pytest.mark.parametrize(
    ("where", "plan", "expected"),
    [
        (("outer", "rest"), _plan(), 1.0),
        (("outer", "rest"), _plan(dpm_solver={"steps": 20}), 50 / 20),
        (("outside", "vae"), _plan(dpm_solver={"steps": 20}), 1.0),
        (("deep", "rest"), _plan(deepcache={"interval": 5}), 5.0),
        (("outer", "rest"), _plan(deepcache={"interval": 5}), 1.0),
        (("deep", "rest"), _plan(dpm_solver={"steps": 20}, deepcache={"interval": 2}), 5.0),
        (("outer", "rest"), _plan(guidance_window={"stop": 0.6}), 1 / 0.8),
        (("outer", "cross_attention"), _plan(tgate={"gate_step": 10}), 5.0),
        (("outer", "feed_forward"), _plan(tgate={"gate_step": 10}), 50 / 30),
        (("outer", "feed_forward"), _plan(block_reuse={"interval": 2}), 50 / 26),
        (("outer", "rest"), _plan(block_reuse={"interval": 2}), 1.0),
        (("outer", "self_attention"), _plan(token_merging={"ratio": 0.5}), 4.0),
        (("outside", "vae"), _plan(half_precision={}), 16.0),
    ],
    ids=str,
)
def test_what_each_method_leaves(where: tuple[str, str], plan: Plan, expected: float) -> None:
    """By its paper: which layers, in which steps."""
    assert most(plan, _all_in(*where), UNET, known()) == pytest.approx(expected, rel=0.03)


@given(
    seconds=st.lists(st.floats(0.01, 1), min_size=len(CELLS), max_size=len(CELLS)),
    steps=st.integers(6, 50),
    interval=st.integers(2, 5),
)
def test_more_is_never_less(seconds: list[float], steps: int, interval: int) -> None:
    """A method more never lowers the bound, nor does a step less; and no bound lies below 1."""
    shares = Profile(parts=tuple(Part(*cell, each) for cell, each in zip(CELLS, seconds, strict=True)))
    fewer = most(_plan(dpm_solver={"steps": steps}), shares, UNET, known())
    both = most(_plan(dpm_solver={"steps": steps}, deepcache={"interval": interval}), shares, UNET, known())

    assert 1 - 1e-9 <= fewer <= both + 1e-9


def test_a_plan_out_of_reach_is_refused_with_its_bound() -> None:
    """And one within the tolerance is not: profiles are noisy."""
    half = Profile(parts=(Part("deep", "rest", 0.5), Part("outer", "rest", 0.5)))
    plan = _plan(deepcache={"interval": 2})
    bound = most(plan, half, UNET, known())

    assert problem(plan, half, UNET, known(), bound * TOLERANCE * 0.99) is None
    assert "it cannot be more than 1.33 times faster" in str(problem(plan, half, UNET, known(), 3.0))
    assert problem(plan, Profile(), UNET, known(), 3.0) is None


@pytest.mark.parametrize("model", ["sd15", "sdxl", "dit", "pixart_alpha"])
def test_parts_are_the_whole_call(model: str) -> None:
    """They do not overlap: a clock that counts calls finds as much in them as in the call."""
    pipeline = build(model)
    ticks = iter(range(10**9))
    watch = Watch(pipeline, lambda: None)
    with pytest.MonkeyPatch.context() as patch, watch.watching():
        patch.setattr(time, "perf_counter", lambda: float(next(ticks)))
        began = time.perf_counter()
        images(pipeline, model)
        total_s = time.perf_counter() - began
    parts = {(part.depth, part.layer): part.seconds for part in watch.parts(total_s)}

    assert sum(parts.values()) == pytest.approx(total_s)
    assert all(seconds >= 0 for seconds in parts.values())
    assert parts["outside", "vae"] > 0
    assert (parts["deep", "rest"] > 0) is (model in ("sd15", "sdxl"))
    assert (parts["outer", "cross_attention"] + parts["deep", "cross_attention"] > 0) is (model != "dit")
    assert not any("forward" in vars(module) for module in pipeline.vae.modules())
    assert "decode" not in vars(pipeline.vae)


def test_what_is_deep_is_what_deepcache_leaves_out() -> None:
    """The same modules that the method keeps, and what is inside of them."""
    from diffagent.methods.deepcache import _below

    pipeline = build("sd15")
    left_out = {id(inner) for module in _below(pipeline.unet, 0) for inner in module.modules()}
    deep = {
        id(module)
        for path, module in pipeline.unet.named_modules()
        if is_deep(pipeline.unet, path) and type(module).__name__ != "ModuleList"
    }
    lists = {id(module) for module in pipeline.unet.modules() if type(module).__name__ == "ModuleList"}

    assert deep - lists == left_out - lists


def test_a_baseline_is_profiled_in_a_process_of_its_own() -> None:
    """For real, on the tiny DiT: shares, class, signature, modules."""
    task = demand("dit", steps=4)
    found = profile.observe(task, supply.Zoo().supply(task.model), baseline_source(task))

    assert found.seconds > 0
    assert sum(share for _, share in found.table) > 0.9
    assert (found.pipeline_class, found.denoiser_class) == ("DiTPipeline", "DiTTransformer2DModel")
    assert "class_labels" in found.signature
    assert "transformer_blocks: ModuleList x 6" in found.modules
    assert "transformer_blocks.1" not in found.modules


def test_a_baseline_that_fails_says_how() -> None:
    """With the end of its traceback."""
    task = demand("dit", steps=4)

    with pytest.raises(SetupError, match="it has no engine"):
        profile.observe(
            task, supply.Zoo().supply(task.model), "def load(model, device): raise ValueError('it has no engine')"
        )


def test_what_is_no_pipeline_is_told_by_its_models() -> None:
    """A class of one's own around models: nobody can say where its time goes, yet what it is made of is told."""
    task = demand("dit", steps=4)
    source = """
import torch

class Mine:
    def __init__(self):
        self.backbone = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
        self.steps = 3

    def __call__(self, prompt, steps=3):
        return prompt

def load(model, device):
    return Mine()

def generate(pipeline, requests):
    return [pipeline(each) for each in requests]
"""
    found = profile.observe(task, supply.Zoo().supply(task.model), source)

    assert found.parts == ()
    assert (found.pipeline_class, found.denoiser_class) == ("Mine", "Sequential")
    assert found.signature == "(prompt, steps=3)"
    assert "pipeline.backbone: Sequential, 20 parameters" in found.modules


def test_a_profile_is_measured_once_for_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is decided by it is decided again the same; of another baseline, or of other weights, it is another one."""
    task = demand("dit", steps=4)
    weights, devices = supply.Zoo().supply(task.model), inventory(["cpu:0"])
    asked: list[str] = []

    def observed(demand: object, weights: object, source: str, names: object) -> Profile:
        del demand, weights, names
        asked.append(source)
        return Profile(modules=f"{len(asked)}")

    monkeypatch.setattr(profile, "observe", observed)
    first = profile.kept(tmp_path, task, weights, "a", devices)
    assert profile.kept(tmp_path, task, weights, "a", devices) == first
    assert profile.kept(tmp_path, task, weights, "b", devices) != first
    profile.kept(tmp_path, task, replace(weights, revision="other"), "a", devices)
    assert asked == ["a", "b", "a"]


def test_a_baseline_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all that it started."""
    monkeypatch.setattr(profile, "TIMEOUT_S", 8.0)
    task = demand("dit", steps=4)
    source = "import time\ndef load(model, device): time.sleep(600)\ndef generate(pipeline, requests): return []\n"

    with pytest.raises(SetupError, match="it took over 8 s"):
        profile.observe(task, supply.Zoo().supply(task.model), source)


def test_a_baseline_that_is_no_pipeline_has_no_parts() -> None:
    """Then nothing is refused."""
    task = demand("dit", steps=4)
    source = "def load(model, device): return 3\ndef generate(pipeline, requests): return [pipeline]\n"

    assert profile.observe(task, supply.Zoo().supply(task.model), source) == Profile()
