"""The units of work: drawn at random while a task runs, known to nobody before."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from pytest_diffbench.wire import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.zoo.models import Weights

MAX_SEED: Final = 2**32 - 1
"""What torch and numpy both take."""


class Requests:
    """An endless source of batches for one task; within it no prompt comes twice while others are left."""

    def __init__(self, demand: Demand, weights: Weights, rng: random.Random | None = None) -> None:
        self._demand = demand
        self._weights = weights
        self._rng = rng or random.SystemRandom()
        self._fresh = self._draw()

    def batch(self) -> tuple[Request, ...]:
        """As many fresh requests as travel together in this task."""
        return tuple(next(self._fresh) for _ in range(self._demand.task.batch))

    def with_prompt(self, prompt: str, seed: int) -> Request:
        """A request of this task's size and steps for a given prompt and seed."""
        side = round(self._demand.size * self._weights.scale)
        return Request(
            prompt=prompt,
            seed=seed,
            height=side,
            width=side,
            num_inference_steps=self._demand.steps,
            guidance_scale=self._demand.guidance,
        )

    def entropy(self) -> int:
        """A number from this task's own source of chance."""
        return self._rng.getrandbits(64)

    def _draw(self) -> Iterator[Request]:
        used: set[str] = set()
        while True:
            drawn = self._weights.prompts(self._rng, 64)
            fresh = [prompt for prompt in drawn if prompt not in used]
            used = used | set(fresh) if fresh else set()  # all were used: they may come again
            for prompt in fresh or drawn:
                yield self.with_prompt(prompt, self._rng.randint(0, MAX_SEED))
