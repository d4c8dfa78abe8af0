"""`diffagent optimise`: what it says, leaves and ends with; measurements are imagined, everything else is real."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from diffagent import cli, planfile
from diffagent.budget import BudgetSpent
from diffagent.workplace import Workplace

from pytest_diffbench import static_check
from pytest_diffbench.zoo.weights import TINY
from tests.agent.imagined import Imagined
from tests.plugin.conftest import furnish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffagent.fitness import Fitness

TASK = ("optimise", "--model", "tiny:sd15", "--sampler", "ddim", "--min-speedup", "3", "--devices", "cpu:0")


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of the last verdict, which is not run: it passes."""
    asked: list[list[str]] = []

    def run(command: Sequence[str], **_: Any) -> SimpleNamespace:
        asked.append(list(command))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def _on(monkeypatch: pytest.MonkeyPatch, machine: Imagined) -> Imagined:
    monkeypatch.setattr(Workplace, "run", lambda _: machine)
    monkeypatch.setattr(Workplace, "profile", None)
    return machine


def test_it_leaves_a_solution_its_plan_and_the_test_that_keeps_it_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], judged: list[list[str]]
) -> None:
    """Progress on the way; what the test demands is what was asked for; the verdict is on secret requests."""
    _on(monkeypatch, Imagined(3.0))
    assert cli.main([*TASK, "--out", str(tmp_path / "fast")]) == 0
    said = capsys.readouterr().out

    source = (tmp_path / "fast" / "fast.py").read_text()
    assert set(static_check.read(source).functions) >= {"load", "generate"}
    assert "@pytest.mark.speed(at_least=3.0)" in (tmp_path / "fast" / "test_fast.py").read_text()
    assert planfile.load(tmp_path / "fast" / "plan.toml").evidence is not None
    assert "generation 1 of 4: 7 ideas" in said
    assert "confirmed-0: measuring 1 again" in said
    (command,) = judged
    assert f"--diffbench-agent={tmp_path / 'fast' / 'fast.py'}" in command
    assert not any("public" in word for word in command)


def test_a_solution_of_ones_own_is_where_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], judged: list[list[str]]
) -> None:
    """It is measured with the others, and stays the answer where nothing is better; it has no plan to keep."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "def load(model, device): ...\n"
        "def generate(pipeline, requests):\n    deepcache = 1\n    return pipeline(num_inference_steps=13)\n"
    )
    _on(monkeypatch, Imagined(5.0))
    cli.main([*TASK, "--out", str(tmp_path / "fast"), "--from", str(mine), "--population", "1", "--generations", "1"])

    assert (tmp_path / "fast" / "fast.py").read_text() == mine.read_text()
    assert not (tmp_path / "fast" / "plan.toml").exists()
    assert "as it was given: PASS" in capsys.readouterr().out
    assert judged


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from", "nowhere.py"), "--from=nowhere.py: cannot be read"),
        (("--knowledge", "nowhere"), "--knowledge=nowhere: nowhere is no folder"),
        (("--sampler", "magic"), "sampler 'magic' is unknown"),
        (("--devices", "cpu:9999"), "device cpu:9999 is not here"),
        (("--model", "tiny:sd99"), "model 'sd99' is unknown"),
        (("--model", str(TINY / "sd15")), "is your own, so you must say how it is run and judged: add --baseline"),
    ],
)
def test_what_cannot_be_meant_is_said(
    options: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a line, with exit status 2, before anything is measured."""
    assert cli.main([*TASK, "--out", str(tmp_path), *options]) == 2
    assert said in capsys.readouterr().err


def test_nothing_measured_is_nothing_recommended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], judged: list[list[str]]
) -> None:
    """Exit status 2, and no file that looks like an answer."""

    class Poor(Imagined):
        def measure(self, *_: Any) -> dict[str, Fitness]:
            """There is no second to spend."""
            raise BudgetSpent("diffbench: the budget of 1 device seconds is spent")

    _on(monkeypatch, Poor(3.0))
    assert cli.main([*TASK, "--out", str(tmp_path)]) == 2
    assert "the budget of 1 device seconds is spent" in capsys.readouterr().out
    assert not (tmp_path / "fast.py").exists()
    assert judged == []


@pytest.mark.slow  # a search in earnest, with runs of its own, is part of test_agent_runs
def test_a_foreign_pipeline_is_made_faster_in_earnest(tmp_path: Path) -> None:
    """A model folder, baseline, prompts and scorer of one's own, from the command line to the verdict: the real thing.

    The artist's nap is what can be saved, and only the program that is given knows how.
    """
    furnish(tmp_path)
    (tmp_path / "given.py").write_text((tmp_path / "fast.py").read_text())
    own = ["--baseline", "baseline.py", "--prompts", "prompts.txt", "--scorer", str(TINY / "scorer"), "--size", "64"]
    diffagent = str(Path(sys.executable).with_name("diffagent"))
    command = [diffagent, "optimise", "--model", str(TINY / "sd15"), *own]
    command += ["--min-speedup", "1.4", "--from", "given.py", "--population", "1", "--generations", "1", "--out", "out"]
    done = subprocess.run([*command, "--devices", "cpu:0"], cwd=tmp_path, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert (tmp_path / "out" / "fast.py").read_text() == (tmp_path / "given.py").read_text()
    assert Path(tmp_path / "out" / "test_fast.py").exists()
