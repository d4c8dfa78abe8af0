"""The A/A run: what it says, what it keeps, and what a run of tasks says of it beforehand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_diffbench import noise
from pytest_diffbench.devices import inventory
from pytest_diffbench.noise import Noise
from tests.plugin.conftest import HEAD, own_task

if TYPE_CHECKING:
    from pathlib import Path

TASK = f"""{HEAD}
@pytest.mark.diffbench({own_task()})
@pytest.mark.speed(at_least=1.2)
def test_draw(executability, speed):
    '''Draw faster.'''
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results are kept during one test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pytest-diffbench"


def _known(smallest_speedup: float | None) -> Noise:
    """A result of this machine, as if it had been measured."""
    device = inventory()[0]
    return Noise(
        device=device.name,
        fingerprint=noise.fingerprint(device),
        measured="2026-11-21T10:00:00+00:00",
        pairs=16,
        deviation=0.02,
        ratio=1.0,
        ratio_low=0.99,
        ratio_high=1.01,
        smallest_speedup=smallest_speedup,
        pairs_for_difference=8,
    )


def test_an_a_a_run_measures_keeps_and_shows(
    project: pytest.Pytester, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No task runs; the baseline is timed against itself, the result is printed and kept, and the next run shows it."""
    monkeypatch.setattr(noise, "PAIRS", 4)  # enough to see that it works, not to say what the machine can
    project.makepyfile(test_mine=TASK)

    ran = project.runpytest_inprocess("--diffbench-null", f"--diffbench-devices={inventory()[0].name}", "-v")

    ran.stdout.fnmatch_lines([f"diffbench-null?{inventory()[0].name}? *", "*noise of this machine (2*a pair; *"])
    ran.stdout.no_fnmatch_line("*test_draw*")
    (kept,) = cache.iterdir()
    assert json.loads(kept.read_text())["pairs"] == 4
    shown = project.runpytest_inprocess("--collect-only")
    shown.stdout.fnmatch_lines(["diffbench: noise of this machine (2*"])


def test_without_a_result_a_run_says_how_to_get_one(project: pytest.Pytester, cache: Path) -> None:
    """Where nothing is known of the machine, the way to know it is named."""
    project.makepyfile(test_mine=TASK)

    project.runpytest_inprocess("--collect-only").stdout.fnmatch_lines(["*pytest --diffbench-null measures it*"])
    assert not cache.exists()


@pytest.mark.parametrize(("smallest", "said"), [(1.05, False), (1.5, True), (None, True)])
def test_a_target_below_the_noise_is_named_before_it_runs(
    smallest: float | None,
    said: bool,  # noqa: FBT001 (a table's column)
    project: pytest.Pytester,
    cache: Path,
) -> None:
    """A speed-up of 1.2 is demanded: where not even 1.5 is told from none, nobody should wait for a verdict."""
    project.makepyfile(test_mine=TASK)
    noise.store(_known(smallest))
    assert cache.exists()

    text = project.runpytest_inprocess("--collect-only").stdout.str()

    assert ("too noisy for the targets of mine-draw: expect second tries, or UNDECIDED" in text) == said


def test_a_project_without_tasks_hears_nothing_of_it(project: pytest.Pytester, cache: Path) -> None:
    """Who merely has the plugin installed sees no line of it."""
    project.makepyfile(test_plain="def test_nothing():\n    pass\n")
    noise.store(_known(1.05))
    assert cache.exists()

    project.runpytest_inprocess().stdout.no_fnmatch_line("*noise of this machine*")


@pytest.mark.parametrize("smallest", [1.05, 1.5])
def test_workers_say_it_too(smallest: float, project: pytest.Pytester, cache: Path) -> None:
    """With xdist the head holds the machine's noise, and a task that it hides says so before it begins."""
    project.makepyfile(test_mine=TASK)
    noise.store(_known(smallest))
    assert cache.exists()

    text = project.runpytest_subprocess("-n1", "--diffbench-agent=broken.py", timeout=300).stdout.str()

    assert text.index("diffbench: noise of this machine") < text.index("test_draw")
    assert ("too noisy for the target at once" in text) == (smallest > 1.2)


def test_a_result_that_cannot_be_kept_is_shown(
    project: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full or read-only cache costs the next run its line, not this one its measurement."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(noise, "PAIRS", 4)

    ran = project.runpytest_inprocess("--diffbench-null", f"--diffbench-devices={inventory()[0].name}")

    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines_random(["*measured, but not kept for later runs*", "noise of this machine (2*"])
