"""The tasks that ship: enough, over all levels, each answered, each prompt complete."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_diffbench import cli, providers, static_check
from pytest_diffbench.methods import SAMPLERS
from pytest_diffbench.prompt import render

if TYPE_CHECKING:
    from pytest_diffbench.demand import Demand

SUITES = Path(__file__).parents[2] / "suites"


@pytest.fixture(scope="module")
def demands() -> list[Demand]:
    """Every task of the suites, as pytest collects it."""
    status, collected = cli._collect([str(SUITES)])
    assert status == 0
    return [demand for _, demand in collected.tasks]


def test_there_are_tasks_on_every_level(demands: list[Demand]) -> None:
    """At least 24 tasks, and some on each of the five levels."""
    levels = Counter(demand.task.level for demand in demands)

    assert sum(levels.values()) >= 24
    assert set(levels) == {1, 2, 3, 4, 5}


def test_every_reference_passes_the_static_check(demands: list[Demand]) -> None:
    """Each worked answer states exactly what its task demands."""
    for demand in demands:
        solution = providers.Reference().solve(demand, "", "")

        static_check.check(solution.source, demand)  # raises SolutionFault otherwise
        assert "def generate" in solution.source


def test_every_prompt_holds_what_the_static_check_demands(demands: list[Demand]) -> None:
    """A solver can know from the prompt alone what it will be held to."""
    for demand in demands:
        text = render(demand, device_kind="cpu", device_model="a processor")

        assert demand.model.pipeline_classes[0] in text
        if demand.demanded_sampler is not None:
            assert SAMPLERS[demand.demanded_sampler][0] in text
        if demand.demanded_steps is not None:
            assert f"num_inference_steps={demand.demanded_steps}" in text
        if demand.markers.speed is not None:
            assert f"at least {demand.markers.speed.at_least} times faster" in text


def test_ids_are_unique_and_fit_file_names(demands: list[Demand]) -> None:
    """An answer's file can be named after its task."""
    ids = [demand.task_id for demand in demands]

    assert len(set(ids)) == len(ids)
    assert all("/" not in name and "[" not in name and " " not in name for name in ids)


def test_the_command_prints_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    """`diffbench prompt NODEID` prints the prompt and nothing else."""
    node = f"{SUITES}/level2_methods/test_sd15.py::test_method[unipc-30]"

    status = cli.main(["prompt", node])

    assert status == 0
    out = capsys.readouterr().out
    assert out.startswith("Write a Python file")
    assert "UniPCMultistepScheduler" in out


def test_prompts_can_be_taken_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], demands: list[Demand]
) -> None:
    """A line a task, under the name that its answer's file is to have; what is printed is what is written."""
    file = tmp_path / "prompts.jsonl"
    assert cli.main(["export-prompts", str(SUITES), "--out", str(file)]) == 0
    assert f"{len(demands)} prompts" in capsys.readouterr().out
    assert cli.main(["export-prompts", str(SUITES)]) == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]

    assert capsys.readouterr().out == file.read_text()
    assert [line["task_id"] for line in lines] == [demand.task_id for demand in demands]
    assert all(line["prompt"].startswith("Write a Python file") for line in lines)
    assert cli.main(["export-prompts", str(SUITES), "--out", str(tmp_path / "none" / "x")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_the_command_lists_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    """`diffbench tasks PATH` lists ids and node ids."""
    status = cli.main(["tasks", str(SUITES / "level2_methods")])

    assert status == 0
    assert "level2_methods-sd15-method-unipc-30 " in capsys.readouterr().out


def test_the_command_names_what_it_cannot_find(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown node id is pytest's own message and a failing status."""
    status = cli.main(["prompt", f"{SUITES}/level2_methods/test_sd15.py::test_nothing"])

    assert status != 0
    assert "test_nothing" in capsys.readouterr().err
