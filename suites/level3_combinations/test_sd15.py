"""Make Stable Diffusion 1.5 faster with several methods at once."""

import pytest

from pytest_diffbench import Task

HALF = {"half_precision": {"dtype": "bfloat16"}}


def today(**demanded):
    return Task("sd15", level=3, sampler="ddim", steps=50, **demanded)


TASKS = {
    "ddim-30+half_precision": today(methods={"ddim": {"steps": 30}} | HALF),
    "dpm_solver-20+half_precision": today(methods={"dpm_solver": {"steps": 20}} | HALF),
    "unipc-30+half_precision": today(methods={"unipc": {"steps": 30}} | HALF),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def test_combination(name, executability, speed, quality):
    """Apply the demanded methods together to the pipeline below; its images must stay as good."""
