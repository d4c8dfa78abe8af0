"""A generation is an ordinary run: its JSON is all that is read of it, and what was measured is not measured again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from diffagent import leash
from diffagent.budget import Budget, BudgetSpent, Purse
from diffagent.generation import Order, Run, RunError, standing

from pytest_diffbench import Task
from pytest_diffbench.calibration import machine
from pytest_diffbench.demand import Markers, SpeedDemand, resolve
from pytest_diffbench.devices import inventory
from pytest_diffbench.zoo import supply
from tests.plugin.conftest import MODEL, SCORER, SOLUTIONS, furnish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from diffagent.fitness import Fitness

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.zoo.supply import Weights

ORDER = Order(7, "g0", quick=True)


def _project(folder: Path) -> Demand:
    """A task of a foreign project: cheap, and measured in earnest."""
    furnish(folder)
    return resolve(
        Task(MODEL, baseline="baseline.py", prompts="prompts.txt", scorer=SCORER, size=64),
        Markers(speed=SpeedDemand(1.5)),
        task_id="mine-draw",
        summary="Draw.",
        folder=folder,
        known_models={},
        known_methods={},
    )


@pytest.fixture
def own(tmp_path: Path) -> Demand:
    """Its task."""
    return _project(tmp_path)


@pytest.fixture
def run(own: Demand) -> Run:
    """In that project."""
    return Run((f"--rootdir={own.folder}",), own.folder)


def _answers(*names: str) -> dict[str, str]:
    return {name: SOLUTIONS[name] for name in names}


def _json(folder: Path) -> Path:
    (found,) = (folder / ".diffbench").rglob("run.json")
    return found


@dataclass(frozen=True)
class Measured:
    """A generation that was measured in earnest, once for those that only look at it or go on with it."""

    own: Demand
    run: Run
    found: Mapping[str, Fitness]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Of one that passes, one that is slow, and one that does not run."""
    own = _project(tmp_path_factory.mktemp("measured"))
    run = Run((f"--rootdir={own.folder}",), own.folder)
    return Measured(own, run, run.measure(own, _answers("fast", "slow", "broken"), ORDER))


def _again(measured: Measured) -> tuple[Run, Mapping[str, Fitness]]:
    """The same by another process, as it were, that knows nothing of the first."""
    again = Run(measured.run.options, measured.run.invocation_folder)
    return again, again.measure(measured.own, _answers("fast", "slow", "broken"), ORDER)


def test_a_generation_is_an_ordinary_run(measured: Measured) -> None:
    """Every solution has its fitness by its name, the broken one too; what it took of the device is counted."""
    found = measured.found

    assert set(found) == {"fast", "slow", "broken"}
    assert found["fast"].verdict == "PASS"
    assert found["fast"].speedup is not None
    assert found["fast"].speedup > 1.5
    assert (found["slow"].cause, found["broken"].cause) == ("relative-speed error", "compilation error")
    assert (found["fast"].runs, found["slow"].runs, found["broken"].runs) == (True, True, False)
    assert (measured.own.folder / ".diffbench" / ".gitignore").read_text() == "*\n"
    assert measured.run.budget.spent(Purse.DEVICE_S) == sum(fitness.elapsed_s for fitness in found.values()) > 0


def test_what_was_measured_is_not_measured_again(measured: Measured) -> None:
    """The same order for the same programs is read from its file."""
    written = _json(measured.own.folder).stat().st_mtime_ns
    again, found = _again(measured)

    assert found == measured.found
    assert _json(measured.own.folder).stat().st_mtime_ns == written
    assert again.budget.spent(Purse.DEVICE_S) == 0


def test_a_generation_that_was_cut_off_goes_on(measured: Measured) -> None:
    """What had a verdict keeps it, and only the rest is measured: no device second is paid twice."""
    file = _json(measured.own.folder)
    file.unlink()  # as after a death before the file was written; the journal survives everything
    _, found = _again(measured)
    entries = json.loads(file.read_text())["diffbench"]

    assert [entry["resumed"] for entry in entries] == [True, True, True]
    assert {name: each.speedup for name, each in found.items()} == {
        name: each.speedup for name, each in measured.found.items()
    }


