"""The tasks that ship: enough, over all levels, each answered, each prompt complete."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from diffagent.catalogue import METHODS

from pytest_diffbench import calibration, cli, methods, providers, static_check
from pytest_diffbench.calibration import Best, Calibration
from pytest_diffbench.demand import demanded_speedup, denoising_steps
from pytest_diffbench.methods import SAMPLERS, SCHEDULER_FAMILIES
from pytest_diffbench.prompt import render
from pytest_diffbench.zoo.models import FAMILIES
from suites import files, grid, parts, table

if TYPE_CHECKING:
    from pytest_diffbench.demand import Demand

SUITES = Path(__file__).parents[2] / "suites"


@pytest.fixture(scope="module")
def demands() -> list[Demand]:
    """Every task of the suites, as pytest collects it."""
    status, collected = cli.collect([str(SUITES)])
    assert status == 0
    return [demand for _, demand in collected.tasks]


def test_the_counts_are_the_papers(demands: list[Demand]) -> None:
    """604 tasks, so many on each level as in the paper, over every model, with and without an image to begin with."""
    levels = Counter(demand.task.level for demand in demands)
    uses = {(demand.model.name, demand.task.strength is not None) for demand in demands}

    assert levels == grid.COUNTS
    assert uses == {(use.model, use.begins_with_image) for use in grid.USES}
    assert {model for model, _ in uses} == {model.name for model in FAMILIES}


def test_the_files_are_what_the_grid_says() -> None:
    """Whoever changes the one without the other is told: `python -m suites.files` writes them anew."""
    written = files.written()

    assert {path for path, text in written.items() if path.read_text() != text} == set()
    assert set(written) == set(SUITES.glob("*/test_*.py"))  # no deeper: there lies what a calibration measured
    assert (SUITES.parent / "docs" / "tasks.md").read_text() == table.written()


def test_what_was_calibrated_here_can_be_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its speed-up becomes what the targets follow from; other scenarios keep theirs."""
    before = files.shipped()
    monkeypatch.setattr(files, "CALIBRATION", tmp_path / "calibration.json")
    calibration.write(files.CALIBRATION, before)
    found = Best(3.0, 2.9, 3.1, 0.01, "deepcache(interval=3)", "search", program="import torch")

    here = {"devices": "cpu: this one", "zoo": "tiny"}
    files.take(Calibration(here, {"sd15/ddim-50": found}))

    after = files.shipped()
    assert after.machine == {}
    assert after.scenarios == {**before.scenarios, "sd15/ddim-50": replace(found, program="")}
    for elsewhere in ({"zoo": "full"}, {"devices": "cuda: another"}, {"devices": "cpu: one, cuda: another"}):
        with pytest.raises(ValueError, match="come from tiny models on a CPU"):
            files.take(Calibration(here | elsewhere, {"sd15/ddim-50": found}))


def test_a_worked_answer_says_what_it_is() -> None:
    """Whoever wrote the program, its first line names the scenario, and what is long stands below."""
    program, how = '"""Theirs."""\n\nimport torch\n', " + ".join(["deepcache(interval=3)"] * 5)

    assert files.titled(program, "Fast", "deepcache()") == '"""Fast: deepcache()."""\n\nimport torch\n'
    assert files.titled(program, "Stable Diffusion 1.5, ddim-50", how) == (
        f'"""Stable Diffusion 1.5, ddim-50.\n\n{how}\n"""\n\nimport torch\n'
    )


def test_no_two_tasks_are_equal(demands: list[Demand]) -> None:
    """Neither by what they are called nor by what they demand; levels 4 and 5 have the same scenarios."""
    told = Counter(str((replace(demand.task, methods=()), demand.methods, demand.markers)) for demand in demands)

    assert [each for each, count in told.items() if count > 1] == []


def test_every_method_is_demanded_wherever_it_works(demands: list[Demand]) -> None:
    """Alone on level 2, of every model and use that it can work on; in combinations on level 3, where it bears any."""
    for level in (2, 3):
        found = {
            (method, demand.model.name, demand.task.strength is not None)
            for demand in demands
            if demand.task.level == level
            for method in demand.methods
        }
        wanted = {
            (method.name, model.name, begins_with_image)
            for method in (*methods.BUILT_IN, *METHODS)
            for model in FAMILIES
            for begins_with_image in ((False, True) if model.image_to_image_classes else (False,))
            if method.model_problem(model) is None
            if level == 2 or method.name not in grid.ALONE.get(model.name, ())
        }

        assert found == wanted


