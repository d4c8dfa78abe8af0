"""Targets that follow from the best known answer, and where that is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_diffbench import calibration
from pytest_diffbench.calibration import PAPER_SHARES, Best, Calibration, as_share, retargeted, targets
from pytest_diffbench.demand import LatencyDemand, Markers, SpeedDemand, demanded_speedup
from pytest_diffbench.errors import SetupError
from tests.agent.demands import demand

SUITES = Path(__file__).parents[1] / "suites"
MACHINE = {"devices": "cpu: A Processor", "torch": "2"}


def _best(speedup: float) -> Best:
    return Best(speedup, speedup * 0.9, speedup * 1.1, 0.01, "deepcache(interval=3)", "search", "x = 1\n")


def test_targets_are_shares_of_the_way_in_logarithms() -> None:
    """As docs/tasks.md has it for a best answer of six."""
    assert targets(6.0) == {"easy": 2.04, "medium": 3.2, "hard": 4.58}
    assert targets(6.0, PAPER_SHARES)["medium"] == 6.0


@given(st.floats(1.0, 100.0))
def test_no_target_is_out_of_reach_and_harder_is_never_easier(speedup: float) -> None:
    """Rounding only ever lowers a speed-up, and raises a latency."""
    found = targets(speedup)

    assert 1 <= found["easy"] <= found["medium"] <= found["hard"] <= speedup
    for target in found.values():
        assert as_share(target) >= 1 / target - 1e-9
        assert as_share(target) - 1 / target < 0.0011


@pytest.mark.parametrize(
    ("markers", "level"),
    [(Markers(speed=SpeedDemand(9.0)), 4), (Markers(latency=LatencyDemand(at_most_of_baseline=0.9)), 5)],
    ids=["speed", "latency"],
)
def test_a_task_gets_the_target_of_its_difficulty(markers: Markers, level: int) -> None:
    """In its own terms; the rest of it stays."""
    task = demand("sd15", markers, level=level, scenario="ddim-50", difficulty="medium")

    own, paper = (retargeted(task, _best(6.0), scale) for scale in ("own", "paper"))
    assert demanded_speedup(own.markers) == pytest.approx(3.2, rel=0.01)
    assert demanded_speedup(paper.markers) == pytest.approx(6.0, rel=0.01)
    assert own.task is task.task
    assert calibration.key_of(task) == "sd15/ddim-50"


def test_what_was_found_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Every figure and the program."""
    kept = Calibration(MACHINE, {"sd15/ddim-50": _best(3.0)})
    calibration.write(tmp_path / "deep" / "calibration.json", kept)

    assert calibration.read(tmp_path / "deep" / "calibration.json") == kept


@pytest.mark.parametrize("text", ["", "{}", '{"format": 1}', '{"format": 1, "machine": {}, "scenarios": {"a": {}}}'])
def test_what_is_no_calibration_is_said(tmp_path: Path, text: str) -> None:
    """With the file's name, and how to make one."""
    (tmp_path / "it.json").write_text(text)

    with pytest.raises(SetupError, match=r"it\.json is no calibration .*--diffbench-calibrate"):
        calibration.read(tmp_path / "it.json")


def test_another_format_is_not_read(tmp_path: Path) -> None:
    """A later version's file is not taken for an old one."""
    (tmp_path / "it.json").write_text('{"format": 2}')

    with pytest.raises(SetupError, match="has format 2, this version reads 1"):
        calibration.read(tmp_path / "it.json")


def test_another_machines_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what differs; and where there is none, that is said."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SetupError, match="this machine is not calibrated"):
        calibration.of_machine(MACHINE)
    calibration.write(calibration.own_file(MACHINE), Calibration(MACHINE, {}))

    assert calibration.of_machine(MACHINE).scenarios == {}
    another = MACHINE | {"devices": "cpu: Another"}
    with pytest.raises(SetupError, match="this machine is not calibrated"):
        calibration.of_machine(another)
    calibration.own_file(MACHINE).rename(calibration.own_file(another))
    with pytest.raises(SetupError, match=r"elsewhere \(devices 'cpu: A Processor', here 'cpu: Another'\): calibrate"):
        calibration.of_machine(another)


def test_what_ships_says_something_of_every_scenario() -> None:
    """Every target of the suites follows from it."""
    from suites import files, grid

    shipped = files.shipped()
    keys = {f"{scenario.use.model}/{scenario.name}" for scenario in grid.scenarios()}

    assert set(shipped.scenarios) == keys
    assert shipped.machine == {}
    assert all(best.speedup > 1.2 for best in shipped.scenarios.values())
    assert all((Path(files.ANSWERS) / scenario.use.name / "scenarios").is_dir() for scenario in grid.scenarios())


def test_difficulties_are_told_apart_by_what_was_measured() -> None:
    """Three half-widths of the interval lie between neighbours, of everything that is shipped."""
    shipped = calibration.read(SUITES / calibration.FILE).scenarios
    noisy = replace(_best(2.0), speedup_low=1.8, speedup_high=2.2)

    assert [key for key, best in shipped.items() if not calibration.is_resolved(best)] == []
    assert not calibration.is_resolved(noisy)
    assert calibration.is_resolved(replace(noisy, speedup_low=1.92, speedup_high=2.08))
