"""Make Stable Diffusion XL faster with one method."""

import pytest

from pytest_diffbench import Task


def today(methods, steps=50, **more):
    if "half_precision" in methods:
        steps = 12  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("sdxl", level=2, sampler="euler", steps=steps, methods=methods, **more)


FROM_NOISE = {
    "ddim-30": {"ddim": {"steps": 30}},
    "dpm_solver-30": {"dpm_solver": {"steps": 30}},
    "dpm_solver-20": {"dpm_solver": {"steps": 20}},
    "unipc-30": {"unipc": {"steps": 30}},
    "half_precision": {"half_precision": {"dtype": "bfloat16"}},
    "token_merging-0.25": {"token_merging": {"ratio": 0.25}},
    "token_merging-0.4": {"token_merging": {"ratio": 0.4}},
    "deepcache-2": {"deepcache": {"interval": 2}},
    "deepcache-3": {"deepcache": {"interval": 3}},
    "tgate-30": {"tgate": {"gate_step": 30}},
    "tgate-25-2": {"tgate": {"gate_step": 25, "fi_interval": 2}},
    "guidance_window-0.7": {"guidance_window": {"stop": 0.7}},
    "block_reuse-2-2": {"block_reuse": {"interval": 2, "warm_up": 2}},
    "block_reuse-2-4": {"block_reuse": {"interval": 2, "warm_up": 4}},
}
FROM_IMAGE = {
    "image-ddim-30": {"ddim": {"steps": 30}},
    "image-dpm_solver-30": {"dpm_solver": {"steps": 30}},
    "image-dpm_solver-20": {"dpm_solver": {"steps": 20}},
    "image-unipc-30": {"unipc": {"steps": 30}},
    "image-half_precision": {"half_precision": {"dtype": "bfloat16"}},
    "image-token_merging-0.25": {"token_merging": {"ratio": 0.25}},
    "image-token_merging-0.4": {"token_merging": {"ratio": 0.4}},
    "image-deepcache-2": {"deepcache": {"interval": 2}},
    "image-deepcache-3": {"deepcache": {"interval": 3}},
    "image-tgate-18": {"tgate": {"gate_step": 18}},
    "image-tgate-15-2": {"tgate": {"gate_step": 15, "fi_interval": 2}},
    "image-guidance_window-0.7": {"guidance_window": {"stop": 0.7}},
    "image-block_reuse-2-2": {"block_reuse": {"interval": 2, "warm_up": 2}},
    "image-block_reuse-2-4": {"block_reuse": {"interval": 2, "warm_up": 4}},
}
TASKS = {name: today(methods) for name, methods in FROM_NOISE.items()} | {
    name: today(methods, steps=50, strength=0.6) for name, methods in FROM_IMAGE.items()
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_method(name, executability, speed, quality):
    """Apply the demanded method to the pipeline below; its images must stay as good."""