def test_combinations_are_of_two_to_four_methods(demands: list[Demand]) -> None:
    """And of every count there are some."""
    counts = Counter(len(demand.methods) for demand in demands if demand.task.level == 3)

    assert set(counts) == {2, 3, 4}


def test_no_method_begins_after_the_last_step(demands: list[Demand]) -> None:
    """What counts steps stays below those that are run: else its task demands nothing."""
    for demand in demands:
        run = denoising_steps(demand.demanded_steps or demand.steps, demand.task.strength)
        counted = [each.get(name) for each in demand.methods.values() for name in ("gate_step", "warm_up")]

        assert [steps for steps in counted if isinstance(steps, int) and steps >= run] == []


def test_most_scenarios_need_a_method(demands: list[Demand]) -> None:
    """Levels 4 and 5 share 31; who may change sampler and steps alone can pass at most a quarter of the hard ones."""
    scenarios = {
        level: {(d.model.name, d.task.scenario): d.task.fixed_schedule for d in demands if d.task.level == level}
        for level in (4, 5)
    }

    assert scenarios[4] == scenarios[5]
    assert len(scenarios[4]) == 31
    assert sum(not fixed for fixed in scenarios[4].values()) <= 31 / 4


def test_targets_rise_with_the_difficulty_and_are_the_same_on_both_levels(demands: list[Demand]) -> None:
    """Easy, medium, hard; a latency is the share of the baseline's that the speed-up comes to, never below it."""
    targets = {
        (demand.task.level, demand.model.name, demand.task.scenario, demand.task.difficulty): demanded_speedup(
            demand.markers
        )
        for demand in demands
        if demand.task.level in (4, 5)
    }
    for (level, model, scenario, difficulty), target in targets.items():
        assert target is not None
        assert target > 1
        if level == 4:
            share = targets[5, model, scenario, difficulty]
            assert share is not None
            assert 0.98 * target < share <= target
        if difficulty == "hard":
            easy, medium = targets[level, model, scenario, "easy"], targets[level, model, scenario, "medium"]
            assert easy is not None
            assert medium is not None
            assert easy < medium < target


def test_every_reference_passes_the_static_check(demands: list[Demand]) -> None:
    """Each worked answer states exactly what its task demands."""
    for demand in demands:
        solution = providers.Reference().solve(demand, "", "")

        static_check.check(solution.source, demand)  # raises SolutionFault otherwise
        assert "def generate" in solution.source


def test_every_prompt_holds_what_the_static_check_demands(demands: list[Demand]) -> None:
    """A solver can know from the prompt alone what it will be held to, and learns nothing of the worked answer."""
    reference = providers.Reference()
    for demand in demands:
        text = render(demand, device_kind="cpu", device_model="a processor")
        today = providers.baseline_source(demand)
        told = text.replace(today.strip(), "")

        assert demand.pipeline_classes[0] in told
        for name, parameters in demand.methods.items():
            assert demand.known_methods[name].summary in told
            assert [f"{key} = {value}" for key, value in parameters.items() if f"{key} = {value}" not in told] == []
        if demand.demanded_sampler is None:
            fit = [each for name in demand.model.families if name != "distilled" for each in SCHEDULER_FAMILIES[name]]
            assert [name for name in fit if name not in told] == []
        if demand.markers.latency is not None:
            assert f"at most {demand.markers.latency.at_most_of_baseline} of the time" in told
        answer = {line.strip() for line in reference.solve(demand, "", "").source.splitlines()}
        secret = {line for line in answer - {line.strip() for line in today.splitlines()} if re.search(r"\w", line)}
        assert [line for line in secret if line in text] == []
        if demand.demanded_sampler is not None:
            assert SAMPLERS[demand.demanded_sampler][0] in text
        if demand.demanded_steps is not None:
            assert f"num_inference_steps={demand.demanded_steps}" in text
        if demand.markers.speed is not None:
            assert f"at least {demand.markers.speed.at_least} times faster" in text


