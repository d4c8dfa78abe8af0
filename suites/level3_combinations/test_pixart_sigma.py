"""Make PixArt-Sigma faster with several methods at once."""

import pytest

from pytest_diffbench import Task


def today(methods, steps=24, **more):
    if "half_precision" in methods:
        steps = 12  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("pixart_sigma", level=3, sampler="dpm_solver", steps=steps, methods=methods, **more)


FROM_NOISE = {
    "unipc-20+token_merging-0.1": {"unipc": {"steps": 20}, "token_merging": {"ratio": 0.1}},
    "ddim-20+tgate-16": {"ddim": {"steps": 20}, "tgate": {"gate_step": 16}},
    "dpm_solver-20+guidance_window-0.7": {"dpm_solver": {"steps": 20}, "guidance_window": {"stop": 0.7}},
    "unipc-20+block_reuse-2-2": {"unipc": {"steps": 20}, "block_reuse": {"interval": 2, "warm_up": 2}},
    "token_merging-0.1+tgate-19": {"token_merging": {"ratio": 0.1}, "tgate": {"gate_step": 19}},
    "token_merging-0.15+guidance_window-0.7": {"token_merging": {"ratio": 0.15}, "guidance_window": {"stop": 0.7}},
    "token_merging-0.1+block_reuse-2-2": {
        "token_merging": {"ratio": 0.1},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "guidance_window-0.7+block_reuse-2-4": {
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 4},
    },
    "dpm_solver-20+token_merging-0.1+tgate-16": {
        "dpm_solver": {"steps": 20},
        "token_merging": {"ratio": 0.1},
        "tgate": {"gate_step": 16},
    },
    "unipc-20+token_merging-0.1+guidance_window-0.7": {
        "unipc": {"steps": 20},
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
    "token_merging-0.1+guidance_window-0.7+block_reuse-2-2": {
        "token_merging": {"ratio": 0.1},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "ddim-20+token_merging-0.1+guidance_window-0.7+block_reuse-2-2": {
        "ddim": {"steps": 20},
        "token_merging": {"ratio": 0.1},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "ddim-20+token_merging-0.1": {"ddim": {"steps": 20}, "token_merging": {"ratio": 0.1}},
    "dpm_solver-20+tgate-16": {"dpm_solver": {"steps": 20}, "tgate": {"gate_step": 16}},
    "unipc-20+guidance_window-0.7": {"unipc": {"steps": 20}, "guidance_window": {"stop": 0.7}},
    "ddim-20+block_reuse-2-2": {"ddim": {"steps": 20}, "block_reuse": {"interval": 2, "warm_up": 2}},
    "unipc-20+token_merging-0.1+tgate-16": {
        "unipc": {"steps": 20},
        "token_merging": {"ratio": 0.1},
        "tgate": {"gate_step": 16},
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
    "unipc-20+guidance_window-0.7+block_reuse-2-2": {
        "unipc": {"steps": 20},
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
    "unipc-20+tgate-16": {"unipc": {"steps": 20}, "tgate": {"gate_step": 16}},
    "unipc-10+half_precision+block_reuse-2-2": {
        "unipc": {"steps": 10},
        "half_precision": {"dtype": "bfloat16"},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "half_precision+guidance_window-0.7+block_reuse-2-4": {
        "half_precision": {"dtype": "bfloat16"},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 4},
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
