"""A machine that measures nothing: what a program would take and lose is read from its text, by a rule."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from diffagent.fitness import Fitness

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffagent.generation import Order

    from pytest_diffbench.demand import Demand

STEPS: Final = re.compile(r"num_inference_steps=(\d+)")
BROKEN: Final = "raise"


@dataclass
class Imagined:
    """Time is the number of steps, half of it with DeepCache; images are lost below 12 steps; `raise` does not run."""

    target: float
    generations: list[dict[str, str]] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    demands: list[Demand] = field(default_factory=list)
    workers: int = 0

    def measure(self, demand: Demand, solutions: Mapping[str, str], order: Order) -> dict[str, Fitness]:
        """As `Run.measure`."""
        self.demands.append(demand)
        self.generations.append(dict(solutions))
        self.orders.append(order)
        return {name: self.fitness(source) for name, source in solutions.items()}

    def fitness(self, source: str) -> Fitness:
        """What it says of a program."""
        if BROKEN in source:
            line = next(line for line in source.splitlines() if BROKEN in line).strip()
            return Fitness("", "FAIL", "compilation error", line, stage="executability", detail="Traceback …")
        found = STEPS.search(source)
        steps = int(found[1]) if found is not None else 50
        speedup = 50 / steps * (1.5 if "deepcache" in source else 1)
        loss = max(0.0, (12 - steps) * 0.03)
        met = speedup >= self.target and loss <= 0.05
        cause = None if met else "relative-quality error" if loss > 0.05 else "relative-speed error"
        stage = "" if met else "quality" if loss > 0.05 else "speed"
        verdict = "PASS" if met else "FAIL"
        return Fitness(
            "",
            verdict,
            cause,
            "",
            speedup,
            speedup,
            speedup,
            loss,
            loss,
            loss,
            max_loss=0.05,
            reached=speedup / self.target if self.target else None,
            stage=stage,
            elapsed_s=1.0,
        )
