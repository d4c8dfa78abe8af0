"""`diffagent optimise`: a pipeline made faster; the program, its plan, the test that keeps it true, and its verdict."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from diffagent import planfile, taskfile
from diffagent.arms import NAMES, Arm
from diffagent.loop import Shape
from diffagent.planfile import Evidence, PlanFile
from diffagent.workplace import Workplace
from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from diffagent.candidate import Candidate

HELP: Final = (
    "Needs no language model: Optuna plans, the knowledge base writes, ordinary pytest runs measure. Ends with a "
    "solution file to copy, the test file that keeps it true, and that test's verdict on requests that nobody knew. "
    "What was measured is kept: the same command goes on where it was cut off."
)


def add_arguments(parser: ArgumentParser) -> None:
    """What this command has of its own."""
    shape = Shape()
    parser.add_argument("--from", dest="given", type=Path, metavar="FILE", help="a solution of yours to begin with")
    parser.add_argument("--population", type=int, default=shape.population, help="plans a generation (default 7)")
    parser.add_argument("--generations", type=int, default=shape.generations, help="at most (default 4)")
    parser.add_argument("--arm", choices=NAMES, default="search", help="how to search (default: search)")


def optimise(asked: Namespace) -> int:
    """Search, write down what was found, and have it judged; the verdict's exit status."""
    place = Workplace.of(asked)
    demand = place.demand
    place.weights  # noqa: B018 (what is missing is said before anything is measured)
    print(f"{asked.model}: {demand.steps} steps of {demand.sampler} today; wanted: {asked.min_speedup:g}x", flush=True)
    setting = place.setting(
        asked.arm,
        shape=Shape(max(1, asked.population), generations=max(1, asked.generations)),
        given=_given(asked.given),
        say=lambda line: print(line, flush=True),
    )
    loop = Arm(asked.arm, setting).loop(demand, place.prompt)
    best = loop.best()
    if best is None:
        ran = any(each.runs for each in loop.memory.tried)
        why = "all that was tried is slower than the pipeline as it is" if ran else "nothing could be measured"
        print(f"diffagent: {why}, so there is nothing to recommend", file=sys.stderr)
        return 2
    return _left_behind(best, place)


def _given(file: Path | None) -> str:
    try:
        return file.read_text(encoding="utf-8") if file is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"diffagent: --from={file}: cannot be read: {error}") from error


def _left_behind(best: Candidate, place: Workplace) -> int:
    """The files of what was found, and the verdict of the test among them."""
    out = place.out
    solution, test = out / "fast.py", out / "test_fast.py"
    solution.write_text(best.source)
    test.write_text(taskfile.written(place.demand, summary="What was found must stay true.", relative_to=out))
    kept = [solution.name, test.name]
    if not (best.idea.words or best.idea.source):
        try:
            _keep_plan(best, place, out / "plan.toml")
            kept.append("plan.toml")
        except Exception as error:  # noqa: BLE001 (whatever a model of others does when it is loaded here)
            print(f"no plan.toml: the pipeline could not be loaded here ({type(error).__name__}: {error})", flush=True)
    command = ["-m", "pytest", str(test), *place.options, f"--diffbench-agent={solution}"]
    print(
        f"\nthe best: {best.idea}\nin {out}: {', '.join(kept)}; the verdict, on requests that nobody knew:\n",
        flush=True,
    )
    status = subprocess.run([sys.executable, *command], check=False).returncode
    print(f"\nonce more: python {' '.join(command)}")
    return min(status, 2)


def _keep_plan(best: Candidate, place: Workplace, file: Path) -> None:
    """Write the plan beside its program, for `diffagent.apply`."""
    # imported here: torch and diffusers, which searching itself does not need
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    for logging in (of_diffusers, of_transformers):  # bars and warnings would stand among the results
        logging.disable_progress_bar()
        logging.set_verbosity_error()
    from diffusers import DiffusionPipeline

    from diffagent.acceleration import made_for

    pipeline = DiffusionPipeline.from_pretrained(place.weights.path)
    fitness, evidence = best.fitness, None
    if fitness is not None and fitness.speedup is not None and fitness.loss is not None:
        evidence = Evidence(
            speedup=fitness.speedup,
            speedup_low=fitness.speedup_low,
            speedup_high=fitness.speedup_high,
            clip_loss=fitness.loss,
            clip_loss_high=fitness.loss_high,
            target=place.asked.min_speedup,
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            device=place.devices[0].model,
            solution_sha256=fitness.solution_sha256,
        )
    content = PlanFile(
        made_for=made_for(pipeline, place.demand.steps), evidence=evidence, methods=best.idea.plan.methods
    )
    planfile.save(file, content)
