"""Make PixArt-alpha faster with several methods at once."""

import pytest

from pytest_diffbench import Task


def today(methods, steps=30, **more):
    if "half_precision" in methods:
        steps = 20  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("pixart_alpha", level=3, sampler="dpm_solver", steps=steps, methods=methods, **more)


FROM_NOISE = {
    "dpm_solver-28+token_merging-0.03": {"dpm_solver": {"steps": 28}, "token_merging": {"ratio": 0.03}},
    "unipc-29+guidance_window-0.8": {"unipc": {"steps": 29}, "guidance_window": {"stop": 0.8}},
    "ddim-28+block_reuse-2-8": {"ddim": {"steps": 28}, "block_reuse": {"interval": 2, "warm_up": 8}},
    "token_merging-0.03+guidance_window-0.8": {"token_merging": {"ratio": 0.03}, "guidance_window": {"stop": 0.8}},
    "token_merging-0.03+block_reuse-2-8": {
        "token_merging": {"ratio": 0.03},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "guidance_window-0.8+block_reuse-2-8": {
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "dpm_solver-28+token_merging-0.03+guidance_window-0.8": {
        "dpm_solver": {"steps": 28},
        "token_merging": {"ratio": 0.03},
        "guidance_window": {"stop": 0.8},
    },
    "unipc-29+token_merging-0.03+block_reuse-2-8": {
        "unipc": {"steps": 29},
        "token_merging": {"ratio": 0.03},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "ddim-28+guidance_window-0.8+block_reuse-2-8": {
        "ddim": {"steps": 28},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "token_merging-0.03+guidance_window-0.8+block_reuse-2-8": {
        "token_merging": {"ratio": 0.03},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "unipc-29+token_merging-0.03+guidance_window-0.8+block_reuse-2-8": {
        "unipc": {"steps": 29},
        "token_merging": {"ratio": 0.03},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "unipc-29+token_merging-0.03": {"unipc": {"steps": 29}, "token_merging": {"ratio": 0.03}},
    "ddim-28+guidance_window-0.8": {"ddim": {"steps": 28}, "guidance_window": {"stop": 0.8}},
    "dpm_solver-28+block_reuse-2-8": {"dpm_solver": {"steps": 28}, "block_reuse": {"interval": 2, "warm_up": 8}},
    "unipc-29+token_merging-0.03+guidance_window-0.8": {
        "unipc": {"steps": 29},
        "token_merging": {"ratio": 0.03},
        "guidance_window": {"stop": 0.8},
    },
    "ddim-28+token_merging-0.03+block_reuse-2-8": {
        "ddim": {"steps": 28},
        "token_merging": {"ratio": 0.03},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "dpm_solver-28+guidance_window-0.8+block_reuse-2-8": {
        "dpm_solver": {"steps": 28},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "ddim-28+token_merging-0.03+guidance_window-0.8+block_reuse-2-8": {
        "ddim": {"steps": 28},
        "token_merging": {"ratio": 0.03},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "ddim-28+token_merging-0.03": {"ddim": {"steps": 28}, "token_merging": {"ratio": 0.03}},
    "dpm_solver-28+guidance_window-0.8": {"dpm_solver": {"steps": 28}, "guidance_window": {"stop": 0.8}},
    "unipc-29+block_reuse-2-8": {"unipc": {"steps": 29}, "block_reuse": {"interval": 2, "warm_up": 8}},
    "ddim-28+token_merging-0.03+guidance_window-0.8": {
        "ddim": {"steps": 28},
        "token_merging": {"ratio": 0.03},
        "guidance_window": {"stop": 0.8},
    },
    "dpm_solver-28+token_merging-0.03+block_reuse-2-8": {
        "dpm_solver": {"steps": 28},
        "token_merging": {"ratio": 0.03},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "unipc-29+guidance_window-0.8+block_reuse-2-8": {
        "unipc": {"steps": 29},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "dpm_solver-28+token_merging-0.03+guidance_window-0.8+block_reuse-2-8": {
        "dpm_solver": {"steps": 28},
        "token_merging": {"ratio": 0.03},
        "guidance_window": {"stop": 0.8},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
    "half_precision+token_merging-0.03+guidance_window-0.8": {
        "half_precision": {"dtype": "bfloat16"},
        "token_merging": {"ratio": 0.03},
        "guidance_window": {"stop": 0.8},
    },
    "unipc-19+half_precision+token_merging-0.03+guidance_window-0.8": {
        "unipc": {"steps": 19},
        "half_precision": {"dtype": "bfloat16"},
        "token_merging": {"ratio": 0.03},
        "guidance_window": {"stop": 0.8},
    },
    "ddim-19+half_precision": {"ddim": {"steps": 19}, "half_precision": {"dtype": "bfloat16"}},
    "half_precision+block_reuse-2-8": {
        "half_precision": {"dtype": "bfloat16"},
        "block_reuse": {"interval": 2, "warm_up": 8},
    },
}
TASKS = {name: today(methods) for name, methods in FROM_NOISE.items()}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_combination(name, executability, speed, quality):
    """Apply the demanded methods together to the pipeline below; its images must stay as good."""
