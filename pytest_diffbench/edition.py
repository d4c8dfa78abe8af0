"""Which edition of the benchmark a result is of: a digest of what is asked, measured against, and judged by.

Results of different editions are never ranked together.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pytest_diffbench.records import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.zoo.supply import Weights

JUDGE: Final = 1
"""Grows when the same evidence may get another verdict."""
SHOWN: Final = 12
"""Hexadecimal digits of an edition; two that differ share them once in 10^14."""


def of_task(demand: Demand, weights: Weights, baseline_source: str) -> str:
    """The digest of one task: its demand and targets, its model and baseline, its scorer and the judge's rules."""
    prompts = demand.folder / demand.task.prompts if demand.task.prompts else None
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
        "prompts": _digest(prompts.read_bytes()) if prompts is not None else "",
    }
    return _digest(json.dumps(plain(facts), sort_keys=True).encode())[:SHOWN]


def of_run(tasks: Iterable[str]) -> str:
    """The digest of a set of tasks, whatever their order."""
    return _digest(" ".join(sorted(tasks)).encode())[:SHOWN]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
