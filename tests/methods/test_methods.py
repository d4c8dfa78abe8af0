"""Every method on every family that it works on: less work, nothing kept, nothing left behind, and clear refusals."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import torch
from diffagent.methods import NotApplicable, block_reuse, deepcache, guidance_window, tgate, token_merging

from tests.methods.pipelines import BUILD, UNETS, WITH_TEXT, build, flops, images

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

METHODS: Final[dict[str, Callable[[Any], AbstractContextManager[Any]]]] = {
    "token_merging": lambda pipeline: token_merging(pipeline, ratio=0.5),
    "deepcache": lambda pipeline: deepcache(pipeline, interval=2),
    "deepcache, deeper": lambda pipeline: deepcache(pipeline, interval=3, branch=2),
    "deepcache, not uniform": lambda pipeline: deepcache(pipeline, interval=2, center=15, power=1.4),
    "tgate": lambda pipeline: tgate(pipeline, gate_step=3, sp_interval=2, warm_up=1),
    "tgate, guided": lambda pipeline: tgate(pipeline, gate_step=3, sp_interval=2, warm_up=1, drop_guidance=False),
    "guidance_window": lambda pipeline: guidance_window(pipeline, 0.2, 0.7),
    "block_reuse": lambda pipeline: block_reuse(pipeline, interval=2),
}
WORKS_ON: Final = {
    "deepcache": UNETS,
    "tgate": WITH_TEXT,
}
"""Where a method works, if not everywhere."""


def _families(method: str) -> tuple[str, ...]:
    return WORKS_ON.get(method.split(",", maxsplit=1)[0], tuple(BUILD))


CELLS: Final = [(method, family) for method in METHODS for family in _families(method)]
TWINS: Final = ("sd21_image", "sdxl_image", "pixart_sigma")
"""Whose pipeline and denoiser are of the classes of others that are tried: these are for `make test-all`."""


def _cells(cells: Sequence[tuple[str, str]]) -> pytest.MarkDecorator:
    """Each as a test of its own."""
    slow = [pytest.param(*cell, marks=pytest.mark.slow) if cell[1] in TWINS else cell for cell in cells]
    return pytest.mark.parametrize(("method", "family"), slow)


EVERY_CELL: Final = _cells(CELLS)
EVERY_FAMILY: Final = pytest.mark.parametrize(
    "family", [pytest.param(name, marks=pytest.mark.slow) if name in TWINS else name for name in BUILD]
)
CACHES: Final = [cell for cell in CELLS if cell[0] != "token_merging"]
"""Those that save work on models of any size; merging costs a tiny one more than it saves."""


@functools.cache
def _plain(family: str, **told: Any) -> NDArray[np.float32]:
    return images(build(family), family, **told)


def _fresh(method: str, family: str, **told: Any) -> NDArray[np.float32]:
    """What a process that has drawn nothing else would draw."""
    pipeline = build(family)
    with METHODS[method](pipeline):
        return images(pipeline, family, **told)


@EVERY_CELL
def test_it_changes_images_and_leaves_nothing_behind(method: str, family: str) -> None:
    """Inside, the image is another one; afterwards it is the plain one, to the bit, and no module is patched."""
    pipeline = build(family)
    with METHODS[method](pipeline):
        changed = images(pipeline, family)
    again = images(pipeline, family)

    assert np.isfinite(changed).all()
    assert not np.array_equal(changed, _plain(family))
    assert np.array_equal(again, _plain(family))
    parts = (
        part for model in pipeline.components.values() if isinstance(model, torch.nn.Module) for part in model.modules()
    )
    assert [
        type(part).__name__ for part in (*parts, pipeline.scheduler) if {"forward", "step"} & vars(part).keys()
    ] == []


@pytest.mark.parametrize(("method", "family"), [cell for cell in CELLS if cell[1] in ("sd15", "pixart_alpha")])
def test_an_error_inside_leaves_nothing_behind(method: str, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a step in the middle of an image fails."""
    pipeline = build(family)
    step, taken = pipeline.scheduler.step, iter(range(3))

    def failing(*args: Any, **kwargs: Any) -> Any:
        next(taken)
        return step(*args, **kwargs)

    monkeypatch.setattr(pipeline.scheduler, "step", functools.wraps(step)(failing))
    with pytest.raises(StopIteration), METHODS[method](pipeline):
        images(pipeline, family)
    monkeypatch.undo()

    assert np.array_equal(images(pipeline, family), _plain(family))


