"""Make Stable Diffusion 2.1 faster with several methods at once."""

import pytest

from pytest_diffbench import Task


def today(methods, steps=30, **more):
    if "half_precision" in methods:
        steps = 12  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("sd21", level=3, sampler="ddim", steps=steps, methods=methods, **more)


FROM_NOISE = {
    "unipc-18+token_merging-0.25": {"unipc": {"steps": 18}, "token_merging": {"ratio": 0.25}},
    "ddim-20+deepcache-3": {"ddim": {"steps": 20}, "deepcache": {"interval": 3}},
    "dpm_solver-20+tgate-10": {"dpm_solver": {"steps": 20}, "tgate": {"gate_step": 10}},
    "unipc-18+guidance_window-0.7": {"unipc": {"steps": 18}, "guidance_window": {"stop": 0.7}},
    "ddim-20+block_reuse-2-2": {"ddim": {"steps": 20}, "block_reuse": {"interval": 2, "warm_up": 2}},
    "token_merging-0.4+deepcache-3": {"token_merging": {"ratio": 0.4}, "deepcache": {"interval": 3}},
    "token_merging-0.25+tgate-15": {"token_merging": {"ratio": 0.25}, "tgate": {"gate_step": 15}},
    "token_merging-0.4+guidance_window-0.7": {"token_merging": {"ratio": 0.4}, "guidance_window": {"stop": 0.7}},
    "token_merging-0.25+block_reuse-2-2": {
        "token_merging": {"ratio": 0.25},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "deepcache-3+tgate-12-2": {"deepcache": {"interval": 3}, "tgate": {"gate_step": 12, "fi_interval": 2}},
    "deepcache-2+guidance_window-0.7": {"deepcache": {"interval": 2}, "guidance_window": {"stop": 0.7}},
    "guidance_window-0.7+block_reuse-2-4": {
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 4},
    },
    "unipc-18+token_merging-0.25+deepcache-2": {
        "unipc": {"steps": 18},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
    },
    "ddim-20+token_merging-0.4+tgate-8-2": {
        "ddim": {"steps": 20},
        "token_merging": {"ratio": 0.4},
        "tgate": {"gate_step": 8, "fi_interval": 2},
    },
    "dpm_solver-20+token_merging-0.25+guidance_window-0.7": {
        "dpm_solver": {"steps": 20},
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
    },
    "unipc-18+token_merging-0.4+block_reuse-2-4": {
        "unipc": {"steps": 18},
        "token_merging": {"ratio": 0.4},
        "block_reuse": {"interval": 2, "warm_up": 4},
    },
    "ddim-20+deepcache-2+tgate-10": {"ddim": {"steps": 20}, "deepcache": {"interval": 2}, "tgate": {"gate_step": 10}},
    "dpm_solver-15+deepcache-3+guidance_window-0.7": {
        "dpm_solver": {"steps": 15},
        "deepcache": {"interval": 3},
        "guidance_window": {"stop": 0.7},
    },
    "unipc-18+guidance_window-0.7+block_reuse-2-2": {
        "unipc": {"steps": 18},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "token_merging-0.4+deepcache-3+tgate-12-2": {
        "token_merging": {"ratio": 0.4},
        "deepcache": {"interval": 3},
        "tgate": {"gate_step": 12, "fi_interval": 2},
    },
    "token_merging-0.25+deepcache-2+guidance_window-0.7": {
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "guidance_window": {"stop": 0.7},
    },
    "token_merging-0.4+guidance_window-0.7+block_reuse-2-4": {
        "token_merging": {"ratio": 0.4},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 4},
    },
    "ddim-20+token_merging-0.25+deepcache-2+tgate-10": {
        "ddim": {"steps": 20},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "tgate": {"gate_step": 10},
    },
    "dpm_solver-15+token_merging-0.4+deepcache-3+guidance_window-0.7": {
        "dpm_solver": {"steps": 15},
        "token_merging": {"ratio": 0.4},
        "deepcache": {"interval": 3},
        "guidance_window": {"stop": 0.7},
    },
    "unipc-18+token_merging-0.25+guidance_window-0.7+block_reuse-2-2": {
        "unipc": {"steps": 18},
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "half_precision+deepcache-2": {"half_precision": {"dtype": "bfloat16"}, "deepcache": {"interval": 2}},
    "ddim-10+half_precision+guidance_window-0.7": {
        "ddim": {"steps": 10},
        "half_precision": {"dtype": "bfloat16"},
        "guidance_window": {"stop": 0.7},
    },
    "half_precision+deepcache-2+guidance_window-0.7": {
        "half_precision": {"dtype": "bfloat16"},
        "deepcache": {"interval": 2},
        "guidance_window": {"stop": 0.7},
    },
    "unipc-10+half_precision+deepcache-3+guidance_window-0.7": {
        "unipc": {"steps": 10},
        "half_precision": {"dtype": "bfloat16"},
        "deepcache": {"interval": 3},
        "guidance_window": {"stop": 0.7},
    },
}
FROM_IMAGE = {
    "image-ddim-20+token_merging-0.4": {"ddim": {"steps": 20}, "token_merging": {"ratio": 0.4}},
    "image-dpm_solver-20+deepcache-2": {"dpm_solver": {"steps": 20}, "deepcache": {"interval": 2}},
    "image-unipc-18+tgate-4-2": {"unipc": {"steps": 18}, "tgate": {"gate_step": 4, "fi_interval": 2}},
    "image-ddim-20+guidance_window-0.7": {"ddim": {"steps": 20}, "guidance_window": {"stop": 0.7}},
    "image-dpm_solver-15+block_reuse-2-4": {"dpm_solver": {"steps": 15}, "block_reuse": {"interval": 2, "warm_up": 4}},
    "image-token_merging-0.25+deepcache-2": {"token_merging": {"ratio": 0.25}, "deepcache": {"interval": 2}},
    "image-token_merging-0.4+tgate-10-2": {
        "token_merging": {"ratio": 0.4},
        "tgate": {"gate_step": 10, "fi_interval": 2},
    },
    "image-token_merging-0.25+guidance_window-0.7": {
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
    },
    "image-token_merging-0.4+block_reuse-2-4": {
        "token_merging": {"ratio": 0.4},
        "block_reuse": {"interval": 2, "warm_up": 4},
    },
    "image-deepcache-2+tgate-12": {"deepcache": {"interval": 2}, "tgate": {"gate_step": 12}},
    "image-deepcache-3+guidance_window-0.7": {"deepcache": {"interval": 3}, "guidance_window": {"stop": 0.7}},
    "image-guidance_window-0.7+block_reuse-2-2": {
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-ddim-20+token_merging-0.4+deepcache-3": {
        "ddim": {"steps": 20},
        "token_merging": {"ratio": 0.4},
        "deepcache": {"interval": 3},
    },
    "image-dpm_solver-20+token_merging-0.25+tgate-6": {
        "dpm_solver": {"steps": 20},
        "token_merging": {"ratio": 0.25},
        "tgate": {"gate_step": 6},
    },
    "image-unipc-18+token_merging-0.4+guidance_window-0.7": {
        "unipc": {"steps": 18},
        "token_merging": {"ratio": 0.4},
        "guidance_window": {"stop": 0.7},
    },
    "image-ddim-20+token_merging-0.25+block_reuse-2-2": {
        "ddim": {"steps": 20},
        "token_merging": {"ratio": 0.25},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-dpm_solver-15+deepcache-3+tgate-4-2": {
        "dpm_solver": {"steps": 15},
        "deepcache": {"interval": 3},
        "tgate": {"gate_step": 4, "fi_interval": 2},
    },
    "image-unipc-18+deepcache-2+guidance_window-0.7": {
        "unipc": {"steps": 18},
        "deepcache": {"interval": 2},
        "guidance_window": {"stop": 0.7},
    },
    "image-ddim-20+guidance_window-0.7+block_reuse-2-4": {
        "ddim": {"steps": 20},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 4},
    },
    "image-token_merging-0.25+deepcache-2+tgate-12": {
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "tgate": {"gate_step": 12},
    },
    "image-token_merging-0.4+deepcache-3+guidance_window-0.7": {
        "token_merging": {"ratio": 0.4},
        "deepcache": {"interval": 3},
        "guidance_window": {"stop": 0.7},
    },
    "image-token_merging-0.25+guidance_window-0.7+block_reuse-2-2": {
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-dpm_solver-15+token_merging-0.4+deepcache-3+tgate-4-2": {
        "dpm_solver": {"steps": 15},
        "token_merging": {"ratio": 0.4},
        "deepcache": {"interval": 3},
        "tgate": {"gate_step": 4, "fi_interval": 2},
    },
    "image-unipc-18+token_merging-0.25+deepcache-2+guidance_window-0.7": {
        "unipc": {"steps": 18},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "guidance_window": {"stop": 0.7},
    },
    "image-ddim-20+token_merging-0.4+guidance_window-0.7+block_reuse-2-4": {
        "ddim": {"steps": 20},
        "token_merging": {"ratio": 0.4},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 4},
    },
    "image-half_precision+tgate-3-2": {
        "half_precision": {"dtype": "bfloat16"},
        "tgate": {"gate_step": 3, "fi_interval": 2},
    },
    "image-dpm_solver-10+half_precision+block_reuse-2-2": {
        "dpm_solver": {"steps": 10},
        "half_precision": {"dtype": "bfloat16"},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-half_precision+guidance_window-0.7+block_reuse-2-4": {
        "half_precision": {"dtype": "bfloat16"},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 4},
    },
    "image-ddim-10+half_precision+guidance_window-0.7+block_reuse-2-2": {
        "ddim": {"steps": 10},
        "half_precision": {"dtype": "bfloat16"},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
}
TASKS = {name: today(methods) for name, methods in FROM_NOISE.items()} | {
    name: today(methods, steps=40, strength=0.6) for name, methods in FROM_IMAGE.items()
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_combination(name, executability, speed, quality):
    """Apply the demanded methods together to the pipeline below; its images must stay as good."""
