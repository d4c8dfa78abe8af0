"""The first requests a solution sees: from all over the valid domain, so that what breaks breaks early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis import strategies as st

from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.requests import MAX_SEED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_diffbench.requests import Requests
    from pytest_diffbench.wire import Request

CORNERS: Final = (
    ("", 0),
    ("a very detailed picture of everything at once, " * 40, MAX_SEED),
    ("Ein Fuchs über dem Fluß, 夜の桜, \N{FOX FACE}\N{ZERO WIDTH JOINER}\u0301 \t\n", 1),
)
"""Prompts and seeds that any solution must take: empty, far beyond the token limit, not English.

Where there are classes instead, the first and the last.
"""
CORNER_SEEDS: Final = (0, MAX_SEED)
DRAWN: Final = 1
"""Batches drawn at random beside the corners and the simplest."""


def probe(requests: Requests, batch: int, call: Callable[[Sequence[Request]], None]) -> None:
    """Let `call` answer every corner and some drawn batches; the SolutionFault of the first that fails."""
    failed: list[SolutionFault] = []
    corners = (
        tuple(zip((requests.classes[0], requests.classes[-1]), CORNER_SEEDS, strict=True))
        if requests.classes
        else CORNERS
    )
    texts = st.text(st.characters(codec="utf-8"), max_size=300)
    prompts = st.sampled_from(requests.classes) if requests.classes else texts
    inputs = st.lists(st.tuples(prompts, st.integers(0, MAX_SEED)), min_size=batch, max_size=batch)

    asked: list[Sequence[tuple[str, int]]] = []

    def ask(pairs: Sequence[tuple[str, int]]) -> None:
        # nothing is asked of a process that is gone, nor a corner twice: the simplest, which hypothesis draws first
        if failed or pairs in asked:
            return
        asked.append(pairs)
        try:
            call([requests.with_prompt(prompt, number) for prompt, number in pairs])
        except SolutionFault as fault:
            failed.append(fault)

    test = given(inputs)(ask)
    for start in range(0, len(corners), batch):
        test = example(list((corners * batch)[start : start + batch]))(test)
    quiet = settings(
        max_examples=1 + DRAWN,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    seed(requests.entropy())(quiet(test))()
    if failed:
        raise failed[0]
