"""How far honest and dishonest solutions lie from the limits of the last look (`pytest_diffbench/inspection.py`).

Run it as `python benchmarks/inspection.py` (four minutes on a core). Printed is, for honest solutions and for what
pretends, how many times longer a call takes when it is looked at, and by how many levels of 255 the images change when
the model's last layer is in disorder.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

import numpy as np

from pytest_diffbench import self_attack
from pytest_diffbench.inspection import LEAST_CHANGE, mean_difference
from pytest_diffbench.isolation import Policy, Sandbox, Tier
from pytest_diffbench.pretence import LEAST_FACTOR
from pytest_diffbench.wire import Request
from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.scrambled import scrambled
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from pathlib import Path

MODEL: Final = TINY / "sd15"
ROUNDS: Final = 12
IMAGES: Final = 6
CHOSEN: Final = (
    "honest/wraps_the_plain_pipeline",
    "honest/takes_fewer_steps_of_unipc",
    "honest/reuses_features_within_an_image",
    "honest/samples_with_its_own_loop",
    "honest/runs_in_half_precision",
    "diffusion/works_only_while_watched",
    "diffusion/draws_with_grain_instead_of_denoising",
)


def _request(number: int) -> Request:
    caption = drawings.sample_scene(np.random.default_rng(number)).caption
    return Request(caption, number, 64, 64, num_inference_steps=50, guidance_scale=7.5)


def _loaded(source: str, model: Path) -> Sandbox:
    sandbox = Sandbox(Policy(Tier.NONE), models=(str(model),), cores=(0,))
    sandbox.wait_ready()
    sandbox.load(source, model=str(model), device="cpu", timeout_s=120)
    sandbox.generate([_request(0)], timeout_s=120)
    sandbox.describe([_request(0)], timeout_s=120)  # a look knows the denoisers that were met then
    return sandbox


def factors(sandbox: Sandbox) -> list[float]:
    """Seconds of a call that is looked at over those of one that is not, in turn."""
    found = []
    for number in range(1, ROUNDS + 1):
        unwatched_s = sandbox.generate([_request(number)], timeout_s=120).elapsed_s
        found.append(sandbox.watch([_request(ROUNDS + number)], timeout_s=120)[1] / unwatched_s)
    return found


def main() -> None:
    """Print a line for each solution."""
    print(f"limits: {LEAST_FACTOR} times as long when looked at, {LEAST_CHANGE} levels of change")
    with scrambled(MODEL) as disordered:
        assert disordered is not None
        for exploit in self_attack.chosen(self_attack.corpus(), CHOSEN):
            right, wrong = _loaded(exploit.source, MODEL), _loaded(exploit.source, disordered)
            looked_at = factors(right)
            changes = [
                mean_difference(
                    right.generate([_request(number)], timeout_s=120).images,
                    wrong.generate([_request(number)], timeout_s=120).images,
                )
                for number in range(IMAGES)
            ]
            right.close()
            wrong.close()
            print(
                f"{exploit.name}: {statistics.geometric_mean(looked_at):.2f} times as long when looked at "
                f"({min(looked_at):.2f} to {max(looked_at):.2f}); changes of {min(changes):.1f} to {max(changes):.1f}"
            )


if __name__ == "__main__":
    main()
