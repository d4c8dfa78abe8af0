"""What the command line says of agents, as the parts that they are made of; UsageError of what cannot be meant."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from diffagent import calibrate, profile
from diffagent.arms import LANGUAGE, NAMES, Arm, Setting, without
from diffagent.budget import FOLDER, Budget, Purse
from diffagent.calls import ANSWERS, Calls, Price, prices, unpriced
from diffagent.forecast import lines, of_task
from diffagent.generation import Run
from diffagent.knowledge import Knowledge, KnowledgeError, known, read
from diffagent.llm import LanguageModel, Settings, by_role
from diffagent.loop import Shape, shaped
from diffagent.workshop import Terms, Workshop
from pytest_diffbench.errors import SetupError
from pytest_diffbench.plugin import diffbench, ledger
from pytest_diffbench.providers import baseline_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from diffagent.arms import Name
    from diffagent.profile import Profile
    from pytest_diffbench.calibration import Best
    from pytest_diffbench.demand import Demand
    from pytest_diffbench.devices import Device

BUDGET: pytest.StashKey[Budget] = pytest.StashKey()


def calls_of(config: pytest.Config, agent: str, budget: Budget) -> Calls:
    """The models that are asked, role by role; UsageError where none is named, or one has no price but a budget."""
    models = models_of(config, agent)
    without_price = unpriced((each.model for each in models.values()), prices_of(config))
    if without_price and budget.limit(Purse.USD) is not None:
        raise pytest.UsageError(
            f"--diffbench-budget-usd: what does a token of {without_price[0]} cost? add "
            f"--diffbench-llm-price={without_price[0]}=IN,OUT"
        )
    return Calls(
        {role: LanguageModel(settings) for role, settings in models.items()},
        ledger.folder_of_runs(config) / ANSWERS,
        folder_of(config),
        budget=budget,
        prices=prices_of(config),
        fresh=ledger.place(config).folder.name if config.getoption("diffbench_llm_fresh") else "",
    )


def models_of(config: pytest.Config, agent: str) -> dict[str, Settings]:
    """What the command line says of each role's model."""
    model = config.getoption("diffbench_llm")
    if not model:
        raise pytest.UsageError(
            f"--diffbench-agent={agent}: which model? add --diffbench-llm=MODEL, as its server names it"
        )
    temperature, most = config.getoption("diffbench_llm_temperature"), config.getoption("diffbench_llm_max_tokens")
    try:
        return by_role(model, config.getoption("diffbench_llm_role") or (), temperature, most)
    except ValueError as error:
        raise pytest.UsageError(f"--diffbench-llm-role={error}") from error


def prices_of(config: pytest.Config) -> dict[str, Price]:
    """Prices by model; under '' what every other one costs."""
    try:
        return prices(config.getoption("diffbench_llm_price") or ())
    except ValueError as error:
        raise pytest.UsageError(f"--diffbench-llm-price={error}") from error


def folder_of(config: pytest.Config) -> Path:
    """Where this run's agents say what they spent and asked."""
    return ledger.place(config).folder / FOLDER


def budget_of(config: pytest.Config) -> Budget:
    """What this run may spend; UsageError of a budget in dollars without a price."""
    if BUDGET in config.stash:
        return config.stash[BUDGET]
    given = {
        Purse.USD: config.getoption("diffbench_budget_usd"),
        Purse.DEVICE_S: config.getoption("diffbench_budget_device_s"),
    }
    limits = {purse: float(amount) for purse, amount in given.items() if amount is not None}
    if Purse.USD in limits and not prices_of(config):
        raise pytest.UsageError("--diffbench-budget-usd: what does a token cost? add --diffbench-llm-price=IN,OUT")
    if any(amount <= 0 for amount in limits.values()):
        raise pytest.UsageError("--diffbench-budget-usd, --diffbench-budget-device-s: give more than 0")
    config.stash[BUDGET] = budget = Budget(folder_of(config), limits)
    return budget


def arm_of(config: pytest.Config, name: Name) -> Arm:
    """A way to search, measured on this run's devices."""
    return Arm(name, setting_of(config, name, _run_of(config), diffbench(config).tell))


