"""Run Stable Diffusion 2.1 as demanded: its sampler, steps, guidance, batch and size, nothing accelerated."""

import pytest

from pytest_diffbench import Task

TASKS = {
    "ddim-50": Task("sd21", level=1, sampler="ddim", steps=50),
    "pndm-40": Task("sd21", level=1, sampler="pndm", steps=40),
    "dpm_solver-20-guidance-5": Task("sd21", level=1, sampler="dpm_solver", steps=20, guidance=5.0),
    "unipc-20-size-576": Task("sd21", level=1, sampler="unipc", steps=20, size=576),
    "euler-30-batch-2": Task("sd21", level=1, sampler="euler", steps=30, batch=2),
    "image-ddim-50": Task("sd21", level=1, sampler="ddim", steps=50, strength=0.6),
    "image-dpm_solver-30-guidance-5": Task("sd21", level=1, sampler="dpm_solver", steps=30, guidance=5.0, strength=0.6),
    "image-heun-30-size-576": Task("sd21", level=1, sampler="heun", steps=30, size=576, strength=0.6),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_pipeline(name, executability, speed, quality):
    """Write the inference pipeline that is described below, exactly as demanded."""
