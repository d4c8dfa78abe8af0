"""Which models are on this machine, and which of them have been seen to run here."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from rich import box
from rich.table import Table

from pytest_diffbench import cache
from pytest_diffbench.errors import DiffbenchError
from pytest_diffbench.records import Cause, Verdict
from pytest_diffbench.zoo import checkpoints, random_weights, weights
from pytest_diffbench.zoo.models import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_diffbench.zoo.models import Model
    from pytest_diffbench.zoo.supply import Zoo

NEVER: Final = "never run here"
_TASK: Final = '''"""Run {name} as it is, against itself."""

import pytest

from pytest_diffbench import Task


@pytest.mark.diffbench(Task("{name}", level=1))
def test_from_noise(executability, speed, quality):
    """Its images fit their prompts."""
'''
_EDITS: Final = '''

@pytest.mark.diffbench(Task("{name}", level=1, strength=0.6))
def test_image_to_image(executability, speed, quality):
    """Its images fit their prompts, and keep the structure of what they begin with."""
'''


def table(zoo: Zoo) -> Table:
    """Each model: what it is on the hub, under which licence, and whether this machine has it, tiny and real."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("model", "hub id @ commit", "licence", "about", "tiny", "full"):
        made.add_column(title, overflow="fold")
    for name in (*(model.name for model in FAMILIES), checkpoints.SCORER):
        try:
            known = checkpoints.chosen(name, zoo.checkpoints)
        except DiffbenchError:  # a folder: nothing on the hub
            known = checkpoints.CHECKPOINTS[name]
        made.add_row(
            name,
            f"{known.hub_id} @ {known.revision[:8]}",
            known.licence,
            f"{known.size_gb:g} GB",
            _tiny(name),
            _full(name, zoo),
        )
    return made


def _tiny(name: str) -> str:
    try:
        weights.verify(weights.TINY, name)
    except DiffbenchError:
        return "missing"
    return "present"


def _full(name: str, zoo: Zoo) -> str:
    try:
        found = checkpoints.find(name, zoo.checkpoints)
    except DiffbenchError as error:
        return "missing" if "needs weights" in str(error) else str(error).removeprefix("diffbench: ")
    at = _verified().get(_key("full", name, found.revision))
    ran = f"ran on {at[:10]}" if at is not None else NEVER
    return "present" if name == checkpoints.SCORER else f"present, {ran}"


def verify(zoo: Zoo, model: Model) -> bool:
    """Measure a model against itself as any task is measured, on this machine; remember it where that went well."""
    with tempfile.TemporaryDirectory(prefix="diffbench-verify-") as place:
        file = Path(place, f"test_{model.name}.py")
        tasks = _TASK + (_EDITS if model.image_to_image_classes else "")
        file.write_text(tasks.format(name=model.name))
        said = _Verdicts()
        more = [f"--diffbench-checkpoint={name}={where}" for name, where in zoo.checkpoints.items()]
        if zoo.prompts is not None:
            more.append(f"--diffbench-prompts={zoo.prompts}")
        ours = ["--diffbench-agent=baseline", f"--diffbench-zoo={zoo.name}", f"--diffbench-journal={place}/journal"]
        pytest.main([str(file), f"--rootdir={place}", "-p", "no:cacheprovider", *ours, *more], plugins=[said])
    if not said.all_well(judged=zoo.name != "architecture"):
        return False
    _remember(_key(zoo.name, model.name, _revision(zoo, model)))
    return True


class _Verdicts:
    """What became of the tasks of a run."""

    def __init__(self) -> None:
        self._tasks: list[Mapping[str, object]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a report says of its task."""
        if hasattr(report, "diffbench"):
            self._tasks.append(report.diffbench["task"])

    def all_well(self, *, judged: bool) -> bool:
        """Whether all passed, or went as far as they can where nobody can judge their images."""
        wanted = [(Verdict.PASS, None)] if judged else [(Verdict.UNDECIDED, Cause.NOT_JUDGED)]
        return bool(self._tasks) and all((task["verdict"], task["cause"]) in wanted for task in self._tasks)


def _revision(zoo: Zoo, model: Model) -> str:
    if zoo.name == "full":
        return checkpoints.find(model.name, zoo.checkpoints).revision
    return random_weights.digest(model) if zoo.name == "architecture" else weights.verify(weights.TINY, model.name)


def _key(zoo: str, name: str, revision: str) -> str:
    return f"{zoo} {name} {revision}"


def _file() -> Path:
    return cache.folder() / "verified.json"


def _verified() -> dict[str, str]:
    """When each model was seen to run here: ISO 8601, by zoo, name and revision."""
    try:
        found = json.loads(_file().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(key: str) -> None:
    known = {**_verified(), key: datetime.now(UTC).isoformat()}
    _file().parent.mkdir(parents=True, exist_ok=True)
    temporary = _file().with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(known, indent=1) + "\n")
    temporary.replace(_file())
