"""What tiny models may be claimed to say of real ones, and the measurement that would show it."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_diffbench import evidence
from pytest_diffbench.records import TaskReport, Verdict
from pytest_diffbench.zoo.models import FAMILIES, Model

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_evidence.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The benchmark, as a module."""
    found = importlib.util.spec_from_file_location("gpu_evidence", SCRIPT)
    assert found is not None
    assert found.loader is not None
    made = sys.modules[found.name] = importlib.util.module_from_spec(found)
    found.loader.exec_module(made)
    return made


def _report(revision: str) -> TaskReport:
    return TaskReport("test_it", "it", "reference", Verdict.PASS, model_revision=revision)


def test_tiny_results_are_a_harness_check_until_a_gpu_has_shown_more() -> None:
    """What is on record decides, and only on the tiny zoo."""
    assert _report("tiny-0123456789ab").harness_check is (evidence.RHO is None or evidence.RHO < 0.7)
    assert not _report("0123456789ab").harness_check
    assert not _report("").harness_check


@pytest.mark.parametrize(("rho", "check"), [(0.69, True), (0.7, False), (0.95, False), (-0.8, True)])
def test_how_much_is_enough(rho: float, check: bool) -> None:  # noqa: FBT001 (a column of the table above)
    """Plans must be ranked alike, with a correlation of 0.7 or more."""
    assert evidence.harness_check("tiny-0123456789ab", rho=rho) is check


def test_what_is_on_record_is_what_the_files_say(script: ModuleType) -> None:
    """The least of all GPUs; none, without any."""
    files = list(script.gpu_files())
    found = [round(script.compare(file, script.TINY_FILE), 2) for file in files]

    assert min(found, default=None) == evidence.RHO


@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: model.name)
def test_twenty_plans_a_family(script: ModuleType, model: Model) -> None:
    """No two of them alike, and the published figures belong to plans that are timed."""
    names = [plan.name for plan in script.plans(model)]

    assert len(names) >= 20
    assert len(set(names)) == len(names)
    assert {plan for name, plan in script.PUBLISHED if name == model.name} <= set(names)


def test_a_run_that_was_cut_off_goes_on(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is in the file is not timed again; what is over the budget is left for the next call."""
    file, now = tmp_path / "gpu.json", itertools.count(step=4.0)
    asked: list[str] = []

    def timed(_: Model, __: str, ___: object, plan: Any) -> float:
        asked.append("plain" if plan is None else plan.name)
        return 6.0 if plan is None else 2.0

    monkeypatch.setattr(script, "seconds", timed)
    monkeypatch.setattr(script, "load", lambda *_: None)
    monkeypatch.setattr(script, "machine", lambda _: {})
    monkeypatch.setattr(script.time, "monotonic", lambda: next(now))
    thrift, model = script.Thrift(rounds=1, plans_a_plain=2, budget_s=10.0), FAMILIES[0]
    names = [plan.name for plan in script.plans(model)[:4]]

    assert not script.measure([model], "architecture", file, thrift, 4)
    assert asked == ["plain", *names[:2]]
    assert script.measure([model], "architecture", file, thrift, 4)
    assert asked[3:] == ["plain", *names[2:]]
    assert [(entry["plan"], entry["speedup"]) for entry in json.loads(file.read_text())["plans"]] == [
        (name, 3.0) for name in names
    ]
    assert "3.00x" in capsys.readouterr().out


def test_correlation_knows_alike_from_opposed(script: ModuleType) -> None:
    """1 for the same order whatever the sizes, -1 for the opposite one; the interval holds it."""
    some = [1.0, 1.2, 1.7, 2.5, 3.0, 8.0]

    assert script.correlation(some, [value**3 for value in some])[0] == pytest.approx(1)
    assert script.correlation(some, [-value for value in some])[0] == pytest.approx(-1)
    rho, low, high = script.correlation(some, [1.2, 1.0, 1.7, 3.0, 2.5, 8.0])
    assert low <= rho <= high


def test_a_plan_is_timed_and_taken_back(script: ModuleType) -> None:
    """The pipeline is as it was, whatever was applied, also in half precision with another sampler."""
    model = FAMILIES[0]
    pipeline = script.load(model, "tiny")
    own, plan = pipeline.scheduler, script.plans(model)[-1]
    before = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    forward = pipeline.unet.forward

    assert script.seconds(model, "tiny", pipeline, plan) > 0
    assert pipeline.scheduler is own
    assert pipeline.unet.forward == forward
    after = pipeline.unet.state_dict()
    assert all(after[name].dtype == value.dtype for name, value in before.items())
