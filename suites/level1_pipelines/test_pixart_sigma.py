"""Run PixArt-Sigma as demanded: its sampler, steps, guidance, batch and size, nothing accelerated."""

import pytest

from pytest_diffbench import Task

TASKS = {
    "dpm_solver-20": Task("pixart_sigma", level=1, sampler="dpm_solver", steps=20),
    "ddim-40-guidance-6": Task("pixart_sigma", level=1, sampler="ddim", steps=40, guidance=6.0),
    "unipc-20-size-768": Task("pixart_sigma", level=1, sampler="unipc", steps=20, size=768),
    "heun-15": Task("pixart_sigma", level=1, sampler="heun", steps=15),
    "pndm-30-batch-2": Task("pixart_sigma", level=1, sampler="pndm", steps=30, batch=2),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_pipeline(name, executability, speed, quality):
    """Write the inference pipeline that is described below, exactly as demanded."""
