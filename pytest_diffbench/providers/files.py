"""Solutions from files: one for every task, or a folder with one a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.providers.contract import Solution
from pytest_diffbench.records import Cause

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_diffbench.demand import Demand


NO_ANSWER: Final = "no answer to this task"
"""How a failure begins that a folder of answers has."""


def read_solution(file: Path) -> Solution:
    """The text of a file; SolutionFault where it is no UTF-8 text."""
    try:
        return Solution(file.read_text(encoding="utf-8-sig"), str(file))
    except UnicodeDecodeError as error:
        raise SolutionFault(Cause.COMPILATION, f"{file.name} is not Python source: it is not UTF-8 text") from error
    except OSError as error:
        raise SetupError(f"diffbench: cannot read the solution {file}: {error}") from error


class SingleFile:
    """`--diffbench-agent=fast.py`: the same answer to every task."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def solve(self, demand: Demand, prompt: str, attempt: str) -> Solution:  # noqa: ARG002 (the contract's names)
        """The file's text."""
        return read_solution(self._file)


class Folder:
    """`--diffbench-agent=answers/`: `answers/<task-id>.py`, or `answers/<task-id>/<name>.py` for several."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def solve(self, demand: Demand, prompt: str, attempt: str) -> Solution:  # noqa: ARG002 (the contract's names)
        """The text of the task's file; a task without one is a task not solved."""
        file = self._folder / demand.task_id
        file = file / f"{attempt}.py" if attempt else file.with_name(f"{file.name}.py")
        if not file.is_file():
            raise SolutionFault(Cause.COMPILATION, f"{NO_ANSWER}: {file} does not exist")
        return read_solution(file)


def answer_names(folder: Path, task_id: str = "*") -> tuple[str, ...]:
    """The names of the answers to one task that has several, or to any; none where there is no such task."""
    return tuple(sorted({file.stem for file in folder.glob(f"{task_id}/*.py")}))
