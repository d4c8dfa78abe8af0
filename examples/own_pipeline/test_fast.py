"""Our own pipeline must stay at least 1.5 times faster than the plain one, losing at most 5 % of its CLIP-Score."""

import pytest

from pytest_diffbench import Task

TINY = "../../pytest_diffbench/zoo/tiny"  # stands for your own folders

OURS = Task(
    f"{TINY}/sd15",  # a diffusers folder
    baseline="baseline.py",  # how you run it today
    prompts="prompts.txt",  # what your users ask for, one prompt a line
    scorer=f"{TINY}/scorer",  # a folder of a transformers CLIPModel
    steps=50,
    guidance=7.5,
)


@pytest.mark.diffbench(OURS)
@pytest.mark.speed(at_least=1.5)
@pytest.mark.quality(max_loss=0.05)
def test_fast(executability, speed, quality):
    """Make the pipeline faster by any means."""
    assert speed.peak_memory_ratio < 1.2  # anything else that you care about
