"""A ladder of plans for each scenario, mild ones and bold ones, looked at on many images: which may be worked answers?

`python -m benchmarks.ladder --out ladder.json -k "sd15 and not image"` takes about three minutes a scenario, without
sandbox or error bars, and goes on where it was cut off. A dozen images cannot tell a plan that leaves the motif out
once in two hundred from one that never does; these can somewhat, and with `--surely 480` those that would be chosen are
looked at on so many, and the next is chosen where one breaks. With `--write` what was found becomes the worked answers
of levels 4 and 5: by the targets of each scenario (`suites/calibration.json`) the most careful plan that
reaches each of them, for what is easier need not dare so much. Most careful is: no image broken, next to nothing lost,
and the images nearest to the baseline's.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from diffagent.calibrate import INTERVALS, STOPS
from diffagent.knowledge import known
from diffagent.plan import Plan, Subject, in_words, problems
from diffagent.program import written
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from benchmarks.references import Look
from pytest_diffbench import calibration, cli
from pytest_diffbench.calibration import key_of
from pytest_diffbench.providers.reference import MILDER
from suites.files import ANSWERS, shipped, titled
from suites.grid import TITLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_diffbench.demand import Demand

Row: TypeAlias = "dict[str, Any]"
FEWER: Final = (0.5, 0.4, 0.3, 0.2)
"""Shares of today's steps, where those may change."""
ROOM: Final = 1.08
"""An answer should be so many times faster than what is demanded: five pairs are no measurement."""
LEAST_ROOM: Final = 1.03
"""Where none is."""
MOST_LOSS: Final = 0.01
EASIER: Final = {"hard": "", "medium": ", if it need not be hard", "easy": ", if it is easy"}
"""How the title of an answer ends, for whom it is; the hardest first."""


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


def climb(demands: Mapping[str, Demand], images: int, out: Path) -> None:
    """Look at every plan that was not looked at as it is now, on as many images."""
    found = _read(out)
    for key, demand in demands.items():
        seen = found.setdefault(key, {})
        programs = _programs(demand)
        left = {how: each for how, each in programs.items() if not _is_known(seen.get(how), each, images)}
        look = Look(demand, images) if left else None
        for how, program in left.items():
            assert look is not None
            each = look.of(program)
            seen[how] = {**asdict(each), "images": images, "program": program}
            _write(out, found)
            print(
                f"{key} {how}: {each.speedup:.2f}x, CLIP loss {each.loss:.1%}, {each.broken} of {images} broken, "
                f"{each.apart:.1f} levels apart",
                flush=True,
            )


def confirm(demands: Mapping[str, Demand], images: int, surely: int, out: Path) -> None:
    """Look at what would be chosen on more images, until none of that is broken; scenarios in part looked at wait."""
    found = _read(out)
    for key, demand in demands.items():
        programs, seen = _programs(demand), found.get(key, {})
        if not all(_is_known(seen.get(how), each, images) for how, each in programs.items()):
            print(f"{key}: not all of its plans were looked at: leave --surely out first")
            continue
        rows, look = {how: seen[how] for how in programs}, None
        for target in calibration.targets(shipped().scenarios[key].speedup).values():
            while (how := _most_careful(rows, target)) is not None and rows[how]["images"] < surely:
                look = look or Look(demand, surely)
                row = {**asdict(look.of(programs[how])), "images": surely, "program": programs[how]}
                rows[how] = seen[how] = row
                _write(out, found)
                print(f"{key} {how}: {_told(row)}, {row['broken']} of {surely} broken", flush=True)


def _programs(demand: Demand) -> dict[str, str]:
    subject = Subject.of(demand, "cpu")
    fit = [plan for plan in plans(demand) if not problems(plan, subject, known())]
    return {in_words(plan): written(plan, demand, "cpu", known()) for plan in fit}


def _is_known(row: Row | None, program: str, images: int) -> bool:
    return row is not None and row["program"] == program and row["images"] >= images


def _read(file: Path) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = json.loads(file.read_text()) if file.exists() else {}
    return found


def _write(file: Path, found: dict[str, dict[str, Row]]) -> None:
    temporary = file.with_suffix(".part")
    temporary.write_text(json.dumps(found, indent=1))
    temporary.replace(file)


def choose(demands: Mapping[str, Demand], images: int, out: Path) -> None:
    """Write the worked answers of every scenario whose plans were all looked at; say what has none."""
    known_best, found = shipped().scenarios, _read(out)
    for key, demand in demands.items():
        programs = _programs(demand)
        seen = {how: found.get(key, {}).get(how) for how in programs}
        rows = {how: row for how, row in seen.items() if row is not None and _is_known(row, programs[how], images)}
        if len(rows) < len(programs):
            print(f"{key}: {len(programs) - len(rows)} plans were not looked at: leave --write out first")
            continue
        targets = calibration.targets(known_best[key].speedup)
        folder = ANSWERS / f"{demand.model.name}{'_image_to_image' * (demand.task.strength is not None)}" / "scenarios"
        folder.mkdir(parents=True, exist_ok=True)
        chosen = {name: _most_careful(rows, targets[name]) for name in EASIER}
        for harder, (difficulty, how) in zip((None, *chosen.values()), chosen.items(), strict=False):
            file = folder / f"{demand.task.scenario}{MILDER.get(difficulty, '')}.py"
            if how is None:
                print(f"MISSES {key}, {difficulty} {targets[difficulty]:.2f}x: no careful plan reaches it")
            elif how == harder:
                file.unlink(missing_ok=True)  # the other one answers it
            else:
                title = f"{TITLES[demand.model.name]}, {demand.task.scenario}{EASIER[difficulty]}"
                file.write_text(titled(rows[how]["program"], title, how))
                print(f"{key}, {difficulty} {targets[difficulty]:.2f}x: {how}, {_told(rows[how])}")


def _told(row: Row) -> str:
    return f"{row['speedup']:.2f}x, CLIP loss {row['loss']:.1%}, {row['apart']:.1f} levels apart"


def _most_careful(rows: Mapping[str, Row], target: float) -> str | None:
    """Of those that reach the target, if possible with room, the one whose images are nearest to the baseline's."""
    careful = {how: row for how, row in rows.items() if not row["broken"] and row["loss"] <= MOST_LOSS}
    for room in (ROOM, LEAST_ROOM):
        enough = [how for how, row in careful.items() if row["speedup"] >= room * target]
        if enough:
            return min(enough, key=lambda how: float(careful[how]["apart"]))
    return None


def main() -> None:
    """Climb, or write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", help="as pytest's")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--surely", type=int, metavar="IMAGES", help="look at what would be chosen on so many")
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
        choose(demands, asked.images, asked.out)
    elif asked.surely:
        confirm(demands, asked.images, asked.surely, asked.out)
    else:
        climb(demands, asked.images, asked.out)


if __name__ == "__main__":
    main()
