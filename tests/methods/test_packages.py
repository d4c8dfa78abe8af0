"""Our methods beside the published packages, where those are right: as many operations, and the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from diffagent.methods import deepcache, tgate, token_merging

from tests.methods.pipelines import arguments, build, flops, flops_of, images

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_ERROR = 1e-4
DRAW = {"num_inference_steps": 10}


def _error(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@pytest.mark.parametrize("interval", [2, 3, 5])
@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_deepcache_is_that_of_its_authors(family: str, interval: int) -> None:
    """Of DeepCache 0.1.1 the first image of a process: what it keeps for the next one is wrong.

    It looks up the step by its timestep, so the scheduler must not repeat one.
    """
    extension = pytest.importorskip("DeepCache.extension.deepcache")
    ours, theirs = build(family), build(family)
    for pipeline in (ours, theirs):
        pipeline.scheduler = _ddim(pipeline)
    helper = extension.DeepCacheSDHelper(pipe=theirs)
    helper.set_params(cache_interval=interval, cache_branch_id=0)
    helper.enable()
    with deepcache(ours, interval=interval):
        assert _error(images(ours, family, **DRAW), images(theirs, family, **DRAW)) <= MOST_ERROR
    helper.disable()

    def counted(pipeline: Any) -> int:
        return flops(pipeline, family, **DRAW)

    helper.enable()
    with deepcache(ours, interval=interval):
        assert counted(ours) == pytest.approx(counted(theirs), rel=1e-4)


@pytest.mark.parametrize("fi_interval", [1, 2])
@pytest.mark.parametrize("family", ["sd15", "sdxl", "pixart_alpha", "pixart_sigma"])
def test_tgate_is_that_of_its_authors(family: str, fi_interval: int) -> None:
    """Of tgate 1.0.0 the first image of a process: what it keeps for the next one is wrong.

    Where a scheduler repeats a timestep it counts steps from another one, so none does here. On Stable Diffusion XL it
    leaves out the prediction with the prompt, not the one without; both are given the same pooled text here.
    """
    package = pytest.importorskip("tgate")
    load = {
        "sd15": package.TgateSDLoader,
        "sdxl": package.TgateSDXLLoader,
        "pixart_alpha": package.TgatePixArtAlphaLoader,
        "pixart_sigma": package.TgatePixArtSigmaLoader,
    }[family]
    settings: dict[str, Any] = {"gate_step": 5, "sp_interval": 2, "fi_interval": fi_interval, "warm_up": 2}
    ours, theirs = build(family), build(family)
    for pipeline in (ours, theirs):
        pipeline.scheduler = _ddim(pipeline)
    told = DRAW | (_same_pooled_text(ours) if family == "sdxl" else {})
    with tgate(ours, **settings):
        expected = images(ours, family, **told)
        count = flops(ours, family, **told)
    loaded = load(theirs, **DRAW, **settings)

    assert _error(expected, loaded.tgate(**arguments(family, **told), **settings).images) <= MOST_ERROR
    assert count == pytest.approx(flops_of(loaded, lambda: loaded.tgate(**arguments(family, **told), **settings)))


def _same_pooled_text(pipeline: Any) -> dict[str, Any]:
    states, without, pooled, _ = pipeline.encode_prompt("a red circle")
    return {
        "prompt": None,
        "prompt_embeds": states,
        "negative_prompt_embeds": without,
        "pooled_prompt_embeds": pooled,
        "negative_pooled_prompt_embeds": pooled,
    }


def _ddim(pipeline: Any) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_config(pipeline.scheduler.config)


def test_merging_takes_as_much_work_as_that_of_its_authors() -> None:
    """Tomesd 0.1.3; images differ, for it matches tokens before their norm, and chooses destinations by chance."""
    package = pytest.importorskip("tomesd")
    ours, theirs = build("sd15"), build("sd15")
    package.apply_patch(theirs, ratio=0.5, use_rand=False)
    with token_merging(ours, ratio=0.5):
        count = flops(ours, "sd15")

    assert count == pytest.approx(flops(theirs, "sd15"), rel=0.01)