def test_only_whether_it_runs_can_be_asked(own: Demand, run: Run) -> None:
    """The first stage alone: a slow program passes, and nothing is timed."""
    found = run.measure(own, _answers("slow", "broken"), Order(7, "g0", stages=("executability",)))

    assert (found["slow"].verdict, found["slow"].speedup) == ("PASS", None)
    assert found["broken"].verdict == "FAIL"


def test_who_is_outrun_is_not_judged(own: Demand, run: Run) -> None:
    """A candidate surely slower than a known one loses the race: no images are drawn for its quality."""
    found = run.measure(own, _answers("fast", "slow"), Order(7, "g0", race=2.0, quick=True))

    assert (found["slow"].cause, found["slow"].loss) == ("relative-speed error", None)
    assert found["fast"].loss is not None


def test_a_quick_look_is_enough_to_choose_by(own: Demand, run: Run) -> None:
    """The same verdicts by fewer pairs and images; what only a verdict needs is left out."""
    found = run.measure(own, _answers("fast", "slow", "blank"), Order(7, "g0", quick=True))
    entries = {entry["nodeid"][-5:-1]: entry for entry in json.loads(_json(own.folder).read_text())["diffbench"]}

    assert {name: each.verdict for name, each in found.items()} == {"fast": "PASS", "slow": "FAIL", "blank": "FAIL"}
    fast = entries["fast"]
    assert len(fast["speed"]["baseline_s"]) <= 16
    assert (fast["speed"]["baseline_alone_s"], fast["quality"]["step_control"]) == ([], None)


def test_a_claim_that_leaves_the_house_is_certified(own: Demand, run: Run) -> None:
    """Three starts of the processes, a hundred images or more, requests that no search has seen."""
    found = run.measure(own, _answers("fast"), Order(7, "g0", certified=True))
    (entry,) = json.loads(_json(own.folder).read_text())["diffbench"]

    assert found["fast"].verdict == "PASS"
    assert found["fast"].baseline_s > 0
    assert entry["requests"] == "secret"
    assert len(entry["speed"]["by_start"]) == 3
    assert len(entry["quality"]["baseline_clip"]) >= 100


def test_what_cannot_be_paid_for_is_not_measured(own: Demand, run: Run) -> None:
    """The estimate is made before anything runs."""
    run.budget = Budget(own.folder / "spending", {Purse.DEVICE_S: 10.0})

    with pytest.raises(BudgetSpent, match="10 device seconds"):
        run.measure(own, _answers("fast"), ORDER)
    assert not list((own.folder / ".diffbench").rglob("run.json"))


def test_a_run_that_fails_says_what_it_said(own: Demand) -> None:
    """An option that no run has, say."""
    run = Run(("--diffbench-nonsense=1",), own.folder)

    with pytest.raises(RunError, match="diffbench-nonsense"):
        run.measure(own, _answers("fast"), ORDER)


def test_no_key_reaches_a_run(own: Demand, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that measures needs one."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    (own.folder / "conftest.py").write_text(
        "import os, pathlib\npathlib.Path(__file__).with_name('seen').write_text(str(sorted(os.environ)))\n"
    )
    run.measure(own, _answers("broken"), ORDER)

    assert "OPENAI" not in (own.folder / "seen").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_on_a_leash_ends_with_who_started_it(tmp_path: Path, number: signal.Signals) -> None:
    """However that ends, and without being told."""
    pids = tmp_path / "pids"
    child = f"import os, pathlib, time; pathlib.Path({str(pids)!r}).write_text(str(os.getpid())); time.sleep(60)"
    parent = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-S', '-E', {leash.__file__!r}, str(os.getpid()), sys.executable, '-c', "
        f"{child!r}])\ntime.sleep(60)\n"
    )
    started = subprocess.Popen([sys.executable, "-c", parent])
    _until(lambda: pids.exists() and bool(pids.read_text()))
    pid = int(pids.read_text())

    started.send_signal(number)
    started.wait()

    _until(lambda: not _runs(pid))


