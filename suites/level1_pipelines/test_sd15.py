"""Run Stable Diffusion 1.5 as demanded: its sampler, steps, guidance, batch and size, nothing accelerated."""

import pytest

from pytest_diffbench import Task

TASKS = {
    "pndm-50": Task("sd15", level=1, sampler="pndm", steps=50),
    "ddim-50": Task("sd15", level=1, sampler="ddim", steps=50),
    "ddim-30-guidance-5": Task("sd15", level=1, sampler="ddim", steps=30, guidance=5.0),
    "dpm_solver-25": Task("sd15", level=1, sampler="dpm_solver", steps=25),
    "euler-30-batch-2": Task("sd15", level=1, sampler="euler", steps=30, batch=2),
    "heun-20-size-640": Task("sd15", level=1, sampler="heun", steps=20, size=640),
    "image-ddim-50": Task("sd15", level=1, sampler="ddim", steps=50, strength=0.6),
    "image-unipc-30-guidance-5": Task("sd15", level=1, sampler="unipc", steps=30, guidance=5.0, strength=0.6),
    "image-euler-30-batch-2": Task("sd15", level=1, sampler="euler", steps=30, batch=2, strength=0.6),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_pipeline(name, executability, speed, quality):
    """Write the inference pipeline that is described below, exactly as demanded."""
