"""What the agent's package adds to the benchmark, by the hooks that any package has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_diffbench.calibration import Best
    from pytest_diffbench.demand import Demand
    from pytest_diffbench.methods import Method
    from pytest_diffbench.providers import Provider

ARMS: Final = ("search", "evolution", "random", "steps-only", "diffagent", "best-of-n", "sequential")
"""As `diffagent.arms` has them, which nobody imports before one is chosen."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which language model is asked, how, and what that may cost."""
    group = parser.getgroup("diffagent", "agents of the diffusion acceleration benchmark")
    group.addoption(
        "--diffbench-llm", metavar="MODEL", help="the language model that agents ask, as its server names it"
    )
    group.addoption(
        "--diffbench-llm-role",
        action="append",
        metavar="ROLE=MODEL",
        help="another model for one role: planner, coder, debugger, or solver (of --diffbench-agent=gpt)",
    )
    group.addoption("--diffbench-llm-temperature", type=float, metavar="T", help="its temperature (default: its own)")
    group.addoption("--diffbench-llm-max-tokens", type=int, metavar="N", help="of one reply (default: its own)")
    group.addoption(
        "--diffbench-llm-price",
        action="append",
        metavar="[MODEL=]IN,OUT",
        help="dollars a million tokens, of prompts and of replies",
    )
    group.addoption(
        "--diffbench-llm-fresh",
        action="store_true",
        help="ask again what an earlier run has asked already, instead of taking its answer",
    )
    group.addoption("--diffbench-budget-usd", type=float, metavar="X", help="the most that language models may cost")
    group.addoption(
        "--diffbench-budget-device-s", type=float, metavar="X", help="the most device seconds that agents may measure"
    )
    group.addoption(
        "--diffbench-shape",
        metavar="NAME=N,…",
        help="the numbers of a search: population (P), parents (M), generations (T_sel), writes (T_code), repairs "
        "(T_debug), replans, finalists; by default the paper's",
    )
    group.addoption(
        "--diffbench-knowledge",
        metavar="FOLDER",
        help="methods of your own beside those that are known: a folder each, as in diffagent/knowledge",
    )
    group.addoption(
        "--diffbench-selection",
        choices=("pareto", "paper"),
        default="pareto",
        help="whom agents build upon: what nothing surely surpasses in speed and quality (default), "
        "or the paper's lottery by a weighted sum",
    )
    group.addoption(
        "--diffbench-without",
        metavar="PARTS",
        help="what an agent does without, comma-separated: recipes, a method's name; where it asks a language model "
        "also knowledge, evolution, debugger",
    )
    group.addoption(
        "--diffbench-cmd-timeout-s",
        type=float,
        default=3600.0,
        metavar="S",
        help="how long --diffbench-agent=cmd:COMMAND may take for a task (default 3600)",
    )
    group.addoption(
        "--diffbench-cmd-evaluations",
        type=int,
        default=28,
        metavar="N",
        help="how often it may measure a solution on public requests (default 28)",
    )


@pytest.hookimpl(optionalhook=True)  # nobody asks where the benchmark is switched off
def pytest_diffbench_methods(config: pytest.Config) -> Iterable[Method]:
    """Token Merging, DeepCache, T-GATE, the guidance window and the reuse of blocks."""
    from diffagent.catalogue import METHODS

    del config
    return METHODS


@pytest.hookimpl(optionalhook=True)
def pytest_diffbench_providers(config: pytest.Config) -> Mapping[str, Callable[..., Provider]]:
    """`gpt`, a model asked once; `cmd:COMMAND`, a coding agent; and every way to search."""

    def gpt() -> Provider:
        from diffagent import options
        from diffagent.one_shot import ROLE, OneShot

        budget = options.budget_of(config)
        model = options.models_of(config, "gpt")[ROLE].model
        return OneShot(options.calls_of(config, "gpt", budget), model, options.told(config))

    def arm(name: str) -> Provider:
        from diffagent import options

        return options.arm_of(config, name)  # type: ignore[arg-type]

    def cmd(command: str) -> Provider:
        from diffagent import options

        return options.workshop_of(config, command)

    return {"gpt": gpt, "cmd": cmd, **{name: partial(arm, name) for name in ARMS}}


@pytest.hookimpl(optionalhook=True)
def pytest_diffbench_calibrate(
    config: pytest.Config, demand: Demand, evaluations: int, say: Callable[[str], None]
) -> Best | None:
    """Searches, a grid of schedules and the worked answer; the fastest few measured again."""
    from diffagent import options

    return options.calibrated(config, demand, evaluations, say)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """What the agent is likely to take, before anything is asked or measured."""
    from pytest_diffbench.plugin.keys import DEMAND, agent_is_chosen

    demands = [item.stash[DEMAND] for item in items if DEMAND in item.stash]
    if not demands or not agent_is_chosen(config):
        return []
    from diffagent import options

    return options.forecast(config, demands)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What agents have asked and spent in this run."""
    from pytest_diffbench.plugin.keys import PLACE

    if PLACE in config.stash:
        from diffagent.summary import lines

        for line in lines(config):
            terminalreporter.write_line(line)
