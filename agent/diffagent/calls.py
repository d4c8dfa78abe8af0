"""Every call of a language model, paid once: kept by what was asked, read again whenever the same is asked.

All workers of a run, and all runs beside each other, share one folder of answers: who asks what another is asking
waits for its answer. The run's own journal says what was asked, what it took and what it cost.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from diffagent.budget import Budget, Purse
from diffagent.llm import Call
from pytest_diffbench.errors import SetupError
from pytest_diffbench.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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


@dataclass(frozen=True)
class Price:
    """Of a model, in dollars a million tokens."""

    prompt_usd: float = 0.0
    completion_usd: float = 0.0

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Dollars."""
        return (self.prompt_usd * prompt_tokens + self.completion_usd * completion_tokens) / _MILLION


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
        file = self._folder / key[:2] / f"{key}.json"
        if (known := _read(file)) is None:
            with _alone(file):
                if (known := _read(file)) is None:  # else it came while this one waited
                    call = self._asked(question, model)
                    _write(file, call)
                    self._note(question, key, call, replayed=False)
                    return call
        self._note(question, key, known, replayed=True)
        return known

    def knows(self, question: Question) -> bool:
        """Whether its answer would cost nothing."""
        key = self._key(question, self._models[question.role])
        return _read(self._folder / key[:2] / f"{key}.json") is not None

    def estimate_usd(self, prompt: str, role: str) -> float:
        """What one call is likely to cost; 0 where the model has no price."""
        model = self._models[role]
        tokens = model.settings.max_tokens or USUAL_REPLY_TOKENS
        return self._price(model).of(len(prompt) / CHARACTERS_PER_TOKEN, tokens)

    def _asked(self, question: Question, model: LanguageModel) -> Call:
        estimate = self.estimate_usd("".join(each.content for each in question.messages), question.role)
        with self._budget.reserved(Purse.USD, estimate) as bill:
            call = model.ask(question.messages, question.schema)
            bill.amount = self._price(model).of(call.prompt_tokens, call.completion_tokens)
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
            "replayed": replayed,
        }
        with self._guard:
            self._log.append("call", entry)


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """While nobody else, in whatever process or thread, asks the same."""
    lock = file.with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        stream = lock.open("w")
    except OSError as error:
        raise SetupError(f"diffbench: cannot keep answers in {lock.parent}: {error.strerror or error}") from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
        lock.unlink(missing_ok=True)


def _read(file: Path) -> Call | None:
    """A kept answer; None where there is none, or none that can be read."""
    try:
        return TypeAdapter(Call).validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(file: Path, call: Call) -> None:
    """Whole or not at all; SetupError where that is impossible: a paid answer is not lost silently."""
    temporary = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        with temporary.open("w", encoding="utf-8", errors="replace") as stream:
            json.dump(asdict(call), stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SetupError(f"diffbench: cannot keep an answer in {file.parent}: {error.strerror or error}") from error


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
