"""How good each solution of a run is, read from its pytest-benchmark JSON and from nothing else.

The same file gives the same fitness for ever: nothing here asks a clock, a device or a random number.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT: Final = 2
"""Of the entries that pytest-diffbench writes."""

BREAKS: Final = ("timeout", "crash", "memory limit", "process limit", "disk limit", "output limit")
"""Causes of a program that began to run, and did not go on: there is something to repair."""


AS_IT_IS: Final = 1.0
"""The speed-up that nobody needs to search for: of the pipeline as it is, which loses nothing."""


class FitnessError(ValueError):
    """A file that no fitness can be read from; the message says what it lacks."""


@dataclass(frozen=True)
class Fitness:
    """What was measured of one solution: how much faster, and what of the CLIP-Score was lost."""

    solution_sha256: str
    verdict: str
    cause: str | None = None
    line: str = ""
    """What a failure says of itself."""
    speedup: float | None = None
    """Over the baseline; None where it was not timed."""
    speedup_low: float | None = None
    speedup_high: float | None = None
    """What one look of the sequential test would not reject."""
    loss: float | None = None
    """Share of the baseline's CLIP-Score; None where nothing was judged."""
    loss_low: float | None = None
    loss_high: float | None = None
    max_loss: float | None = None
    """What the task allows."""
    reached: float | None = None
    """Speed over what the task demands: 1 is just enough; None where it was not timed, or nothing is demanded."""
    stage: str = ""
    """The first stage that did not pass: executability, speed or quality; '' where all did, or none began."""
    detail: str = ""
    """The traceback or measurement behind the line."""
    elapsed_s: float = 0.0
    """What its stages took, on a device."""
    baseline_s: float = 0.0
    """A call of the baseline beside it, median; 0 where it was not timed."""

    @property
    def achievement(self) -> float | None:
        """Share of the demanded speed, at most 1."""
        return min(1.0, self.reached) if self.reached is not None else None

    @property
    def runs(self) -> bool:
        """Whether it draws images as it should: what failed, if anything, was its speed, or what they show."""
        if self.verdict in ("PASS", "UNDECIDED"):
            return True
        broke = self.cause in BREAKS
        return self.verdict == "FAIL" and self.stage in ("speed", "quality") and not broke

    @property
    def measured(self) -> bool:
        """Whether both speed and quality are known: only then can it be compared."""
        return self.speedup is not None and self.loss is not None and self.verdict not in ("CHEAT", "INFRA")

    @property
    def keeps_quality(self) -> bool:
        """Whether it lost no more than the task allows, by its estimate, and no guard spoke up."""
        if self.loss is None or self.max_loss is None or not self.measured:
            return False
        blamed = self.verdict == "FAIL" and self.cause not in (None, "relative-speed error")
        return self.loss <= self.max_loss and not blamed


def feasible(fitness: Fitness | None) -> float:
    """A speed-up that keeps the quality; that of the pipeline as it is, where it does not."""
    if fitness is None or not fitness.keeps_quality or fitness.speedup is None:
        return AS_IT_IS
    return max(AS_IT_IS, fitness.speedup)


def fitness_of(file: Path) -> Mapping[str, Fitness]:
    """The fitness of each solution in a run's JSON, by its node id; FitnessError where that holds none.

    A solution that could not be measured has its verdict and cause, and no figures.
    """
    try:
        entries: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["diffbench"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FitnessError(f"{file} is no file of a pytest-diffbench run: {type(error).__name__}: {error}") from error
    others = sorted({str(entry.get("format")) for entry in entries} - {str(FORMAT)})
    if others:
        raise FitnessError(f"{file}: entries of format {FORMAT} are read here, it has {', '.join(others)}")
    return {entry["nodeid"]: _fitness(entry) for entry in entries}


def _fitness(entry: Mapping[str, Any]) -> Fitness:
    speed, quality = entry["speed"] or {}, entry["quality"] or {}
    stages = entry["stages"] or ()
    return Fitness(
        solution_sha256=entry["solution_sha256"],
        verdict=entry["verdict"],
        cause=entry["cause"],
        line=entry["line"],
        speedup=speed.get("speedup"),
        speedup_low=speed.get("speedup_low"),
        speedup_high=speed.get("speedup_high"),
        loss=quality.get("loss"),
        loss_low=quality.get("loss_low"),
        loss_high=quality.get("loss_high"),
        max_loss=quality.get("max_loss"),
        reached=_reached(speed),
        stage=next((stage["stage"] for stage in stages if stage["verdict"] != "PASS"), ""),
        detail=entry["detail"],
        elapsed_s=sum(stage["elapsed_s"] for stage in stages),
        baseline_s=statistics.median(speed.get("baseline_s") or [0.0]),
    )


def _reached(speed: Mapping[str, Any]) -> float | None:
    """Of the demanded speed-up, or of the demanded latency."""
    speedup, demanded = speed.get("speedup"), speed.get("demanded_speedup")
    if speedup is not None and demanded:
        return float(speedup / demanded)
    latency_s, limit_s = speed.get("latency_s"), speed.get("demanded_latency_s")
    return float(limit_s / latency_s) if latency_s and limit_s else None
