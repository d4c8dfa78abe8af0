"""The units of work: drawn at random while a task runs; secret ones are known to nobody before, public ones may be."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pytest_diffbench.errors import SetupError
from pytest_diffbench.records import RequestSet
from pytest_diffbench.wire import Request
from pytest_diffbench.zoo.supply import is_public

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from PIL import Image

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.zoo.supply import Weights

PROMPTS_AT_ONCE: Final = 256
TIMED: Final = "pairs"
"""What the name of a source of timed requests begins with."""
LEAST_SHARED: Final = 24
"""Fewer different prompts than this on either side would come again while pairs are timed."""
MAX_SEED: Final = 2**32 - 1
"""What torch and numpy both take."""


class Requests:
    """An endless source of batches for one task; within it no prompt comes twice while others are left.

    Prompts and seeds are of one set only: the public one, or all that is not public. Prompts that are too few to be
    divided are secret, all of them; SetupError where public ones are asked for all the same.

    `share` says which prompts are this source's, so that none comes from another one; it is not asked of a set too
    small to be shared.
    """

    def __init__(
        self,
        demand: Demand,
        weights: Weights,
        rng: random.Random | None = None,
        drawn_from: RequestSet = RequestSet.SECRET,
        share: Callable[[str], bool] = lambda _: True,
    ) -> None:
        if drawn_from is RequestSet.PUBLIC and weights.public_problem:
            raise SetupError(f"diffbench: --diffbench-requests=public: {weights.public_problem}")
        if demand.task.strength is not None and weights.inputs is None:
            raise SetupError(
                f"diffbench: model {demand.model.name!r} has no images to begin with, which strength= asks for: "
                "give a folder of some, Task(..., images='./photos')"
            )
        self._public = drawn_from is RequestSet.PUBLIC
        self._demand = demand
        self._weights = weights
        self._rng = rng or random.SystemRandom()
        self._share = share
        self._fresh = self._draw()

    def batch(self) -> tuple[Request, ...]:
        """As many fresh requests as travel together in this task."""
        return tuple(next(self._fresh) for _ in range(self._demand.task.batch))

    def reseeded(self, requests: Sequence[Request]) -> tuple[Request, ...]:
        """The same requests, each with a fresh seed."""
        return tuple(replace(request, seed=self._seed()) for request in requests)

    def reprompted(self, requests: Sequence[Request]) -> tuple[Request, ...]:
        """The same requests, each with a fresh prompt, or class."""
        return tuple(self._with_another_condition(request) for request in requests)

    @property
    def classes(self) -> tuple[str, ...]:
        """What can be asked for where prompts are not free text; empty where they are."""
        return self._weights.classes

    def with_prompt(self, prompt: str, seed: int) -> Request:
        """A request of this task's size and steps for a given prompt (or sentence of a class) and seed."""
        demand, classes = self._demand, self._weights.classes
        side = self._weights.side_px(demand.size)
        return Request(
            prompt=None if classes else prompt,
            seed=seed,
            height=side,
            width=side,
            num_inference_steps=demand.steps,
            guidance_scale=demand.guidance,
            class_label=classes.index(prompt) if classes else None,
            strength=demand.task.strength,
            image=self._input(prompt, side),
        )

    def _input(self, prompt: str, side: int) -> Image.Image | None:
        if self._demand.task.strength is None:
            return None
        assert self._weights.inputs is not None
        return self._weights.inputs(self._rng, prompt, side)

    def entropy(self) -> int:
        """A number from this task's own source of chance."""
        return self._rng.getrandbits(64)

    def _with_another_condition(self, request: Request) -> Request:
        own = (request.prompt, request.class_label)
        other = next(fresh for fresh in self._fresh if (fresh.prompt, fresh.class_label) != own)
        return replace(request, prompt=other.prompt, class_label=other.class_label)

    def _seed(self) -> int:
        while is_public(str(seed := self._rng.randint(0, MAX_SEED))) is not self._public:
            pass
        return seed

    def _prompts(self) -> list[str]:
        """Some prompts of this source's set."""
        while True:
            drawn = self._weights.prompts(self._rng, PROMPTS_AT_ONCE)
            if not self._weights.public_problem:  # else they are not divided
                drawn = [prompt for prompt in drawn if is_public(prompt) is self._public]
            if drawn:
                return self._own_share(drawn)

    def _own_share(self, drawn: list[str]) -> list[str]:
        """What is this source's of the prompts drawn; all of them where either side would hold too few."""
        mine = {prompt for prompt in drawn if self._share(prompt)}
        fewest = min(len(mine), len(set(drawn) - mine))
        return [prompt for prompt in drawn if prompt in mine] if fewest >= LEAST_SHARED else drawn

    def _draw(self) -> Iterator[Request]:
        used: set[str] = set()
        while True:
            drawn = self._prompts()
            fresh = [prompt for prompt in drawn if prompt not in used]
            used = used | set(fresh) if fresh else set()  # all were used: they may come again
            for prompt in fresh or drawn:
                yield self.with_prompt(prompt, self._seed())


class Stream(random.Random):
    """SHA-256 in counter mode: as repeatable as any seeded generator, and not to be foretold from what it gave."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._counter = 0
        super().__init__()

    def getrandbits(self, k: int, /) -> int:
        """The next `k` bits."""
        data = bytearray()
        while 8 * len(data) < k:
            data += hashlib.sha256(self._key + self._counter.to_bytes(8, "big")).digest()
            self._counter += 1
        return int.from_bytes(data, "big") >> (8 * len(data) - k)

    def random(self) -> float:
        """A number from [0, 1)."""
        return self.getrandbits(53) / 2**53

    def seed(self, *_: object) -> None:
        """The key is all there is."""


def sources(
    demand: Demand, weights: Weights, key: str, drawn_from: RequestSet = RequestSet.SECRET
) -> Callable[[str], Requests]:
    """A source for each purpose, all of them drawn from one key: the run's own number and whose requests they are.

    How many requests one purpose takes (warm-up depends on the machine) does not move those of another, so that the
    same key gives the same pairs again. Prompts of timed requests come from no other source: one that came before could
    be told from one that comes again as a check. Which ones are whose, only the key says.
    """

    def source(purpose: str) -> Requests:
        timed = purpose.startswith(TIMED)
        return Requests(
            demand,
            weights,
            Stream(f"{key} {purpose}"),
            drawn_from,
            lambda prompt: _is_timed(f"{key} {prompt}") is timed,
        )

    return source


def _is_timed(text: str) -> bool:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0] % 2 == 0