def calibrated(config: pytest.Config, demand: Demand, evaluations: int, say: Callable[[str], None]) -> Best | None:
    """The best certified answer to a scenario; what was measured for it in any run is not measured again."""
    devices = _devices(config)
    workers = len(devices) if len(devices) > 1 else 0
    run = Run.like(config, workers=workers, name="calibration", budget=budget_of(config))
    return calibrate.best(demand, run, setting_of(config, "search", run, say), evaluations, say)


def setting_of(config: pytest.Config, name: Name, run: Run, say: Callable[[str], None]) -> Setting:
    """What the command line says of searches."""
    budget, language = budget_of(config), name in LANGUAGE
    folder = config.getoption("diffbench_knowledge")
    return Setting(
        run,
        _devices(config)[0].kind,
        knowledge=_knowledge(config),
        shape=_shape(config),
        selection=config.getoption("diffbench_selection"),
        without=_without(config, name),
        calls=calls_of(config, name, budget) if language else None,
        model=config.getoption("diffbench_llm") or "",
        told=(*([f"knowledge {folder}"] if folder else []), *(told(config) if language else ())),
        profile=Profiles(config),
        say=say,
    )


def told(config: pytest.Config) -> tuple[str, ...]:
    """Options that change what a language model answers, as they are given."""
    given = {name: config.getoption(f"diffbench_llm_{name}") for name in ("temperature", "max_tokens")}
    found = [f"{name.replace('_', ' ')} {each}" for name, each in given.items() if each is not None]
    return (*found, *sorted(config.getoption("diffbench_llm_role") or ()))


def workshop_of(config: pytest.Config, command: str) -> Workshop:
    """A coding agent that is run as a command; UsageError of one that cannot be read."""
    terms = Terms(config.getoption("diffbench_cmd_timeout_s"), config.getoption("diffbench_cmd_evaluations"))
    folder = folder_of(config) / "workspaces"
    try:
        return Workshop(command, _run_of(config), diffbench(config).weights, folder, terms)
    except SetupError as error:
        raise pytest.UsageError(str(error)) from error


def _shape(config: pytest.Config) -> Shape:
    text = config.getoption("diffbench_shape") or ""
    try:
        return shaped(text)
    except ValueError as error:
        raise pytest.UsageError(f"--diffbench-shape={text}: {error}") from error


def _knowledge(config: pytest.Config) -> Knowledge:
    folder = config.getoption("diffbench_knowledge")
    if not folder:
        return known()
    try:
        return read(config.invocation_params.dir / folder, known())
    except KnowledgeError as error:
        raise pytest.UsageError(f"--diffbench-knowledge={folder}: {error}") from error


def _run_of(config: pytest.Config) -> Run:
    alone, devices = "PYTEST_XDIST_WORKER" not in os.environ, _devices(config)
    workers = len(devices) if alone and len(devices) > 1 else 0
    return Run.like(config, workers=workers, name=ledger.place(config).folder.name, budget=budget_of(config))


def _devices(config: pytest.Config) -> tuple[Device, ...]:
    return diffbench(config).devices


def forecast(config: pytest.Config, demands: Sequence[Demand]) -> list[str]:
    """What the chosen agent is likely to take for these tasks; nothing where it is none of ours."""
    name = diffbench(config).agent.partition(":")[0]
    if name not in ("gpt", *NAMES):
        return []
    asks = name in ("gpt", *LANGUAGE)
    model = config.getoption("diffbench_llm") or ""
    prices = prices_of(config)
    price = prices.get(model, prices.get("", Price()))
    found = []
    for has_target in (True, False):
        count = sum((demand.markers.speed or demand.markers.latency) is not None for demand in demands)
        tasks = count if has_target else len(demands) - count
        each = of_task(name, _shape(config), asks=asks, has_target=has_target)
        found += [f"diffagent: {line}" for line in lines(each, tasks, price, budget_of(config))] if tasks else []
    return found


def _without(config: pytest.Config, name: Name) -> frozenset[str]:
    try:
        return without(config.getoption("diffbench_without") or "", name, _knowledge(config))
    except ValueError as error:
        raise pytest.UsageError(f"--diffbench-without: {error}") from error


class Profiles:
    """Where the time goes, of each pipeline once for all runs."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def __call__(self, demand: Demand) -> Profile:
        """The profile of a task's baseline; SetupError where it cannot be had."""
        folder, weights = ledger.folder_of_runs(self._config), diffbench(self._config).weights(demand)
        return profile.kept(folder, demand, weights, baseline_source(demand), _devices(self._config))
