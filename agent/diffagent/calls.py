"""Every call of a language model, paid once: kept by what was asked, read again whenever the same is asked.

All workers of a run, and all runs beside each other, share one folder of answers: who asks what another is asking
waits for its answer. The run's own journal says what was asked, what it took and what it cost.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from diffagent import store
from diffagent.budget import Budget, Purse
from diffagent.llm import Call
from diffagent.reply import Reply
from pytest_diffbench.errors import SetupError
from pytest_diffbench.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from diffagent.llm import LanguageModel, Message

ANSWERS: Final = "answers"
"""The folder of answers, beside the runs: it is theirs together."""
FORMAT: Final = 1
"""Of the kept answers; those of another one are asked for again."""
CHARACTERS_PER_TOKEN: Final = 4
"""About, of English and code: for estimates before a call."""
USUAL_REPLY_TOKENS: Final = 2000
"""Of a reply whose length nobody limits: for estimates before a call."""
_MILLION: Final = 1_000_000
_CALL: Final = TypeAdapter(Call)


@dataclass(frozen=True)
class Price:
    """Of a model, in dollars a million tokens."""

    prompt_usd: float = 0.0
    completion_usd: float = 0.0

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Dollars."""
        return (self.prompt_usd * prompt_tokens + self.completion_usd * completion_tokens) / _MILLION


def unpriced(models: Iterable[str], prices: Mapping[str, Price]) -> list[str]:
    """Those that nobody gave a price for."""
    return sorted(model for model in set(models) if model not in prices and "" not in prices)


def prices(lines: Iterable[str]) -> dict[str, Price]:
    """Prices by model, under '' what every other one costs; ValueError of a line that is none."""
    found: dict[str, Price] = {}
    for line in lines:
        model, _, amounts = line.rpartition("=")
        try:
            prompt, completion = (float(amount) for amount in amounts.split(","))
        except ValueError:
            raise ValueError(
                f"{line}: give dollars a million tokens, of prompts and of replies: 0.15,0.60 or MODEL=0.15,0.60"
            ) from None
        found[model] = Price(prompt, completion)
    return found


@dataclass(frozen=True)
class Question:
    """What is asked, by whom and for what; equal questions have one answer."""

    role: str
    """planner, coder, debugger, or the one that is asked once: solver."""
    task_id: str
    sample: str
    """Tells the first from the second time that the very same is asked on purpose."""
    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    """What the reply's JSON must look like; None: it is text."""


class Calls:
    """Models by role, asked through one door."""

    def __init__(
        self,
        models: Mapping[str, LanguageModel],
        folder: Path,
        log: Path,
        *,
        budget: Budget | None = None,
        prices: Mapping[str, Price] | None = None,
        fresh: str = "",
    ) -> None:
        """`folder` holds the answers, `log` the journal of this run; with `fresh`, a name, no other run's are used."""
        self._models = models
        self._folder = folder
        self._log = Journal(log, f"calls-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")
        self._budget = budget or Budget()
        self._prices = prices or {}
        self._fresh = fresh
        self._guard = threading.Lock()

    def ask(self, question: Question) -> Call:
        """The answer, kept or new; SetupError where none can be had, BudgetSpent where it cannot be paid for."""
        model = self._models[question.role]
        key = self._key(question, model)
        file = store.place(self._folder, key)
        if (known := _read(file)) is None:
            with store.alone(file):
                if (known := _read(file)) is None:  # else it came while this one waited
                    call = self._asked(question, model, key)
                    store.write(file, json.dumps(asdict(call)))
                    self._note(question, key, call, replayed=False)
                    return call
        self._note(question, key, known, replayed=True)
        return known

    def knows(self, question: Question) -> bool:
        """Whether its answer would cost nothing."""
        key = self._key(question, self._models[question.role])
        return _read(store.place(self._folder, key)) is not None

    def estimate_usd(self, prompt: str, role: str) -> float:
        """What one call is likely to cost; 0 where the model has no price."""
        model = self._models[role]
        tokens = model.settings.max_tokens or USUAL_REPLY_TOKENS
        return self._price(model).of(len(prompt) / CHARACTERS_PER_TOKEN, tokens)

    def _asked(self, question: Question, model: LanguageModel, key: str) -> Call:
        estimate = self.estimate_usd("".join(each.content for each in question.messages), question.role)
        with self._budget.reserved(Purse.USD, estimate) as bill:
            try:
                call = model.ask(question.messages, question.schema)
            except SetupError as error:
                self._note(question, key, _failed(model, str(error)), replayed=False)
                raise
            counted = call.prompt_tokens or call.completion_tokens
            bill.amount = self._price(model).of(call.prompt_tokens, call.completion_tokens) if counted else estimate
            return replace(call, cost_usd=bill.amount)

    def _price(self, model: LanguageModel) -> Price:
        return self._prices.get(model.settings.model, self._prices.get("", Price()))

    def _key(self, question: Question, model: LanguageModel) -> str:
        facts = [FORMAT, model.identity, asdict(question), self._fresh]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()

    def _note(self, question: Question, key: str, call: Call, *, replayed: bool) -> None:
        entry = {
            "role": question.role,
            "task_id": question.task_id,
            "sample": question.sample,
            "prompt_sha256": key,
            "model": call.model,
            "prompt_tokens": call.prompt_tokens,
            "completion_tokens": call.completion_tokens,
            "cost_usd": 0.0 if replayed else call.cost_usd,
            "latency_s": 0.0 if replayed else call.latency_s,
            "finish_reason": call.reply.finish_reason,
            "failure": call.failure,
            "replayed": replayed,
        }
        with self._guard:
            self._log.append("call", entry)


def _failed(model: LanguageModel, failure: str) -> Call:
    """A call without an answer, for the journal only: it is asked anew."""
    return Call(Reply("", "error"), model.settings.model, 0, 0, 0.0, failure=failure)


def _read(file: Path) -> Call | None:
    """A kept answer; None where there is none, or none that can be read."""
    try:
        return _CALL.validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


@dataclass(frozen=True)
class Total:
    """What the calls of a run took together."""

    asked: int = 0
    replayed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    latency_s: float = 0.0


def total(log: Path) -> Total:
    """Of a run's journal of calls; nothing where there is none."""
    # imported here: the report at the end needs it, and nobody else
    from pytest_diffbench import journal

    entries = [entry.body for entry in journal.read(log).entries if entry.kind == "call"] if log.is_dir() else []
    entries = [entry for entry in entries if not entry.get("failure")]
    asked = [entry for entry in entries if not entry["replayed"]]

    def added(name: str) -> float:
        return sum(float(str(entry[name])) for entry in asked)

    return Total(
        len(asked),
        len(entries) - len(asked),
        int(added("prompt_tokens")),
        int(added("completion_tokens")),
        added("cost_usd"),
        added("latency_s"),
    )
