"""What an A/A run says of a machine, and how it is kept."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import math
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench import cache, noise, sequential
from pytest_diffbench.devices import Device
from pytest_diffbench.noise import Noise, analyse, recall, store
from pytest_diffbench.records import Outcome

if TYPE_CHECKING:
    from pathlib import Path

CORE = Device("cpu", "0", "a processor")
QUIET, USUAL, LOUD, USELESS = 0.003, 0.03, 0.15, 3.0
"""Standard deviations of a pair's log ratio."""
STANDARD = [float(value) for value in np.random.default_rng(3).standard_normal(noise.PAIRS)]
CENTRED = [value - sequential.interval(STANDARD, sequential.SPEED).estimate for value in STANDARD]
FIT = Noise(
    device="cpu:0",
    fingerprint="0123456789abcdef",
    measured="2026-08-01T12:00:00+00:00",
    pairs=16,
    deviation=0.0123,
    ratio=1.001,
    ratio_low=0.995,
    ratio_high=1.007,
    smallest_speedup=1.0253,
    pairs_for_difference=6,
)


@functools.cache
def _analysed(deviation: float, shift: float = 0.0) -> Noise:
    """One and the same run, but for its spread and where it lies."""
    return analyse([deviation * value + shift for value in CENTRED], CORE)


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache folder of the test's own; it is not there yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


# -- what a run says --------------------------------------------------------------------------------------------------


def test_a_louder_machine_tells_less_apart() -> None:
    """The same run with more spread: more deviation, a larger smallest speed-up, more pairs for the same difference."""
    quiet, usual, loud = (_analysed(deviation) for deviation in (QUIET, USUAL, LOUD))

    assert quiet.deviation < usual.deviation < loud.deviation
    assert quiet.smallest_speedup is not None
    assert usual.smallest_speedup is not None
    assert loud.smallest_speedup is not None
    assert 1 < quiet.smallest_speedup < usual.smallest_speedup < loud.smallest_speedup
    assert quiet.pairs_for_difference == sequential.SPEED.looks[0]
    assert usual.pairs_for_difference is not None
    assert usual.pairs_for_difference > quiet.pairs_for_difference
    assert loud.pairs_for_difference is None


def test_a_machine_that_tells_nothing_apart_says_so() -> None:
    """Where not even a factor of two is decided there is no smallest speed-up, rather than the largest one tried."""
    assert (_analysed(USELESS).smallest_speedup, _analysed(USELESS).pairs_for_difference) == (None, None)


@pytest.mark.parametrize("deviation", [USUAL, LOUD])
def test_the_smallest_speedup_is_told_from_none_nine_times_in_ten(deviation: float) -> None:
    """Other draws from the same run: at that speed-up nine in ten decide, at a third of its logarithm far fewer do."""
    least = _analysed(deviation).smallest_speedup
    assert least is not None
    rng = np.random.default_rng(99)

    def decided(log_speedup: float) -> float:
        plan = replace(sequential.SPEED, tight=None)
        tries = [rng.choice(CENTRED, plan.looks[-1]) * deviation + log_speedup for _ in range(150)]
        return float(np.mean([sequential.decide(x.tolist(), plan).outcome is Outcome.ABOVE for x in tries]))

    assert decided(math.log(least)) > 0.8
    assert decided(math.log(least) / 3) < 0.7


def test_a_hiccup_does_not_make_a_machine_loud() -> None:
    """One pair of sixteen that took twice as long is not what a usual pair deviates by."""
    run = [QUIET * value for value in CENTRED]
    disturbed = analyse([*run[:-1], math.log(2)], CORE)

    assert disturbed.deviation < 2 * _analysed(QUIET).deviation
    assert disturbed.ratio == pytest.approx(1, abs=2 * QUIET)


