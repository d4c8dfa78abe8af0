"""The README's example is run as it stands there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.as_user import run

if TYPE_CHECKING:
    import subprocess

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "own_pipeline"


def answered_by(solution: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run pytest on the example with one of its solutions."""
    journal = f"--diffbench-journal={folder / 'runs'}"  # not the checkout's own
    return run(ROOT, str(EXAMPLE), f"--diffbench-agent={EXAMPLE / solution}", journal)


@pytest.mark.slow  # the foreign repository of test_adding is this example under other names
def test_the_fast_solution_passes(tmp_path: Path) -> None:
    """The example's faster code passes all three stages on a folder of one's own."""
    ran = answered_by("fast.py", tmp_path)

    assert ran.returncode == pytest.ExitCode.OK, ran.stdout
    assert "test_fast.py::test_fast PASSED (" in ran.stdout


@pytest.mark.slow
def test_too_few_steps_fail_by_their_quality(tmp_path: Path) -> None:
    """Speed that costs too much quality fails, for that reason."""
    ran = answered_by("too_few_steps.py", tmp_path)

    assert ran.returncode == pytest.ExitCode.TESTS_FAILED, ran.stdout
    assert "[quality] absolute-quality error" in ran.stdout or "[quality] relative-quality error" in ran.stdout


def test_the_readme_shows_the_example_as_it_is() -> None:
    """The README's test file is the one in the folder, to the letter."""
    readme = (ROOT / "README.md").read_text()

    assert (EXAMPLE / "test_fast.py").read_text().strip() in readme
