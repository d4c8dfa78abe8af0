"""What this machine can tell apart: the baseline timed against itself, kept with the machine's fingerprint."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pytest_diffbench import cache, records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_diffbench.devices import Device

PAIRS: Final = 16
DIFFERENCE: Final = 0.03
"""The pairs that telling this difference needs are reported."""
LEAST_FIT: Final = 1.10
"""A machine that cannot tell this speed-up from none is not fit to judge any."""
POWER: Final = 0.9
"""A speed-up counts as told from none if so large a share of tries would decide it."""
_TRIES: Final = 200
_STEP: Final = 1.005
_MOST: Final = 2.0
_LIBRARIES: Final = ("torch", "diffusers")


@dataclass(frozen=True)
class Noise:
    """An A/A run, and what follows from it."""

    device: str
    fingerprint: str
    measured: str
    """Date and time, UTC, ISO 8601."""
    pairs: int
    deviation: float
    """Robust standard deviation of a pair's log ratio."""
    ratio: float
    """Baseline over itself."""
    ratio_low: float
    ratio_high: float
    smallest_speedup: float | None
    """Told from none in nine of ten tries; None where not even a factor of two is."""
    pairs_for_difference: int | None
    """Pairs after which nine of ten tries have decided on 3 %; None where the cap comes first."""

    @property
    def problem(self) -> str:
        """Why the machine is not fit to time on; '' where it is."""
        if not self.ratio_low <= 1 <= self.ratio_high:
            return f"the baseline seems {self.ratio:.3f} times as fast as itself: one turn is favoured"
        if self.smallest_speedup is None or self.smallest_speedup > LEAST_FIT:
            least = f"{self.smallest_speedup:.2f}x" if self.smallest_speedup is not None else f"{_MOST:.0f}x"
            return f"a speed-up below {least} cannot be told from none: find out what else runs here"
        return ""

    def describe(self) -> str:
        """One line for a report's head."""
        told = f"{self.smallest_speedup:.3f}x" if self.smallest_speedup is not None else f"not even {_MOST:.0f}x"
        needed = f"{self.pairs_for_difference} pairs" if self.pairs_for_difference is not None else "more pairs than 24"
        return (
            f"noise of this machine ({self.measured[:10]}, {self.device}): {self.deviation:.1%} a pair; "
            f"smallest speed-up told from none {told}; a difference of {DIFFERENCE:.0%} needs {needed}"
        )


def analyse(log_ratios: Sequence[float], device: Device) -> Noise:
    """What an A/A run of the baseline says: log ratios of the first arm's times over the second's."""
    # imported here: a run that only reads an old result needs neither
    import numpy as np
    from scipy import stats

    from pytest_diffbench import sequential

    found = sequential.interval(log_ratios, sequential.SPEED)
    residuals = np.asarray(log_ratios) - found.estimate
    return Noise(
        device=device.name,
        fingerprint=fingerprint(device),
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        pairs=len(log_ratios),
        deviation=float(stats.median_abs_deviation(residuals, scale="normal")),
        ratio=math.exp(found.estimate),
        ratio_low=math.exp(found.low),
        ratio_high=math.exp(found.high),
        smallest_speedup=_smallest_speedup(residuals.tolist()),
        pairs_for_difference=_pairs_needed(residuals.tolist(), math.log(1 + DIFFERENCE)),
    )


def _smallest_speedup(residuals: Sequence[float]) -> float | None:
    """By bisection over the factors between 1 and `_MOST`, in steps of half a percent."""
    low, high = 0, math.ceil(math.log(_MOST) / math.log(_STEP))
    if _power(residuals, high * math.log(_STEP))[0] < POWER:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if _power(residuals, middle * math.log(_STEP))[0] >= POWER:
            high = middle
        else:
            low = middle
    return float(_STEP**high)


def _pairs_needed(residuals: Sequence[float], shift: float) -> int | None:
    share, needed = _power(residuals, shift)
    return needed if share >= POWER else None


def _power(residuals: Sequence[float], shift: float) -> tuple[float, int]:
    """The share of tries that show a shift, and the pairs after which nine of ten of those have; by resampling."""
    import numpy as np

    from pytest_diffbench import sequential

    rng = np.random.default_rng(0)
    most = sequential.SPEED.looks[-1]
    plan = sequential.Plan(sequential.SPEED.looks, sequential.SPEED.alpha, sequential.SPEED.rank_from)
    after = []
    for _ in range(_TRIES):
        sample = rng.choice(residuals, most) + shift
        decision = sequential.decide(sample.tolist(), plan)
        if decision.outcome is records.Outcome.ABOVE:
            after.append(decision.decided_after)
    after.sort()
    return len(after) / _TRIES, after[math.ceil(POWER * len(after)) - 1] if after else most


def fingerprint(device: Device) -> str:
    """What a timing depends on: machine, system, device, and the libraries' versions; 16 hexadecimal digits."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    facts = [platform.node(), platform.machine(), platform.release(), str(os.cpu_count()), device.kind, device.model]
    return hashlib.sha256("\n".join([*facts, platform.python_version(), *versions]).encode()).hexdigest()[:16]


def store(noise: Noise) -> Path:
    """Keep a result for this machine and kind of device; OSError where that is impossible."""
    file = cache.folder() / f"noise-{noise.fingerprint}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(asdict(noise), indent=2) + "\n")
    temporary.replace(file)
    return file


def recall(device: Device) -> Noise | None:
    """The result for this machine and kind of device; None where there is none, or none that can be read."""
    file = cache.folder() / f"noise-{fingerprint(device)}.json"
    try:
        found = Noise(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    # by hand: collecting tasks reads it, and must not wait for pydantic
    words = (found.device, found.fingerprint, found.measured)
    numbers = (found.pairs, found.deviation, found.ratio, found.ratio_low, found.ratio_high)
    perhaps = [value for value in (found.smallest_speedup, found.pairs_for_difference) if value is not None]
    sound = all(isinstance(value, str) for value in words)
    sound = sound and all(isinstance(value, (int, float)) for value in (*numbers, *perhaps))
    return found if sound else None
