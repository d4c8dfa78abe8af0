"""Reports become plain values that strict JSON can hold, and reports again."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench.records import (
    Cause,
    Executability,
    Quality,
    Speed,
    Stage,
    StageReport,
    TaskReport,
    Verdict,
    plain,
    task_report,
)

if TYPE_CHECKING:
    from pytest_diffbench.records import Plain

Floats: TypeAlias = st.SearchStrategy[float]

FINITE: Floats = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.lists(FINITE, max_size=4).map(tuple)
TEXT = st.text(max_size=20)
STAGES = st.builds(
    StageReport,
    st.sampled_from(Stage),
    st.sampled_from(Verdict),
    FINITE,
    cause=st.none() | st.sampled_from(Cause),
    line=TEXT,
    detail=TEXT,
)
REPORTS = st.builds(
    TaskReport,
    TEXT,
    TEXT,
    TEXT,
    st.sampled_from(Verdict),
    level=st.none() | st.integers(1, 5),
    difficulty=st.none() | TEXT,
    cause=st.none() | st.sampled_from(Cause),
    line=TEXT,
    detail=TEXT,
    stages=st.lists(STAGES, max_size=3).map(tuple),
    executability=st.none()
    | st.builds(Executability, FINITE, FINITE, FINITE, TEXT, TEXT, TEXT, st.integers(0, 2**32 - 1)),
    speed=st.none()
    | st.builds(
        Speed,
        TIMES,
        TIMES,
        TEXT,
        FINITE,
        FINITE,
        FINITE,
        st.none() | FINITE,
        st.none() | FINITE,
        st.none() | FINITE,
        st.none() | FINITE,
    ),
    quality=st.none() | st.builds(Quality, TIMES, TIMES, FINITE, st.none() | FINITE, FINITE, st.none() | FINITE),
    solution_sha256=TEXT,
    device=TEXT,
    isolation=TEXT,
    model_revision=TEXT,
    versions=st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.floats(width=32).map(np.float32),
    st.integers(-(2**31), 2**31 - 1).map(np.int32),
    st.booleans().map(np.bool_),
    st.text(st.characters()),
    st.binary(max_size=4),
    st.sampled_from(Verdict),
)


def _nested(parts: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return (
        st.lists(parts, max_size=3)
        | st.lists(parts, max_size=3).map(tuple)
        | st.dictionaries(LEAVES, parts, max_size=3)
    )


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_plain(entry) for entry in value)
    if isinstance(value, dict):
        return all(type(key) is str and _is_plain(entry) for key, entry in value.items())
    return value is None or type(value) in (bool, int, float, str)


@dataclass(frozen=True)
class Inner:
    """A record in a record."""

    share: object


@dataclass(frozen=True)
class Outer:
    """A record that holds another."""

    name: str
    inner: tuple[Inner, ...]


class Count(IntEnum):
    """A number with a name."""

    TWO = 2


PLAIN: dict[str, tuple[object, Plain]] = {
    "nan": (math.nan, None),
    "infinity": (math.inf, None),
    "minus infinity": ([-math.inf], [None]),
    "numpy float": (np.float32(0.5), 0.5),
    "numpy double": (np.float64(0.5), 0.5),
    "numpy nan": (np.float32("nan"), None),
    "numpy double nan": (np.float64("nan"), None),
    "numpy integer": (np.int64(7), 7),
    "numpy truth": (np.True_, True),
    "numpy text": (np.str_("a"), "a"),
    "array of one": (np.array(3), 3),
    "truth": (True, True),
    "verdict": (Verdict.PASS, "PASS"),
    "named number": (Count.TWO, 2),
    "path": (Path("a") / "b", "a/b"),
    "tuple": ((1, (2, 3)), [1, [2, 3]]),
    "set": ({4}, [4]),
    "keys": ({1: {None: 2}, Stage.SPEED: 3}, {"1": {"None": 2}, "speed": 3}),
    "records": (
        Outer("a", (Inner(math.nan), Inner({"b": np.int8(1)}))),
        {"name": "a", "inner": [{"share": None}, {"share": {"b": 1}}]},
    ),
}


@pytest.mark.parametrize(("value", "expected"), PLAIN.values(), ids=PLAIN)
def test_a_value_becomes_plain(value: object, expected: Plain) -> None:
    """Numbers of numpy become Python's, what is not finite None, records and enums what they hold; types exactly."""
    made = plain(value)

    assert made == expected
    assert _is_plain(made)


@given(st.recursive(LEAVES, _nested, max_leaves=10))
@settings(deadline=None)
def test_any_value_becomes_strict_json(value: object) -> None:
    """However it is nested, strict JSON can hold it and gives it back."""
    made = plain(value)

    assert _is_plain(made)
    assert json.loads(json.dumps(made, allow_nan=False)) == made


@given(REPORTS)
@settings(deadline=None, max_examples=50)
def test_a_report_is_read_back_as_it_was(report: TaskReport) -> None:
    """Through strict JSON and back, a report is equal to itself, enums, tuples and all."""
    written = json.dumps(plain(report), allow_nan=False)

    assert task_report(json.loads(written)) == report


def test_a_report_is_written_under_its_own_names() -> None:
    """A reader of the file finds every field of the record, and none besides."""
    made = plain(TaskReport("suite.py::test", "test", "agent", Verdict.PASS))

    assert isinstance(made, dict)
    assert list(made) == [entry.name for entry in fields(TaskReport)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"verdict": "MAYBE"}, "verdict"),
        ({"speed": {"speedup": 2.0}}, "speed.baseline_s"),
        ({"nodeid": None}, "nodeid"),
    ],
    ids=["unknown verdict", "half a speed", "no name"],
)
def test_a_damaged_report_is_refused_by_name(change: dict[str, object], named: str) -> None:
    """What is not a report is a ValueError that names the field which is wrong."""
    made = plain(TaskReport("suite.py::test", "test", "agent", Verdict.PASS))
    assert isinstance(made, dict)

    with pytest.raises(ValueError, match=named):
        task_report(made | change)


def _speed(speedup: float, latency_s: float | None = None, **demanded: float) -> Speed:
    return Speed((1.0,), (1.0,), "B", speedup, speedup, speedup, latency_s=latency_s, **demanded)


@pytest.mark.parametrize(
    ("speed", "share"),
    [
        pytest.param(_speed(1.5, demanded_speedup=2.0), 0.75, id="three quarters"),
        pytest.param(_speed(3.0, demanded_speedup=2.0), 1.0, id="more than demanded"),
        pytest.param(_speed(1.0, 0.8, demanded_latency_s=0.4), 0.5, id="twice the latency"),
        pytest.param(_speed(1.0, 0.2, demanded_latency_s=0.4), 1.0, id="below the latency"),
        pytest.param(_speed(0.1), 1.0, id="nothing demanded"),
    ],
)
def test_achievement_is_a_share_of_what_was_demanded(speed: Speed, share: float) -> None:
    """Reached over demanded speed-up, demanded over reached latency; never more than 1."""
    assert speed.achievement == share