@given(st.lists(st.floats(-0.5, 0.5), min_size=8, max_size=24))
@settings(deadline=None, max_examples=25)
def test_neither_turn_is_favoured(log_ratios: list[float]) -> None:
    """Had the other process been called the first, the ratio and its bounds would be inverted, and nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "_TRIES", 1)  # the speed-ups are no matter here
        there, back = analyse(log_ratios, CORE), analyse([-value for value in log_ratios], CORE)

    assert there.ratio_low <= there.ratio <= there.ratio_high
    assert [back.ratio_high, back.ratio, back.ratio_low] == pytest.approx(
        [1 / there.ratio_low, 1 / there.ratio, 1 / there.ratio_high]
    )
    assert back.deviation == pytest.approx(there.deviation)
    assert back.pairs == there.pairs == len(log_ratios)


def test_a_run_says_where_and_when_it_was() -> None:
    """Device, fingerprint, number of pairs, and the moment in UTC."""
    found = _analysed(USUAL)

    assert (found.device, found.fingerprint, found.pairs) == ("cpu:0", noise.fingerprint(CORE), 16)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found.measured)).total_seconds()) < 600


def test_the_same_run_is_analysed_alike() -> None:
    """Resampling is seeded: nobody measures again in the hope of a better number."""
    run = [USUAL * value for value in CENTRED]

    again = replace(analyse(run, CORE), measured=_analysed(USUAL).measured)
    assert again == _analysed(USUAL)


# -- whether the machine is fit ---------------------------------------------------------------------------------------


def test_a_quiet_unbiased_machine_is_fit() -> None:
    """Nothing to say against it."""
    assert _analysed(QUIET).problem == _analysed(USUAL).problem == ""


@pytest.mark.parametrize(("shift", "times"), [(0.05, "1.051"), (-0.05, "0.951")])
def test_a_baseline_that_seems_faster_than_itself_is_a_problem(shift: float, times: str) -> None:
    """However precisely: a machine that favours one turn would favour it in every verdict."""
    found = _analysed(QUIET, shift)

    assert found.problem == f"the baseline seems {times} times as fast as itself: one turn is favoured"


@pytest.mark.parametrize(("deviation", "least"), [(LOUD, r"1\.[1-9]\dx"), (USELESS, "2x")])
def test_a_machine_that_tells_too_little_is_a_problem(deviation: float, least: str) -> None:
    """What it can tell is in the line, and what to look for."""
    wanted = f"a speed-up below {least} cannot be told from none: find out what else runs here"
    with pytest.raises(AssertionError, match=f"^{wanted}$"):
        raise AssertionError(_analysed(deviation).problem)


@pytest.mark.parametrize(("least", "fit"), [(1.005, True), (1.10, True), (1.101, False), (None, False)])
def test_a_machine_must_tell_ten_percent_from_none(least: float | None, fit: bool) -> None:  # noqa: FBT001 (a table's column)
    """1.10 will do, nothing larger."""
    assert (replace(FIT, smallest_speedup=least).problem == "") is fit


def test_bias_is_told_before_noise() -> None:
    """Of two problems the one that repetition cannot mend."""
    assert "one turn is favoured" in replace(FIT, ratio_low=1.001, smallest_speedup=None).problem


def test_a_result_reads_well() -> None:
    """One line for a report's head, to be read without knowing the code."""
    assert FIT.describe() == (
        "noise of this machine (2026-08-01, cpu:0): 1.2% a pair; smallest speed-up told from none 1.025x; "
        "a difference of 3% needs 6 pairs"
    )


def test_a_result_of_a_useless_machine_reads_well() -> None:
    """What could not be told is said, not left out."""
    assert replace(FIT, deviation=0.5, smallest_speedup=None, pairs_for_difference=None).describe() == (
        "noise of this machine (2026-08-01, cpu:0): 50.0% a pair; smallest speed-up told from none not even 2x; "
        "a difference of 3% needs more pairs than 24"
    )


# -- how it is kept ---------------------------------------------------------------------------------------------------


def _here(**changed: object) -> Noise:
    return replace(FIT, fingerprint=noise.fingerprint(CORE), **changed)  # type: ignore[arg-type]


