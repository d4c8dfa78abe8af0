"""`--diffbench-agent=gpt`: a language model is given a task's prompt once, and what it writes is the answer."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from diffagent.calls import Question
from diffagent.llm import Message
from diffagent.reply import ReplyFault, program
from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.providers import Solution
from pytest_diffbench.records import Cause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffagent.calls import Calls
    from diffagent.llm import Call
    from pytest_diffbench.demand import Demand

ROLE: Final = "solver"


class OneShot:
    """The paper's condition without an agent: one prompt, one reply, no second try."""

    def __init__(self, calls: Calls, model: str, told: Sequence[str] = ()) -> None:
        """`told`: what else is not as usual, for records."""
        self.label = " ".join((f"gpt:{model}", *told))
        self._calls = calls
        self._ahead: dict[Question, Future[Call]] = {}

    def solve(self, demand: Demand, prompt: str, attempt: str) -> Solution:
        """The program in the model's reply; SolutionFault where it holds none."""
        question = _question(demand, prompt, attempt)
        ahead = self._ahead.pop(question, None)
        call = ahead.result() if ahead is not None else self._calls.ask(question)
        try:
            return Solution(program(call.reply), call.model)
        except ReplyFault as fault:
            raise SolutionFault(Cause.COMPILATION, str(fault), call.reply.text) from fault

    def prefetch(self, upcoming: Sequence[tuple[Demand, str, str]]) -> None:
        """Ask now what will be needed next, each question in a thread that nobody has to wait for at the end."""
        for demand, prompt, attempt in upcoming:
            question = _question(demand, prompt, attempt)
            if question not in self._ahead:
                future: Future[Call] = Future()
                self._ahead[question] = future
                threading.Thread(target=self._fetch, args=(question, future), daemon=True).start()

    def _fetch(self, question: Question, future: Future[Call]) -> None:
        try:
            future.set_result(self._calls.ask(question))
        except BaseException as error:  # noqa: BLE001 (whoever needs the answer is told)
            future.set_exception(error)


def _question(demand: Demand, prompt: str, attempt: str) -> Question:
    return Question(ROLE, demand.task_id, attempt, (Message("user", prompt),))
