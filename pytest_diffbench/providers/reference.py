"""Worked answers and baselines: files that ship with the project, made to fit a task.

A file is ordinary code for one case. To fit another, exactly three things in its text are exchanged for the task's
own: the value of a constant `NUM_INFERENCE_STEPS`, the scheduler class (with the one setting that DDIM needs), and the
half-precision dtype.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_diffbench.errors import SetupError
from pytest_diffbench.methods import DTYPES, SAMPLERS
from pytest_diffbench.providers.contract import Solution
from pytest_diffbench.providers.files import read_solution

if TYPE_CHECKING:
    from pytest_diffbench.demand import Demand

_SCHEDULERS = re.compile(r"\b(" + "|".join(name for names in SAMPLERS.values() for name in names) + r")\b")
_STEPS = re.compile(r"^NUM_INFERENCE_STEPS = \d+$", re.MULTILINE)
_AS_PUBLISHED = "DDIMScheduler.from_config(pipeline.scheduler.config)"
"""Of a file that says nothing of clipping (PixArt's), DDIM would by default clip latents as if they were pixels."""
_HALF = re.compile(r"\btorch\.(" + "|".join(DTYPES) + r")\b")


def root() -> Path:
    """The folder of worked answers: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "reference_solutions", package.parent / "reference_solutions"):
        if folder.is_dir():
            return folder
    raise SetupError(f"diffbench: the reference solutions are missing beside {package}: install the package again")


def fitted(file: Path, demand: Demand, *, sampler: str | None, steps: int | None) -> Solution:
    """A worked answer with the task's own scheduler, step count and dtype."""
    solution = read_solution(file)
    source = solution.source
    if sampler is not None:
        source = _SCHEDULERS.sub(SAMPLERS[sampler][0], source)
        if sampler == "ddim" and "clip_sample" not in source:
            source = source.replace(_AS_PUBLISHED, f"{_AS_PUBLISHED[:-1]}, clip_sample=False)")
    if steps is not None:
        source = _STEPS.sub(f"NUM_INFERENCE_STEPS = {steps}", source)
    dtype = demand.methods.get("half_precision", {}).get("dtype")
    if dtype is not None:
        source = _HALF.sub(f"torch.{dtype}", source)
    return Solution(source, solution.origin)


def baseline_source(demand: Demand) -> str:
    """The trusted code that runs the task's model as it is run today."""
    if demand.baseline_path is not None:
        return read_solution(demand.baseline_path).source
    kind = "" if demand.task.strength is None else "_image_to_image"
    file = root() / "baselines" / f"{demand.model.name}{kind}.py"
    if not file.is_file():
        raise SetupError(
            f"diffbench: model {demand.model.name!r} has no baseline: give one, Task(…, baseline='baseline.py')"
        )
    return fitted(file, demand, sampler=demand.sampler, steps=None).source


class Baseline:
    """`--diffbench-agent=baseline`: the unaccelerated code as its own answer; the null solution."""

    def solve(self, demand: Demand, prompt: str, attempt: str) -> Solution:  # noqa: ARG002 (the contract's names)
        """The baseline's own source."""
        return Solution(baseline_source(demand), "baseline")


class Reference:
    """`--diffbench-agent=reference`: the worked answers."""

    def solve(self, demand: Demand, prompt: str, attempt: str) -> Solution:
        """The answer for the task's model and methods; SetupError where none was written."""
        if not demand.methods and demand.task.level in (1, None):
            return Baseline().solve(demand, prompt, attempt)
        file = root() / demand.model.name / f"{_answer_name(demand)}.py"
        if demand.model.folder is not None or not file.is_file():
            raise SetupError(
                f"diffbench: no reference solution for task {demand.task_id!r} (model {demand.model.name!r}): "
                "name a solution of your own, --diffbench-agent=fast.py"
            )
        return fitted(file, demand, sampler=demand.demanded_sampler, steps=demand.demanded_steps)


def _answer_name(demand: Demand) -> str:
    """'sampler', 'sampler+half_precision', …; at levels 4 and 5, where methods are free, the difficulty."""
    if not demand.methods:
        return demand.task.difficulty or "medium"
    names = ["sampler" if demand.known_methods[name].sampler else name for name in demand.methods]
    return "+".join(sorted(names, key=lambda name: (name != "sampler", name)))
