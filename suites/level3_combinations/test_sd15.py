"""Make Stable Diffusion 1.5 faster with several methods at once."""

import pytest

from pytest_diffbench import Task

HALF = {"half_precision": {"dtype": "bfloat16"}}


def today(**demanded):
    # few steps: a CPU without bfloat16 arithmetic takes ten times as long
    return Task("sd15", level=3, sampler="ddim", steps=10, **demanded)


TASKS = {
    "ddim-8+half_precision": today(methods={"ddim": {"steps": 8}} | HALF),
    "dpm_solver-8+half_precision": today(methods={"dpm_solver": {"steps": 8}} | HALF),
    "unipc-9+half_precision": today(methods={"unipc": {"steps": 9}} | HALF),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_combination(name, executability, speed, quality):
    """Apply the demanded methods together to the pipeline below; its images must stay as good."""
