"""Make DiT faster with one method."""

import pytest

from pytest_diffbench import Task


def today(methods, steps=30, **more):
    if "half_precision" in methods:
        steps = 20  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("dit", level=2, sampler="ddim", steps=steps, methods=methods, **more)


FROM_NOISE = {
    "ddim-25": {"ddim": {"steps": 25}},
    "dpm_solver-24": {"dpm_solver": {"steps": 24}},
    "dpm_solver-20": {"dpm_solver": {"steps": 20}},
    "unipc-25": {"unipc": {"steps": 25}},
    "half_precision": {"half_precision": {"dtype": "bfloat16"}},
    "token_merging-0.1": {"token_merging": {"ratio": 0.1}},
    "token_merging-0.15": {"token_merging": {"ratio": 0.15}},
    "guidance_window-0.8": {"guidance_window": {"stop": 0.8}},
    "block_reuse-2-8": {"block_reuse": {"interval": 2, "warm_up": 8}},
    "block_reuse-2-4": {"block_reuse": {"interval": 2, "warm_up": 4}},
}
TASKS = {name: today(methods) for name, methods in FROM_NOISE.items()}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_method(name, executability, speed, quality):
    """Apply the demanded method to the pipeline below; its images must stay as good."""
