"""The paper's own results, to be shown beside a run's: other models, other hardware, other weights of the tasks.

Pass rates in percent (arXiv 2601.03178), by level and over all 604 tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_diffbench.records import Plain

MARK: Final = "beside the paper's, on other models and hardware (arXiv 2601.03178): no ranking"
TASKS: Final = (41, 116, 261, 93, 93)
"""How many there are of each level."""
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
OURS: Final = "this run"


def lines(ours: Sequence[float | None]) -> list[str]:
    """The paper's table under the run's own row: shares by level and over all, None where there is none."""
    width = max(map(len, PASS_RATES))
    shown = [f"{100 * share:8.2f}" if share is not None else f"{'-':>8}" for share in ours]
    table = [f"{MARK}:", f"  {'S_p in %':<{width}}" + "".join(f"{name:>8}" for name in COLUMNS)]
    table.append(f"  {OURS:<{width}}" + "".join(shown))
    for name, rates in PASS_RATES.items():
        hard = f"   S_a hard {HARD_ACHIEVEMENT[name]:.2f}" if name in HARD_ACHIEVEMENT else ""
        table.append(f"  {name:<{width}}" + "".join(f"{rate:8.2f}" for rate in rates) + hard)
    return table


def facts() -> dict[str, Plain]:
    """The same for a file."""
    rates: dict[str, Plain] = {name: dict(zip(COLUMNS, each, strict=True)) for name, each in PASS_RATES.items()}
    return {"mark": MARK, "pass_rates_percent": rates, "hard_achievement_percent": dict(HARD_ACHIEVEMENT)}
