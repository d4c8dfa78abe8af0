"""The frozen values that travel from a stage to the report: verdicts, causes, evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import TypeAlias

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"
"""What strict JSON and execnet can both carry."""


class Verdict(StrEnum):
    """How a task ended."""

    PASS = "PASS"  # noqa: S105 (no password)
    FAIL = "FAIL"
    UNDECIDED = "UNDECIDED"
    """The machine was too noisy to say."""
    CHEAT = "CHEAT"
    """Tampering was caught."""
    INFRA = "INFRA"
    """Our fault or the machine's; not in the denominator."""


class Cause(StrEnum):
    """Why a task did not pass: the paper's five failure classes, and what a process can die of."""

    COMPILATION = "compilation error"
    KEY_ATTRIBUTE = "key-attribute error"
    ABSOLUTE_QUALITY = "absolute-quality error"
    RELATIVE_QUALITY = "relative-quality error"
    RELATIVE_SPEED = "relative-speed error"
    TIMEOUT = "timeout"
    CRASH = "crash"
    PROTOCOL = "protocol violation"
    OUTPUT_LIMIT = "output limit"
    ASSERTION = "assertion of the test"
    """The stages passed, the test's own body did not."""

    @property
    def failure_class(self) -> Cause:
        """The paper's class: whatever keeps a solution from running is its compilation error."""
        died = (Cause.TIMEOUT, Cause.CRASH, Cause.PROTOCOL, Cause.OUTPUT_LIMIT)
        return Cause.COMPILATION if self in died else self


class Outcome(StrEnum):
    """What a sample says of a claim: that it lies above it, below it, or nothing yet."""

    ABOVE = "above"
    BELOW = "below"
    OPEN = "open"


class Stage(StrEnum):
    """The three stages, in their order."""

    EXECUTABILITY = "executability"
    SPEED = "speed"
    QUALITY = "quality"


@dataclass(frozen=True)
class StageReport:
    """How one stage ended."""

    stage: Stage
    verdict: Verdict
    elapsed_s: float
    cause: Cause | None = None
    line: str = ""
    """One line that a person or an LLM can act on."""
    detail: str = ""
    """The traceback or measurement behind it."""


@dataclass(frozen=True)
class Executability:
    """What the first stage found out."""

    load_s: float
    """Building the pipeline, once; not part of the speed-up."""
    first_call_s: float
    ready_s: float
    """From solution text in hand to a process ready to load it."""
    pipeline_class: str = ""
    scheduler_class: str = ""
    dtype: str = ""
    num_inference_steps: int = 0
    """The pipeline's own word on itself (empty or 0 where it cannot be observed); may only lose a pass."""


@dataclass(frozen=True)
class Speed:
    """What the clock found out; times in seconds per call of `batch` requests."""

    baseline_s: tuple[float, ...]
    candidate_s: tuple[float, ...]
    order: str
    """Which arm went first in each pair: 'B' or 'C'."""
    speedup: float
    """Median of the pairs' ratios baseline / candidate, taken in logarithms."""
    speedup_low: float
    speedup_high: float
    """The middle half of the pairs' ratios (quartiles)."""
    demanded_speedup: float | None = None
    latency_s: float | None = None
    """The candidate's time at the demanded percentile (the median where none is demanded)."""
    demanded_latency_s: float | None = None
    peak_memory_ratio: float | None = None
    """Peak resident memory, candidate over baseline."""

    @property
    def achievement(self) -> float:
        """How much of the demanded speed was reached, capped at 1."""
        if self.demanded_speedup is not None:
            return min(self.speedup / self.demanded_speedup, 1.0)
        if self.demanded_latency_s is not None and self.latency_s:
            return min(self.demanded_latency_s / self.latency_s, 1.0)
        return 1.0


@dataclass(frozen=True)
class Quality:
    """What the judge found out, on exactly the images that were timed."""

    baseline_clip: tuple[float, ...]
    candidate_clip: tuple[float, ...]
    """CLIP-Score of each image with its own prompt: 100 * max(cosine, 0)."""
    clip_score: float
    """Mean of the candidate's."""
    loss: float | None
    """(mean baseline - mean candidate) / mean baseline; None where the baseline scores nothing."""
    max_loss: float
    reference_clip_score: float | None = None
    """What the zoo records for this model; None where nothing is recorded."""


@dataclass(frozen=True)
class TaskReport:
    """Everything that is known of one finished task."""

    nodeid: str
    task_id: str
    agent: str
    verdict: Verdict
    level: int | None = None
    difficulty: str | None = None
    cause: Cause | None = None
    line: str = ""
    detail: str = ""
    stages: tuple[StageReport, ...] = ()
    executability: Executability | None = None
    speed: Speed | None = None
    quality: Quality | None = None
    solution_sha256: str = ""
    device: str = ""
    isolation: str = ""
    model_revision: str = ""
    versions: Mapping[str, str] | None = None
    """Of the libraries that the measurement rests on."""


def plain(value: object) -> Plain:
    """A value as strict JSON can hold it: records to dicts, numpy scalars to Python, NaN and infinity to None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    if value is None or type(value) in (bool, int, str):
        return value  # type: ignore[return-value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int):
        return int(value)
    listed = getattr(value, "tolist", None)  # numpy's and torch's scalars and arrays
    made = listed() if callable(listed) else value
    return plain(made) if type(made) is not type(value) else str(value)


def task_report(data: object) -> TaskReport:
    """The report that `plain` made `data` from; ValueError (pydantic's) that names what is wrong with it."""
    # imported here: a worker only writes reports, and never reads one
    from pydantic import TypeAdapter

    return TypeAdapter(TaskReport).validate_python(data)
