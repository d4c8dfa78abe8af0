"""Make Stable Diffusion 1.5 faster by a factor, losing at most 5 % of its CLIP-Score."""

import pytest

from pytest_diffbench import Task

SCENARIOS = {
    "ddim-50": {"sampler": "ddim", "steps": 50},
    "euler-50": {"sampler": "euler", "steps": 50},
}
TARGETS = {"easy": 1.4, "medium": 2.0, "hard": 2.8}


def task(scenario, difficulty):
    how = SCENARIOS[scenario]
    name = f"{scenario}-{difficulty}"
    demanded = Task("sd15", level=4, scenario=scenario, difficulty=difficulty, **how)
    target = pytest.mark.speed(at_least=TARGETS[difficulty])
    return pytest.param(name, marks=[pytest.mark.diffbench(demanded), target])


@pytest.mark.parametrize("name", [task(scenario, difficulty) for scenario in SCENARIOS for difficulty in TARGETS])
@pytest.mark.quality(max_loss=0.05)
def test_speedup(name, executability, speed, quality):
    """Reach the target by any means; the images must stay as good."""
