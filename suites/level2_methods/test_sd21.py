"""Make Stable Diffusion 2.1 faster with one method."""

import pytest

from pytest_diffbench import Task


def today(methods, steps=50, **more):
    if "half_precision" in methods:
        steps = 20  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("sd21", level=2, sampler="ddim", steps=steps, methods=methods, **more)


FROM_NOISE = {
    "ddim-40": {"ddim": {"steps": 40}},
    "dpm_solver-40": {"dpm_solver": {"steps": 40}},
    "dpm_solver-30": {"dpm_solver": {"steps": 30}},
    "unipc-40": {"unipc": {"steps": 40}},
    "half_precision": {"half_precision": {"dtype": "bfloat16"}},
    "token_merging-0.15": {"token_merging": {"ratio": 0.15}},
    "token_merging-0.25": {"token_merging": {"ratio": 0.25}},
    "deepcache-2-2": {"deepcache": {"interval": 2, "branch": 2}},
    "deepcache-2-1": {"deepcache": {"interval": 2, "branch": 1}},
    "tgate-45": {"tgate": {"gate_step": 45}},
    "tgate-40": {"tgate": {"gate_step": 40}},
    "guidance_window-0.8": {"guidance_window": {"stop": 0.8}},
    "block_reuse-2-8": {"block_reuse": {"interval": 2, "warm_up": 8}},
    "block_reuse-2-4": {"block_reuse": {"interval": 2, "warm_up": 4}},
}
FROM_IMAGE = {
    "image-ddim-40": {"ddim": {"steps": 40}},
    "image-dpm_solver-40": {"dpm_solver": {"steps": 40}},
    "image-dpm_solver-30": {"dpm_solver": {"steps": 30}},
    "image-unipc-40": {"unipc": {"steps": 40}},
    "image-half_precision": {"half_precision": {"dtype": "bfloat16"}},
    "image-token_merging-0.15": {"token_merging": {"ratio": 0.15}},
    "image-token_merging-0.25": {"token_merging": {"ratio": 0.25}},
    "image-deepcache-2-2": {"deepcache": {"interval": 2, "branch": 2}},
    "image-deepcache-2-1": {"deepcache": {"interval": 2, "branch": 1}},
    "image-tgate-27": {"tgate": {"gate_step": 27}},
    "image-tgate-24": {"tgate": {"gate_step": 24}},
    "image-guidance_window-0.8": {"guidance_window": {"stop": 0.8}},
    "image-block_reuse-2-8": {"block_reuse": {"interval": 2, "warm_up": 8}},
    "image-block_reuse-2-4": {"block_reuse": {"interval": 2, "warm_up": 4}},
}
TASKS = {name: today(methods) for name, methods in FROM_NOISE.items()} | {
    name: today(methods, steps=50, strength=0.6) for name, methods in FROM_IMAGE.items()
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_method(name, executability, speed, quality):
    """Apply the demanded method to the pipeline below; its images must stay as good."""
