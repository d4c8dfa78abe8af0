"""One process's part in the journal of a run: what it writes of each attempt, and what a resumed run knows already."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_diffbench import history
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.history import MOST_STARTS, History, attempt_key
from pytest_diffbench.journal import Journal, sweep, writers
from pytest_diffbench.plugin.keys import PLACE
from pytest_diffbench.plugin.termination import end_in_order
from pytest_diffbench.records import Cause, plain
from pytest_diffbench.zoo.weights import contents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.plugin.session import Session
    from pytest_diffbench.providers import Solution
    from pytest_diffbench.records import TaskReport
    from pytest_diffbench.zoo.supply import Weights

FORMAT: Final = 1
"""Of the records; grows when one's meaning changes."""


@dataclass(frozen=True)
class Place:
    """Where a run is kept."""

    folder: Path
    resumed: bool = False

    @classmethod
    def chosen(cls, config: pytest.Config) -> Place:
        """A new run's place, or that of the run to resume; UsageError where that cannot be resumed.

        Nothing is made yet.
        """
        runs = folder_of_runs(config)
        wanted = config.getoption("diffbench_resume")
        if wanted is None:
            return cls(runs / run_id())
        try:
            folder = history.find(wanted, [runs])
            busy = writers(folder)
        except SetupError as error:
            hint = "" if wanted == history.LAST else "; a path of tests after --diffbench-resume needs an '=' before it"
            raise pytest.UsageError(f"--diffbench-resume={wanted}: {error}{hint}") from None
        if busy:
            raise pytest.UsageError(
                f"--diffbench-resume={wanted}: the run is still going on: a process writes {folder / busy[0]} "
                "(its id is the number in the name): wait for it, or end it"
            )
        sweep(folder)
        return cls(folder, resumed=True)


def folder_of_runs(config: pytest.Config) -> Path:
    """Where runs are kept: as chosen, else beside the tests."""
    chosen = config.getoption("diffbench_journal")
    return config.invocation_params.dir / chosen if chosen else config.rootpath / history.FOLDER


def run_id() -> str:
    """Readable, sortable, and nobody else's: '2026-11-21-193039-5f2c1a' (UTC)."""
    return f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}-{os.urandom(3).hex()}"


def place(config: pytest.Config) -> Place:
    """Where this run is kept, settled once by whoever started it; UsageError where it cannot be resumed."""
    if PLACE not in config.stash:
        told = getattr(config, "workerinput", {}).get("diffbench_place")
        config.stash[PLACE] = from_plain(told) if told is not None else Place.chosen(config)
    return config.stash[PLACE]


def seed(place: Place) -> int:
    """What the requests of a run to be resumed are drawn from; UsageError where its journal does not say."""
    try:
        found, _ = history.load(place.folder)
        return int(found.headers[0]["seed"])
    except (SetupError, IndexError, KeyError, TypeError, ValueError):
        raise pytest.UsageError(
            f"--diffbench-resume: the journal in {place.folder} is too damaged to go on from: start a new run"
        ) from None


class Attempt:
    """One try at a task: its evidence goes to the journal under its key."""

    def __init__(self, ledger: Ledger, key: str, known: TaskReport | None) -> None:
        self.known = known
        """The report of an earlier part of this run; nothing is measured then."""
        self._ledger = ledger
        self._key = key
        self._open = known is None

    def record(self, kind: str, body: Mapping[str, object]) -> None:
        """Keep a piece of evidence, its images first; SetupError where that is impossible."""
        self._ledger.write(kind, {"key": self._key, **self._with_images(body)})

    def _with_images(self, body: Mapping[str, object]) -> dict[str, object]:
        images: Any = body.get("images")
        if images is None:
            return dict(body)
        if not self._ledger.keeps_images:
            return {name: value for name, value in body.items() if name != "images"}
        kept = iter(self._ledger.journal.keep([image for arm in images.values() for image in arm]))
        return {**body, "images": {arm: [next(kept) for _ in found] for arm, found in images.items()}}

    def end(self, report: TaskReport) -> None:
        """Keep the verdict; SetupError where that is impossible."""
        if self.known is None:
            self.record("verdict", {"report": report})
        self._open = False

    def close(self) -> None:
        """The try is over, with a verdict or without one; only the death of this process keeps that from being said."""
        if self._open:
            self._open = False
            with contextlib.suppress(SetupError):
                self.record("end", {"reason": "broken off"})


