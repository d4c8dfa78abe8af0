"""Calls are paid once, whoever asks; what they cost is counted, and never more than there is."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from diffagent.budget import Budget, BudgetSpent, Purse
from diffagent.calls import Calls, Price, Question, prices, total, unpriced
from diffagent.llm import LanguageModel, Message, Settings
from hypothesis import given
from hypothesis import strategies as st

from pytest_diffbench.errors import SetupError
from tests.agent.loopback import KEY, MODEL, Answer, Loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The right key."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return monkeypatch


def _calls(folder: Path, **more: Any) -> Calls:
    settings = more.pop("settings", Settings(MODEL, max_retries=0, timeout_s=20.0))
    return Calls({"coder": LanguageModel(settings)}, folder / "answers", folder / more.pop("log", "log"), **more)


def _question(text: str = "Write it.", sample: str = "", task_id: str = "it") -> Question:
    return Question("coder", task_id, sample, (Message("user", text),))


def test_the_same_is_asked_once(key: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In this run and in the next; the answer is the same, to the last field."""
    with Loopback([Answer("one")]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        first = _calls(tmp_path).ask(_question())
        assert _calls(tmp_path, log="another run").ask(_question()) == first

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("question", "settings", "fresh"),
    [
        (_question("Write another."), {}, ""),
        (_question(sample="2"), {}, ""),
        (_question(task_id="that"), {}, ""),
        (_question(), {"temperature": 0.5}, ""),
        (_question(), {"max_tokens": 5}, ""),
        (_question(), {}, "run 2"),
    ],
    ids=["prompt", "sample", "task", "temperature", "length", "fresh"],
)
def test_another_question_is_asked(
    key: pytest.MonkeyPatch, tmp_path: Path, question: Question, settings: Mapping[str, Any], fresh: str
) -> None:
    """Whatever may change the answer makes it another; a fresh run takes nobody's."""
    with Loopback([Answer("one"), Answer("two")]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        _calls(tmp_path).ask(_question())
        other = _calls(tmp_path, fresh=fresh, settings=Settings(MODEL, max_retries=0, **settings))
        assert other.ask(question).reply.text == "two"
        assert other.ask(question).reply.text == "two"


def test_who_asks_what_another_is_asking_waits_for_it(key: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Threads here; between processes the same lock holds."""
    with Loopback([Answer("one", after_s=0.3)]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        calls = _calls(tmp_path)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: calls.ask(_question()).reply.text, range(8)))

    assert found == ["one"] * 8
    assert len(server.requests) == 1


def _ask_from_elsewhere(folder: str, queue: Any) -> None:
    queue.put(_calls(Path(folder)).ask(_question()).reply.text)


def test_processes_share_answers(key: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Workers of one run ask for the same at the same time: one pays."""
    queue: Any = SPAWN.Queue()
    with Loopback([Answer("one", after_s=0.5)]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        processes = [SPAWN.Process(target=_ask_from_elsewhere, args=(str(tmp_path), queue)) for _ in range(3)]
        for process in processes:
            process.start()
        found = [queue.get(timeout=60) for _ in processes]
        for process in processes:
            process.join()

    assert found == ["one"] * 3
    assert len(server.requests) == 1


def test_a_failed_call_is_not_kept(key: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trouble of the server's is nobody's answer; the next one asks again."""
    with Loopback([Answer("oops", status=500), Answer("one")]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        calls = _calls(tmp_path)
        with pytest.raises(SetupError):
            calls.ask(_question())
        assert calls.ask(_question()).reply.text == "one"


def test_a_failed_call_stands_in_the_journal(key: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With what was said; it is no reply, and cost nothing that anybody knows of."""
    with Loopback([Answer("oops", status=500)]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        with pytest.raises(SetupError):
            _calls(tmp_path).ask(_question())
    text = "".join(file.read_text() for file in (tmp_path / "log").glob("journal-*.jsonl"))

    assert "failed: 500: " in text
    assert "oops" in text
    assert total(tmp_path / "log").asked == 0


def test_a_model_needs_a_price_of_its_own_or_of_all() -> None:
    """Else a budget in dollars would not see it."""
    assert unpriced(["one", "other"], {"one": Price(1, 1)}) == ["other"]
    assert unpriced(["one", "other"], {"": Price(1, 1)}) == []
    assert prices(["one=1,2", "3,4"]) == {"one": Price(1, 2), "": Price(3, 4)}
    for wrong in ("one=1", "1;2", "one="):
        with pytest.raises(ValueError, match="give dollars a million tokens"):
            prices([wrong])


def test_an_answer_that_was_torn_is_asked_for_again(key: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Half a file is none."""
    with Loopback([Answer("one"), Answer("two")]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        _calls(tmp_path).ask(_question())
        (file,) = (tmp_path / "answers").rglob("*.json")
        file.write_text(file.read_text()[:20])
        assert _calls(tmp_path).ask(_question()).reply.text == "two"


def test_a_disk_that_is_full_is_said(key: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the folder that has no room; /dev/full stands for it."""
    folder = tmp_path / "answers"
    folder.write_text("a file where a folder should be")
    with Loopback([Answer("one")]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        with pytest.raises(SetupError, match="cannot keep answers in"):
            _calls(tmp_path).ask(_question())
    assert server.requests == []


def test_every_call_is_in_the_journal(key: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What it was for, what it took, what it cost; a replay costs nothing. No text of it is there."""
    with Loopback([Answer("the reply")]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        calls = _calls(tmp_path, prices={MODEL: Price(1e6, 2e6)})
        for _ in range(2):
            calls.ask(_question("the prompt"))
    text = "".join(file.read_text() for file in (tmp_path / "log").glob("journal-*.jsonl"))
    asked, replayed = (json.loads(line[9:])["body"] for line in text.splitlines())

    assert (asked["prompt_tokens"], asked["completion_tokens"], asked["cost_usd"]) == (11, 7, 25.0)
    assert (asked["role"], asked["task_id"], asked["finish_reason"]) == ("coder", "it", "stop")
    assert (asked["replayed"], replayed["replayed"], replayed["cost_usd"]) == (False, True, 0)
    assert "the reply" not in text
    assert "the prompt" not in text
    found = total(tmp_path / "log")
    assert (found.asked, found.replayed, found.cost_usd) == (1, 1, 25.0)


def test_what_cannot_be_paid_for_is_not_asked(key: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The estimate counts the prompt and a usual reply; what is known already is free."""
    budget = Budget(tmp_path / "money", {Purse.USD: 1.0})
    with Loopback([Answer("one")]) as server:
        key.setenv("OPENAI_BASE_URL", server.url)
        _calls(tmp_path).ask(_question("known"))
        calls = _calls(tmp_path, budget=budget, prices={"": Price(1e6, 1e6)})
        with pytest.raises(BudgetSpent, match=r"budget of \$1.00 is spent .* --diffbench-budget-usd"):
            calls.ask(_question("new"))
        assert calls.ask(_question("known")).reply.text == "one"

    assert len(server.requests) == 1


# -- the budget itself -------------------------------------------------------------------------------------------------


def test_what_is_reserved_is_spoken_for(tmp_path: Path) -> None:
    """Until the bill is there: two at once cannot spend the same dollar, in threads or in processes."""
    for folder in (None, tmp_path):
        budget = Budget(folder, {Purse.USD: 10.0})
        with budget.reserved(Purse.USD, 6.0) as bill:
            with pytest.raises(BudgetSpent), Budget.reserved(budget, Purse.USD, 6.0):
                pass
            bill.amount = 1.0
        with budget.reserved(Purse.USD, 6.0) as bill:
            bill.amount = 6.0
        assert budget.spent(Purse.USD) == 7.0


def _reserve_and_die(folder: str) -> None:
    budget = Budget(Path(folder), {Purse.USD: 10.0})
    budget.reserved(Purse.USD, 9.0).__enter__()
    os._exit(1)


def test_a_reservation_ends_with_its_process(tmp_path: Path) -> None:
    """A worker that dies takes nothing with it."""
    process = SPAWN.Process(target=_reserve_and_die, args=(str(tmp_path),))
    process.start()
    process.join()

    budget = Budget(tmp_path, {Purse.USD: 10.0})
    with budget.reserved(Purse.USD, 9.0) as bill:
        bill.amount = 9.0
    assert budget.spent(Purse.USD) == 9.0


def _spend(folder: str, barrier: Any, queue: Any) -> None:
    budget = Budget(Path(folder), {Purse.USD: 10.0})
    barrier.wait()
    spent = 0
    for _ in range(20):
        try:
            with budget.reserved(Purse.USD, 1.0) as bill:
                bill.amount = 1.0
            spent += 1
        except BudgetSpent:
            pass
    queue.put(spent)


def test_workers_never_spend_more_than_there_is(tmp_path: Path) -> None:
    """Each tries to spend twenty of ten dollars at once."""
    barrier, queue = SPAWN.Barrier(3), SPAWN.Queue()
    processes = [SPAWN.Process(target=_spend, args=(str(tmp_path), barrier, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    spent = sum(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()

    assert spent == 10
    assert Budget(tmp_path).spent(Purse.USD) == 10.0


def test_a_run_that_goes_on_knows_what_it_has_spent(tmp_path: Path) -> None:
    """A new process reads the old one's bills; purses are apart."""
    for amount in (3.0, 4.0):
        with Budget(tmp_path).reserved(Purse.DEVICE_S, 5.0) as bill:
            bill.amount = amount

    assert Budget(tmp_path).spent(Purse.DEVICE_S) == 7.0
    assert Budget(tmp_path).spent(Purse.USD) == 0.0


@given(bills=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), max_size=12))
def test_bills_within_their_estimates_stay_within_the_limit(bills: list[tuple[float, float]]) -> None:
    """However many are refused on the way."""
    budget = Budget(limits={Purse.USD: 10.0})
    for estimate, share in bills:
        try:
            with budget.reserved(Purse.USD, estimate) as bill:
                bill.amount = min(estimate, share)
        except BudgetSpent:
            continue

    assert budget.spent(Purse.USD) <= 10.0 + 1e-9


def test_a_failure_between_settles_what_was_billed(tmp_path: Path) -> None:
    """A measurement that breaks down has cost what it has cost."""
    budget = Budget(tmp_path, {Purse.DEVICE_S: 10.0})

    def measure() -> None:
        with budget.reserved(Purse.DEVICE_S, 5.0) as bill:
            bill.amount = 2.0
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        measure()
    assert budget.spent(Purse.DEVICE_S) == 2.0


def test_threads_reserve_one_after_another(tmp_path: Path) -> None:
    """No two of them see the same room."""
    budget, refused = Budget(tmp_path, {Purse.USD: 5.0}), []
    gate = threading.Barrier(8)

    def spend(_: int) -> None:
        gate.wait()
        try:
            with budget.reserved(Purse.USD, 1.0) as bill:
                bill.amount = 1.0
        except BudgetSpent as error:
            refused.append(error)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(spend, range(8)))
    assert len(refused) == 3
    assert budget.spent(Purse.USD) == 5.0
