"""The paper's own results, to be shown beside a run's: other models, other hardware, other weights of the tasks.

Pass rates in percent (arXiv 2601.03178), by level and over all 604 tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MARK: Final = "the paper's, on other models and hardware (arXiv 2601.03178): no ranking with the run above"
COLUMNS: Final = ("L1", "L2", "L3", "L4", "L5", "all")
PASS_RATES: Final[Mapping[str, Sequence[float]]] = {
    "Claude Sonnet 4": (78.04, 72.41, 76.25, 5.38, 8.60, 54.30),
    "Claude Sonnet 4 with DiffAgent": (90.24, 91.38, 99.23, 33.33, 63.44, 81.59),
    "o3-mini": (41.46, 24.14, 4.60, 9.68, 6.45, 11.92),
    "o3-mini with DiffAgent": (73.17, 70.69, 69.73, 22.58, 27.96, 56.46),
    "GPT-4.1": (56.10, 18.97, 7.28, 10.75, 12.90, 14.24),
    "Gemini 2.5 Flash": (39.02, 29.31, 7.66, 2.15, 1.08, 12.09),
}
HARD_ACHIEVEMENT: Final[Mapping[str, float]] = {"Claude Sonnet 4 with DiffAgent": 68.27}
"""S_a over the hard tasks, in percent, where the paper gives it."""
