"""What an agent will take is said before it begins, and which part of it a budget buys."""

from __future__ import annotations

import pytest
from diffagent.budget import Budget, Purse
from diffagent.calls import Price
from diffagent.forecast import lines, of_task
from diffagent.loop import Shape

from tests.agent.loopback import KEY, MODEL
from tests.plugin.conftest import HEAD, furnish, own_task


def test_one_shot_asks_once_a_task() -> None:
    """And measures nothing on the way."""
    each = of_task("gpt", asks=True, has_target=True)

    assert list(lines(each, 604, Price(1.0, 2.0), Budget())) == ["for 604 tasks: 604 replies, about $3.93"]


def test_a_search_asks_nobody() -> None:
    """The paper's whole budget at most, the finalists, and the best of them thoroughly."""
    each = of_task("search", asks=False, has_target=True)

    assert list(lines(each, 1, Price(), Budget())) == ["for 1 tasks: 8 to 34 measurements"]
    assert list(lines(of_task("search", asks=False, has_target=False), 1, Price(), Budget())) == []


def test_the_least_is_one_generation_and_the_most_is_every_try() -> None:
    """A plan, a program each and the pipeline as it is; or all repairs of all programs of all generations."""
    shape = Shape(population=2, generations=1, writes=2, repairs=1, replans=0)
    each = of_task("diffagent", shape, asks=True, has_target=True)

    assert each.replies == (1 + 2 + 1, (2 + 2 * 2 * (1 + 3)) + 2 * (1 + 3))
    assert of_task("diffagent", shape, asks=True, has_target=False).replies[0] == 2


def test_what_a_budget_buys_is_said() -> None:
    """Before it is spent."""
    each = of_task("search", asks=False, has_target=True)
    said = list(lines(each, 10, Price(), Budget(limits={Purse.DEVICE_S: 480.0})))

    assert said[-1] == "the budget of 480 device_s is enough for about 2 of 10 tasks"


def test_it_is_said_at_the_start_of_a_run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what pytest has collected."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    furnish(pytester.path)
    pytester.makepyfile(
        test_mine=f"{HEAD}@pytest.mark.diffbench({own_task()})\ndef test_it(executability):\n    pass\n"
    )
    options = ("--diffbench-agent=gpt", f"--diffbench-llm={MODEL}", "--diffbench-llm-price=1,2", "--collect-only")
    result = pytester.runpytest_inprocess(*options)

    result.stdout.fnmatch_lines(["diffagent: for 1 tasks: 1 replies, about $0.01"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--diffbench-budget-usd=5",), "what does a token cost? add --diffbench-llm-price=IN,OUT"),
        (("--diffbench-llm-price=cheap",), "give dollars a million tokens"),
        (("--diffbench-llm-role=poet=x",), "give ROLE=MODEL, ROLE one of planner, coder, debugger, solver"),
        (("--diffbench-shape=luck=3",), "'luck' is none of population, parents, generations"),
        (("--diffbench-shape=population=0",), "'population=0': give a whole number of at least 1"),
        (("--diffbench-budget-device-s=0",), "give more than 0"),
        (("--diffbench-without=luck",), "'luck' is nothing that diffagent could do without: knowledge, evolution,"),
        (
            ("--diffbench-agent=search", "--diffbench-without=knowledge"),
            "is nothing that search could do without: recipes,",
        ),
        (
            ("--diffbench-agent=search", "--diffbench-knowledge=nowhere"),
            "is no folder: give one with a folder a method",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(pytester: pytest.Pytester, options: tuple[str, ...], said: str) -> None:
    """A usage error, before anything is asked."""
    pytester.makepyfile("def test_never():\n    raise SystemExit('ran')\n")
    agent = () if any("agent" in option for option in options) else ("--diffbench-agent=diffagent",)

    result = pytester.runpytest_inprocess(*agent, f"--diffbench-llm={MODEL}", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()