def test_a_leash_whose_parent_is_gone_starts_nothing() -> None:
    """It may have died before it could be watched."""
    ended = subprocess.run(
        [sys.executable, leash.__file__, "1", sys.executable, "-c", "print('ran')"], check=False, capture_output=True
    )

    assert ended.stdout == b""
    assert ended.returncode != 0


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (ProcessLookupError, FileNotFoundError):
        return False


class _Counting(Run):
    """In place of pytest: writes what it is told to as the run's JSON."""

    verdicts: list[str]

    def _pytest(self, folder: Path, file: Path, result: Path, order: Order) -> str:
        del folder, file, order
        verdict = self.verdicts.pop(0)
        entry = {"solution_sha256": "", "cause": None, "line": "no room", "detail": "", "speed": None, "quality": None}
        stages = [{"stage": "executability", "verdict": "PASS", "elapsed_s": 3.0}]
        content = {**entry, "format": 2, "nodeid": "t.py::test[fast]", "verdict": verdict, "stages": stages}
        result.write_text(json.dumps({"diffbench": [content]}))
        return ""


def _counting(own: Demand, *verdicts: str) -> _Counting:
    run = _Counting((), own.folder)
    run.verdicts = list(verdicts)
    return run


def test_our_own_fault_is_tried_once_more_and_never_kept(own: Demand) -> None:
    """What was in the way may have passed, now or in the next run; where it has not, that is said."""
    run = _counting(own, "INFRA", "PASS")
    assert run.measure(own, _answers("fast"), ORDER)["fast"].verdict == "PASS"
    assert run.measure(own, _answers("fast"), ORDER)["fast"].verdict == "PASS"
    assert run.verdicts == []

    run = _counting(own, "INFRA", "INFRA", "PASS")
    other = Order(8, "g1", quick=True)
    with pytest.raises(RunError, match="nothing could be measured: no room"):
        run.measure(own, _answers("fast"), other)
    assert run.measure(own, _answers("fast"), other)["fast"].verdict == "PASS"
    assert run.budget.spent(Purse.DEVICE_S) == 3.0  # of what is gone on with, only what is new is billed


def test_another_baseline_machine_or_program_is_measured_anew(own: Demand) -> None:
    """What was measured once holds only as long as all that it rests on is the same."""
    run = _counting(own, "PASS", "FAIL", "UNDECIDED")
    run.measure(own, _answers("fast"), ORDER)
    run.facts = lambda _: "another baseline"

    assert run.measure(own, _answers("fast"), ORDER)["fast"].verdict == "FAIL"
    assert run.measure(own, {"fast": SOLUTIONS["slow"]}, ORDER)["fast"].verdict == "UNDECIDED"


def test_what_a_measurement_rests_on(own: Demand) -> None:
    """The baseline's text, the prompts, the weights, the scorer, the devices, and what keeps solutions in."""
    devices = inventory(["cpu:0"])
    here = machine(devices, zoo="tiny", isolation="bubblewrap")
    found = [standing(own, _weights(own), here)]
    found.append(standing(own, replace(_weights(own), scorer_revision="other"), here))
    other = machine([replace(devices[0], model="another")], zoo="tiny", isolation="bubblewrap")
    found += [standing(own, _weights(own), each) for each in (other, here | {"isolation": "landlock"})]
    found += [standing(own, _weights(own), here | {name: "other"}) for name in ("cores", "python", "torch")]
    for name in ("baseline.py", "prompts.txt"):
        file = own.folder / name
        file.write_text(f"{file.read_text()}# another line\n")
        found.append(standing(own, _weights(own), here))

    assert len({json.dumps(each) for each in found}) == len(found)


def _weights(own: Demand) -> Weights:
    task = own.task
    assert task.prompts is not None
    assert task.scorer is not None
    return supply.own(own.model, own.folder / task.prompts, own.folder / task.scorer)
