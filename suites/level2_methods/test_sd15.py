"""Make Stable Diffusion 1.5 faster with one method."""

import pytest

from pytest_diffbench import Task


def today(**demanded):
    return Task("sd15", level=2, sampler="ddim", steps=50, **demanded)


TASKS = {
    "ddim-30": today(methods={"ddim": {"steps": 30}}),
    "dpm_solver-25": today(methods={"dpm_solver": {"steps": 25}}),
    "dpm_solver-20": today(methods={"dpm_solver": {"steps": 20}}),
    "dpm_solver-30": today(methods={"dpm_solver": {"steps": 30}}),
    "unipc-30": today(methods={"unipc": {"steps": 30}}),
    "unipc-40": today(methods={"unipc": {"steps": 40}}),
    # few steps: a CPU without bfloat16 arithmetic takes ten times as long
    "half_precision": Task(
        "sd15", level=2, sampler="ddim", steps=10, methods={"half_precision": {"dtype": "bfloat16"}}
    ),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_method(name, executability, speed, quality):
    """Apply the demanded method to the pipeline below; its images must stay as good."""