def test_a_result_is_kept_for_this_machine(cache_home: Path) -> None:
    """What is stored is recalled as it was, from the user's cache folder, and leaves nothing else there."""
    file = store(_here())

    assert recall(CORE) == _here()
    assert list(cache_home.rglob("*")) == [cache_home / "pytest-diffbench", file]


def test_without_a_cache_folder_of_ones_own_it_is_the_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the XDG base directories have it, an empty variable counts as none."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    empty = cache.folder()
    monkeypatch.delenv("XDG_CACHE_HOME")

    assert empty == cache.folder() == tmp_path / ".cache" / "pytest-diffbench"


@pytest.mark.usefixtures("cache_home")
def test_a_later_result_takes_an_earlier_ones_place() -> None:
    """The last run counts."""
    store(_here())
    store(_here(smallest_speedup=None, pairs_for_difference=None))

    found = recall(CORE)
    assert found is not None
    assert (found.smallest_speedup, found.pairs_for_difference) == (None, None)


@pytest.mark.usefixtures("cache_home")
def test_a_real_run_survives_being_kept() -> None:
    """Every number of an analysed run is read back as it was."""
    store(_analysed(USUAL))

    assert recall(CORE) == _analysed(USUAL)


@pytest.mark.usefixtures("cache_home")
def test_nothing_is_recalled_where_nothing_was_kept() -> None:
    """No result, no error."""
    assert recall(CORE) is None


def test_a_folder_that_cannot_be_written_is_an_error(cache_home: Path) -> None:
    """Whoever measures must hear that it was not kept."""
    cache_home.write_text("in the way")

    with pytest.raises(OSError, match="cache"):
        store(_here())
    assert recall(CORE) is None


WHOLE = asdict(_here())
DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "cut short": json.dumps(WHOLE).encode()[:-20],
    "no text": b"\xff\xfe\x00",
    "a list": b"[1, 2]",
    "nothing": b"null",
    "a field is missing": json.dumps({name: value for name, value in WHOLE.items() if name != "ratio"}).encode(),
    "a field too many": json.dumps(WHOLE | {"mood": 1}).encode(),
    "a word for a number": json.dumps(WHOLE | {"deviation": "much"}).encode(),
    "nothing for a number": json.dumps(WHOLE | {"ratio_low": None}).encode(),
}


@pytest.mark.usefixtures("cache_home")
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_result_is_none(content: bytes) -> None:
    """A file that is not a whole result counts as no result; no later run dies of it."""
    store(_here()).write_bytes(content)

    assert recall(CORE) is None


@pytest.mark.usefixtures("cache_home")
def test_another_kind_of_device_has_a_result_of_its_own() -> None:
    """All cores of a machine are alike; another processor or a GPU is another matter."""
    store(_here())

    assert recall(replace(CORE, index="7")) == _here()
    assert recall(replace(CORE, model="another processor")) is None
    assert recall(replace(CORE, kind="cuda")) is None


@pytest.mark.usefixtures("cache_home")
@pytest.mark.parametrize("changed", ["torch", "diffusers"])
def test_another_version_of_a_library_needs_another_run(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured with other libraries says nothing of these."""
    store(_here())
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0" if name == changed else version(name))

    assert recall(CORE) is None


@pytest.mark.usefixtures("cache_home")
@pytest.mark.parametrize("fact", ["node", "machine", "release", "python_version"])
def test_another_machine_needs_another_run(fact: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that several machines share does not mix them up."""
    store(_here())
    monkeypatch.setattr(f"platform.{fact}", lambda: "another")

    assert recall(CORE) is None


def test_a_fingerprint_is_short_and_stays() -> None:
    """Sixteen hexadecimal digits, the same each time: fit for a file's name."""
    assert noise.fingerprint(CORE) == noise.fingerprint(CORE)
    assert len(bytes.fromhex(noise.fingerprint(CORE))) == 8


def test_the_example_is_a_whole_result() -> None:
    """What the damaged files are made from lacks nothing."""
    assert list(WHOLE) == [entry.name for entry in fields(Noise)]
