"""Make DiT faster with several methods at once."""

import pytest

from pytest_diffbench import Task


def today(methods, steps=30, **more):
    if "half_precision" in methods:
        steps = 12  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("dit", level=3, sampler="ddim", steps=steps, methods=methods, **more)


FROM_NOISE = {
    "ddim-20+token_merging-0.1": {"ddim": {"steps": 20}, "token_merging": {"ratio": 0.1}},
    "dpm_solver-20+guidance_window-0.7": {"dpm_solver": {"steps": 20}, "guidance_window": {"stop": 0.7}},
    "unipc-22+block_reuse-2-2": {"unipc": {"steps": 22}, "block_reuse": {"interval": 2, "warm_up": 2}},
    "token_merging-0.1+guidance_window-0.7": {"token_merging": {"ratio": 0.1}, "guidance_window": {"stop": 0.7}},
    "token_merging-0.1+block_reuse-2-2": {
        "token_merging": {"ratio": 0.1},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "guidance_window-0.7+block_reuse-2-2": {
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "ddim-20+token_merging-0.1+guidance_window-0.7": {
        "ddim": {"steps": 20},
        "token_merging": {"ratio": 0.1},
        "guidance_window": {"stop": 0.7},
    },
    "dpm_solver-20+token_merging-0.1+block_reuse-2-2": {
        "dpm_solver": {"steps": 20},
        "token_merging": {"ratio": 0.1},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "unipc-22+guidance_window-0.7+block_reuse-2-2": {
        "unipc": {"steps": 22},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "token_merging-0.1+guidance_window-0.7+block_reuse-2-2": {
        "token_merging": {"ratio": 0.1},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "dpm_solver-20+token_merging-0.1+guidance_window-0.7+block_reuse-2-2": {
        "dpm_solver": {"steps": 20},
        "token_merging": {"ratio": 0.1},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "dpm_solver-20+token_merging-0.1": {"dpm_solver": {"steps": 20}, "token_merging": {"ratio": 0.1}},
    "unipc-22+guidance_window-0.7": {"unipc": {"steps": 22}, "guidance_window": {"stop": 0.7}},
    "ddim-20+block_reuse-2-2": {"ddim": {"steps": 20}, "block_reuse": {"interval": 2, "warm_up": 2}},
    "dpm_solver-20+token_merging-0.1+guidance_window-0.7": {
        "dpm_solver": {"steps": 20},
        "token_merging": {"ratio": 0.1},
        "guidance_window": {"stop": 0.7},
    },
    "unipc-22+token_merging-0.1+block_reuse-2-2": {
        "unipc": {"steps": 22},
        "token_merging": {"ratio": 0.1},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "ddim-20+guidance_window-0.7+block_reuse-2-2": {
        "ddim": {"steps": 20},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "unipc-22+token_merging-0.1+guidance_window-0.7+block_reuse-2-2": {
        "unipc": {"steps": 22},
        "token_merging": {"ratio": 0.1},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "unipc-22+token_merging-0.1": {"unipc": {"steps": 22}, "token_merging": {"ratio": 0.1}},
    "ddim-20+guidance_window-0.7": {"ddim": {"steps": 20}, "guidance_window": {"stop": 0.7}},
    "dpm_solver-20+block_reuse-2-2": {"dpm_solver": {"steps": 20}, "block_reuse": {"interval": 2, "warm_up": 2}},
    "unipc-22+token_merging-0.1+guidance_window-0.7": {
        "unipc": {"steps": 22},
        "token_merging": {"ratio": 0.1},
        "guidance_window": {"stop": 0.7},
    },
    "ddim-20+token_merging-0.1+block_reuse-2-2": {
        "ddim": {"steps": 20},
        "token_merging": {"ratio": 0.1},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "dpm_solver-20+guidance_window-0.7+block_reuse-2-2": {
        "dpm_solver": {"steps": 20},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "ddim-20+token_merging-0.1+guidance_window-0.7+block_reuse-2-2": {
        "ddim": {"steps": 20},
        "token_merging": {"ratio": 0.1},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "ddim-10+half_precision+block_reuse-2-2": {
        "ddim": {"steps": 10},
        "half_precision": {"dtype": "bfloat16"},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "half_precision+guidance_window-0.7+block_reuse-2-2": {
        "half_precision": {"dtype": "bfloat16"},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "half_precision+token_merging-0.1+guidance_window-0.7+block_reuse-2-2": {
        "half_precision": {"dtype": "bfloat16"},
        "token_merging": {"ratio": 0.1},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "half_precision+guidance_window-0.7": {"half_precision": {"dtype": "bfloat16"}, "guidance_window": {"stop": 0.7}},
}
TASKS = {name: today(methods) for name, methods in FROM_NOISE.items()}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_combination(name, executability, speed, quality):
    """Apply the demanded methods together to the pipeline below; its images must stay as good."""
