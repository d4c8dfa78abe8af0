"""One run with a solution of every kind, serially and over two workers: the same verdicts, file and words."""

from __future__ import annotations

import math
import os
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from pytest_diffbench.plugin.reports import _ending
from pytest_diffbench.records import Verdict
from tests.plugin.conftest import HEAD, SOLUTIONS, furnish, own_task, read_strictly

if TYPE_CHECKING:
    from pathlib import Path

TEST = f"""{HEAD}
@pytest.mark.diffbench({own_task(level=4, difficulty="hard")})
@pytest.mark.speed(at_least=1.5)
@pytest.mark.quality(max_loss=0.05)
def test_draw(executability, speed, quality):
    '''Draw faster.'''
    assert speed.speedup < 1000


@pytest.mark.diffbench({own_task(prompts="nowhere.txt")})
def test_infra(executability):
    '''Cannot be measured.'''


@pytest.mark.diffbench({own_task()})
def test_own_words(executability, speed):
    '''Passes its stages, not its body.'''
    assert speed.speedup > 1000, "not a thousand times"
"""


METRIC = """
from pytest_diffbench.judge.metric import Metric

def pytest_diffbench_metrics(config):
    return [Metric("brightness", lambda prompts, images: [image.mean() for image in images], max_loss=0.5)]
"""


@dataclass(frozen=True)
class Finished:
    """What a run left behind."""

    folder: Path
    status: int
    text: str
    json: Any

    def task(self, name: str) -> Any:
        """A task's entry in the file."""
        return next(entry for entry in self.json["diffbench"] if entry["nodeid"].endswith(name))


@pytest.fixture(
    scope="module", params=[pytest.param("0", marks=pytest.mark.slow, id="serial"), pytest.param("2", id="xdist")]
)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The run, made once for all promises below."""
    folder = tmp_path_factory.mktemp("project")
    furnish(folder)
    (folder / "test_mine.py").write_text(TEST)
    (folder / "conftest.py").write_text(METRIC)
    answers = folder / "answers" / "mine-draw"
    answers.mkdir(parents=True)
    for name, source in SOLUTIONS.items():
        (answers / f"{name}.py").write_text(source)
    (folder / "answers" / "mine-own_words.py").write_text(SOLUTIONS["fast"])
    (folder / "answers" / "mine-infra.py").write_text(SOLUTIONS["fast"])
    command = [sys.executable, "-m", "pytest", "-v", "-n", request.param, "--diffbench-agent=answers"]
    command += ["--benchmark-json=out.json", "--junitxml=junit.xml"]
    command += ["--diffbench-pairs=8", "--diffbench-seed=5"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"COLUMNS": "160"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
    return Finished(folder, ran.returncode, ran.stdout + ran.stderr, read_strictly(folder / "out.json"))


@pytest.mark.parametrize(
    ("name", "verdict", "cause"),
    [
        ("test_draw[fast]", "PASS", None),
        ("test_draw[slow]", "FAIL", "relative-speed error"),
        ("test_draw[blank]", "FAIL", "relative-quality error"),
        ("test_draw[blurred]", "FAIL", "guard"),
        ("test_draw[wavering]", "UNDECIDED", "undecided"),
        ("test_draw[broken]", "FAIL", "compilation error"),
        ("test_draw[dies]", "FAIL", "crash"),
        ("test_infra", "INFRA", None),
        ("test_own_words", "FAIL", "assertion of the test"),
    ],
)
def test_each_kind_of_solution_gets_its_verdict(finished: Finished, name: str, verdict: str, cause: str | None) -> None:
    """Every task, whatever became of it, is in the file with its verdict and cause."""
    task = finished.task(name)

    assert (task["verdict"], task["cause"]) == (verdict, cause)


def test_pytest_counts_infra_as_an_error_and_the_rest_as_failures(finished: Finished) -> None:
    """A task that could not be measured is an ERROR, not a FAILED one."""
    assert "7 failed, 1 passed, 1 error" in finished.text
    assert finished.status == pytest.ExitCode.TESTS_FAILED


def test_a_passed_task_says_how_much_faster_and_how_good(finished: Finished) -> None:
    """The line of a passed task holds its speed-up and its change of CLIP-Score."""
    line = next(line for line in finished.text.splitlines() if "PASSED" in line)

    assert "x, CLIP " in line
    assert line.count("%") >= 1


def test_a_failed_task_says_why_in_one_line(finished: Finished) -> None:
    """The short summary holds the stage, the paper's class and the line to act on; no traceback of ours."""
    assert "[executability] compilation error: load raised NameError: name 'toch' is not defined" in finished.text
    assert "(solution.py line 2)" in finished.text
    assert "[speed] relative-speed error: speed-up 0." in finished.text
    assert "the process ended with exit code 3" in finished.text
    assert "pytest_diffbench/stages.py" not in finished.text


def test_the_solutions_own_traceback_stands_beside_it(finished: Finished) -> None:
    """What a person needs to debug the solution is printed, with its source line."""
    assert "return toch.float16" in finished.text


def test_both_arms_of_a_timed_task_are_benchmarks(finished: Finished) -> None:
    """The file holds baseline and candidate of every task that was timed, passed or not, with all their times."""
    names = sorted(entry["fullname"].partition("::")[2] for entry in finished.json["benchmarks"])

    timed = [f"test_draw[{name}]" for name in ("blank", "blurred", "fast", "slow", "wavering")] + ["test_own_words"]
    assert names == [f"{name}::{role}" for name in timed for role in ("baseline", "candidate")]
    rounds = [entry["stats"]["rounds"] for entry in finished.json["benchmarks"]]
    assert rounds == [len(entry["stats"]["data"]) for entry in finished.json["benchmarks"]]
    assert all(both[0] == both[1] >= 10 for both in zip(rounds[::2], rounds[1::2], strict=True))


