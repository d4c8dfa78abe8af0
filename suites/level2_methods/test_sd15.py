"""Make Stable Diffusion 1.5 faster with one method."""

import pytest

from pytest_diffbench import Task


def today(methods, steps=30, **more):
    if "half_precision" in methods:
        steps = 12  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("sd15", level=2, sampler="ddim", steps=steps, methods=methods, **more)


FROM_NOISE = {
    "ddim-20": {"ddim": {"steps": 20}},
    "dpm_solver-20": {"dpm_solver": {"steps": 20}},
    "dpm_solver-15": {"dpm_solver": {"steps": 15}},
    "unipc-18": {"unipc": {"steps": 18}},
    "half_precision": {"half_precision": {"dtype": "bfloat16"}},
    "token_merging-0.25": {"token_merging": {"ratio": 0.25}},
    "token_merging-0.4": {"token_merging": {"ratio": 0.4}},
    "deepcache-2": {"deepcache": {"interval": 2}},
    "deepcache-3": {"deepcache": {"interval": 3}},
    "tgate-15": {"tgate": {"gate_step": 15}},
    "tgate-12-2": {"tgate": {"gate_step": 12, "fi_interval": 2}},
    "guidance_window-0.7": {"guidance_window": {"stop": 0.7}},
    "block_reuse-2-2": {"block_reuse": {"interval": 2, "warm_up": 2}},
    "block_reuse-2-4": {"block_reuse": {"interval": 2, "warm_up": 4}},
}
FROM_IMAGE = {
    "image-ddim-20": {"ddim": {"steps": 20}},
    "image-dpm_solver-20": {"dpm_solver": {"steps": 20}},
    "image-dpm_solver-15": {"dpm_solver": {"steps": 15}},
    "image-unipc-18": {"unipc": {"steps": 18}},
    "image-half_precision": {"half_precision": {"dtype": "bfloat16"}},
    "image-token_merging-0.25": {"token_merging": {"ratio": 0.25}},
    "image-token_merging-0.4": {"token_merging": {"ratio": 0.4}},
    "image-deepcache-2": {"deepcache": {"interval": 2}},
    "image-deepcache-3": {"deepcache": {"interval": 3}},
    "image-tgate-12": {"tgate": {"gate_step": 12}},
    "image-tgate-10-2": {"tgate": {"gate_step": 10, "fi_interval": 2}},
    "image-guidance_window-0.7": {"guidance_window": {"stop": 0.7}},
    "image-block_reuse-2-2": {"block_reuse": {"interval": 2, "warm_up": 2}},
    "image-block_reuse-2-4": {"block_reuse": {"interval": 2, "warm_up": 4}},
}
TASKS = {name: today(methods) for name, methods in FROM_NOISE.items()} | {
    name: today(methods, steps=40, strength=0.6) for name, methods in FROM_IMAGE.items()
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_method(name, executability, speed, quality):
    """Apply the demanded method to the pipeline below; its images must stay as good."""
