"""Who should be built upon: what nothing surely surpasses (`pareto`), or the paper's lottery by a weighted sum?

Simulated: `evolution` makes its 28 evaluations, and measures five finalists again, on an imagined machine whose figures
are as noisy as a quick look's, many times for either; what each found is then looked up without noise
(`python benchmarks/selection.py 100`, two minutes). Its costs are shaped like those that `diffbench ceiling` counts,
its losses are made up: it says which selection copes with noise, and nothing of any pipeline.
"""

from __future__ import annotations

import math
import random
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from diffagent import program
from diffagent.arms import Arm, Setting
from diffagent.compare import interval
from diffagent.fitness import Fitness
from diffagent.knowledge import known

from pytest_diffbench.demand import Markers, SpeedDemand
from tests.agent.demands import demand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffagent.arms import Selection
    from diffagent.generation import Order
    from diffagent.plan import Plan

    from pytest_diffbench.demand import Demand

STEPS: Final = 50
SPEED_NOISE: Final = 0.04
"""Of a quick look's speed-up, in logarithms."""
LOSS_NOISE: Final = 0.015
MAX_LOSS: Final = 0.05
TASK: Final = demand("sd15", Markers(speed=SpeedDemand(100.0)), level=4, sampler="ddim", steps=STEPS)


@dataclass
class Noisy:
    """A machine that knows what a plan truly does, and says it with noise."""

    rng: random.Random

    def measure(self, demand: Demand, solutions: Mapping[str, str], order: Order) -> dict[str, Fitness]:
        """As `Run.measure`."""
        del demand, order
        return {name: self._fitness(program.read(source, known())) for name, source in solutions.items()}

    def _fitness(self, plan: Plan) -> Fitness:
        speedup, loss = truth(plan)
        seen = speedup * math.exp(self.rng.gauss(0, SPEED_NOISE))
        lost = loss + self.rng.gauss(0, LOSS_NOISE)
        cause = "relative-quality error" if lost > MAX_LOSS else "relative-speed error"
        return Fitness(
            "",
            "FAIL",
            cause,
            speedup=seen,
            speedup_low=seen * math.exp(-2 * SPEED_NOISE),
            speedup_high=seen * math.exp(2 * SPEED_NOISE),
            loss=lost,
            loss_low=lost - 2 * LOSS_NOISE,
            loss_high=lost + 2 * LOSS_NOISE,
            max_loss=MAX_LOSS,
            reached=seen / 100,
            stage="speed",
        )


def truth(plan: Plan) -> tuple[float, float]:
    """Speed-up and loss of a plan on the imagined pipeline."""
    steps, share, loss = float(STEPS), 1.0, 0.0
    for applied in plan.methods:
        entry = known()[applied.method]
        values = entry.parameters(applied.parameters, "cpu").items()
        number = {name: float(value) for name, value in values if isinstance(value, (int, float))}
        if entry.facts.kind == "sampler":
            steps = number["steps"]
            loss += {"ddim": 0.9, "dpm_solver": 0.35, "unipc": 0.3}[applied.method] / steps
        elif applied.method == "deepcache":
            share *= 0.35 + 0.65 / number["interval"]
            loss += 0.012 * (number["interval"] - 1) * 20 / steps
        elif applied.method == "block_reuse":
            share *= 0.5 + 0.5 / number["interval"]
            loss += 0.02 * (number["interval"] - 1) * 20 / steps
        elif applied.method == "guidance_window":
            share *= 0.5 + 0.5 * (number["stop"] - number["start"])
            loss += 0.08 * (1 - number["stop"]) ** 2 + 0.2 * number["start"]
        elif applied.method == "tgate":
            gated = max(0.0, 1 - number["gate_step"] / steps)
            share *= 1 - 0.5 * gated
            loss += 0.08 * gated**2
        elif applied.method == "token_merging":
            share *= 1 - 0.15 * number["ratio"]
            loss += 0.03 * number["ratio"]
        else:  # half precision
            share *= 0.8
    return STEPS / steps / share, loss


def found(selection: Selection, seed: int) -> float:
    """What one search found, as it truly is; 1 where it loses too much."""
    setting = Setting(Noisy(random.Random(seed)), "cpu", selection=selection)  # noqa: S311 (no secret)
    best = Arm("evolution", setting).loop(TASK, attempt=f"-{seed}").best()
    if best is None:
        return 1.0
    speedup, loss = truth(best.idea.plan)
    return speedup if loss <= MAX_LOSS else 1.0


def main() -> None:
    """Search many times either way, and say which found more."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    ours = {selection: [found(selection, seed) for seed in range(count)] for selection in ("pareto", "paper")}
    for selection, values in ours.items():
        mean, low, high = interval(values)
        kept = sum(value > 1 for value in values)
        print(f"{selection}: {mean:.2f}x [{low:.2f}, {high:.2f}], kept the quality in {kept} of {count}")
    differences = [one - other for one, other in zip(ours["pareto"], ours["paper"], strict=True)]
    mean, low, high = interval(differences)
    print(f"pareto - paper: {mean:+.2f}x [{low:+.2f}, {high:+.2f}]")


if __name__ == "__main__":
    main()
