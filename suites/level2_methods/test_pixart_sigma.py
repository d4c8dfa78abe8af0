"""Make PixArt-Sigma faster with one method."""

import pytest

from pytest_diffbench import Task


def today(methods, steps=30, **more):
    if "half_precision" in methods:
        steps = 20  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("pixart_sigma", level=2, sampler="dpm_solver", steps=steps, methods=methods, **more)


FROM_NOISE = {
    "ddim-28": {"ddim": {"steps": 28}},
    "dpm_solver-28": {"dpm_solver": {"steps": 28}},
    "dpm_solver-22": {"dpm_solver": {"steps": 22}},
    "unipc-29": {"unipc": {"steps": 29}},
    "half_precision": {"half_precision": {"dtype": "bfloat16"}},
    "token_merging-0.03": {"token_merging": {"ratio": 0.03}},
    "token_merging-0.05": {"token_merging": {"ratio": 0.05}},
    "tgate-29": {"tgate": {"gate_step": 29}},
    "guidance_window-0.8": {"guidance_window": {"stop": 0.8}},
    "block_reuse-2-8": {"block_reuse": {"interval": 2, "warm_up": 8}},
    "block_reuse-2-4": {"block_reuse": {"interval": 2, "warm_up": 4}},
}
TASKS = {name: today(methods) for name, methods in FROM_NOISE.items()}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_method(name, executability, speed, quality):
    """Apply the demanded method to the pipeline below; its images must stay as good."""
