"""A generation: several solutions of one task, measured by one ordinary pytest run, whose JSON says how good they are.

The run draws public requests only, takes its leases like any other, and is a process of its own: who asks holds none.
What was measured once is not measured again: the same generation in the same place is read from its file, and one that
was cut off goes on where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from diffagent import keys, leash, taskfile
from diffagent.budget import Budget, Purse
from diffagent.fitness import Fitness, FitnessError, fitness_of
from pytest_diffbench import edition, journal
from pytest_diffbench.errors import SetupError
from pytest_diffbench.plugin import diffbench
from pytest_diffbench.plugin.collection import task_id
from pytest_diffbench.providers import baseline_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pytest

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.zoo.supply import Weights

FOLDER: Final = ".diffbench/agent"
"""Beside the task's file, so that what its conftest adds is there too; no run collects a folder that is hidden."""
FIRST_GUESS_S: Final = 30.0
"""Device seconds that a solution is thought to take before any was measured."""
ENDS_WITHIN_S: Final = 60.0
"""How long a run that is told to end may take to close its files."""
_NAMED: Final = re.compile(r"\[(?P<name>[^\[\]]+)\]$")
_PASSED_ON: Final = ("zoo", "prompts", "isolation", "limits", "devices", "pairs")
_SEVERAL: Final = ("checkpoint", "readable")


class RunError(SetupError):
    """A generation's run left no JSON: the message holds the end of what it printed."""


@dataclass(frozen=True)
class Order:
    """What a generation is measured with."""

    seed: int
    """Of its public requests."""
    label: str
    """Of the folder that everything of the run stays in: answers, JSON, journal."""
    race: float | None = None
    """A solution that misses its target and is surely less than so many times faster is not judged."""
    quick: bool = False
    """By fewer pairs and images, and without the last looks: enough to choose by, not to rely on."""
    stages: Sequence[str] = taskfile.STAGES
    """The first only, where all that is asked is whether it runs."""
    certified: bool = False
    """In three starts, on a hundred secret requests or more: as results to publish are."""


