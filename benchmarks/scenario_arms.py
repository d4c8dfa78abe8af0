"""Do the scenarios tell solvers apart? Each arm searches once a scenario; what it found answers the scenario's tasks.

`python benchmarks/scenario_arms.py --arms search,random,steps-only --draw 12` (or `-k "sd15 and fixed"`) spends at most
28 evaluations a scenario and arm on public requests (an arm stops once it has reached the hard target), then has the
answers judged by ordinary runs on secret ones. It prints S_p of levels 4 and 5, S_a of the hard tasks, how many hard
tasks passed beside what is wanted of the arm, and the regret: over the scenarios' hard tasks, the mean of how far in
logarithms the arm's answer lies below the best that is known (`suites/calibration.json`; below zero, it lies above); an
answer that does not keep its quality counts as the pipeline as it is. Answers, verdicts and journals lie under `--out`,
measurements of searches beside the suites; the same command goes on where it was cut off. After a change of tasks,
targets or agents, name another folder. `--judge hard` leaves the easy and medium tasks out, a third of the time.
"""

from __future__ import annotations

import argparse
import math
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from diffagent import profile
from diffagent.arms import LANGUAGE, NAMES, Arm, Setting
from diffagent.generation import Run, standing

from pytest_diffbench import calibration, cli, scorecard, scoring
from pytest_diffbench.calibration import key_of
from pytest_diffbench.devices import inventory
from pytest_diffbench.errors import SetupError
from pytest_diffbench.isolation import choose
from pytest_diffbench.plugin.recorder import write
from pytest_diffbench.providers import baseline_source
from pytest_diffbench.records import Verdict
from pytest_diffbench.zoo import supply
from suites.files import shipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.records import TaskReport
    from pytest_diffbench.zoo.supply import Weights

ROOT = Path(__file__).parents[1]
SPEED_LEVEL, LATENCY_LEVEL = 4, 5
MOST_HARD = {"steps-only": 0.25, "random": 0.5}
"""Shares of the hard tasks that an arm may pass, if they are to tell solvers apart."""
SUITES = ("suites/level4_speed", "suites/level5_latency")


class Place:
    """Where arms search, and what they search for."""

    def __init__(self, out: Path, chosen: str, draw: int | None, seed: int) -> None:
        self.out = out.resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self._devices = inventory([])
        self._machine = calibration.machine(self._devices, zoo="tiny", isolation=choose().stamp)
        wanted = [*(str(ROOT / suite) for suite in SUITES), *(["-k", chosen] if chosen else [])]
        status, collected = cli.collect(wanted)
        if status:
            raise SetupError("diffbench: no scenario was collected")
        self.tasks: defaultdict[str, list[tuple[str, Demand]]] = defaultdict(list)
        for nodeid, demand in collected.tasks:
            self.tasks[key_of(demand)].append((nodeid, demand))
        if draw is not None:
            drawn = random.Random(seed).sample(sorted(self.tasks), min(draw, len(self.tasks)))  # noqa: S311 (no secret)
            self.tasks = defaultdict(list, {key: self.tasks[key] for key in drawn})

    def answer(self, arm: str, key: str) -> None:
        """Search once for the hardest of a scenario's tasks, and put what was found down for all of them."""
        tasks = [demand for _, demand in self.tasks[key]]
        hardest = next((each for each in tasks if each.task.difficulty == "hard" and each.markers.speed), None)
        if hardest is None:
            raise SetupError(f"diffbench: {key} has no hard task of level {SPEED_LEVEL} among those chosen: widen -k")
        files = [self.out / arm / f"{demand.task_id}.py" for demand in tasks]
        if all(file.is_file() for file in files):
            return
        workers = len(self._devices) if len(self._devices) > 1 else 0
        run = Run((f"--rootdir={ROOT}",), ROOT, workers, name=f"arms-{arm}", facts=self._facts)
        setting = Setting(run, self._devices[0].kind, profile=self._profile, say=lambda line: print(line, flush=True))
        loop = Arm(arm, setting).loop(hardest)  # type: ignore[arg-type]
        best = loop.best()
        if loop.spent is not None:  # cut off by our own fault: what it has so far is not its answer
            raise loop.spent
        source = best.source if best is not None and best.source else baseline_source(hardest)
        for file in files:
            write(file, source)

    def judged(self, arm: str, which: str) -> list[TaskReport]:
        """The verdicts of an ordinary run over what the arm left, `all` tasks or those of one difficulty.

        SetupError where some are missing.
        """
        result, kept = self.out / f"{arm}-{which}.json", self.out / f"{arm}-{which}-journal"
        tasks = [task for tasks in self.tasks.values() for task in tasks]
        nodes = [str(ROOT / nodeid) for nodeid, demand in tasks if which in ("all", demand.task.difficulty)]
        command = [sys.executable, "-m", "pytest", *nodes, f"--diffbench-agent={self.out / arm}", "-n", "auto", "-q"]
        command += [f"--benchmark-json={result}", f"--diffbench-journal={kept}"]
        result.unlink(missing_ok=True)
        subprocess.run([*command, *(["--diffbench-resume"] if kept.is_dir() else [])], cwd=ROOT, check=False)
        found = scorecard.reports_of(str(result), []) if result.is_file() else []
        measured = sum(each.verdict is not Verdict.INFRA for each in found)
        if measured < len(nodes):
            raise SetupError(f"diffbench: {measured} of {len(nodes)} tasks have a verdict: the same command goes on")
        return found

    def _weights(self, demand: Demand) -> Weights:
        return supply.tiny(demand.model, image_to_image=demand.task.strength is not None)

    def _facts(self, demand: Demand) -> object:
        return standing(demand, self._weights(demand), self._machine)

    def _profile(self, demand: Demand) -> profile.Profile:
        folder = ROOT / ".diffbench"
        return profile.kept(folder, demand, self._weights(demand), baseline_source(demand), self._devices)


