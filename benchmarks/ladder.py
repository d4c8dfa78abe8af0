"""A ladder of plans for each scenario, mild ones and bold ones, looked at on many images: which may be worked answers?

`python -m benchmarks.ladder --out ladder.json -k "sd15 and not image"` takes about three minutes a scenario, without
sandbox or error bars, and goes on where it was cut off. A dozen images cannot tell a plan that leaves the motif out
once in two hundred from one that never does; these can somewhat. With `--write` what was found becomes the worked
answers of levels 4 and 5: by the targets of each scenario (`suites/calibration.json`) the most careful plan that
reaches the hard one, and the most careful one that reaches the medium one, for those that need not dare so much. Most
careful is: no image broken, next to nothing lost, and the images nearest to the baseline's.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from diffagent.knowledge import known
from diffagent.plan import Plan, Subject, in_words, problems
from diffagent.program import written
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from benchmarks.references import Look
from pytest_diffbench import calibration, cli
from pytest_diffbench.calibration import key_of
from suites.files import ANSWERS, shipped, titled
from suites.grid import TITLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_diffbench.demand import Demand

INTERVALS: Final = (3, 4, 5)
STOPS: Final = (0.9, 0.7, 0.5)
FEWER: Final = (0.5, 0.4, 0.3, 0.2)
"""Shares of today's steps, where those may change."""
ROOM: Final = 1.08
"""An answer should be so many times faster than what is demanded: what this says is no measurement."""
MOST_LOSS: Final = 0.01


def plans(demand: Demand) -> Iterator[Plan]:
    """What is tried: fewer steps of each sampler where they are free, then features kept and guidance ended early."""
    cache = "deepcache" if demand.model.denoiser == "unet" else "block_reuse"
    if demand.task.fixed_schedule:
        schedules: list[dict[str, dict[str, object]]] = [{}]
    else:
        steps = [round(demand.steps * share) for share in FEWER]
        # in eight steps Karras' spacing costs PixArt half of its score
        spacing: dict[str, object] = {} if cache == "deepcache" else {"use_karras_sigmas": False}
        schedules = [{"ddim": {"steps": each}} for each in steps]
        schedules += [{name: {"steps": each, **spacing}} for name in ("dpm_solver", "unipc") for each in steps]
    for schedule in schedules:
        if schedule:
            yield _plan(schedule)
            yield _plan(schedule | {"guidance_window": {"stop": 0.7}})
            yield _plan(schedule | {cache: {"interval": 2}, "guidance_window": {"stop": 0.7}})
            continue
        for interval in INTERVALS:
            for stop in STOPS:
                yield _plan({cache: {"interval": interval}, "guidance_window": {"stop": stop}})


def _plan(methods: dict[str, dict[str, object]]) -> Plan:
    applied = [{"method": name, "parameters": given} for name, given in methods.items()]
    return Plan.model_validate({"methods": applied})


def climb(demands: dict[str, Demand], images: int, out: Path) -> None:
    """Look at every plan that was not looked at before."""
    found: dict[str, dict[str, Any]] = json.loads(out.read_text()) if out.exists() else {}
    for key, demand in demands.items():
        seen = found.setdefault(key, {})
        subject = Subject.of(demand, "cpu")
        left = [plan for plan in plans(demand) if in_words(plan) not in seen and not problems(plan, subject, known())]
        look = Look(demand, images) if left else None
        for plan in left:
            assert look is not None
            program = written(plan, demand, "cpu", known())
            each, base = look.of(program), look.baseline
            speedup, loss = base.elapsed_s / each.elapsed_s, 1 - each.clip_score / base.clip_score
            seen[in_words(plan)] = {**asdict(each), "speedup": speedup, "loss": loss, "program": program}
            out.write_text(json.dumps(found, indent=1))
            print(
                f"{key} {in_words(plan)}: {speedup:.2f}x, CLIP loss {loss:.1%}, {each.broken} of {images} broken, "
                f"{each.apart:.1f} levels apart",
                flush=True,
            )


def choose(demands: dict[str, Demand], out: Path) -> None:
    """Write the worked answers of every scenario that was looked at."""
    known_best = shipped().scenarios
    for key, seen in json.loads(out.read_text()).items():
        demand, targets = demands[key], calibration.targets(known_best[key].speedup)
        folder = ANSWERS / f"{demand.model.name}{'_image_to_image' * (demand.task.strength is not None)}" / "scenarios"
        for difficulty, ending in (("hard", ""), ("medium", "-mild")):
            how, chosen = _most_careful(seen, targets[difficulty])
            title = f"{TITLES[demand.model.name]}, {demand.task.scenario}{', if it need not be hard' * bool(ending)}"
            (folder / f"{demand.task.scenario}{ending}.py").write_text(titled(chosen["program"], title, how))
            print(
                f"{key}, {difficulty} {targets[difficulty]:.2f}x: {how}, {chosen['speedup']:.2f}x, CLIP loss "
                f"{chosen['loss']:.1%}, {chosen['broken']} broken, {chosen['apart']:.1f} levels apart"
            )


def _most_careful(seen: dict[str, dict[str, Any]], target: float) -> tuple[str, dict[str, Any]]:
    """Of those that reach the target with room; the fastest that is careful, where none has room."""
    careful = {how: each for how, each in seen.items() if not each["broken"] and each["loss"] <= MOST_LOSS}
    enough = {how: each for how, each in careful.items() if each["speedup"] >= ROOM * target}
    if enough:
        return min(enough.items(), key=lambda item: item[1]["apart"])
    return max(careful.items(), key=lambda item: item[1]["speedup"])


def main() -> None:
    """Climb, or write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", help="as pytest's")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--write", action="store_true", help="the worked answers, and look at nothing more")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    status, collected = cli.collect(["suites/level4_speed", *(["-k", asked.k] if asked.k else [])])
    assert not status
    demands = {key_of(demand): demand for _, demand in collected.tasks}
    if asked.write:
        choose(demands, asked.out)
    else:
        climb(demands, asked.images, asked.out)


if __name__ == "__main__":
    main()
