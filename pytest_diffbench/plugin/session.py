"""What one process (the only one, the controller, or a worker) knows of the run."""

from __future__ import annotations

import importlib.metadata
import os
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

import pytest

from pytest_diffbench import methods, providers
from pytest_diffbench.devices import Device, inventory
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.plugin import reports
from pytest_diffbench.prompt import render
from pytest_diffbench.stages import Run, Settings, Workbench
from pytest_diffbench.zoo import models

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.methods import Method
    from pytest_diffbench.providers import Provider
    from pytest_diffbench.zoo.models import Model, Weights

PREFERRED_DEVICE: Final = "DIFFBENCH_PREFERRED_DEVICE"
"""Set for each worker when it is started: the position of the device that it should try first."""
LIBRARIES: Final = ("torch", "diffusers", "transformers")


class Session:
    """Providers, models, methods, devices and processes of one run."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @cached_property
    def agent(self) -> str:
        """The chosen provider, as it was spelled."""
        return str(self.config.getoption("diffbench_agent") or self.config.getini("diffbench_agent"))

    @cached_property
    def agent_path(self) -> Path | None:
        """The file or folder that the agent is; None where it is a provider's name."""
        from_command_line = self.config.getoption("diffbench_agent") is not None
        base = self.config.invocation_params.dir if from_command_line else self.config.rootpath
        path = base / self.agent
        looks_like_one = self.agent.endswith(".py") or "/" in self.agent or self.agent.startswith(".")
        return path if looks_like_one or (self.agent not in self.factories and path.is_dir()) else None

    @cached_property
    def factories(self) -> Mapping[str, Callable[[], Provider]]:
        """Every provider's maker by name; UsageError where two claim one."""
        found: dict[str, Callable[[], Provider]] = {
            "reference": providers.Reference,
            "baseline": providers.Baseline,
        }
        for answer in self.config.hook.pytest_diffbench_providers(config=self.config):
            for name, factory in answer.items():
                if name in found:
                    raise pytest.UsageError(f"diffbench: two plugins supply a provider named {name!r}")
                found[name] = factory
        return found

    @cached_property
    def provider(self) -> Provider:
        """The chosen provider."""
        if self.agent_path is None:
            return self.factories[self.agent]()
        if self.agent_path.is_dir():
            return providers.Folder(self.agent_path)
        return providers.SingleFile(self.agent_path)

    @cached_property
    def models(self) -> Mapping[str, Model]:
        """Every model by name."""
        added = self.config.hook.pytest_diffbench_models(config=self.config)
        return {model.name: model for model in (*models.BUILT_IN, *(m for found in added for m in found))}

    @cached_property
    def methods(self) -> Mapping[str, Method]:
        """Every method by name."""
        added = self.config.hook.pytest_diffbench_methods(config=self.config)
        return {method.name: method for method in (*methods.BUILT_IN, *(m for found in added for m in found))}

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """The devices to time on; SetupError where a chosen one is not here."""
        chosen = self.config.getoption("diffbench_devices") or ""
        return inventory([name.strip() for name in chosen.split(",") if name.strip()])

    @cached_property
    def bench(self) -> Workbench:
        """The processes that outlive a task."""
        return Workbench(self.devices, preferred=int(os.environ.get(PREFERRED_DEVICE, "0")))

    @cached_property
    def settings(self) -> Settings:
        """How the stages measure; UsageError where the number of pairs is none."""
        given = self.config.getoption("diffbench_pairs") or self.config.getini("diffbench_pairs")
        try:
            pairs = int(given)
        except ValueError:
            pairs = 0
        if pairs < 2:
            raise pytest.UsageError(f"diffbench: {given!r} is no number of pairs: give 2 or more")
        return Settings(pairs=pairs)

    @cached_property
    def versions(self) -> dict[str, str]:
        """Of the libraries that a measurement rests on."""
        return {name: importlib.metadata.version(name) for name in ("pytest-diffbench", *LIBRARIES)}

    def attempts(self) -> tuple[str, ...]:
        """The names of the answers that any task may have, '' for a single one; none where every task has just that."""
        if self.agent_path is not None and self.agent_path.is_dir():
            names = providers.answer_names(self.agent_path)
            return ("", *names) if names else ()
        count = self.config.getoption("diffbench_attempts")
        return tuple(str(number + 1) for number in range(count)) if count > 1 else ()

    def answers(self, demand: Demand, attempt: str) -> bool:
        """Whether a task has this answer (a task without any keeps its place, and is not solved)."""
        if self.agent_path is None or not self.agent_path.is_dir():
            return True
        several = providers.answer_names(self.agent_path, demand.task_id)
        return attempt in several if several else not attempt

    def validate(self) -> None:
        """UsageError where the command line cannot be carried out."""
        if self.config.getoption("diffbench_attempts") < 1:
            raise pytest.UsageError("--diffbench-attempts: give 1 or more")
        if self.agent_path is None and self.agent not in self.factories:
            names = ", ".join(sorted(self.factories))
            raise pytest.UsageError(
                f"--diffbench-agent={self.agent}: no such provider; use one of {names}, a .py file, or a folder"
            )
        if self.agent_path is not None and not self.agent_path.exists():
            raise pytest.UsageError(f"--diffbench-agent={self.agent}: {self.agent_path} does not exist")
        if self.settings.pairs and self.config.getoption("dist", default="no") in (
            "loadscope",
            "loadfile",
            "loadgroup",
        ):
            raise pytest.UsageError(
                "--dist: use load or worksteal; the other schedulers lose or repeat tasks when a worker dies"
            )
        try:
            _ = self.devices
        except SetupError as error:
            raise pytest.UsageError(str(error)) from error

    def weights(self, demand: Demand) -> Weights:
        """What a task's model is made of here; SetupError where something is missing."""
        if demand.model.folder is None:
            return models.tiny(demand.model)
        prompts, scorer = demand.task.prompts, demand.task.scorer
        missing = [n for n in ("baseline", "prompts", "scorer") if getattr(demand.task, n) is None]
        if missing or prompts is None or scorer is None:
            examples = {
                "baseline": "baseline='baseline.py'",
                "prompts": "prompts='prompts.txt'",
                "scorer": "scorer='./my-clip'",
            }
            raise SetupError(
                f"diffbench: model {demand.model.name!r} is your own, so the task must bring its own judge: "
                f"add {', '.join(examples[name] for name in missing)} to Task(...)"
            )
        return models.own(demand.model, demand.folder / prompts, demand.folder / scorer)

    def prompt(self, demand: Demand) -> str:
        """A task as text for a solver."""
        device = self.devices[0]
        return render(demand, device_kind=device.kind, device_model=device.model)

    def prepare(self, item: pytest.Item, demand: Demand, attempt: str) -> Run:
        """Everything that a task needs before a device is leased; SetupError where it cannot be had."""
        self.validate()
        weights = self.weights(demand)
        baseline_source = providers.baseline_source(demand)
        try:
            solution: providers.Solution | SolutionFault = self.provider.solve(demand, self.prompt(demand), attempt)
        except SolutionFault as fault:
            solution = fault
        return Run(
            demand,
            weights,
            solution,
            baseline_source,
            bench=self.bench,
            settings=self.settings,
            say=partial(reports.say, item, self.agent),
        )

    def close(self) -> None:
        """End every process that was started."""
        if "bench" in self.__dict__:
            self.bench.close()