def test_the_speed_up_is_the_ratio_of_the_pairs(finished: Finished) -> None:
    """Fitness can be recomputed from the recorded times alone."""
    times = {e["params"]["role"]: e["stats"]["data"] for e in finished.json["benchmarks"] if "[fast]" in e["fullname"]}
    logs = [math.log(b / c) for b, c in zip(times["baseline"], times["candidate"], strict=True)]
    walsh = [(one + other) / 2 for i, one in enumerate(logs) for other in logs[i:]]

    candidate = next(e for e in finished.json["benchmarks"] if e["fullname"].endswith("test_draw[fast]::candidate"))
    assert candidate["extra_info"]["speedup"] == pytest.approx(math.exp(statistics.median(walsh)))
    assert candidate["extra_info"]["isolation"] in ("bubblewrap", "landlock")


def test_pytest_benchmark_compares_the_file(finished: Finished) -> None:
    """pytest-benchmark's own command reads the file and shows both arms."""
    command = [sys.executable, "-m", "pytest_benchmark", "compare", "out.json", "--group-by=group"]

    ran = subprocess.run(command, cwd=finished.folder, capture_output=True, text=True, timeout=120, check=False)

    assert ran.returncode == 0
    assert "test_draw[fast]::candidate" in ran.stdout


def test_the_table_counts_by_level(finished: Finished) -> None:
    """The closing table holds the level's tasks, pass rate, achievement on hard tasks and failure classes."""
    row = next(line for line in finished.text.splitlines() if line.strip().startswith("4 speed-up"))

    assert "14.3%" in row
    assert "1 relative-speed error" in finished.text
    assert "not measured, and not counted:" in finished.text
    assert "measurements: out.json" in finished.text


def test_junit_holds_one_case_a_task(finished: Finished) -> None:
    """One case a task: failures as failures, infrastructure as an error, the verdict as a property."""
    root = ET.parse(finished.folder / "junit.xml").getroot()
    cases = {case.get("name"): case for case in root.iter("testcase")}

    assert len(cases) == 9
    assert cases["test_draw[slow]"].find("failure") is not None
    assert cases["test_infra"].find("error") is not None
    properties = {p.get("name"): p.get("value") for p in cases["test_draw[fast]"].iter("property")}
    assert properties["diffbench.verdict"] == "PASS"


def test_what_a_task_is_doing_is_said_while_it_runs(finished: Finished) -> None:
    """Each stage announces itself before the result is known."""
    text = finished.text

    lines = text.splitlines()
    said = next(n for n, line in enumerate(lines) if "test_draw[fast]  speed: timing pairs" in line)
    done = next(n for n, line in enumerate(lines) if "PASSED (" in line)
    assert said < done


def test_a_task_ends_with_its_verdict_line(finished: Finished) -> None:
    """Speed-up and loss with their intervals, guards, and a metric of one's own, in one line."""
    line = next(line for line in finished.text.splitlines() if "test_draw[fast]  speed " in line and " n=" in line)

    assert re.search(r"speed \d+\.\d\dx \[\d+\.\d\d, \d+\.\d\d\] ≥ 1\.50 PASS n=\d+ \| CLIP loss ", line)
    assert "≤ 5 % PASS" in line
    assert "guards 14/14" in line
    assert re.search(r"brightness \d+(\.\d+)? \(\d+(\.\d+)?\) PASS", line)


def test_an_undecided_task_was_tried_twice_and_is_called_so(finished: Finished) -> None:
    """Neither passed nor failed: its own word, its own verdict, one more try on record."""
    task = finished.task("test_draw[wavering]")

    assert task["undecided_runs"] == 1
    assert task["speed"]["decision"] == "open"
    assert any("UNDECIDED" in line and "wavering" in line for line in finished.text.splitlines())
    assert "not told from 1.50x" in task["line"]


def test_what_was_timed_and_judged_is_all_on_record(finished: Finished) -> None:
    """Costs, guards, fidelity and the seed of a passed task are in the file; so is what a failed one had reached."""
    passed, failed = finished.task("test_draw[fast]"), finished.task("test_draw[blurred]")

    assert passed["cost"]["steady_s"] < passed["cost"]["baseline_steady_s"]
    assert passed["quality"]["fidelity"] == 1
    assert passed["quality"]["range_loss"] == 0
    assert [guard["name"] for guard in failed["quality"]["guards"] if not guard["passed"]][:1] == ["sharpness"]
    assert failed["speed"]["decision"] == "above"
    assert {task["seed"] for task in finished.json["diffbench"]} == {5}
    assert "requests: secret; the same requests again: --diffbench-seed=5" in finished.text


@pytest.mark.parametrize("error", [AssertionError("no"), pytest.fail.Exception("no")])
def test_a_test_may_refuse_in_its_body_only(error: BaseException) -> None:
    """By `assert` and by `pytest.fail`; a stage that ends that way, as by a timeout of pytest's, is our fault."""
    assert _ending(error, in_body=True).verdict is Verdict.FAIL
    assert _ending(error, in_body=False).verdict is Verdict.INFRA
