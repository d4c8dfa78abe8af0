"""Make Stable Diffusion XL faster with several methods at once."""

import pytest

from pytest_diffbench import Task


def today(methods, steps=50, **more):
    if "half_precision" in methods:
        steps = 12  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("sdxl", level=3, sampler="euler", steps=steps, methods=methods, **more)


FROM_NOISE = {
    "dpm_solver-30+token_merging-0.25": {"dpm_solver": {"steps": 30}, "token_merging": {"ratio": 0.25}},
    "unipc-30+deepcache-2": {"unipc": {"steps": 30}, "deepcache": {"interval": 2}},
    "ddim-30+tgate-18": {"ddim": {"steps": 30}, "tgate": {"gate_step": 18}},
    "dpm_solver-30+guidance_window-0.7": {"dpm_solver": {"steps": 30}, "guidance_window": {"stop": 0.7}},
    "unipc-30+block_reuse-2-2": {"unipc": {"steps": 30}, "block_reuse": {"interval": 2, "warm_up": 2}},
    "token_merging-0.25+deepcache-2": {"token_merging": {"ratio": 0.25}, "deepcache": {"interval": 2}},
    "token_merging-0.25+tgate-30": {"token_merging": {"ratio": 0.25}, "tgate": {"gate_step": 30}},
    "token_merging-0.25+guidance_window-0.7": {"token_merging": {"ratio": 0.25}, "guidance_window": {"stop": 0.7}},
    "token_merging-0.25+block_reuse-2-2": {
        "token_merging": {"ratio": 0.25},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "deepcache-2+tgate-30": {"deepcache": {"interval": 2}, "tgate": {"gate_step": 30}},
    "deepcache-2+guidance_window-0.7": {"deepcache": {"interval": 2}, "guidance_window": {"stop": 0.7}},
    "guidance_window-0.7+block_reuse-2-2": {
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "dpm_solver-30+token_merging-0.25+deepcache-2": {
        "dpm_solver": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
    },
    "unipc-30+token_merging-0.25+tgate-18": {
        "unipc": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "tgate": {"gate_step": 18},
    },
    "ddim-30+token_merging-0.25+guidance_window-0.7": {
        "ddim": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
    },
    "dpm_solver-30+token_merging-0.25+block_reuse-2-2": {
        "dpm_solver": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "unipc-30+deepcache-2+tgate-18": {"unipc": {"steps": 30}, "deepcache": {"interval": 2}, "tgate": {"gate_step": 18}},
    "ddim-30+deepcache-2+guidance_window-0.7": {
        "ddim": {"steps": 30},
        "deepcache": {"interval": 2},
        "guidance_window": {"stop": 0.7},
    },
    "dpm_solver-30+guidance_window-0.7+block_reuse-2-2": {
        "dpm_solver": {"steps": 30},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "token_merging-0.25+deepcache-2+tgate-30": {
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "tgate": {"gate_step": 30},
    },
    "token_merging-0.25+deepcache-2+guidance_window-0.7": {
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "guidance_window": {"stop": 0.7},
    },
    "token_merging-0.25+guidance_window-0.7+block_reuse-2-2": {
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "unipc-30+token_merging-0.25+deepcache-2+tgate-18": {
        "unipc": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "tgate": {"gate_step": 18},
    },
    "ddim-30+token_merging-0.25+deepcache-2+guidance_window-0.7": {
        "ddim": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "guidance_window": {"stop": 0.7},
    },
    "dpm_solver-30+token_merging-0.25+guidance_window-0.7+block_reuse-2-2": {
        "dpm_solver": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "half_precision+guidance_window-0.7": {"half_precision": {"dtype": "bfloat16"}, "guidance_window": {"stop": 0.7}},
    "half_precision+token_merging-0.25+deepcache-2": {
        "half_precision": {"dtype": "bfloat16"},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
    },
    "ddim-10+half_precision+token_merging-0.25+deepcache-2": {
        "ddim": {"steps": 10},
        "half_precision": {"dtype": "bfloat16"},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
    },
    "half_precision+token_merging-0.25+deepcache-2+tgate-7": {
        "half_precision": {"dtype": "bfloat16"},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "tgate": {"gate_step": 7},
    },
}
FROM_IMAGE = {
    "image-unipc-30+token_merging-0.25": {"unipc": {"steps": 30}, "token_merging": {"ratio": 0.25}},
    "image-ddim-30+deepcache-2": {"ddim": {"steps": 30}, "deepcache": {"interval": 2}},
    "image-dpm_solver-30+tgate-11": {"dpm_solver": {"steps": 30}, "tgate": {"gate_step": 11}},
    "image-unipc-30+guidance_window-0.7": {"unipc": {"steps": 30}, "guidance_window": {"stop": 0.7}},
    "image-ddim-30+block_reuse-2-2": {"ddim": {"steps": 30}, "block_reuse": {"interval": 2, "warm_up": 2}},
    "image-token_merging-0.25+deepcache-2": {"token_merging": {"ratio": 0.25}, "deepcache": {"interval": 2}},
    "image-token_merging-0.25+tgate-18": {"token_merging": {"ratio": 0.25}, "tgate": {"gate_step": 18}},
    "image-token_merging-0.25+guidance_window-0.7": {
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
    },
    "image-token_merging-0.25+block_reuse-2-2": {
        "token_merging": {"ratio": 0.25},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-deepcache-2+tgate-18": {"deepcache": {"interval": 2}, "tgate": {"gate_step": 18}},
    "image-deepcache-2+guidance_window-0.7": {"deepcache": {"interval": 2}, "guidance_window": {"stop": 0.7}},
    "image-guidance_window-0.7+block_reuse-2-2": {
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-unipc-30+token_merging-0.25+deepcache-2": {
        "unipc": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
    },
    "image-ddim-30+token_merging-0.25+tgate-11": {
        "ddim": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "tgate": {"gate_step": 11},
    },
    "image-dpm_solver-30+token_merging-0.25+guidance_window-0.7": {
        "dpm_solver": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
    },
    "image-unipc-30+token_merging-0.25+block_reuse-2-2": {
        "unipc": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-ddim-30+deepcache-2+tgate-11": {
        "ddim": {"steps": 30},
        "deepcache": {"interval": 2},
        "tgate": {"gate_step": 11},
    },
    "image-dpm_solver-30+deepcache-2+guidance_window-0.7": {
        "dpm_solver": {"steps": 30},
        "deepcache": {"interval": 2},
        "guidance_window": {"stop": 0.7},
    },
    "image-unipc-30+guidance_window-0.7+block_reuse-2-2": {
        "unipc": {"steps": 30},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-token_merging-0.25+deepcache-2+tgate-18": {
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "tgate": {"gate_step": 18},
    },
    "image-token_merging-0.25+deepcache-2+guidance_window-0.7": {
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "guidance_window": {"stop": 0.7},
    },
    "image-token_merging-0.25+guidance_window-0.7+block_reuse-2-2": {
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-ddim-30+token_merging-0.25+deepcache-2+tgate-11": {
        "ddim": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "tgate": {"gate_step": 11},
    },
    "image-dpm_solver-30+token_merging-0.25+deepcache-2+guidance_window-0.7": {
        "dpm_solver": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "guidance_window": {"stop": 0.7},
    },
    "image-unipc-30+token_merging-0.25+guidance_window-0.7+block_reuse-2-2": {
        "unipc": {"steps": 30},
        "token_merging": {"ratio": 0.25},
        "guidance_window": {"stop": 0.7},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-half_precision+block_reuse-2-2": {
        "half_precision": {"dtype": "bfloat16"},
        "block_reuse": {"interval": 2, "warm_up": 2},
    },
    "image-half_precision+token_merging-0.25+tgate-4": {
        "half_precision": {"dtype": "bfloat16"},
        "token_merging": {"ratio": 0.25},
        "tgate": {"gate_step": 4},
    },
    "image-dpm_solver-10+half_precision+token_merging-0.25+tgate-4": {
        "dpm_solver": {"steps": 10},
        "half_precision": {"dtype": "bfloat16"},
        "token_merging": {"ratio": 0.25},
        "tgate": {"gate_step": 4},
    },
    "image-half_precision+token_merging-0.25+deepcache-2+guidance_window-0.7": {
        "half_precision": {"dtype": "bfloat16"},
        "token_merging": {"ratio": 0.25},
        "deepcache": {"interval": 2},
        "guidance_window": {"stop": 0.7},
    },
}
TASKS = {name: today(methods) for name, methods in FROM_NOISE.items()} | {
    name: today(methods, steps=50, strength=0.6) for name, methods in FROM_IMAGE.items()
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_combination(name, executability, speed, quality):
    """Apply the demanded methods together to the pipeline below; its images must stay as good."""