class Ledger:
    """The journal of this process and the history of the run."""

    def __init__(self, session: Session, place: Place) -> None:
        self.place = place
        self.keeps_images = session.config.getoption("diffbench_keep_images") == "all"
        self._session = session
        self._has_header = False

    @cached_property
    def journal(self) -> Journal:
        """This process's own file."""
        return Journal(self.place.folder, os.environ.get("PYTEST_XDIST_WORKER", "main"))

    @cached_property
    def history(self) -> History:
        """What earlier parts of the run have left; nothing, in a new run."""
        return history.load(self.place.folder)[0] if self.place.resumed else History()

    def open(self) -> None:
        """Say that the run began: from now on it can be resumed; SetupError where that is impossible."""
        if self._has_header:
            return
        self.journal.append("run", self._header())
        _furnish(self.place.folder)
        end_in_order(self._session.config)  # also in a worker: a signal to the whole group is no death of a task
        self._has_header = True

    def write(self, kind: str, body: Mapping[str, object]) -> None:
        """Append a record, behind the header; SetupError where that is impossible."""
        self.open()
        self.journal.append(kind, body)

    def refuse_another_agent(self) -> None:
        """UsageError where the run to be resumed is another agent's: its journal would tell of both as of one."""
        before = str(self.history.headers[0].get("agent", "")) if self.history.headers else ""
        same = before == self._session.label
        if self._session.agent_path is not None:  # its folder may have moved
            same = Path(before).name == self._session.agent_path.name
        if before and not same:
            raise pytest.UsageError(
                f"--diffbench-resume: {self.place.folder.name} is a run of {before}, not of {self._session.label}: "
                "name another run, or none"
            )

    def resumption(self) -> list[str]:
        """What is gone on with; nothing in a new run."""
        if not self.place.resumed:
            return []
        arguments = " ".join(map(str, self.history.headers[0].get("arguments", ())))
        known = len(self.history.reports())
        return [f"going on with {self.place.folder.name} ({arguments}): {known} verdicts so far"]

    def _header(self) -> dict[str, object]:
        session = self._session
        benchmarks = getattr(session.config, "_benchmarksession", None)
        hook = session.config.hook
        return {
            "format": FORMAT,
            "seed": session.seed,
            "agent": session.label,
            "tasks": session.collected,
            "arguments": list(session.config.invocation_params.args),
            "rootdir": str(session.config.rootpath),
            "versions": session.versions,
            "resumed": self.place.resumed,
            "machine_info": benchmarks.get_machine_info() if benchmarks is not None else None,
            "commit_info": hook.pytest_benchmark_generate_commit_info(config=session.config) if benchmarks else None,
        }

    def begin(
        self,
        item: pytest.Item,
        demand: Demand,
        *,
        answer: Solution | SolutionFault,
        attempt: str,
        weights: Weights,
        baseline_source: str,
        isolation: str,
        task_edition: str,
    ) -> Attempt:
        """A try at a task, or what is known of it; SetupError where its tries keep killing their process."""
        facts = {
            "nodeid": item.nodeid,
            "attempt": attempt,
            "test_sha256": _digest(test_source(item)),
            "demand": _demand_facts(demand),
            "solution_sha256": _solution_digest(answer),
            "baseline_sha256": _digest(baseline_source),
            "model_revision": weights.revision,
            "scorer_revision": weights.scorer_revision,
            "readable_sha256": [contents(Path(path)) for path in self._session.policy.readable],
            "device_models": sorted({f"{device.kind}: {device.model}" for device in self._session.devices}),
            "versions": self._session.versions | {"python": platform.python_version()},
            "edition": task_edition,
            "isolation": isolation,
            "limits": self._session.policy.limits,
            "settings": replace(self._session.settings, seed=0, metrics=()),
            "metrics": [(m.name, m.max_loss, m.higher_is_better) for m in self._session.settings.metrics],
        }
        key = attempt_key(facts)
        if (known := self.history.known(key)) is not None:
            with contextlib.suppress(SetupError):  # what is known needs no disk
                self.write("known", {"key": key})
            return Attempt(self, key, known)
        if (count := self.history.unfinished(key)) >= MOST_STARTS:
            raise SetupError(
                f"diffbench: quarantined: {count} tries ended with the death of the process that measured; "
                "it is tried again in a new run only (one without --diffbench-resume)",
                cause=Cause.QUARANTINED,
            )
        begun = Attempt(self, key, None)
        started = {
            "task_id": demand.task_id,
            "agent": self._session.label,
            "level": demand.task.level,
            "difficulty": demand.task.difficulty,
        }
        begun.record("start", {"nodeid": item.nodeid, "facts": facts, "started": started})
        return begun

    def stray(self, report: TaskReport) -> None:
        """Keep the verdict on a task that could not even begin; SetupError where that is impossible."""
        self.write("verdict", {"key": "", "report": report})

    def answered(self, item: pytest.Item, prompt: str) -> Solution | SolutionFault | None:
        """What the provider answered to this prompt in an earlier part of the run; None where it was not asked."""
        # imported here: not before a task runs
        from pytest_diffbench.providers import Solution

        found = self.history.solution(item.nodeid, _digest(prompt))
        if found is None or found["agent"] != self._session.label:
            return None
        if found["fault"] is not None:
            fault = found["fault"]
            return SolutionFault(Cause(fault["cause"]), fault["line"], fault["detail"])
        return Solution(found["source"], found["origin"])

    def keep_answer(self, item: pytest.Item, prompt: str, answer: Solution | SolutionFault) -> None:
        """Keep a solution's text, or why there is none; SetupError where that is impossible."""
        body: dict[str, object] = {"source": "", "origin": "", "fault": None}
        if isinstance(answer, SolutionFault):
            body["fault"] = {"cause": answer.cause, "line": answer.line, "detail": answer.detail}
        else:
            body |= {"source": answer.source, "origin": answer.origin, "sha256": answer.sha256}
        before = self.history.solution(item.nodeid, _digest(prompt)) or {}
        if all(before.get(name) == plain(value) for name, value in body.items()):
            return
        identity = {"nodeid": item.nodeid, "agent": self._session.label, "prompt_sha256": _digest(prompt)}
        self.write("solution", identity | body)

    def close(self) -> None:
        """Nothing more will be written."""
        if "journal" in self.__dict__:
            self.journal.close()


