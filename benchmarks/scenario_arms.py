"""Do the scenarios tell solvers apart? Each arm searches once a scenario; what it found answers the scenario's tasks.

`python benchmarks/scenario_arms.py --arms search,random,steps-only -k "sd15 and fixed"` spends 28 evaluations a
scenario and arm on public requests, then has the answers judged by ordinary runs on secret ones, and prints S_p of
levels 4 and 5, S_a of the hard tasks, and the regret: how far, in logarithms, what an arm found lies from the best that
is known (`suites/calibration.json`). What is measured is kept under `--out`, so the same command goes on where it was
cut off.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffagent import profile
from diffagent.arms import Arm, Setting
from diffagent.generation import Run, standing

from pytest_diffbench import cli
from pytest_diffbench.calibration import key_of
from pytest_diffbench.devices import inventory
from pytest_diffbench.errors import SetupError
from pytest_diffbench.providers import baseline_source
from pytest_diffbench.zoo import supply
from suites.files import shipped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.zoo.supply import Weights

ROOT = Path(__file__).parents[1]
SUITES = ("suites/level4_speed", "suites/level5_latency")


class Place:
    """Where arms search, and what they search for."""

    def __init__(self, out: Path, chosen: str) -> None:
        self.out = out.resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self._devices = inventory([])
        wanted = [*(str(ROOT / suite) for suite in SUITES), *(["-k", chosen] if chosen else [])]
        status, collected = cli.collect(wanted)
        if status:
            raise SetupError("diffbench: no scenario was collected")
        self.tasks: defaultdict[str, list[tuple[str, Demand]]] = defaultdict(list)
        for nodeid, demand in collected.tasks:
            self.tasks[key_of(demand)].append((nodeid, demand))

    def answer(self, arm: str, key: str) -> None:
        """Search once for the hardest of a scenario's tasks, and put what was found down for all of them."""
        tasks = [demand for _, demand in self.tasks[key]]
        files = [self.out / arm / f"{demand.task_id}.py" for demand in tasks]
        if all(file.is_file() for file in files):
            return
        hardest = next(each for each in tasks if each.task.difficulty == "hard" and each.markers.speed is not None)
        workers = len(self._devices) if len(self._devices) > 1 else 0
        run = Run((f"--rootdir={ROOT}",), ROOT, workers, name=f"arms-{arm}", facts=self._facts)
        setting = Setting(run, self._devices[0].kind, profile=self._profile, say=lambda line: print(line, flush=True))
        solution = Arm(arm, setting).solve(hardest, "", "")  # type: ignore[arg-type]
        for file in files:
            file.parent.mkdir(exist_ok=True)
            file.write_text(solution.source)

    def judged(self, arm: str) -> list[Mapping[str, Any]]:
        """The entries of an ordinary run over what the arm left."""
        result = self.out / f"{arm}.json"
        nodes = [str(ROOT / nodeid) for tasks in self.tasks.values() for nodeid, _ in tasks]
        command = [sys.executable, "-m", "pytest", *nodes, f"--diffbench-agent={self.out / arm}", "-n", "auto", "-q"]
        subprocess.run([*command, f"--benchmark-json={result}"], cwd=ROOT, check=False)
        found: list[Mapping[str, Any]] = json.loads(result.read_text())["diffbench"]
        return found

    def _weights(self, demand: Demand) -> Weights:
        return supply.tiny(demand.model, image_to_image=demand.task.strength is not None)

    def _facts(self, demand: Demand) -> object:
        return standing(demand, self._weights(demand), self._devices)

    def _profile(self, demand: Demand) -> profile.Profile:
        folder = ROOT / ".diffbench"
        return profile.kept(folder, demand, self._weights(demand), baseline_source(demand), self._devices)


def told(arm: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """An arm's figures in a row."""
    known = shipped().scenarios
    counted = [entry for entry in entries if entry["verdict"] != "INFRA"]
    passed = [entry for entry in counted if entry["verdict"] == "PASS"]
    hard = [entry for entry in counted if entry["difficulty"] == "hard"]
    hard_passed = sum(entry["verdict"] == "PASS" for entry in hard)
    reached = [_speedup(entry) for entry in hard]
    wanted = [known[f"{entry['model']}/{entry['scenario']}"].speedup for entry in hard]
    regret = sum(math.log(best / max(1.0, ours)) for best, ours in zip(wanted, reached, strict=True)) / max(
        1, len(hard)
    )
    achieved = sum(min(1.0, _achievement(entry)) for entry in hard) / max(1, len(hard))
    return (
        f"| `{arm}` | {len(passed)} of {len(counted)} | {hard_passed} of {len(hard)} | {achieved:.3f} | {regret:.3f} |"
    )


def _keeps_quality(entry: Mapping[str, Any]) -> bool:
    quality = entry["quality"]
    return quality is not None and quality["loss"] is not None and quality["loss"] <= quality["max_loss"]


def _speedup(entry: Mapping[str, Any]) -> float:
    return float(entry["speed"]["speedup"]) if entry["speed"] is not None and _keeps_quality(entry) else 1.0


def _achievement(entry: Mapping[str, Any]) -> float:
    speed = entry["speed"]
    if speed is None or not _keeps_quality(entry):
        return 0.0
    if speed["demanded_speedup"]:
        return float(speed["speedup"]) / float(speed["demanded_speedup"])
    return float(speed["demanded_latency_s"]) / float(speed["latency_s"])


def main() -> None:
    """Search, have it judged, and say what each arm reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arms", default="search,random,steps-only")
    parser.add_argument("-k", default="", help="as pytest's, over the tasks of levels 4 and 5")
    parser.add_argument("--out", type=Path, default=ROOT / ".diffbench" / "scenario-arms")
    asked = parser.parse_args()
    place = Place(asked.out, asked.k)
    rows = []
    for arm in asked.arms.split(","):
        for number, key in enumerate(place.tasks, start=1):
            print(f"{arm}: {key} ({number} of {len(place.tasks)})", flush=True)
            place.answer(arm, key)
        rows.append(told(arm, place.judged(arm)))
    print("| arm | tasks passed | hard ones | S_a of the hard ones | regret |\n|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
