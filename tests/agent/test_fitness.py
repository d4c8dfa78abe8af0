"""Fitness comes from a run's JSON, the same for ever, and says who was not measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from diffagent.fitness import Fitness, FitnessError, fitness_of

from pytest_diffbench import benchmark_json
from pytest_diffbench.records import Cause, Quality, Speed, TaskReport, Verdict

SPEED = Speed((2.0, 2.1), (1.0, 1.0), "BCCB", 2.05, 1.9, 2.2, demanded_speedup=4.0)
QUALITY = Quality((30.0,), (29.7,), 29.7, 0.01, 0.05, loss_low=-0.01, loss_high=0.03)


def _file(folder: Path, *reports: TaskReport) -> Path:
    """As the plugin writes it."""
    file = folder / "run.json"
    file.write_text(json.dumps({"benchmarks": [], "diffbench": [benchmark_json.summary(report) for report in reports]}))
    return file


def _report(name: str, verdict: Verdict, **more: Any) -> TaskReport:
    return TaskReport(f"test_it.py::test[{name}]", "it", "answers", verdict, solution_sha256=f"sha of {name}", **more)


def test_what_was_measured_is_read(tmp_path: Path) -> None:
    """Each figure with its interval, by node id."""
    found = fitness_of(_file(tmp_path, _report("a", Verdict.PASS, speed=SPEED, quality=QUALITY)))

    assert found == {
        "test_it.py::test[a]": Fitness(
            "sha of a",
            "PASS",
            None,
            "",
            2.05,
            1.9,
            2.2,
            0.01,
            -0.01,
            0.03,
            max_loss=0.05,
            reached=2.05 / 4,
            baseline_s=2.05,
        )
    }


def test_the_same_file_gives_the_same_fitness(tmp_path: Path) -> None:
    """A pure function of the file."""
    file = _file(tmp_path, _report("a", Verdict.PASS, speed=SPEED, quality=QUALITY), _report("b", Verdict.INFRA))

    assert fitness_of(file) == fitness_of(file)


@pytest.mark.parametrize("cause", ["timeout", "crash", "memory limit", "output limit"])
def test_who_stops_on_the_way_does_not_run(cause: str) -> None:
    """It began to draw, and there is something to repair; who is slow, or bad, runs."""
    assert not Fitness("", "FAIL", cause, stage="speed").runs
    assert Fitness("", "FAIL", "relative-speed error", stage="speed").runs
    assert Fitness("", "FAIL", "relative-quality error", stage="quality").runs


def test_a_file_of_another_day_gives_the_fitness_that_it_gave() -> None:
    """`run.json` was measured once and is kept; what is read of it must not depend on who reads it."""
    kept = Path(__file__).parent / "kept"
    found = {name: asdict(fitness) for name, fitness in fitness_of(kept / "run.json").items()}

    assert found == json.loads((kept / "fitness.json").read_text())


@pytest.mark.parametrize(
    ("ending", "stages", "expected"),
    [
        ((Verdict.PASS, None), (SPEED, QUALITY), (True, True)),
        ((Verdict.FAIL, Cause.RELATIVE_SPEED), (SPEED, QUALITY), (True, True)),
        ((Verdict.UNDECIDED, Cause.UNDECIDED), (SPEED, QUALITY), (True, True)),
        ((Verdict.FAIL, Cause.RELATIVE_QUALITY), (SPEED, QUALITY), (True, False)),
        ((Verdict.FAIL, Cause.GUARD), (SPEED, QUALITY), (True, False)),
        ((Verdict.FAIL, Cause.RELATIVE_SPEED), (SPEED, None), (False, False)),
        ((Verdict.FAIL, Cause.COMPILATION), (None, None), (False, False)),
        ((Verdict.CHEAT, Cause.PROTOCOL), (SPEED, QUALITY), (False, False)),
        ((Verdict.INFRA, None), (SPEED, QUALITY), (False, False)),
    ],
)
def test_only_what_was_measured_in_full_can_be_compared(
    tmp_path: Path,
    ending: tuple[Verdict, Cause | None],
    stages: tuple[Speed | None, Quality | None],
    expected: tuple[bool, bool],
) -> None:
    """Speed and quality both, no cheat, no trouble of ours; quality is kept only where nothing but speed is wrong."""
    report = _report("a", ending[0], cause=ending[1], speed=stages[0], quality=stages[1])
    (found,) = fitness_of(_file(tmp_path, report)).values()

    assert (found.measured, found.keeps_quality) == expected


def test_who_failed_says_why(tmp_path: Path) -> None:
    """The line goes into the next prompt."""
    report = _report("a", Verdict.FAIL, cause=Cause.KEY_ATTRIBUTE, line="it sets no scheduler")
    (found,) = fitness_of(_file(tmp_path, report)).values()

    assert (found.cause, found.line, found.speedup) == ("key-attribute error", "it sets no scheduler", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"benchmarks": []}', "KeyError"),
        ('{"diffbench": [{"format": 1}]}', "format 2"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """With what it lacks."""
    file = tmp_path / "run.json"
    file.write_text(text)

    with pytest.raises(FitnessError, match=said):
        fitness_of(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(FitnessError, match=str(tmp_path / "none.json")):
        fitness_of(tmp_path / "none.json")