@dataclass
class Run:
    """How generations are measured: with which options, in which place, by how many workers."""

    options: tuple[str, ...]
    invocation_folder: Path
    workers: int = 0
    """0: the run's own process measures."""
    name: str = ""
    """Of the run that asks: another one measures anew."""
    budget: Budget = field(default_factory=Budget)
    facts: Callable[[Demand], object] = lambda _: None
    """What a measurement depends on beside the task and the solutions: weights, prompts, baseline, machine."""
    longest_s: float = 0.0
    """Device seconds of the solution that took the longest so far."""

    @classmethod
    def like(cls, config: pytest.Config, *, workers: int, name: str, budget: Budget) -> Run:
        """As the run that this one is part of: its rootdir, its ini file, and what was said of zoo and machine."""
        session = diffbench(config)
        options = [f"--rootdir={config.rootpath}", "-o", "addopts="]
        if config.inipath is not None:
            options += ["-c", str(config.inipath)]
        for option in _PASSED_ON:
            if value := config.getoption(f"diffbench_{option}"):
                options.append(f"--diffbench-{option}={value}")
        for option in _SEVERAL:
            options += [f"--diffbench-{option}={value}" for value in config.getoption(f"diffbench_{option}") or ()]

        def facts(demand: Demand) -> object:
            return standing(demand, session.weights(demand), session.machine)

        return cls(tuple(options), config.invocation_params.dir, workers, name, budget, facts)

    def measure(self, demand: Demand, solutions: Mapping[str, str], order: Order) -> Mapping[str, Fitness]:
        """The fitness of solutions by name; RunError where there is none, BudgetSpent where it cannot be paid for."""
        found = self._measured(demand, solutions, order)
        if found and len(_ours(found)) == len(found):  # once more: what was in the way may have passed
            found = self._measured(demand, solutions, order)
        if found and len(_ours(found)) == len(found):
            raise RunError(f"diffagent: nothing could be measured: {next(iter(found.values())).line}")
        return found

    def _measured(self, demand: Demand, solutions: Mapping[str, str], order: Order) -> Mapping[str, Fitness]:
        folder = self._folder(demand, order.label)
        test = taskfile.written(demand, summary=f"A generation of answers to {demand.task_id}.", stages=order.stages)
        file, result = folder / f"test_{_plain(demand.task_id)}.py", folder / "run.json"
        how = ("certified",) if order.certified else ()
        told = (dict(solutions), list(self.options), order.seed, order.quick, order.race, *how)
        asked = _digest(test, *told, self.facts(demand))
        known: Mapping[str, Fitness] | None = None
        if not _continues(folder, asked):
            self._furnish(folder, file, test, solutions)
            (folder / "asked.json").write_text(json.dumps({"sha256": asked}))
        elif (known := _read(result)) is not None and set(known) >= set(solutions) and not _ours(known):
            return known
        guess_s = (self.longest_s or FIRST_GUESS_S) * len(solutions)
        with self.budget.reserved(Purse.DEVICE_S, guess_s) as bill:
            said = self._pytest(folder, file, result, order)
            found = _read(result)
            before = {name: each.elapsed_s for name, each in (known or {}).items()}
            taken = [max(0.0, each.elapsed_s - before.get(name, 0.0)) for name, each in (found or {}).items()]
            bill.amount, self.longest_s = sum(taken), max([self.longest_s, *taken])
        if found is None:
            raise RunError(f"diffagent: a run left no measurements in {result}; it said:\n{said[-2000:]}")
        return found

    def _folder(self, demand: Demand, label: str) -> Path:
        base = demand.folder if os.access(demand.folder, os.W_OK) else self.invocation_folder
        return base / FOLDER / self.name / demand.task_id / label

    def _furnish(self, folder: Path, file: Path, test: str, solutions: Mapping[str, str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        answers = folder / "answers" / _task_id(folder.name, file)
        try:
            answers.mkdir(parents=True)
            _keep_out_of_version_control(folder)
            file.write_text(test)
            for name, source in solutions.items():
                (answers / f"{name}.py").write_text(source, encoding="utf-8", errors="replace")
        except OSError as error:
            raise SetupError(
                f"diffbench: cannot write {folder} ({error.strerror or error}): make room there, or run the tasks from "
                "a folder that can be written"
            ) from error

    def _pytest(self, folder: Path, file: Path, result: Path, order: Order) -> str:
        kept = folder / "journal"
        runs = {file.parent for file in kept.glob(f"*/{journal.PATTERN}")}
        _wait_for_the_end_of(runs)
        command = [
            *(sys.executable, "-m", "pytest", str(file), "-q", "-p", "no:cacheprovider", *self.options),
            f"--diffbench-agent={folder / 'answers'}",
            "--diffbench-certify" if order.certified else "--diffbench-requests=public",
            f"--diffbench-seed={order.seed}",
            "--diffbench-undecided=fail",
            "--diffbench-keep-images=none",
            f"--diffbench-journal={kept}",
            f"--benchmark-json={result}",
            *(["--diffbench-quick"] if order.quick else []),
            *([f"--diffbench-race={order.race!r}"] if order.race is not None else []),
            *(["--diffbench-resume=last"] if runs else []),
            *(["-n", str(self.workers)] if self.workers else ["-p", "no:xdist"]),
        ]
        return _said(command, self.invocation_folder)


@cache
def _of_methods() -> str:
    """Of what programs import without saying it again: a method that was mended makes other measurements."""
    sources = sorted((Path(__file__).parent / "methods").glob("*.py"))
    return _digest(*((file.name, file.read_text(encoding="utf-8")) for file in sources))


def standing(demand: Demand, weights: Weights, machine: Mapping[str, str]) -> object:
    """What must be as it was, for what was measured once to hold; `machine` as `calibration.machine` says it."""
    return [_of_methods(), edition.of_task(demand, weights, baseline_source(demand)), dict(machine)]


def _ours(found: Mapping[str, Fitness]) -> list[str]:
    """Those whose measurement failed by our own fault: they say nothing, and are measured again."""
    return [name for name, fitness in found.items() if fitness.verdict == "INFRA"]


def _wait_for_the_end_of(runs: Iterable[Path]) -> None:
    """A run whose parent was killed is still closing its files: it must not be gone on with before."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while any(journal.writers(run) for run in runs) and time.monotonic() < deadline:
        time.sleep(0.05)


def _said(command: Sequence[str], folder: Path) -> str:
    """What a command prints; it ends when this process ends."""
    # a worker of the outer run must not look like one of the inner; no key is anything that it could need
    secret = keys.named()
    kept = {name: each for name, each in os.environ.items() if name not in secret and not name.startswith("PYTEST_")}
    started = subprocess.Popen(
        leash.tied(command),
        cwd=folder,
        env=kept,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        said, _ = started.communicate()
    except BaseException:
        started.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.communicate(timeout=ENDS_WITHIN_S)
        started.kill()
        raise
    return said


def _keep_out_of_version_control(folder: Path) -> None:
    """Whatever lies in `.diffbench`, beside whichever task."""
    top = next(each for each in folder.parents if each.name == Path(FOLDER).parts[0])
    if not (top / ".gitignore").exists():
        (top / ".gitignore").write_text("*\n")


def _continues(folder: Path, asked: str) -> bool:
    """Whether a folder was made for exactly this."""
    try:
        return bool(json.loads((folder / "asked.json").read_text())["sha256"] == asked)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read(result: Path) -> Mapping[str, Fitness] | None:
    """The fitness of each solution by its name; None where the file is not there, or holds none."""
    try:
        return {_name(nodeid): fitness for nodeid, fitness in fitness_of(result).items()}
    except FitnessError:
        return None


def _digest(*facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name)


def _task_id(folder: str, file: Path) -> str:
    return task_id(f"{folder}/{file.name}::{taskfile.TEST}")


def _name(nodeid: str) -> str:
    found = _NAMED.search(nodeid)
    return found["name"] if found is not None else nodeid
