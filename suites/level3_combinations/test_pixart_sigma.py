"""Make PixArt-Sigma faster with several methods at once."""

import pytest

from pytest_diffbench import Task


def today(methods, steps=24, **more):
    if "half_precision" in methods:
        steps = 12  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("pixart_sigma", level=3, sampler="dpm_solver", steps=steps, methods=methods, **more)


FROM_NOISE = {
    "unipc-18+token_merging-0.25": {"unipc": {"steps": 18}, "token_merging": {"ratio": 0.25}},
    "ddim-20+tgate-8-2": {"ddim": {"steps": 20}, "tgate": {"gate_step": 8, "fi_interval": 2}},
    "dpm_solver-20+guidance_window-0.7": {"dpm_solver": {"steps": 20}, "guidance_window": {"stop": 0.7}},
    "unipc-18+block_reuse-2-4": {"unipc": {"steps": 18}, "block_reuse": {"interval": 2, "warm_up": 4}},
    "token_merging-0.25+tgate-12": {"token_merging": {"ratio": 0.25}, "tgate": {"gate_step": 12}},
    "token_merging-0.4+guidance_window-0.7": {"token_merging": {"ratio": 0.4}, "guidance_window": {"stop": 0.7}},
    "token_merging-0.25+block_reuse-2-2": {
        "token_merging": {"ratio": 0.25},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "guidance_window-0.7+block_reuse-2-4": {
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 4},
    },
    "dpm_solver-20+token_merging-0.25+tgate-10": {
        "dpm_solver": {"steps": 20},
        "token_merging": {"ratio": 0.25},
        "tgate": {"gate_step": 10},
    },
    "unipc-18+token_merging-0.4+guidance_window-0.7": {
        "unipc": {"steps": 18},
        "token_merging": {"ratio": 0.4},
        "guidance_window": {"stop": 0.7},
    },
    "ddim-20+token_merging-0.25+block_reuse-2-2": {
        "ddim": {"steps": 20},
        "token_merging": {"ratio": 0.25},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "dpm_solver-15+guidance_window-0.7+block_reuse-2-4": {
        "dpm_solver": {"steps": 15},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 4},
    },
    "token_merging-0.25+guidance_window-0.7+block_reuse-2-2": {
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "ddim-20+token_merging-0.4+guidance_window-0.7+block_reuse-2-4": {
        "ddim": {"steps": 20},
        "token_merging": {"ratio": 0.4},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 4},
    },
    "ddim-20+token_merging-0.4": {"ddim": {"steps": 20}, "token_merging": {"ratio": 0.4}},
    "dpm_solver-20+tgate-10": {"dpm_solver": {"steps": 20}, "tgate": {"gate_step": 10}},
    "unipc-18+guidance_window-0.7": {"unipc": {"steps": 18}, "guidance_window": {"stop": 0.7}},
    "ddim-20+block_reuse-2-2": {"ddim": {"steps": 20}, "block_reuse": {"interval": 2, "warm_up": 2}},
    "unipc-18+token_merging-0.4+tgate-7-2": {
        "unipc": {"steps": 18},
        "token_merging": {"ratio": 0.4},
        "tgate": {"gate_step": 7, "fi_interval": 2},
    },
    "ddim-20+token_merging-0.25+guidance_window-0.7": {
        "ddim": {"steps": 20},
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
    },
    "dpm_solver-15+token_merging-0.4+block_reuse-2-4": {
        "dpm_solver": {"steps": 15},
        "token_merging": {"ratio": 0.4},
        "block_reuse": {"interval": 2, "warm_up": 4},
    },
    "unipc-18+guidance_window-0.7+block_reuse-2-2": {
        "unipc": {"steps": 18},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "dpm_solver-20+token_merging-0.25+guidance_window-0.7+block_reuse-2-2": {
        "dpm_solver": {"steps": 20},
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "dpm_solver-20+token_merging-0.25": {"dpm_solver": {"steps": 20}, "token_merging": {"ratio": 0.25}},
    "unipc-18+tgate-7-2": {"unipc": {"steps": 18}, "tgate": {"gate_step": 7, "fi_interval": 2}},
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
    "half_precision+token_merging-0.25+guidance_window-0.7+block_reuse-2-2": {
        "half_precision": {"dtype": "bfloat16"},
        "token_merging": {"ratio": 0.25},
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
