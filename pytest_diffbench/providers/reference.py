"""Worked answers and baselines: files that ship with the project, made to fit a task.

A file is ordinary code for one case: a scenario, which it answers as it stands, or a model with one method. To fit
another task a few things in its text are exchanged for that task's own: the value of a constant `NUM_INFERENCE_STEPS`,
the scheduler class (with the one setting that DDIM needs), the dtype, and the arguments of a method's call. For several
methods together each gives the one line that makes it: a sampler its scheduler, half precision its loading, a method of
`diffagent.methods` the `with` around the pipeline's call.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_diffbench import calibration
from pytest_diffbench.demand import demanded_speedup
from pytest_diffbench.errors import SetupError
from pytest_diffbench.methods import DTYPES, SAMPLERS
from pytest_diffbench.providers.contract import Solution
from pytest_diffbench.providers.files import read_solution

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_diffbench.demand import Demand

MILDER: Final = {"easy": "-easy", "medium": "-mild"}
"""How the name of a scenario's answer ends that reaches this target and no harder one; the mildest first."""
_SCHEDULERS = re.compile(r"\b(" + "|".join(name for names in SAMPLERS.values() for name in names) + r")\b")
_STEPS = re.compile(r"^NUM_INFERENCE_STEPS = \d+$", re.MULTILINE)
_AS_PUBLISHED = "DDIMScheduler.from_config(pipeline.scheduler.config)"
"""Of a file that says nothing of clipping (PixArt's), DDIM would by default clip latents as if they were pixels."""
_HALF = re.compile(r"\btorch\.(" + "|".join(DTYPES) + r")\b")
_LOADED = re.compile(r"^    pipeline = .+$", re.MULTILINE)
_SET_SCHEDULER = re.compile(r"^    pipeline\.scheduler = .+$", re.MULTILINE)
_WITH = re.compile(r"^    with (.+):$", re.MULTILINE)
_IMPORTED = re.compile(r"^from diffagent\.methods import .+$", re.MULTILINE)


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
    return Solution(_fitted(solution.source, demand, sampler=sampler, steps=steps), solution.origin)


def _fitted(source: str, demand: Demand, *, sampler: str | None, steps: int | None) -> str:
    if sampler is not None:
        source = _SCHEDULERS.sub(SAMPLERS[sampler][0], source)
        if sampler == "ddim" and "clip_sample" not in source:
            source = source.replace(_AS_PUBLISHED, f"{_AS_PUBLISHED[:-1]}, clip_sample=False)")
    if steps is not None:
        source = _STEPS.sub(f"NUM_INFERENCE_STEPS = {steps}", source)
    dtype = demand.methods.get("half_precision", {}).get("dtype")
    if dtype is not None:
        source = _HALF.sub(f"torch.{dtype}", source)
    return source


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
        folder = root() / _use(demand)
        names = list(demand.methods) or [_of_scenario(folder, demand)]
        files = [folder / f"{name}.py" for name in names]
        if demand.model.folder is not None or not all(file.is_file() for file in files):
            raise SetupError(
                f"diffbench: no reference solution for task {demand.task_id!r} (model {demand.model.name!r}): "
                "name a solution of your own, --diffbench-agent=fast.py"
            )
        told = " + ".join(str(file.relative_to(root())) for file in files)
        if not demand.methods:
            return Solution(read_solution(files[0]).source, told)
        source = _together({name: file.read_text() for name, file in zip(names, files, strict=True)}, demand)
        return Solution(_fitted(source, demand, sampler=demand.demanded_sampler, steps=demand.demanded_steps), told)


def _of_scenario(folder: Path, demand: Demand) -> str:
    """Whoever need not be so fast need not dare so much: of what is asked for, the mildest answer that there is."""
    name = f"scenarios/{demand.task.scenario}"
    best, wanted = calibration.shipped_with(demand), demanded_speedup(demand.markers)
    if best is not None and wanted is not None:
        targets = calibration.targets(best.speedup)
        for difficulty, ending in MILDER.items():
            if wanted <= targets[difficulty] and (folder / f"{name}{ending}.py").is_file():
                return f"{name}{ending}"
    return name


def _use(demand: Demand) -> str:
    return demand.model.name if demand.task.strength is None else f"{demand.model.name}_image_to_image"


def _together(answers: Mapping[str, str], demand: Demand) -> str:
    """Answers to one method each as one: the first that has a `with`, and of every other the line that makes it."""
    called = {method: found[1] for method, text in answers.items() if (found := _WITH.search(text))}
    source = answers[next(iter(called or answers))]
    for method, text in answers.items():
        if demand.known_methods[method].sampler is not None:
            source = _with_line_of(text, _SET_SCHEDULER, source)
        elif method not in called:
            source = _with_line_of(text, _LOADED, source)
    if called:
        managers = [_called(expression, demand.methods[method]) for method, expression in called.items()]
        listed = "".join(f"        {manager},\n" for manager in managers)
        line = f"    with {managers[0]}:" if len(managers) == 1 else f"    with (\n{listed}    ):"
        source = _WITH.sub(lambda _: line, source)
        source = _IMPORTED.sub(f"from diffagent.methods import {', '.join(sorted(called))}", source)
    return source


def _with_line_of(text: str, which: re.Pattern[str], source: str) -> str:
    found = which.search(text)
    return which.sub(lambda _: found[0], source) if found is not None else source


def _called(expression: str, parameters: Mapping[str, object]) -> str:
    """A call with the demanded values of its keywords."""
    call = ast.parse(expression, mode="eval").body
    assert isinstance(call, ast.Call)
    kept = [keyword for keyword in call.keywords if keyword.arg not in parameters]
    demanded = [ast.keyword(name, ast.parse(repr(value), mode="eval").body) for name, value in parameters.items()]
    call.keywords = [*demanded, *kept]
    return ast.unparse(call)
