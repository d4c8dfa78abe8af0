"""Searches at equal budget: each spends what the others spend, and what each found is measured side by side."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from diffagent import cli
from diffagent.budget import BudgetSpent
from diffagent.compare import Trial, interval, table
from diffagent.fitness import feasible
from diffagent.workplace import Workplace
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.imagined import Imagined

if TYPE_CHECKING:
    from pathlib import Path

TASK = ("compare", "--model", "tiny:sd15", "--min-speedup", "100", "--devices", "cpu:0")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Imagined:
    """In place of pytest runs; nothing is profiled either."""

    class Counting(Imagined):
        seconds: dict[str, float] = {}  # noqa: RUF012 (as a run has it)

    found = Counting(100.0)
    monkeypatch.setattr(Workplace, "run", lambda _: found)
    monkeypatch.setattr(Workplace, "profile", None)
    return found


def test_every_arm_spends_the_whole_budget(
    machine: Imagined, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As often as is asked for; what they found is measured once more, together."""
    options = ("--arms", "search,evolution,random", "--budget", "10", "--repeats", "2", "--out", str(tmp_path))
    assert cli.main([*TASK, *options]) == 0
    trials = json.loads((tmp_path / "compare.json").read_text())

    assert [(trial["arm"], trial["repetition"]) for trial in trials] == [
        (arm, repetition) for repetition in (0, 1) for arm in ("search", "evolution", "random")
    ]
    assert [len(trial["curve"]) for trial in trials] == [10] * 6
    assert all(trial["curve"] == sorted(trial["curve"]) for trial in trials)
    assert len(machine.generations[-1]) == len(set(machine.generations[-1].values()))
    out = capsys.readouterr().out
    assert "against search" in out
    assert "after 7" in out


def test_what_loses_too_much_counts_as_the_pipeline_as_it_is(
    machine: Imagined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody needs a search for that."""
    fitness = machine.fitness

    def worse(source: str) -> Any:
        found = fitness(source)
        return type(found)(
            "", "FAIL", "relative-quality error", "", 9.0, 9.0, 9.0, 0.5, 0.5, 0.5, 0.05, stage="quality"
        )

    monkeypatch.setattr(machine, "fitness", worse)
    cli.main([*TASK, "--arms", "random", "--budget", "3", "--repeats", "1", "--out", str(tmp_path)])
    (trial,) = json.loads((tmp_path / "compare.json").read_text())

    assert trial["speedup"] == 1
    assert trial["curve"] == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--arms", "search,luck"), "luck is none of search, evolution, random"),
        (("--arms", ","), "nothing is none of"),
        (("--budget", "0"), "give 1 or more"),
        (("--repeats", "0"), "give 1 or more"),
        (("--arms", "search,diffagent"), "diffagent asks a language model: add --llm=MODEL"),
        (("--budget-usd", "1"), "what does a token cost? add --llm-price=IN,OUT"),
        (("--without", "luck"), "'luck' is nothing that search could do without"),
        (("--arms", "diffagent", "--llm", "m", "--llm-role", "cook=x"), "--llm-role=cook=x: give ROLE=MODEL"),
    ],
)
def test_what_cannot_be_meant_is_said(
    options: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a line, with exit status 2."""
    assert cli.main([*TASK, *options, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


@given(st.lists(st.floats(1, 10), min_size=2, max_size=12))
def test_an_interval_holds_its_mean(values: list[float]) -> None:
    """And lies within what was found."""
    mean, low, high = interval(values)

    assert min(values) - 1e-9 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= max(values) + 1e-9


def test_what_a_budget_left_unmeasured_says_nothing(
    machine: Imagined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither as the pipeline as it is, nor as what it seemed to be: it is left out, and the file says so."""
    measure = machine.measure

    def poor(demand: Any, solutions: Any, order: Any) -> Any:
        if len(machine.generations) == 1:
            raise BudgetSpent("diffbench: the budget is spent")
        return measure(demand, solutions, order)

    monkeypatch.setattr(machine, "measure", poor)
    options = ("--arms", "search,random", "--budget", "3", "--repeats", "1", "--out", str(tmp_path))
    assert cli.main([*TASK, *options]) == 0

    trials = json.loads((tmp_path / "compare.json").read_text())
    assert [trial["measured"] for trial in trials] == [False, False]
    out = capsys.readouterr().out
    assert "was not measured once more: diffbench: the budget is spent" in out
    assert out.count("not measured") >= 2


def test_who_found_nothing_found_the_pipeline_as_it_is() -> None:
    """That counts: a search that fails twice in three times is not as good as its one success."""
    trials = [Trial("search", number, (1.0,), best="x", speedup=3.0, measured=True) for number in range(3)]
    trials += [Trial("random", 0, (1.0,), best="x", speedup=3.0, measured=True)]
    trials += [Trial("random", number, (1.0,), measured=True) for number in (1, 2)]

    assert "1.67x" in table(trials)


def test_one_repetition_has_no_interval() -> None:
    """And the table says so."""
    text = table([Trial("search", 0, (1.0, 2.0), speedup=2.0), Trial("random", 0, (1.0,), speedup=1.5)])

    assert text.count("[once: no interval]") == 3
    assert "-0.50x" in text


def test_differences_are_taken_within_a_repetition() -> None:
    """Two arms that differ by the same in each differ surely, however much repetitions do."""
    trials = [Trial("search", number, (1.0,), speedup=number + 1.0) for number in range(4)]
    trials += [Trial("random", number, (1.0,), speedup=number + 0.5) for number in range(4)]

    assert "-0.50x [-0.50, -0.50]" in table(trials)


def test_curves_count_what_keeps_the_quality() -> None:
    """The best so far, never less than the pipeline as it is."""
    assert feasible(None) == 1
    assert feasible(Imagined(1.0).fitness("num_inference_steps=25")) == 2
    assert feasible(Imagined(1.0).fitness("num_inference_steps=5")) == 1
