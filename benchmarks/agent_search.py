"""How much of the suites' speed and latency tasks does a search solve, and after how many evaluations?

`python benchmarks/agent_search.py --arm search` runs the tasks of levels 4 and 5 with that provider (an ordinary pytest
run: its verdicts are on secret requests) and then reads, from the JSON of each generation, how much of the demanded
speed the best plan that kept the quality had reached after each evaluation. `--read RUN` reads a run that is over.
An arm that asks a language model is given a script that plans by chance: its curve says that the loop works, nothing
of any model.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffagent.arms import LANGUAGE
from diffagent.fitness import fitness_of
from diffagent.generation import FOLDER

from tests.agent.loopback import KEY, MODEL, Loopback
from tests.agent.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diffagent.fitness import Fitness

ROOT = Path(__file__).parents[1]
SUITES = ("suites/level4_speed", "suites/level5_latency")
MARKS = (1, 4, 7, 14, 21, 28)
BUDGET = 28
BESIDE = (
    {"method": "guidance_window", "parameters": {"stop": 0.7}},
    {"method": "deepcache", "parameters": {"interval": 2}},
)
_GENERATION = re.compile(r"-(?P<generation>\d+)-(?P<round>\d+)$")


@dataclass(frozen=True)
class Curve:
    """One task's search: the best achievement after each evaluation."""

    task_id: str
    achievements: tuple[float, ...]
    evaluations_to_pass: int | None
    device_s: float


def run(arm: str, file: Path, more: Sequence[str]) -> None:
    """Score the provider as anybody would."""
    command = [sys.executable, "-m", "pytest", *SUITES, f"--diffbench-agent={arm}", f"--benchmark-json={file}", *more]
    if arm not in LANGUAGE:
        subprocess.run(command, cwd=ROOT, check=False)
        return
    with Loopback(Scenario(_ideas())) as server:
        environment = os.environ | {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}
        subprocess.run([*command, f"--diffbench-llm={MODEL}"], cwd=ROOT, check=False, env=environment)


def _ideas() -> list[dict[str, Any]]:
    """Plans for the script: a sampler with few steps, and now and then one or two methods beside it."""
    rng = random.Random(0)  # noqa: S311 (no secret)
    return [
        {
            "refines": "",
            "also": "",
            "methods": [
                {"method": rng.choice(("ddim", "dpm_solver", "unipc")), "parameters": {"steps": rng.randint(12, 30)}},
                *rng.sample(BESIDE, rng.randint(0, len(BESIDE))),
            ],
        }
        for _ in range(500)
    ]


def curves(run_id: str) -> list[Curve]:
    """Of every task that a run searched for, by the files of its generations."""
    return [_curve(task) for suite in SUITES for task in sorted((ROOT / suite / FOLDER / run_id).glob("*"))]


def _curve(folder: Path) -> Curve:
    generations: defaultdict[tuple[int, int], Mapping[str, Fitness]] = defaultdict(dict)
    for file in folder.glob("*/run.json"):
        if (match := _GENERATION.search(file.parent.name)) is not None:
            generations[int(match["generation"]), int(match["round"])] = fitness_of(file)
    ordered = [fitness for key in sorted(generations) for _, fitness in sorted(generations[key].items())]
    best, reached, passed = 0.0, [], None
    for count, fitness in enumerate(ordered, start=1):
        if fitness.keeps_quality and fitness.achievement is not None:
            best = max(best, fitness.achievement)
        if passed is None and fitness.verdict == "PASS":
            passed = count
        reached.append(best)
    return Curve(folder.name, tuple(reached), passed, sum(fitness.elapsed_s for fitness in ordered))


def table(entries: Sequence[Mapping[str, Any]], found: Sequence[Curve]) -> str:
    """Verdicts, then the mean achievement after so many evaluations."""
    counted = [entry for entry in entries if entry["verdict"] != "INFRA"]
    passed = [entry for entry in counted if entry["verdict"] == "PASS"]
    hard = [entry for entry in counted if entry["difficulty"] == "hard"]
    achieved = [_achievement(entry) for entry in hard]
    pass_rate, hard_achievement = len(passed) / max(1, len(counted)), sum(achieved) / max(1, len(achieved))
    counts = [len(each.achievements) for each in found]
    lines = [
        f"S_p {len(passed)} of {len(counted)} ({pass_rate:.0%}), hard S_a {hard_achievement:.3f} over {len(hard)}",
        f"evaluations: {sum(counts)}, of one task at most {max(counts, default=0)} of {BUDGET}",
        f"device seconds: {sum(each.device_s for each in found):.0f}",
        "| task | evaluations | first that passed | " + " | ".join(f"after {mark}" for mark in MARKS) + " |",
        "|---|---|---|" + "---|" * len(MARKS),
    ]
    for each in found:
        reached = [f"{_after(each, mark):.2f}" for mark in MARKS]
        lines.append(
            f"| {each.task_id} | {len(each.achievements)} | {each.evaluations_to_pass or '-'} | {' | '.join(reached)} |"
        )
    means = [sum(_after(each, mark) for each in found) / max(1, len(found)) for mark in MARKS]
    lines.append(f"| mean | | | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    return "\n".join(lines)


def _after(curve: Curve, evaluations: int) -> float:
    """A search that has ended stays where it is."""
    return curve.achievements[min(evaluations, len(curve.achievements)) - 1] if curve.achievements else 0.0


def _achievement(entry: Mapping[str, Any]) -> float:
    """Of the verdict: nothing, where the images lost too much."""
    speed, quality = entry["speed"], entry["quality"]
    if speed is None or quality is None or quality["loss"] is None or quality["loss"] > quality["max_loss"]:
        return 0.0
    if speed["demanded_speedup"]:
        return min(1.0, float(speed["speedup"]) / float(speed["demanded_speedup"]))
    return min(1.0, float(speed["demanded_latency_s"]) / float(speed["latency_s"]))


def main() -> None:
    """Run, or read what was run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", default="search", help="any provider that searches: search, random, diffagent, …")
    parser.add_argument("--file", type=Path, help="where the measurements go (default: ARM.json)")
    parser.add_argument("--read", metavar="RUN", help="the id of a run that is over; measure nothing")
    parser.add_argument("more", nargs="*", help="more of pytest's options, behind --")
    asked = parser.parse_args()
    file = asked.file or ROOT / f"{asked.arm}.json"
    if asked.read is None:
        run(asked.arm, file, ["-n", "auto", *asked.more])
    run_id = asked.read or (ROOT / ".diffbench" / "last").resolve().name
    print(table(json.loads(file.read_text())["diffbench"], curves(run_id)))


if __name__ == "__main__":
    main()