@EVERY_CELL
def test_the_second_image_owes_nothing_to_the_first(method: str, family: str) -> None:
    """It is what a fresh process draws: after another prompt, another size, a batch, and no guidance."""
    others: list[dict[str, Any]] = [{"seed": 7}, {"count": 2}, {"guidance_scale": 1.0}, {"num_inference_steps": 4}]
    if family != "dit":
        others.append({"side": 64})
    if family.endswith("_image"):
        others.append({"strength": 0.5})
    expected = _fresh(method, family, seed=1)
    pipeline = build(family)
    with METHODS[method](pipeline):
        for told in others:
            images(pipeline, family, **told)
            assert np.array_equal(images(pipeline, family, seed=1), expected), told


@EVERY_CELL
@pytest.mark.parametrize("told", [{"count": 2}, {"side": 64}, {"count": 2, "guidance_scale": 1.0}], ids=str)
def test_it_works_for_every_call(method: str, family: str, told: dict[str, Any]) -> None:
    """Each image of a batch is the one that it is alone, and without guidance nothing is cut or averaged."""
    if family == "dit" and "side" in told:
        pytest.skip("DiT has one size")
    pipeline = build(family)
    with METHODS[method](pipeline):
        drawn = images(pipeline, family, **told)

    for number, image in enumerate(drawn):
        alone = _fresh(method, family, **(told | {"count": 1, "seed": number}))
        np.testing.assert_allclose(image, alone[0], atol=2e-3)


@_cells(CACHES)
def test_it_saves_work(method: str, family: str) -> None:
    """Floating-point operations are counted: what is reused is not computed."""
    pipeline = build(family)
    before = flops(pipeline, family)
    with METHODS[method](pipeline):
        after = flops(pipeline, family)

    assert after < 0.99 * before


@EVERY_FAMILY
def test_a_guidance_window_saves_half_of_every_step_outside_of_it(family: str) -> None:
    """No step guided costs half; all of them guided, everything; and without guidance there is nothing to save."""
    pipeline = build(family)
    before, unguided = flops(pipeline, family), flops(pipeline, family, guidance_scale=1.0)
    with guidance_window(pipeline, 0.0, 0.0):
        none = flops(pipeline, family)
        assert flops(pipeline, family, guidance_scale=1.0) == unguided
    with guidance_window(pipeline):
        assert flops(pipeline, family) == before

    assert none == pytest.approx(before / 2, rel=1e-9)


@EVERY_FAMILY
def test_a_window_is_a_share_of_the_steps_that_run(family: str) -> None:
    """Also where an image begins halfway: of the steps that are left out none counts."""
    pipeline, told = build(family), {"num_inference_steps": 10, **({"strength": 0.4} if "_image" in family else {})}
    run = (4 if "_image" in family else 10) + family.startswith("sd15")  # PNDM takes one step twice
    before = flops(pipeline, family, **told)
    with guidance_window(pipeline, 0.0, 0.5):
        after = flops(pipeline, family, **told)

    assert after == pytest.approx(before * (0.5 + 0.5 * math.ceil(run / 2) / run), rel=1e-9)


@EVERY_FAMILY
def test_without_a_guided_step_the_image_is_the_unguided_one(family: str) -> None:
    """Both halves are the same then, and u + s (c - u) is c."""
    pipeline = build(family)
    with guidance_window(pipeline, 0.0, 0.0):
        windowed = images(pipeline, family)

    np.testing.assert_allclose(windowed, _plain(family, guidance_scale=1.0), atol=2e-3)


