"""Make Stable Diffusion 2.1 faster with several methods at once."""

import pytest

from pytest_diffbench import Task


def today(methods, steps=50, **more):
    if "half_precision" in methods:
        steps = 12  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("sd21", level=3, sampler="ddim", steps=steps, methods=methods, **more)


FROM_NOISE = {
    "unipc-35+token_merging-0.25": {"unipc": {"steps": 35}, "token_merging": {"ratio": 0.25}},
    "ddim-35+deepcache-2-1": {"ddim": {"steps": 35}, "deepcache": {"interval": 2, "branch": 1}},
    "dpm_solver-35+tgate-28": {"dpm_solver": {"steps": 35}, "tgate": {"gate_step": 28}},
    "unipc-35+guidance_window-0.7": {"unipc": {"steps": 35}, "guidance_window": {"stop": 0.7}},
    "ddim-35+block_reuse-2-2": {"ddim": {"steps": 35}, "block_reuse": {"interval": 2, "warm_up": 2}},
    "token_merging-0.25+deepcache-2-1": {"token_merging": {"ratio": 0.25}, "deepcache": {"interval": 2, "branch": 1}},
    "token_merging-0.25+tgate-40": {"token_merging": {"ratio": 0.25}, "tgate": {"gate_step": 40}},
    "token_merging-0.25+guidance_window-0.7": {"token_merging": {"ratio": 0.25}, "guidance_window": {"stop": 0.7}},
    "token_merging-0.25+block_reuse-2-2": {
        "token_merging": {"ratio": 0.25},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "deepcache-2-1+tgate-40": {"deepcache": {"interval": 2, "branch": 1}, "tgate": {"gate_step": 40}},
    "deepcache-2-1+guidance_window-0.7": {"deepcache": {"interval": 2, "branch": 1}, "guidance_window": {"stop": 0.7}},
    "guidance_window-0.7+block_reuse-2-2": {
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "unipc-35+token_merging-0.25+deepcache-2-1": {
        "unipc": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2, "branch": 1},
    },
    "ddim-35+token_merging-0.25+tgate-28": {
        "ddim": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "tgate": {"gate_step": 28},
    },
    "dpm_solver-35+token_merging-0.25+guidance_window-0.7": {
        "dpm_solver": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
    },
    "unipc-35+token_merging-0.25+block_reuse-2-2": {
        "unipc": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "ddim-35+deepcache-2-1+tgate-28": {
        "ddim": {"steps": 35},
        "deepcache": {"interval": 2, "branch": 1},
        "tgate": {"gate_step": 28},
    },
    "dpm_solver-35+deepcache-2-1+guidance_window-0.7": {
        "dpm_solver": {"steps": 35},
        "deepcache": {"interval": 2, "branch": 1},
        "guidance_window": {"stop": 0.7},
    },
    "unipc-35+guidance_window-0.7+block_reuse-2-2": {
        "unipc": {"steps": 35},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "token_merging-0.25+deepcache-2-1+tgate-40": {
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2, "branch": 1},
        "tgate": {"gate_step": 40},
    },
    "token_merging-0.25+deepcache-2-1+guidance_window-0.7": {
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2, "branch": 1},
        "guidance_window": {"stop": 0.7},
    },
    "token_merging-0.25+guidance_window-0.7+block_reuse-2-2": {
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "ddim-35+token_merging-0.25+deepcache-2-1+tgate-28": {
        "ddim": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2, "branch": 1},
        "tgate": {"gate_step": 28},
    },
    "dpm_solver-35+token_merging-0.25+deepcache-2-1+guidance_window-0.7": {
        "dpm_solver": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2, "branch": 1},
        "guidance_window": {"stop": 0.7},
    },
    "unipc-35+token_merging-0.25+guidance_window-0.7+block_reuse-2-2": {
        "unipc": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "half_precision+deepcache-2-1": {
        "half_precision": {"dtype": "bfloat16"},
        "deepcache": {"interval": 2, "branch": 1},
    },
    "ddim-10+half_precision+guidance_window-0.7": {
        "ddim": {"steps": 10},
        "half_precision": {"dtype": "bfloat16"},
        "guidance_window": {"stop": 0.7},
    },
    "half_precision+deepcache-2-1+guidance_window-0.7": {
        "half_precision": {"dtype": "bfloat16"},
        "deepcache": {"interval": 2, "branch": 1},
        "guidance_window": {"stop": 0.7},
    },
    "unipc-10+half_precision+deepcache-2-1+guidance_window-0.7": {
        "unipc": {"steps": 10},
        "half_precision": {"dtype": "bfloat16"},
        "deepcache": {"interval": 2, "branch": 1},
        "guidance_window": {"stop": 0.7},
    },
}
FROM_IMAGE = {
    "image-ddim-35+token_merging-0.25": {"ddim": {"steps": 35}, "token_merging": {"ratio": 0.25}},
    "image-dpm_solver-35+deepcache-2-1": {"dpm_solver": {"steps": 35}, "deepcache": {"interval": 2, "branch": 1}},
    "image-unipc-35+tgate-17": {"unipc": {"steps": 35}, "tgate": {"gate_step": 17}},
    "image-ddim-35+guidance_window-0.7": {"ddim": {"steps": 35}, "guidance_window": {"stop": 0.7}},
    "image-dpm_solver-35+block_reuse-2-2": {"dpm_solver": {"steps": 35}, "block_reuse": {"interval": 2, "warm_up": 2}},
    "image-token_merging-0.25+deepcache-2-1": {
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2, "branch": 1},
    },
    "image-token_merging-0.25+tgate-24": {"token_merging": {"ratio": 0.25}, "tgate": {"gate_step": 24}},
    "image-token_merging-0.25+guidance_window-0.7": {
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
    },
    "image-token_merging-0.25+block_reuse-2-2": {
        "token_merging": {"ratio": 0.25},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-deepcache-2-1+tgate-24": {"deepcache": {"interval": 2, "branch": 1}, "tgate": {"gate_step": 24}},
    "image-deepcache-2-1+guidance_window-0.7": {
        "deepcache": {"interval": 2, "branch": 1},
        "guidance_window": {"stop": 0.7},
    },
    "image-guidance_window-0.7+block_reuse-2-2": {
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-ddim-35+token_merging-0.25+deepcache-2-1": {
        "ddim": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2, "branch": 1},
    },
    "image-dpm_solver-35+token_merging-0.25+tgate-17": {
        "dpm_solver": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "tgate": {"gate_step": 17},
    },
    "image-unipc-35+token_merging-0.25+guidance_window-0.7": {
        "unipc": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
    },
    "image-ddim-35+token_merging-0.25+block_reuse-2-2": {
        "ddim": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-dpm_solver-35+deepcache-2-1+tgate-17": {
        "dpm_solver": {"steps": 35},
        "deepcache": {"interval": 2, "branch": 1},
        "tgate": {"gate_step": 17},
    },
    "image-unipc-35+deepcache-2-1+guidance_window-0.7": {
        "unipc": {"steps": 35},
        "deepcache": {"interval": 2, "branch": 1},
        "guidance_window": {"stop": 0.7},
    },
    "image-ddim-35+guidance_window-0.7+block_reuse-2-2": {
        "ddim": {"steps": 35},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-token_merging-0.25+deepcache-2-1+tgate-24": {
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2, "branch": 1},
        "tgate": {"gate_step": 24},
    },
    "image-token_merging-0.25+deepcache-2-1+guidance_window-0.7": {
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2, "branch": 1},
        "guidance_window": {"stop": 0.7},
    },
    "image-token_merging-0.25+guidance_window-0.7+block_reuse-2-2": {
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-dpm_solver-35+token_merging-0.25+deepcache-2-1+tgate-17": {
        "dpm_solver": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2, "branch": 1},
        "tgate": {"gate_step": 17},
    },
    "image-unipc-35+token_merging-0.25+deepcache-2-1+guidance_window-0.7": {
        "unipc": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2, "branch": 1},
        "guidance_window": {"stop": 0.7},
    },
    "image-ddim-35+token_merging-0.25+guidance_window-0.7+block_reuse-2-2": {
        "ddim": {"steps": 35},
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-half_precision+tgate-6": {"half_precision": {"dtype": "bfloat16"}, "tgate": {"gate_step": 6}},
    "image-dpm_solver-10+half_precision+block_reuse-2-2": {
        "dpm_solver": {"steps": 10},
        "half_precision": {"dtype": "bfloat16"},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-half_precision+guidance_window-0.7+block_reuse-2-2": {
        "half_precision": {"dtype": "bfloat16"},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-ddim-10+half_precision+guidance_window-0.7+block_reuse-2-2": {
        "ddim": {"steps": 10},
        "half_precision": {"dtype": "bfloat16"},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
}
TASKS = {name: today(methods) for name, methods in FROM_NOISE.items()} | {
    name: today(methods, steps=50, strength=0.6) for name, methods in FROM_IMAGE.items()
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_combination(name, executability, speed, quality):
    """Apply the demanded methods together to the pipeline below; its images must stay as good."""
