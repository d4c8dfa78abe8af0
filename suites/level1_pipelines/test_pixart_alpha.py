"""Run PixArt-alpha as demanded: its sampler, steps, guidance, batch and size, nothing accelerated."""

import pytest

from pytest_diffbench import Task

TASKS = {
    "dpm_solver-20": Task("pixart_alpha", level=1, sampler="dpm_solver", steps=20),
    "ddim-40": Task("pixart_alpha", level=1, sampler="ddim", steps=40),
    "unipc-20-guidance-6": Task("pixart_alpha", level=1, sampler="unipc", steps=20, guidance=6.0),
    "euler-30-size-384": Task("pixart_alpha", level=1, sampler="euler", steps=30, size=384),
    "dpm_solver-20-batch-2": Task("pixart_alpha", level=1, sampler="dpm_solver", steps=20, batch=2),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_pipeline(name, executability, speed, quality):
    """Write the inference pipeline that is described below, exactly as demanded."""
