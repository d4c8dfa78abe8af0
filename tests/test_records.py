"""Reports become plain values that strict JSON can hold, and reports again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, IntEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from pytest_diffbench.records import (
    Cause,
    Cost,
    Distribution,
    Executability,
    Guard,
    MetricResult,
    Observation,
    Outcome,
    Quality,
    Speed,
    Stage,
    StageReport,
    StepControl,
    TaskReport,
    Verdict,
    plain,
    task_report,
)

if TYPE_CHECKING:
    from pytest_diffbench.records import Plain

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=8)


def _any(hint: Any) -> st.SearchStrategy[Any]:
    """Anything that a field of this type may hold: every field of a record is drawn, those with a default too."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is UnionType:
        return st.one_of([_any(choice) for choice in inner])
    if kind is tuple:
        return st.lists(_any(inner[0]), max_size=2).map(tuple)
    if kind is Mapping:
        return st.dictionaries(_any(inner[0]), _any(inner[1]), max_size=2)
    if isinstance(hint, type) and is_dataclass(hint):
        return st.builds(hint, **{name: _any(each) for name, each in get_type_hints(hint).items()})
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    plain_ones: dict[Any, st.SearchStrategy[Any]] = {
        float: FINITE,
        int: st.integers(-(2**64), 2**64),
        bool: st.booleans(),
        str: TEXT,
        NoneType: st.none(),
    }
    return plain_ones[hint]


REPORTS = _any(TaskReport)
PARTS: tuple[type, ...] = (
    StageReport,
    Observation,
    Executability,
    Speed,
    Cost,
    Guard,
    StepControl,
    MetricResult,
    Distribution,
    Quality,
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
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_report_is_read_back_as_it_was(report: TaskReport) -> None:
    """Through strict JSON and back, a report is equal to itself, every field, enums, tuples and all."""
    written = json.dumps(plain(report), allow_nan=False)

    assert task_report(json.loads(written)) == report


@pytest.mark.parametrize("part", PARTS, ids=lambda part: str(part.__name__))
@given(st.data())
@settings(deadline=None, max_examples=30)
def test_a_part_of_a_report_is_read_back_as_it_was(part: type, data: st.DataObject) -> None:
    """Each kind of evidence by itself, with many more of its values than a whole report has room to show."""
    evidence = data.draw(_any(part))
    written = json.loads(json.dumps(plain(evidence), allow_nan=False))

    assert list(written) == [entry.name for entry in fields(part)]
    assert TypeAdapter(part).validate_python(written) == evidence


def test_what_was_never_measured_is_read_back_as_none() -> None:
    """The shortest report there is: no stage, no evidence, one try, one request at a time."""
    report = task_report({"nodeid": "a", "task_id": "b", "agent": "c", "verdict": "INFRA"})

    assert report == TaskReport("a", "b", "c", Verdict.INFRA)
    assert (report.speed, report.quality, report.cost, report.seed) == (None, None, None, None)
    assert (report.batch, report.undecided_runs, report.stages) == (1, 0, ())


def test_a_bound_that_is_not_there_is_no_number() -> None:
    """Infinity and NaN are written as None, and read back so: no reader has to know of them."""
    endless = Speed((1.0,), (1.0,), "B", 1.0, 0.0, math.inf)
    made = plain(TaskReport("a", "b", "c", Verdict.UNDECIDED, speed=endless))

    speed = task_report(made).speed
    assert speed is not None
    assert (speed.speedup_low, speed.speedup_high) == (0.0, None)


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
        ({"cost": {"load_s": 1.0}}, "cost.baseline_load_s"),
        ({"undecided_runs": None}, "undecided_runs"),
        ({"cause": "bad luck"}, "cause"),
    ],
    ids=["unknown verdict", "half a speed", "no name", "half a cost", "no count", "unknown cause"],
)
def test_a_damaged_report_is_refused_by_name(change: dict[str, object], named: str) -> None:
    """What is not a report is a ValueError that names the field which is wrong."""
    made = plain(TaskReport("suite.py::test", "test", "agent", Verdict.PASS))
    assert isinstance(made, dict)

    with pytest.raises(ValueError, match=named):
        task_report(made | change)


def _speed(
    speedup: float,
    latency_s: float | None = None,
    *,
    demanded_speedup: float | None = None,
    demanded_latency_s: float | None = None,
) -> Speed:
    return Speed(
        (1.0,),
        (1.0,),
        "B",
        speedup,
        speedup,
        speedup,
        demanded_speedup=demanded_speedup,
        latency_s=latency_s,
        demanded_latency_s=demanded_latency_s,
    )


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


@pytest.mark.parametrize("cause", Cause)
def test_a_cause_says_how_the_task_ends(cause: Cause) -> None:
    """Broken protocol and slowed baseline are cheating, noise and random weights undecided, the rest a failure."""
    special = {
        Cause.PROTOCOL: Verdict.CHEAT,
        Cause.BASELINE_SLOWED: Verdict.CHEAT,
        Cause.UNDECIDED: Verdict.UNDECIDED,
        Cause.NOT_JUDGED: Verdict.UNDECIDED,
        Cause.QUARANTINED: Verdict.INFRA,
    }

    assert cause.verdict is special.get(cause, Verdict.FAIL)
    assert cause.verdict is not Verdict.PASS


@pytest.mark.parametrize(
    ("gain_low", "suffices"), [(-0.4, True), (0.0, True), (0.1, False)], ids=["worse", "as good", "better"]
)
def test_fewer_steps_suffice_unless_the_candidate_is_shown_to_be_better(gain_low: float, suffices: bool) -> None:  # noqa: FBT001 (a table's column)
    """It is the bound that must lie above 0, not the mean."""
    assert StepControl(steps=20, elapsed_s=1.0, clip_score=30.0, gain=0.5, gain_low=gain_low).suffices is suffices


def test_outcomes_are_told_by_plain_words() -> None:
    """What a reader of the file sees."""
    assert plain(list(Outcome)) == ["above", "below", "open"]
