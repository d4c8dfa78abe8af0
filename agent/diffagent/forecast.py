"""What a run of agents is likely to take, said before it begins: replies, dollars, device seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from diffagent.budget import Purse
from diffagent.calls import USUAL_REPLY_TOKENS
from diffagent.generation import FIRST_GUESS_S
from diffagent.loop import Shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diffagent.budget import Budget
    from diffagent.calls import Price

USUAL_PROMPT_TOKENS: Final = 2500
"""Of a task's prompt with its baseline, and what an agent adds to it."""
ASKED_ONCE_A_TRY: Final = 3
"""Of a debugger: edits, edits again, the whole file."""


@dataclass(frozen=True)
class Forecast:
    """Of one task: the least, where all goes well at once, and the most, where nothing does."""

    replies: tuple[int, int]
    evaluations: tuple[int, int]


def of_task(agent: str, shape: Shape | None = None, *, asks: bool, has_target: bool) -> Forecast:
    """For a task that has a speed target, or one that has none and needs one program that runs."""
    if agent == "gpt":
        return Forecast((1, 1), (0, 0))
    shape = shape or Shape()
    ideas = shape.population if has_target else 1
    again = shape.finalists + 1  # the best of them thoroughly
    tries = shape.writes * (1 + shape.repairs)
    if not asks:
        return Forecast((0, 0), (ideas + 1, shape.generations * ideas + again) if has_target else (0, 0))
    replies_of_one = shape.writes * (1 + shape.repairs * ASKED_ONCE_A_TRY)
    rounds = shape.generations * (1 + shape.replans)
    least = 1 + ideas + has_target
    most = rounds * (2 + ideas * replies_of_one) + has_target * replies_of_one
    return Forecast((least, most), (ideas + 1, rounds * ideas * tries + again))


def lines(each: Forecast, tasks: int, price: Price, budget: Budget) -> Iterator[str]:
    """What so many tasks will take, and which part of it a budget buys; nothing where nothing is asked or measured."""
    one_usd = price.of(USUAL_PROMPT_TOKENS, USUAL_REPLY_TOKENS)
    told = []
    if each.replies[1]:
        dollars = _range(each.replies, tasks * one_usd, "${:,.2f}")
        told.append(f"{_range(each.replies, tasks, '{:,.0f}')} replies")
        told += [f"about {dollars}"] if one_usd else []
    if each.evaluations[1]:
        told.append(f"{_range(each.evaluations, tasks, '{:,.0f}')} measurements")
    if told:
        yield f"for {tasks} tasks: {', '.join(told)}"
    least = {Purse.USD: each.replies[0] * one_usd, Purse.DEVICE_S: each.evaluations[0] * FIRST_GUESS_S}
    for purse, amount in least.items():
        limit = budget.limit(purse)
        if limit is not None and amount * tasks > limit:
            yield f"the budget of {limit:g} {purse} is enough for about {int(limit / amount)} of {tasks} tasks"


def _range(counts: tuple[int, int], times: float, form: str) -> str:
    ends = [form.format(times * count) for count in counts]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)
