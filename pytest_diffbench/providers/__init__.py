"""Where solutions come from: worked answers, the baseline, files, and whatever a package or conftest adds."""

from pytest_diffbench.providers.contract import Provider, Solution
from pytest_diffbench.providers.files import NO_ANSWER, Folder, SingleFile, answer_names
from pytest_diffbench.providers.reference import Baseline, Reference, baseline_source

__all__ = [
    "NO_ANSWER",
    "Baseline",
    "Folder",
    "Provider",
    "Reference",
    "SingleFile",
    "Solution",
    "answer_names",
    "baseline_source",
]
