"""One observed call of real, tiny pipelines in their own processes: what is seen, and that being seen harms nobody."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from pytest_diffbench import candidate
from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.isolation import Sandbox
from pytest_diffbench.records import Cause
from pytest_diffbench.wire import Record, Request
from pytest_diffbench.zoo.weights import TINY
from tests.isolation.conftest import policy

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S: Final = 120.0
STEPS: Final = 4
ONE: Final = (Request("a red circle", 3, 64, 64, STEPS, guidance_scale=7.5),)
TWO: Final = (*ONE, replace(ONE[0], seed=4))

PLAIN: Final = """
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

def generate(pipeline, requests):
    first = requests[0]
    return pipeline(
        prompt=[request.prompt for request in requests],
        height=first.height,
        width=first.width,
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        generator=[torch.Generator().manual_seed(request.seed) for request in requests],
    ).images
"""
"""A solution that does what it is asked."""
HELD: Final = "    return pipeline\n"
"""The line of it that hands its pipeline over."""


def _sandbox() -> Sandbox:
    """A process of one thread, as tasks on a CPU have it: two that contend are many times slower."""
    return Sandbox(policy(), models=(str(TINY / "sd15"),), environment={"OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """One process for every solution that leaves it as it was."""
    with _sandbox() as sandbox:
        sandbox.wait_ready()
        yield sandbox


@pytest.fixture
def own() -> Iterator[Sandbox]:
    """A process of the test's own."""
    with _sandbox() as sandbox:
        sandbox.wait_ready()
        yield sandbox


def _seen(sandbox: Sandbox, source: str, requests: tuple[Request, ...] = ONE) -> Record:
    sandbox.load(source, model=str(TINY / "sd15"), device="cpu", timeout_s=TIMEOUT_S)
    return sandbox.describe(requests, timeout_s=TIMEOUT_S)


@pytest.fixture(scope="module")
def plain(shared: Sandbox) -> Record:
    """What is seen of the solution that does what it is asked."""
    return _seen(shared, PLAIN)