def told(arm: str, reports: Sequence[TaskReport]) -> str:
    """An arm's figures in a row; every report is a verdict."""
    scored, levels = scoring.score(reports), scoring.by_level(reports)
    hard = [each for each in reports if each.difficulty == "hard"]
    passed = sum(each.verdict is Verdict.PASS for each in hard)
    wanted = f" (wanted: at most {MOST_HARD[arm] * len(hard):g})" if arm in MOST_HARD else ""
    regrets = [_regret(each) for each in hard]
    rows = [levels.get(level) for level in (SPEED_LEVEL, LATENCY_LEVEL)]
    by_level = " | ".join(f"{row.passed} of {row.tasks}" if row is not None else "-" for row in rows)
    return (
        f"| `{arm}` | {by_level} | {scored.pass_rate or 0:.1%} {_interval(scored.pass_rate_interval)} "
        f"| {passed} of {len(hard)}{wanted} | {scored.achievement or 0:.3f} {_interval(scored.achievement_interval)} "
        f"| {sum(regrets) / len(regrets):.3f} |"
    )


def _interval(found: tuple[float, float] | None) -> str:
    return f"[{found[0]:.2f}, {found[1]:.2f}]" if found is not None else ""


def _regret(report: TaskReport) -> float:
    best = shipped().scenarios[f"{report.model}/{report.scenario}"].speedup
    if report.speed is None or not scoring.achievement(report):
        return math.log(best)
    return math.log(best / max(1.0, report.speed.speedup))


def main() -> None:
    """Search, have it judged, and say what each arm reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arms", default="search,random,steps-only")
    parser.add_argument("-k", default="", help="as pytest's, over the tasks of levels 4 and 5")
    parser.add_argument("--draw", type=int, metavar="N", help="so many of the scenarios, drawn at random")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw")
    parser.add_argument("--judge", choices=("all", "hard"), default="all", help="which of the scenarios' tasks")
    parser.add_argument("--out", type=Path, default=ROOT / ".diffbench" / "scenario-arms")
    asked = parser.parse_args()
    arms = asked.arms.split(",")
    if unknown := sorted({*arms} - ({*NAMES} - {*LANGUAGE})):
        parser.error(f"{', '.join(unknown)}: name some of {', '.join(name for name in NAMES if name not in LANGUAGE)}")
    place = Place(asked.out, asked.k, asked.draw, asked.seed)
    rows = []
    for arm in arms:
        for number, key in enumerate(place.tasks, start=1):
            print(f"{arm}: {key} ({number} of {len(place.tasks)})", flush=True)
            place.answer(arm, key)
        rows.append(told(arm, place.judged(arm, asked.judge)))
    print("| arm | level 4 | level 5 | S_p of both | hard ones passed | S_a of the hard ones | regret |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
