"""Run DiT as demanded: its sampler, steps, guidance, batch and size, nothing accelerated."""

import pytest

from pytest_diffbench import Task

TASKS = {
    "ddim-50": Task("dit", level=1, sampler="ddim", steps=50),
    "dpm_solver-25": Task("dit", level=1, sampler="dpm_solver", steps=25),
    "unipc-25": Task("dit", level=1, sampler="unipc", steps=25),
    "ddim-40": Task("dit", level=1, sampler="ddim", steps=40),
    "ddim-30-batch-2": Task("dit", level=1, sampler="ddim", steps=30, batch=2),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_pipeline(name, executability, speed, quality):
    """Write the inference pipeline that is described below, exactly as demanded."""
