"""What pytest-benchmark compares by the same name is of the same kind."""

from __future__ import annotations

import pytest

from pytest_diffbench import benchmark_json
from pytest_diffbench.records import TaskReport, Verdict
from tests.test_wording import SPEED


@pytest.mark.parametrize(
    ("isolation", "suffix"),
    [
        ("bubblewrap", ""),
        ("landlock", ""),
        ("none (own process only)", " (isolation: none (own process only))"),
        ("external (vouched for by the user)", " (isolation: external (vouched for by the user))"),
    ],
)
def test_what_nothing_kept_in_is_never_compared_with_what_was(isolation: str, suffix: str) -> None:
    """`pytest-benchmark compare` matches by `fullname`; the tiers that hold compare with each other."""
    report = TaskReport("suite.py::test", "test", "agent", Verdict.PASS, speed=SPEED, isolation=isolation)

    names = [entry["fullname"] for entry in benchmark_json.benchmarks(report)]

    assert names == [f"suite.py::test::{role}{suffix}" for role in ("baseline", "candidate")]