def test_guidance_that_is_asked_for_in_two_calls_is_left_out_too() -> None:
    """As some pipelines ask: first with the prompt, then without; outside the window the second costs nothing."""
    pipeline = build("sd15")
    states = torch.randn(2, 1, 32, 64, generator=torch.Generator().manual_seed(1))
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []

    @torch.no_grad()
    def sample() -> None:
        pairs.clear()
        latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
        pipeline.scheduler.set_timesteps(4)
        for t in pipeline.scheduler.timesteps:
            scaled = pipeline.scheduler.scale_model_input(latents, t)
            pairs.append((pipeline.unet(scaled, t, states[0]).sample, pipeline.unet(scaled, t, states[1]).sample))
            latents = pipeline.scheduler.step(pairs[-1][0], t, latents).prev_sample

    sample()
    assert not any(torch.equal(*pair) for pair in pairs)
    with guidance_window(pipeline, 0.0, 0.0):
        sample()
        assert all(torch.equal(*pair) for pair in pairs)
        calls: list[int] = []
        counting = pipeline.unet.conv_in.register_forward_pre_hook(lambda *_: calls.append(1))
        sample()
        counting.remove()
    assert len(calls) == len(pairs)


@pytest.mark.parametrize(
    ("method", "family"),
    [("deepcache", "dit"), ("deepcache", "pixart_alpha"), ("deepcache", "pixart_sigma"), ("tgate", "dit")],
)
def test_what_cannot_work_says_so(method: str, family: str) -> None:
    """Before anything runs, in the words of who asked for it."""
    pipeline = build(family)

    with pytest.raises(NotApplicable, match=type(pipeline.transformer).__name__), METHODS[method](pipeline):
        pass


PAIRS: Final = [
    pair
    for pair in itertools.combinations(("token_merging", "deepcache", "tgate", "guidance_window", "block_reuse"), 2)
    if pair != ("tgate", "guidance_window")  # the same saving twice
]


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd15_image", "dit", "pixart_alpha"])
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_methods_work_together(pair: tuple[str, str], family: str) -> None:
    """In either order: images are finite, the second is a fresh process's, and the plain pipeline comes back."""
    if any(family not in _families(method) for method in pair):
        pytest.skip("one of them cannot work on this family")
    for order in (pair, pair[::-1]):
        pipeline = build(family)
        with METHODS[order[0]](pipeline), METHODS[order[1]](pipeline):
            first = images(pipeline, family)
            images(pipeline, family, count=2, seed=4)
            second = images(pipeline, family)

        assert np.isfinite(first).all()
        assert np.array_equal(first, second)
        assert np.array_equal(images(pipeline, family), _plain(family))


@pytest.mark.parametrize("method", [name for name in METHODS if "," not in name])
def test_a_scheduler_that_comes_too_late_is_told(method: str) -> None:
    """Its steps would be counted by nobody; only merging does not ask which step it is."""
    pipeline = build("sd15")
    with METHODS[method](pipeline):
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
        told = (
            contextlib.nullcontext()
            if method == "token_merging"
            else pytest.raises(RuntimeError, match="another scheduler")
        )
        with told:
            images(pipeline, "sd15")


@pytest.mark.parametrize(
    ("method", "family"),
    [
        ("token_merging", "sd15"),
        pytest.param("token_merging", "pixart_alpha", marks=pytest.mark.slow),
        ("deepcache", "sd15"),
        pytest.param("deepcache", "sdxl", marks=pytest.mark.slow),
        ("tgate", "sd15"),
        pytest.param("tgate", "pixart_alpha", marks=pytest.mark.slow),
        ("guidance_window", "sdxl"),
        ("block_reuse", "dit"),
    ],
)
def test_compiled_graphs_do_not_break(method: str, family: str) -> None:
    """With fullgraph=True a break is an error; the images are those of code that is not compiled."""
    pipeline = build(family)
    with METHODS[method](pipeline):
        expected = images(pipeline, family)
        name = "transformer" if hasattr(pipeline, "transformer") else "unet"
        torch._dynamo.reset()
        counters = torch._dynamo.utils.counters
        counters.clear()
        setattr(pipeline, name, torch.compile(getattr(pipeline, name), backend="eager", fullgraph=True))
        compiled = images(pipeline, family)

    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] <= 8
    np.testing.assert_allclose(compiled, expected, atol=1e-5)
