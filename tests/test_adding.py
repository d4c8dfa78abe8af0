"""A new task is a new test file: beside the suites, or in a repository that knows this project as a package only."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.as_user import run

ROOT = Path(__file__).parents[1]
TINY = ROOT / "pytest_diffbench" / "zoo" / "tiny"
BESIDE = '''"""Block reuse with an interval that no other task has."""

import pytest

from pytest_diffbench import Task


@pytest.mark.diffbench(Task("dit", level=2, methods={"block_reuse": {"interval": 2, "warm_up": 7}}))
@pytest.mark.quality(max_loss=0.05)
def test_reuse(executability, speed, quality):
    """Compute every other step's blocks only."""
'''
FOREIGN = '''"""Our pipeline stays faster than it was."""

import pytest

from pytest_diffbench import Task

OURS = Task("weights/ours", baseline="serving/plain.py", prompts="prompts.txt", scorer="weights/clip", steps=40)


@pytest.mark.diffbench(OURS)
@pytest.mark.speed(at_least=1.3)
@pytest.mark.quality(max_loss=0.05)
def test_serving(executability, speed, quality):
    """Serve images faster."""
    assert quality.loss < 0.05


def test_of_their_own():
    assert True
'''


def test_a_new_file_beside_the_suites_is_a_task(tmp_path: Path) -> None:
    """Found with the others and answered by the worked solutions; nothing else has to be told of it."""
    shutil.copytree(ROOT / "suites", tmp_path / "suites", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "suites" / "level2_methods" / "test_mine.py").write_text(BESIDE)

    listed = run(tmp_path, "suites", "--collect-only", "-q")
    assert "605 tests collected" in listed.stdout, listed.stdout[-2000:]
    ran = run(tmp_path, "suites", "-k", "test_mine")
    assert ran.returncode == pytest.ExitCode.OK, ran.stdout
    assert "test_mine.py::test_reuse PASSED (" in ran.stdout


def test_a_foreign_repository_has_tasks_of_its_own(tmp_path: Path) -> None:
    """Model, judge, baseline, prompts and answer are its own; plain `pytest` measures, beside its other tests."""
    shutil.copytree(TINY / "sd15", tmp_path / "weights" / "ours")
    shutil.copytree(TINY / "scorer", tmp_path / "weights" / "clip")
    (tmp_path / "serving").mkdir()
    example = ROOT / "examples" / "own_pipeline"
    shutil.copy(example / "baseline.py", tmp_path / "serving" / "plain.py")
    shutil.copy(example / "fast.py", tmp_path / "serving" / "fast.py")
    shutil.copy(example / "prompts.txt", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest]\ndiffbench_agent = "serving/fast.py"\n')
    (tmp_path / "test_serving.py").write_text(FOREIGN)

    ran = run(tmp_path)
    assert ran.returncode == pytest.ExitCode.OK, ran.stdout
    assert "test_serving.py::test_serving PASSED (" in ran.stdout
    assert "2 passed" in ran.stdout
    answer = tmp_path / "serving" / "fast.py"
    answer.write_text((example / "too_few_steps.py").read_text())
    spoilt = run(tmp_path)
    assert spoilt.returncode == pytest.ExitCode.TESTS_FAILED, spoilt.stdout
    assert "1 failed, 1 passed" in spoilt.stdout
