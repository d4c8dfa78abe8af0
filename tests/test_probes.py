"""The first requests a solution sees come from all over the valid domain, and each of them once."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.probes import CORNERS, DRAWN, probe
from pytest_diffbench.records import Cause
from pytest_diffbench.wire import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_diffbench.requests import Requests


class _Source:
    """What a probe needs of a source of requests."""

    def __init__(self, entropy: int, classes: tuple[str, ...] = ()) -> None:
        self._entropy, self.classes = entropy, classes

    def entropy(self) -> int:
        return self._entropy

    def with_prompt(self, prompt: str, seed: int) -> Request:
        return Request(prompt, seed, height=32, width=32, num_inference_steps=4)


def _asked(entropy: int, batch: int = 1, classes: tuple[str, ...] = ()) -> list[tuple[tuple[str | None, int], ...]]:
    asked: list[tuple[tuple[str | None, int], ...]] = []

    def call(requests: Sequence[Request]) -> None:
        asked.append(tuple((each.prompt, each.seed) for each in requests))

    probe(cast("Requests", _Source(entropy, classes)), batch, call)
    return asked


@pytest.mark.parametrize("entropy", range(5))
def test_corners_and_what_is_drawn_are_asked_once_each(entropy: int) -> None:
    """What hypothesis draws first is the empty prompt again: something else must be drawn beside it."""
    asked = _asked(entropy)

    assert len(asked) == len({*asked}) == len(CORNERS) + DRAWN
    assert {(each,) for each in CORNERS} <= {*asked}


def test_what_is_drawn_differs_from_run_to_run() -> None:
    """It comes from the run's own source of chance: nobody can prepare for it."""
    drawn = {tuple({*_asked(entropy)} - {(each,) for each in CORNERS}) for entropy in range(8)}

    assert len(drawn) > 1
    assert _asked(3) == _asked(3)


def test_every_batch_is_full_and_holds_every_corner() -> None:
    """A solution that takes two requests at once is asked two at once."""
    asked = _asked(1, batch=2)

    assert {len(each) for each in asked} == {2}
    assert {*CORNERS} <= {one for each in asked for one in each}


def test_classes_are_probed_from_the_first_to_the_last() -> None:
    """Where there are no prompts, the corners are the first class and the last."""
    named = tuple("abcdefgh")

    assert {"a", "h"} <= {prompt for each in _asked(1, classes=named) for prompt, _ in each}


def test_after_a_fault_nothing_more_is_asked() -> None:
    """The process is gone: the fault of the first that fails is the verdict's."""
    asked: list[str | None] = []

    def call(requests: Sequence[Request]) -> None:
        asked.append(requests[0].prompt)
        raise SolutionFault(Cause.CRASH, "ended by signal 11")

    with pytest.raises(SolutionFault, match="signal 11"):
        probe(cast("Requests", _Source(1)), 1, call)

    assert len(asked) == 1
