"""Which edition of the benchmark a result is of: a digest of what is asked, measured against, and judged by.

Results of different editions are never ranked together.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pytest_diffbench.records import plain

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.zoo.supply import Weights

JUDGE: Final = 6
"""Grows when the same evidence may get another verdict; a test asks for it after each change of the judge's code."""
SAMPLE: Final = 64
"""Prompts that stand for all that requests are drawn from."""
SHOWN: Final = 12
"""Hexadecimal digits of an edition; two that differ share them once in 10^14."""


def of_task(demand: Demand, weights: Weights, baseline_source: str, asserted: object = None) -> str:
    """The digest of one task: its demand and targets, model and baseline, prompts, scorer, and the judge's rules.

    `asserted` is what its test demands beside them: its stages, its own text, metrics of the user's.
    """
    images = demand.folder / demand.task.images if demand.task.images else None
    facts = {
        "judge": JUDGE,
        "task_id": demand.task_id,
        "task": replace(demand.task, methods=()),
        "methods": demand.methods,
        "steps": demand.steps,
        "size": demand.size,
        "sampler": demand.sampler,
        "guidance": demand.guidance,
        "markers": demand.markers,
        "baseline": _digest(baseline_source.encode()),
        "model": weights.revision,
        "scorer": weights.scorer_revision,
        "prompts": weights.prompts(random.Random(0), SAMPLE),  # noqa: S311 (no secret)
        "images": _contents(images) if images is not None else (),
        "asserted": asserted,
    }
    return _digest(json.dumps(plain(facts), sort_keys=True).encode())[:SHOWN]


def of_scenario(demand: Demand, weights: Weights, baseline_source: str) -> str:
    """The digest of what a task's scenario is, whichever of its targets the task has."""
    task = replace(demand.task, level=None, difficulty=None)
    markers = replace(demand.markers, speed=None, latency=None)
    scenario = replace(demand, task=task, markers=markers, task_id=task.scenario or "")
    return of_task(scenario, weights, baseline_source)


def of_run(tasks: Iterable[str]) -> str:
    """The digest of a set of tasks, whatever their order."""
    return _digest(" ".join(sorted(tasks)).encode())[:SHOWN]


def regraded(task: str, markers: object) -> str:
    """Of a task whose thresholds were exchanged afterwards: another one, unless nobody knows which it was."""
    if not task:
        return ""
    return _digest(f"{task} {json.dumps(plain(markers), sort_keys=True)}".encode())[:SHOWN]


def _contents(folder: Path) -> list[tuple[str, str]]:
    return [(file.name, _digest(file.read_bytes())) for file in sorted(folder.iterdir()) if file.is_file()]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
