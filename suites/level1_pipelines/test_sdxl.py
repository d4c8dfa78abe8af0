"""Run Stable Diffusion XL as demanded: its sampler, steps, guidance, batch and size, nothing accelerated."""

import pytest

from pytest_diffbench import Task

TASKS = {
    "euler-50": Task("sdxl", level=1, sampler="euler", steps=50),
    "ddim-30": Task("sdxl", level=1, sampler="ddim", steps=30),
    "dpm_solver-25-guidance-7": Task("sdxl", level=1, sampler="dpm_solver", steps=25, guidance=7.0),
    "unipc-20-size-768": Task("sdxl", level=1, sampler="unipc", steps=20, size=768),
    "euler-30-batch-2": Task("sdxl", level=1, sampler="euler", steps=30, batch=2),
    "heun-15": Task("sdxl", level=1, sampler="heun", steps=15),
    "image-euler-50": Task("sdxl", level=1, sampler="euler", steps=50, strength=0.6),
    "image-ddim-40-guidance-7": Task("sdxl", level=1, sampler="ddim", steps=40, guidance=7.0, strength=0.6),
    "image-dpm_solver-30-batch-2": Task("sdxl", level=1, sampler="dpm_solver", steps=30, batch=2, strength=0.6),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_pipeline(name, executability, speed, quality):
    """Write the inference pipeline that is described below, exactly as demanded."""
