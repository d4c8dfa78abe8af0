"""Make Stable Diffusion 2.1 faster with several methods at once."""

import pytest

from pytest_diffbench import Task


def today(methods, steps=50, **more):
    if "half_precision" in methods:
        steps = 20  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("sd21", level=3, sampler="ddim", steps=steps, methods=methods, **more)


FROM_NOISE = {
    "unipc-40+token_merging-0.15": {"unipc": {"steps": 40}, "token_merging": {"ratio": 0.15}},
    "ddim-40+deepcache-2-2": {"ddim": {"steps": 40}, "deepcache": {"interval": 2, "branch": 2}},
    "dpm_solver-40+tgate-36": {"dpm_solver": {"steps": 40}, "tgate": {"gate_step": 36}},
    "unipc-40+guidance_window-0.8": {"unipc": {"steps": 40}, "guidance_window": {"stop": 0.8}},
    "ddim-40+block_reuse-2-8": {"ddim": {"steps": 40}, "block_reuse": {"interval": 2, "warm_up": 8}},
    "token_merging-0.15+deepcache-2-2": {"token_merging": {"ratio": 0.15}, "deepcache": {"interval": 2, "branch": 2}},
    "token_merging-0.15+tgate-45": {"token_merging": {"ratio": 0.15}, "tgate": {"gate_step": 45}},
    "token_merging-0.15+guidance_window-0.8": {"token_merging": {"ratio": 0.15}, "guidance_window": {"stop": 0.8}},
    "token_merging-0.15+block_reuse-2-8": {
        "token_merging": {"ratio": 0.15},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "deepcache-2-2+tgate-45": {"deepcache": {"interval": 2, "branch": 2}, "tgate": {"gate_step": 45}},
    "deepcache-2-2+guidance_window-0.8": {"deepcache": {"interval": 2, "branch": 2}, "guidance_window": {"stop": 0.8}},
    "guidance_window-0.8+block_reuse-2-8": {
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "unipc-40+token_merging-0.15+deepcache-2-2": {
        "unipc": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "deepcache": {"interval": 2, "branch": 2},
    },
    "ddim-40+token_merging-0.15+tgate-36": {
        "ddim": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "tgate": {"gate_step": 36},
    },
    "dpm_solver-40+token_merging-0.15+guidance_window-0.8": {
        "dpm_solver": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "guidance_window": {"stop": 0.8},
    },
    "unipc-40+token_merging-0.15+block_reuse-2-8": {
        "unipc": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "ddim-40+deepcache-2-2+tgate-36": {
        "ddim": {"steps": 40},
        "deepcache": {"interval": 2, "branch": 2},
        "tgate": {"gate_step": 36},
    },
    "dpm_solver-40+deepcache-2-2+guidance_window-0.8": {
        "dpm_solver": {"steps": 40},
        "deepcache": {"interval": 2, "branch": 2},
        "guidance_window": {"stop": 0.8},
    },
    "unipc-40+guidance_window-0.8+block_reuse-2-8": {
        "unipc": {"steps": 40},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "token_merging-0.15+deepcache-2-2+tgate-45": {
        "token_merging": {"ratio": 0.15},
        "deepcache": {"interval": 2, "branch": 2},
        "tgate": {"gate_step": 45},
    },
    "token_merging-0.15+deepcache-2-2+guidance_window-0.8": {
        "token_merging": {"ratio": 0.15},
        "deepcache": {"interval": 2, "branch": 2},
        "guidance_window": {"stop": 0.8},
    },
    "token_merging-0.15+guidance_window-0.8+block_reuse-2-8": {
        "token_merging": {"ratio": 0.15},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "ddim-40+token_merging-0.15+deepcache-2-2+tgate-36": {
        "ddim": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "deepcache": {"interval": 2, "branch": 2},
        "tgate": {"gate_step": 36},
    },
    "dpm_solver-40+token_merging-0.15+deepcache-2-2+guidance_window-0.8": {
        "dpm_solver": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "deepcache": {"interval": 2, "branch": 2},
        "guidance_window": {"stop": 0.8},
    },
    "unipc-40+token_merging-0.15+guidance_window-0.8+block_reuse-2-8": {
        "unipc": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "half_precision+deepcache-2-2": {
        "half_precision": {"dtype": "bfloat16"},
        "deepcache": {"interval": 2, "branch": 2},
    },
    "ddim-19+half_precision+guidance_window-0.8": {
        "ddim": {"steps": 19},
        "half_precision": {"dtype": "bfloat16"},
        "guidance_window": {"stop": 0.8},
    },
    "half_precision+deepcache-2-2+guidance_window-0.8": {
        "half_precision": {"dtype": "bfloat16"},
        "deepcache": {"interval": 2, "branch": 2},
        "guidance_window": {"stop": 0.8},
    },
    "unipc-19+half_precision+deepcache-2-2+guidance_window-0.8": {
        "unipc": {"steps": 19},
        "half_precision": {"dtype": "bfloat16"},
        "deepcache": {"interval": 2, "branch": 2},
        "guidance_window": {"stop": 0.8},
    },
}
FROM_IMAGE = {
    "image-ddim-40+token_merging-0.15": {"ddim": {"steps": 40}, "token_merging": {"ratio": 0.15}},
    "image-dpm_solver-40+deepcache-2-2": {"dpm_solver": {"steps": 40}, "deepcache": {"interval": 2, "branch": 2}},
    "image-unipc-40+tgate-22": {"unipc": {"steps": 40}, "tgate": {"gate_step": 22}},
    "image-ddim-40+guidance_window-0.8": {"ddim": {"steps": 40}, "guidance_window": {"stop": 0.8}},
    "image-dpm_solver-40+block_reuse-2-8": {"dpm_solver": {"steps": 40}, "block_reuse": {"interval": 2, "warm_up": 8}},
    "image-token_merging-0.15+deepcache-2-2": {
        "token_merging": {"ratio": 0.15},
        "deepcache": {"interval": 2, "branch": 2},
    },
    "image-token_merging-0.15+tgate-27": {"token_merging": {"ratio": 0.15}, "tgate": {"gate_step": 27}},
    "image-token_merging-0.15+guidance_window-0.8": {
        "token_merging": {"ratio": 0.15},
        "guidance_window": {"stop": 0.8},
    },
    "image-token_merging-0.15+block_reuse-2-8": {
        "token_merging": {"ratio": 0.15},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "image-deepcache-2-2+tgate-27": {"deepcache": {"interval": 2, "branch": 2}, "tgate": {"gate_step": 27}},
    "image-deepcache-2-2+guidance_window-0.8": {
        "deepcache": {"interval": 2, "branch": 2},
        "guidance_window": {"stop": 0.8},
    },
    "image-guidance_window-0.8+block_reuse-2-8": {
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "image-ddim-40+token_merging-0.15+deepcache-2-2": {
        "ddim": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "deepcache": {"interval": 2, "branch": 2},
    },
    "image-dpm_solver-40+token_merging-0.15+tgate-22": {
        "dpm_solver": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "tgate": {"gate_step": 22},
    },
    "image-unipc-40+token_merging-0.15+guidance_window-0.8": {
        "unipc": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "guidance_window": {"stop": 0.8},
    },
    "image-ddim-40+token_merging-0.15+block_reuse-2-8": {
        "ddim": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "image-dpm_solver-40+deepcache-2-2+tgate-22": {
        "dpm_solver": {"steps": 40},
        "deepcache": {"interval": 2, "branch": 2},
        "tgate": {"gate_step": 22},
    },
    "image-unipc-40+deepcache-2-2+guidance_window-0.8": {
        "unipc": {"steps": 40},
        "deepcache": {"interval": 2, "branch": 2},
        "guidance_window": {"stop": 0.8},
    },
    "image-ddim-40+guidance_window-0.8+block_reuse-2-8": {
        "ddim": {"steps": 40},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "image-token_merging-0.15+deepcache-2-2+tgate-27": {
        "token_merging": {"ratio": 0.15},
        "deepcache": {"interval": 2, "branch": 2},
        "tgate": {"gate_step": 27},
    },
    "image-token_merging-0.15+deepcache-2-2+guidance_window-0.8": {
        "token_merging": {"ratio": 0.15},
        "deepcache": {"interval": 2, "branch": 2},
        "guidance_window": {"stop": 0.8},
    },
    "image-token_merging-0.15+guidance_window-0.8+block_reuse-2-8": {
        "token_merging": {"ratio": 0.15},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "image-dpm_solver-40+token_merging-0.15+deepcache-2-2+tgate-22": {
        "dpm_solver": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "deepcache": {"interval": 2, "branch": 2},
        "tgate": {"gate_step": 22},
    },
    "image-unipc-40+token_merging-0.15+deepcache-2-2+guidance_window-0.8": {
        "unipc": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "deepcache": {"interval": 2, "branch": 2},
        "guidance_window": {"stop": 0.8},
    },
    "image-ddim-40+token_merging-0.15+guidance_window-0.8+block_reuse-2-8": {
        "ddim": {"steps": 40},
        "token_merging": {"ratio": 0.15},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "image-half_precision+guidance_window-0.8": {
        "half_precision": {"dtype": "bfloat16"},
        "guidance_window": {"stop": 0.8},
    },
    "image-dpm_solver-19+half_precision+block_reuse-2-8": {
        "dpm_solver": {"steps": 19},
        "half_precision": {"dtype": "bfloat16"},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "image-half_precision+guidance_window-0.8+block_reuse-2-8": {
        "half_precision": {"dtype": "bfloat16"},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "image-ddim-19+half_precision+guidance_window-0.8+block_reuse-2-8": {
        "ddim": {"steps": 19},
        "half_precision": {"dtype": "bfloat16"},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
}
TASKS = {name: today(methods) for name, methods in FROM_NOISE.items()} | {
    name: today(methods, steps=50, strength=0.6) for name, methods in FROM_IMAGE.items()
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_combination(name, executability, speed, quality):
    """Apply the demanded methods together to the pipeline below; its images must stay as good."""