def _demand_facts(demand: Demand) -> dict[str, object]:
    """What a demand says, without where its file lies; what lies beside it and is judged by, by content."""
    prompts = demand.folder / demand.task.prompts if demand.task.prompts else None
    return {
        "task_id": demand.task_id,
        "task": replace(demand.task, methods=()),
        "methods": demand.methods,
        "model": demand.model.name,
        "steps": demand.steps,
        "size": demand.size,
        "sampler": demand.sampler,
        "guidance": demand.guidance,
        "markers": demand.markers,
        "prompts_sha256": hashlib.sha256(prompts.read_bytes()).hexdigest() if prompts is not None else "",
    }


def test_source(item: pytest.Item) -> str:
    """What a test asserts beside its stages; '' where Python cannot find its text."""
    with contextlib.suppress(OSError, TypeError):
        return inspect.getsource(getattr(item, "obj", type(item)))
    return ""


def _solution_digest(answer: Solution | SolutionFault) -> str:
    if isinstance(answer, SolutionFault):
        return _digest(f"{answer.cause}: {answer.line}\n{answer.detail}")
    return answer.sha256


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _furnish(folder: Path) -> None:
    """Keep the runs out of version control, and give the newest the name `last`; where that fails, nothing is lost."""
    runs = folder.parent
    with contextlib.suppress(OSError):
        if runs.name == history.FOLDER and not (runs / ".gitignore").exists():
            (runs / ".gitignore").write_text("*\n")
        temporary = runs / f".{history.LAST}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.name)
        temporary.replace(runs / history.LAST)


def as_plain(place: Place) -> dict[str, object]:
    """What a worker is told of the run's place."""
    return {"folder": str(place.folder), "resumed": place.resumed}


def from_plain(told: Mapping[str, Any]) -> Place:
    """The place that a worker was told of."""
    return Place(Path(told["folder"]), resumed=told["resumed"])
