"""What a candidate's speed costs beside itself: start, compilation, memory, energy, and when it is paid back."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from pytest_diffbench.records import Cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_diffbench.clock import Pair
    from pytest_diffbench.workbench import Start


def evidence(
    baseline: Start, candidate: Start, pairs: Sequence[Pair], *, memory_bytes: tuple[int, int], batch: int
) -> Cost:
    """Both arms' costs; `memory_bytes` are the peaks of baseline and candidate."""
    steady_s = statistics.median(pair.candidate.elapsed_s for pair in pairs)
    baseline_steady_s = statistics.median(pair.baseline.elapsed_s for pair in pairs)
    later_s = _start_s(candidate, steady_s) - _start_s(baseline, baseline_steady_s)
    saved_s = (baseline_steady_s - steady_s) / batch
    return Cost(
        load_s=candidate.load_s,
        baseline_load_s=baseline.load_s,
        first_image_s=candidate.first_call_s,
        baseline_first_image_s=baseline.first_call_s,
        compile_s=max(0.0, candidate.first_call_s - steady_s),
        steady_s=steady_s,
        baseline_steady_s=baseline_steady_s,
        images_per_s=batch / steady_s,
        break_even_images=_break_even(later_s, saved_s),
        peak_memory_bytes=memory_bytes[1],
        baseline_peak_memory_bytes=memory_bytes[0],
        energy_j_per_image=_mean([pair.candidate_energy_j for pair in pairs], batch),
        baseline_energy_j_per_image=_mean([pair.baseline_energy_j for pair in pairs], batch),
    )


def _start_s(start: Start, steady_s: float) -> float:
    """What starting takes over and above answering."""
    return start.load_s + max(0.0, start.first_call_s - steady_s)


def _break_even(later_s: float, saved_s: float) -> float | None:
    if later_s <= 0:
        return 0.0
    return float(math.ceil(later_s / saved_s)) if saved_s > 0 else None


def _mean(joules: Sequence[float | None], batch: int) -> float | None:
    counted = [value for value in joules if value is not None]
    return math.fsum(counted) / len(counted) / batch if counted else None