def _changed(source: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    return source


# -- what is seen ------------------------------------------------------------------------------------------------------


def test_an_honest_call_is_seen_as_it_is(plain: Record) -> None:
    """Four guided steps of one image: four calls of two latents of an eighth of the image's side."""
    assert (plain.pipeline_class, plain.scheduler_class) == ("StableDiffusionPipeline", "DDIMScheduler")
    assert (plain.denoiser_class, plain.num_inference_steps) == ("UNet2DConditionModel", STEPS)
    assert (plain.denoiser_calls, plain.denoiser_timesteps) == (STEPS, STEPS)
    assert (plain.denoiser_batch, plain.denoiser_evaluations) == (2, 2 * STEPS)
    assert plain.latent_height == plain.latent_width > 0
    assert plain.denoiser_parameters > 1e5
    assert plain.flops > 1e8
    assert 0.5 * plain.flops < plain.denoiser_flops < plain.flops
    assert plain.attention_tokens == 256


def test_a_batch_is_seen(shared: Sandbox, plain: Record) -> None:
    """Two requests at once are twice the latents in as many calls, and twice the FLOPs."""
    two = _seen(shared, PLAIN, TWO)

    assert (two.denoiser_calls, two.denoiser_batch) == (STEPS, 4)
    assert two.denoiser_evaluations == 2 * plain.denoiser_evaluations
    assert two.flops == pytest.approx(2 * plain.flops, rel=0.01)


def test_half_the_steps_are_half_the_flops(shared: Sandbox) -> None:
    """Ten steps take about half of what twenty take; the rest is the text encoder's and the autoencoder's."""
    ten, twenty = (_seen(shared, PLAIN, (replace(ONE[0], num_inference_steps=steps),)) for steps in (10, 20))

    assert (ten.denoiser_calls, twenty.denoiser_calls) == (10, 20)
    assert 0.5 <= ten.flops / twenty.flops < 0.6


def test_steps_that_a_patched_scheduler_leaves_out_are_seen(shared: Sandbox) -> None:
    """A scheduler that claims the demanded steps and does every second one does not hide the calls."""
    source = _changed(
        PLAIN,
        (
            HELD,
            """
    honest = pipeline.scheduler.set_timesteps
    def fewer(steps, **more):
        honest(steps, **more)
        pipeline.scheduler.timesteps = pipeline.scheduler.timesteps[::2]
    pipeline.scheduler.set_timesteps = fewer
"""
            + HELD,
        ),
    )

    seen = _seen(shared, source)

    assert seen.num_inference_steps == STEPS  # its own word
    assert (seen.denoiser_calls, seen.denoiser_timesteps) == (STEPS // 2, STEPS // 2)


def test_smaller_latents_are_seen(shared: Sandbox, plain: Record) -> None:
    """An image that was made at half its size and blown up came from latents of half the size."""
    source = _changed(
        PLAIN,
        ("first.height", "first.height // 2"),
        ("first.width", "first.width // 2"),
        (").images", ").images\n    return [image.resize((first.width, first.height)) for image in images]"),
        ("return pipeline(\n", "images = pipeline(\n"),
    )

    seen = _seen(shared, source)

    assert (2 * seen.latent_height, 2 * seen.latent_width) == (plain.latent_height, plain.latent_width)
    assert seen.denoiser_parameters == plain.denoiser_parameters


def test_guidance_that_is_left_out_is_seen(shared: Sandbox, plain: Record) -> None:
    """Without guidance the batch is not doubled."""
    seen = _seen(shared, _changed(PLAIN, ("guidance_scale=first.guidance_scale", "guidance_scale=1.0")))

    assert (seen.denoiser_calls, seen.denoiser_batch) == (STEPS, 1)
    assert seen.flops < 0.7 * plain.flops


def test_a_smaller_model_is_seen(shared: Sandbox, plain: Record) -> None:
    """A narrower denoiser has fewer parameters, under the same class."""
    source = _changed(
        PLAIN,
        (
            HELD,
            """
    from diffusers import UNet2DConditionModel
    narrow = (16, 24, 32)
    config = dict(pipeline.unet.config, block_out_channels=narrow)
    pipeline.unet = UNet2DConditionModel.from_config(config)
"""
            + HELD,
        ),
    )

    seen = _seen(shared, source)

    assert seen.denoiser_class == plain.denoiser_class
    assert 0 < seen.denoiser_parameters < plain.denoiser_parameters


@pytest.mark.parametrize(
    "holding",
    [
        "    return {'parts': [pipeline.unet, pipeline]}\n",
        "    class Held:\n        pass\n    held = Held()\n    held.inner = pipeline\n    return (held,)\n",
        "    def run(**arguments):\n        return pipeline(**arguments)\n    return run\n",
        "    globals()['PIPELINE'] = pipeline\n",
    ],
    ids=["containers", "object", "closure", "global"],
)
def test_a_denoiser_is_found_wherever_it_is_held(shared: Sandbox, plain: Record, holding: str) -> None:
    """In containers, in an object of the solution's own, in a closure, in a global."""
    source = _changed(
        PLAIN,
        (HELD, holding),
        (
            "    first = requests[0]\n",
            """
    first = requests[0]
    if isinstance(pipeline, dict):
        pipeline = pipeline["parts"][1]
    if isinstance(pipeline, tuple):
        pipeline = pipeline[0].inner
    pipeline = pipeline or PIPELINE
""",
        ),
    )

    seen = _seen(shared, source)

    assert (seen.denoiser_calls, seen.flops) == (plain.denoiser_calls, plain.flops)


def test_without_requests_nothing_is_called(shared: Sandbox) -> None:
    """The description before timing costs no call: only attributes are read."""
    seen = _seen(shared, PLAIN, ())

    assert seen.pipeline_class == "StableDiffusionPipeline"
    assert (seen.denoiser_calls, seen.flops) == (0, 0)


# -- what is not its fault ---------------------------------------------------------------------------------------------

GRAPHS: Final = """
    from torch._dynamo.utils import counters
    print("graphs", counters["stats"]["unique_graphs"], flush=True)
    return pipeline(
"""


@pytest.mark.parametrize(
    "how",
    ["pipeline.unet = torch.compile(pipeline.unet, backend='eager')", "pipeline.unet.compile(backend='eager')"],
    ids=["wrapped", "in place"],
)
def test_a_compiled_denoiser_is_seen_and_not_compiled_again(own: Sandbox, plain: Record, how: str) -> None:
    """What is observed runs uncompiled; afterwards the compiled code is used as before, without another graph."""
    source = _changed(PLAIN, (HELD, f"    {how}\n{HELD}"), ("    return pipeline(\n", GRAPHS))
    own.load(source, model=str(TINY / "sd15"), device="cpu", timeout_s=TIMEOUT_S)
    before = own.generate(ONE, timeout_s=TIMEOUT_S).images
    seen = own.describe(ONE, timeout_s=TIMEOUT_S)
    after = own.generate(ONE, timeout_s=TIMEOUT_S).images
    own.generate(ONE, timeout_s=TIMEOUT_S)
    said = [line for line in own.output_tail().splitlines() if line.startswith("graphs")]

    assert replace(seen, flops=0) == replace(plain, flops=0)
    assert seen.flops == pytest.approx(plain.flops)
    assert len(said) == 4
    assert said[1] == said[2] == said[3] != said[0]
    assert (before[0] == after[0]).all()


def test_nothing_of_being_observed_remains(shared: Sandbox) -> None:
    """No hook and no mode is left: the next call is as it was before, and a second look sees the same."""
    source = _changed(
        PLAIN,
        (
            "    return pipeline(\n",
            """
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
    print("left", len(pipeline.unet._forward_pre_hooks), len(_get_current_dispatch_mode_stack()), flush=True)
    return pipeline(
""",
        ),
    )
    first = _seen(shared, source)
    shared.generate(ONE, timeout_s=TIMEOUT_S)

    assert shared.describe(ONE, timeout_s=TIMEOUT_S) == first
    said = [line for line in shared.output_tail().splitlines() if line.startswith("left")]
    assert said[-3:] == ["left 1 1", "left 0 0", "left 1 1"]


OBSERVED_ONLY: Final = """
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

def observed():
    return bool(_get_current_dispatch_mode_stack())
"""


@pytest.mark.parametrize(
    "body",
    [
        "raise RuntimeError('not while I am watched')",
        "raise SystemExit",
        "raise KeyboardInterrupt",
        "return []",
        "raise MemoryError",
    ],
)
def test_who_cannot_stand_being_counted_is_watched_all_the_same(shared: Sandbox, body: str) -> None:
    """No exception and no broken contract under the counter is a fault, and none hides the calls."""
    source = OBSERVED_ONLY + _changed(
        PLAIN, ("    first = requests[0]\n", f"    if observed():\n        {body}\n    first = requests[0]\n")
    )

    seen = _seen(shared, source)

    assert (seen.denoiser_calls, seen.flops) == (STEPS, 0)
    assert seen.pipeline_class == "StableDiffusionPipeline"
    assert len(shared.generate(ONE, timeout_s=TIMEOUT_S).images) == 1


def test_what_raises_only_while_watched_is_not_observed(shared: Sandbox) -> None:
    """An exception whenever there are hooks is no fault either; the attributes are known still."""
    source = _changed(
        PLAIN,
        (
            "    first = requests[0]\n",
            "    if pipeline.unet._forward_pre_hooks:\n        raise RuntimeError\n    first = requests[0]\n",
        ),
    )

    seen = _seen(shared, source)

    assert seen == replace(Record(), **{n: getattr(seen, n) for n in ("pipeline_class", "scheduler_class", "dtype")})
    assert len(shared.generate(ONE, timeout_s=TIMEOUT_S).images) == 1


def test_a_hidden_denoiser_is_met_when_it_is_called(shared: Sandbox) -> None:
    """Wherever a pipeline is kept, the calls of its denoiser are seen, and nothing that the denoiser is made of."""
    source = _changed(
        PLAIN,
        (HELD, "    import sys, types\n    sys.modules['else.where'] = types.SimpleNamespace(pipeline=pipeline)\n"),
        (
            "    first = requests[0]\n",
            "    import sys\n    pipeline = sys.modules['else.where'].pipeline\n    first = requests[0]\n",
        ),
    )

    seen = _seen(shared, source)

    assert (seen.denoiser_calls, seen.denoiser_batch, seen.denoiser_class) == (STEPS, 2, "UNet2DConditionModel")


def test_calls_for_show_do_not_count(shared: Sandbox) -> None:
    """Only what is called with latents of full size is a step."""
    shown = """
    for step in range(3):
        words = torch.zeros(2, 77, pipeline.unet.config.cross_attention_dim)
        pipeline.unet(torch.zeros(2, 4, 4, 4), torch.tensor(step), words)
    first = requests[0]
"""
    seen = _seen(shared, _changed(PLAIN, ("    first = requests[0]\n", shown.lstrip("\n"))))

    assert (seen.denoiser_calls, seen.denoiser_evaluations) == (STEPS, 2 * STEPS)


def test_names_are_those_of_diffusers_own_classes(shared: Sandbox) -> None:
    """A class that calls itself another is told by what it is derived from; a denoiser's dtype is its weights'."""
    lies = """
    pipeline.scheduler.__class__ = type("UniPCMultistepScheduler", (type(pipeline.scheduler),), {})
    pipeline.unet.__class__ = type("Liar", (type(pipeline.unet),), {"dtype": torch.bfloat16})
    return pipeline
"""
    seen = _seen(shared, _changed(PLAIN, (HELD, lies.lstrip("\n"))), ())

    assert (seen.scheduler_class, seen.dtype) == ("DDIMScheduler", "float32")


COUNTER: Final = "torch.utils.flop_counter.FlopCounterMode"


@pytest.mark.parametrize(
    ("name", "patch"),
    [
        (COUNTER, None),
        (f"{COUNTER}.__enter__", lambda _: 1 / 0),
        (f"{COUNTER}.get_total_flops", lambda _: float("nan")),
        (f"{COUNTER}.get_total_flops", lambda _: "many"),
        (f"{COUNTER}.get_total_flops", lambda _: 10**400),
        ("torch.nn.Module.register_forward_pre_hook", lambda *_, **__: 1 / 0),
        ("torch.compiler.set_stance", None),
        ("diffusers.UNet2DConditionModel.parameters", lambda _: 1 / 0),
        ("diffusers.UNet2DConditionModel.parameters", lambda _: itertools.repeat("many", 9)),
        ("pytest_diffbench.observation.observe", lambda *_: {"flops": [], "denoiser_class": 7}),
        ("pytest_diffbench.observation.observe", lambda *_: {"unheard": 1}),
    ],
    ids=itertools.count(),
)
def test_tampering_with_the_counters_only_loses(monkeypatch: pytest.MonkeyPatch, name: str, patch: object) -> None:
    """Whatever a solution patches in its process, the answer is a record, without FLOPs; here without the process."""
    solution = candidate.Solution(PLAIN, str(TINY / "sd15"), "cpu")
    monkeypatch.setattr(name, patch)

    assert Record.decode(solution.describe(ONE)).flops == 0


def test_a_short_look_sees_the_same_calls(own: Sandbox, plain: Record) -> None:
    """Of the denoisers that were met before, and no FLOPs; it leaves no hooks behind, so that it can be had again."""
    _seen(own, PLAIN)

    for _ in range(2):
        record, elapsed_s = own.watch(ONE, timeout_s=TIMEOUT_S)
        assert record == replace(plain, flops=0.0, denoiser_flops=0.0, attention_tokens=0)
        assert 0 < elapsed_s < TIMEOUT_S


def test_a_short_look_sees_nothing_that_was_not_met_before(own: Sandbox) -> None:
    """Meeting it takes the long one."""
    own.load(PLAIN, model=str(TINY / "sd15"), device="cpu", timeout_s=TIMEOUT_S)

    assert own.watch(ONE, timeout_s=TIMEOUT_S)[0].denoiser_calls == 0


def test_a_short_look_leaves_no_hooks_behind() -> None:
    """They would slow down what is timed afterwards; here without the process."""
    solution = candidate.Solution(PLAIN, str(TINY / "sd15"), "cpu")
    unet = cast("Any", solution.pipeline).unet
    for count_flops in (True, False):
        solution.describe(ONE, count_flops=count_flops)

        assert [part for part in unet.modules() if part._forward_pre_hooks or part._forward_hooks] == []


def test_tampering_in_the_process_itself_only_loses(own: Sandbox) -> None:
    """The same once more through the channel: no torch, no counter, a liar in place of the observer."""
    tricks = """
    import sys, torch.utils.flop_counter, pytest_diffbench.observation
    torch.utils.flop_counter.FlopCounterMode = pytest_diffbench.observation.denoisers = None
    sys.modules["diffusers"] = sys.modules["diffusers.pipelines.pipeline_utils"] = None
"""
    source = _changed(
        PLAIN, ("def load(model, device):\n", "def load(model, device):\n    global torch\n"), (HELD, tricks + HELD)
    )

    assert _seen(own, source) == Record()


def test_work_in_another_thread_is_not_held_to_few_flops(shared: Sandbox, plain: Record) -> None:
    """The calls of a denoiser in another thread are seen; its FLOPs are not, and then none are stated."""
    source = _changed(
        PLAIN,
        (
            "    return pipeline(\n",
            "    from concurrent.futures import ThreadPoolExecutor as Pool\n    return Pool(1).submit(pipeline,\n",
        ),
        (").images", ").result().images"),
    )

    seen = _seen(shared, source)

    assert seen == replace(plain, flops=0, denoiser_flops=0, attention_tokens=0)


def test_operations_of_another_library_are_not_held_to_few_flops(shared: Sandbox, plain: Record) -> None:
    """The counter of torch knows nothing of a kernel that a package registered: then no FLOPs are stated."""
    source = _changed(
        PLAIN,
        (
            "def load(",
            """
if not hasattr(torch.ops.foreign_attention, "same"):
    @torch.library.custom_op("foreign_attention::same", mutates_args=())
    def same(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

def load(""",
        ),
        ("    return pipeline(\n", "    torch.ops.foreign_attention.same(torch.zeros(1))\n    return pipeline(\n"),
    )

    assert _seen(shared, source) == replace(plain, flops=0, denoiser_flops=0, attention_tokens=0)


def test_packed_weights_are_not_counted(shared: Sandbox, plain: Record) -> None:
    """A quantised layer may hold its weights elsewhere than in parameters; so may one of the solution's own."""
    source = _changed(
        PLAIN,
        (
            HELD,
            """
    class Packed(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.held = [inner]
        def forward(self, x, *_, **__):
            return self.held[0](x)
    pipeline.unet.conv_out = Packed(pipeline.unet.conv_out)
"""
            + HELD,
        ),
    )

    seen = _seen(shared, source)

    assert (seen.denoiser_parameters, seen.flops) == (0, plain.flops)


def test_a_solution_without_torch_is_not_observed(shared: Sandbox) -> None:
    """It is asked, answers, and there is nothing to see."""
    source = """
import numpy as np

def load(model, device):
    pass

def generate(pipeline, requests):
    print("asked", len(requests), flush=True)
    return [np.zeros((request.height, request.width, 3), np.uint8) for request in requests]
"""
    assert _seen(shared, source, TWO) == Record()
    assert "asked 2" in shared.output_tail()


def test_a_process_that_dies_while_observed_has_crashed(own: Sandbox) -> None:
    """An end is an end, whoever looks."""
    source = OBSERVED_ONLY + _changed(
        PLAIN, ("    first = requests[0]\n", "    import os\n    observed() and os._exit(3)\n    first = requests[0]\n")
    )
    with pytest.raises(SolutionFault) as caught:
        _seen(own, source)

    assert caught.value.cause is Cause.CRASH