def test_the_slice_has_everything_once(demands: list[Demand]) -> None:
    """What `make bench` runs holds every level, every model and use, every method, and both kinds of scenarios."""
    wanted = (SUITES / "slice.txt").read_text().split()
    status, collected = cli.collect([str(SUITES.parent / node) for node in wanted])
    chosen = [demand for _, demand in collected.tasks]

    assert status == 0
    assert len(chosen) == len(wanted)
    for facts in (_level_of, _use_of, _methods_of, _schedule_of):
        assert {each for demand in chosen for each in facts(demand)} == {each for d in demands for each in facts(d)}


def _level_of(demand: Demand) -> list[object]:
    return [demand.task.level]


def _use_of(demand: Demand) -> list[object]:
    return [(demand.model.name, demand.task.strength is not None)]


def _methods_of(demand: Demand) -> list[object]:
    return list(demand.methods)


def _schedule_of(demand: Demand) -> list[object]:
    return [(demand.task.level, demand.task.fixed_schedule)]


def test_parts_are_all_tasks_once(capsys: pytest.CaptureFixture[str]) -> None:
    """As `pytest @FILE` takes them; every level has its share in each, the same seed draws the same again."""
    drawn = []
    for number in (1, 2, 3, 1):
        assert parts.main([f"{number}/3", "--seed", "7"]) == 0
        drawn.append(capsys.readouterr().out.split())
    assert parts.main(["1/3", "--seed", "8"]) == 0
    other = capsys.readouterr().out.split()

    assert len({*drawn[0], *drawn[1], *drawn[2]}) == sum(map(len, drawn[:3])) == 604
    assert drawn[0] == drawn[3] != other
    for each in drawn:
        counts = Counter(task.split("/")[1] for task in each)
        assert [round(counts[level] / 10) for level in sorted(counts)] == [1, 4, 9, 3, 3]
    with pytest.raises(SystemExit):
        parts.main(["4/3"])


def test_ids_are_unique_and_fit_file_names(demands: list[Demand]) -> None:
    """An answer's file can be named after its task."""
    ids = [demand.task_id for demand in demands]

    assert len(set(ids)) == len(ids)
    assert all("/" not in name and "[" not in name and " " not in name for name in ids)


def test_the_command_prints_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    """`diffbench prompt NODEID` prints the prompt and nothing else."""
    node = f"{SUITES}/level2_methods/test_sd15.py::test_method[unipc-40]"

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
    assert "level2_methods-sd15-method-unipc-40 " in capsys.readouterr().out
    assert cli.main(["tasks", str(SUITES / "level2_methods"), "-k=unipc-40 and sd15 and not image"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_options_of_pytest_are_taken_where_tasks_are_collected(capsys: pytest.CaptureFixture[str]) -> None:
    """So that a prompt says what a run with them demands; elsewhere they are a mistake."""
    node = f"{SUITES}/level4_speed/test_dit.py::test_speedup[ddim-50-hard]"
    assert cli.main(["prompt", node]) == 0
    shipped = capsys.readouterr().out
    assert cli.main(["prompt", node, "--diffbench-targets=paper"]) == 0
    assert shipped != capsys.readouterr().out != ""
    with pytest.raises(SystemExit):
        cli.main(["models", "--diffbench-targets=paper"])
    assert "--diffbench-targets=paper" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["export-prompts", "private-split"])
def test_no_task_is_said(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty file that looks like a result would be found out much later."""
    (tmp_path / f"test_other_{command[:3]}.py").write_text("def test_it():\n    pass\n")
    more = ["--out", str(tmp_path / "out"), *(["--seed=1"] if command == "private-split" else [])]

    assert cli.main([command, str(tmp_path), *more]) == 1
    assert "no task is there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_names_what_it_cannot_find(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown node id is pytest's own message and a failing status."""
    status = cli.main(["prompt", f"{SUITES}/level2_methods/test_sd15.py::test_nothing"])

    assert status != 0
    assert "test_nothing" in capsys.readouterr().err
