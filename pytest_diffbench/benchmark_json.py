"""Our records in pytest-benchmark's file, beside and like its own.

pytest-benchmark measures nothing under xdist and has no interface for samples taken elsewhere. So both arms of every
task travel as plain dictionaries on the test report, and are turned on the controller into the objects that
pytest-benchmark itself writes, tables and compares.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

from pytest_diffbench.records import Plain, TaskReport, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_benchmark.stats import Metadata

ROLES: Final = ("baseline", "candidate")
FORMAT: Final = 2
"""Of the top-level `diffbench` list; grows when an entry's meaning changes."""


def benchmarks(report: TaskReport) -> list[dict[str, Plain]]:
    """One entry per arm of a task whose speed was measured, in pytest-benchmark's own terms; times in seconds."""
    if report.speed is None:
        return []
    speed = report.speed
    extra = {
        "task": report.task_id,
        "agent": report.agent,
        "verdict": report.verdict,
        "device": report.device,
        "isolation": report.isolation,
        "level": report.level,
        "batch": report.batch,
        "seed": report.seed,
        "requests": report.requests,
    }
    result = {
        "speedup": speed.speedup,
        "speedup_low": speed.speedup_low,
        "speedup_high": speed.speedup_high,
        "achievement": speed.achievement,
        "ceiling": report.executability.ceiling if report.executability is not None else None,
        "harness_check": report.harness_check,
        "above_ceiling": report.claim_above_ceiling is not None,
        "peak_memory_ratio": speed.peak_memory_ratio,
        "clip_score": report.quality.clip_score if report.quality is not None else None,
        "quality_loss": report.quality.loss if report.quality is not None else None,
        "quality_loss_low": report.quality.loss_low if report.quality is not None else None,
        "quality_loss_high": report.quality.loss_high if report.quality is not None else None,
        "solution_sha256": report.solution_sha256,
    }
    arms = zip(ROLES, (speed.baseline_s, speed.candidate_s), ({}, result), strict=True)
    return [_benchmark(report, role, seconds, {**extra, **more}) for role, seconds, more in arms]


def _benchmark(report: TaskReport, role: str, seconds: Sequence[float], extra_info: object) -> dict[str, Plain]:
    name = report.nodeid.rpartition("::")[2]
    return {
        "name": f"{name}::{role}",
        # unique, for comparisons key on it: what was kept in by nothing is never compared with what was
        "fullname": f"{report.nodeid}::{role}{_without_isolation(report)}",
        "group": report.task_id,
        "param": role,
        "params": {"role": role},
        "extra_info": plain(extra_info),
        "data": list(seconds),
    }


def _without_isolation(report: TaskReport) -> str:
    return f" (isolation: {report.isolation})" if report.isolation.startswith(("none", "external")) else ""


def metadata(entry: dict[str, Plain]) -> Metadata:
    """pytest-benchmark's own object for an entry."""
    from pytest_benchmark.stats import Metadata

    seconds = entry["data"]
    assert isinstance(seconds, list)
    shim = SimpleNamespace(
        **{name: entry[name] for name in ("name", "fullname", "group", "param", "params", "extra_info")},
        cprofile_stats=None,
        has_error=False,
    )
    options = {
        "disable_gc": False,
        "timer": "diffbench",
        "min_rounds": len(seconds),
        "max_time": 0.0,
        "min_time": 0.0,
        "warmup": False,
    }
    made = Metadata(shim, iterations=1, options=options)
    for sample in seconds:  # all before any statistic is read: those are cached
        made.stats.update(sample)
    return made


def summary(report: TaskReport) -> dict[str, Plain]:
    """A task's entry in the file's top-level `diffbench` list."""
    entry = plain(report)
    assert isinstance(entry, dict)
    return {"format": FORMAT, **entry, "harness_check": report.harness_check}


ADDED: Final = ("format", "harness_check")
"""What an entry has beside its report."""
