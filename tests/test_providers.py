"""Where solutions come from: files and folders as they lie, worked answers made to fit."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest

from pytest_diffbench import Task, calibration, methods, static_check
from pytest_diffbench.demand import Demand, LatencyDemand, Markers, SpeedDemand, resolve
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.methods import SAMPLERS
from pytest_diffbench.providers import (
    Baseline,
    Folder,
    Provider,
    Reference,
    SingleFile,
    Solution,
    answer_names,
    baseline_source,
    reference,
)
from pytest_diffbench.providers.reference import fitted, root
from pytest_diffbench.records import Cause
from pytest_diffbench.zoo import models
from pytest_diffbench.zoo.models import Model

PLAIN = Markers()
FAST = Markers(speed=SpeedDemand(at_least=2))
UNWRITTEN = Model("unwritten", ("SomePipeline",), steps=50, size=512, sampler="ddim", guidance=7.5)


def _demand(task: Task, markers: Markers = PLAIN, *, task_id: str = "test_it", folder: Path | None = None) -> Demand:
    return resolve(
        task,
        markers,
        task_id=task_id,
        summary="Do it.",
        folder=folder or Path(),
        known_models={model.name: model for model in (*models.FAMILIES, UNWRITTEN)},
        known_methods={method.name: method for method in methods.BUILT_IN},
    )


ANY = _demand(Task("sd15"))


def test_a_single_file_answers_every_task(tmp_path: Path) -> None:
    """One file is the answer to any task and attempt, letter for letter, with its path as origin."""
    file = tmp_path / "fast.py"
    file.write_text("# schön\n", encoding="utf-8")

    solutions = [SingleFile(file).solve(_demand(Task("sd15"), task_id=name), "", name) for name in ("a", "b")]
    assert solutions == [Solution("# schön\n", str(file))] * 2


def test_a_folder_answers_each_task_with_its_own_file(tmp_path: Path) -> None:
    """`<task-id>.py` is the answer to the task of that id."""
    for name in ("a", "b.c"):
        (tmp_path / f"{name}.py").write_text(f"# {name}")

    sources = [Folder(tmp_path).solve(_demand(Task("sd15"), task_id=name), "", "").source for name in ("a", "b.c")]
    assert sources == ["# a", "# b.c"]


def test_a_folder_may_hold_several_answers_to_a_task(tmp_path: Path) -> None:
    """`<task-id>/<name>.py` is the attempt of that name; the names are known beforehand, in order."""
    (tmp_path / "test_it").mkdir()
    for name in ("second", "first", "v1.5"):
        (tmp_path / "test_it" / f"{name}.py").write_text(f"# {name}")
    (tmp_path / "test_it" / "notes.txt").write_text("no answer")

    names = answer_names(tmp_path, "test_it")
    assert names == ("first", "second", "v1.5")
    assert [Folder(tmp_path).solve(ANY, "", name).source for name in names] == ["# first", "# second", "# v1.5"]


def test_a_task_with_one_answer_has_no_names(tmp_path: Path) -> None:
    """A single file beside the folders is one answer without a name."""
    (tmp_path / "test_it.py").write_text("# it")

    assert answer_names(tmp_path, "test_it") == ()


@pytest.mark.parametrize("attempt", ["", "third"])
def test_a_missing_answer_is_a_task_not_solved(attempt: str, tmp_path: Path) -> None:
    """A task that a folder has no answer to counts against the solver; the line names the file that is missing."""
    with pytest.raises(SolutionFault, match=r"no answer to this task: .*\.py does not exist") as caught:
        Folder(tmp_path).solve(ANY, "", attempt)

    assert caught.value.cause is Cause.COMPILATION
    assert str(tmp_path / "test_it" / "third.py" if attempt else tmp_path / "test_it.py") in caught.value.line


def test_a_missing_single_file_is_the_users_mistake(tmp_path: Path) -> None:
    """A file named on the command line that is not there is no solver's fault."""
    with pytest.raises(SetupError, match=r"cannot read the solution .*fast\.py"):
        SingleFile(tmp_path / "fast.py").solve(ANY, "", "")


@pytest.mark.parametrize("several", [False, True], ids=["file", "folder"])
def test_a_binary_file_is_a_compilation_error(several: bool, tmp_path: Path) -> None:  # noqa: FBT001 (a table's column)
    """Bytes that are no UTF-8 text are no program: the solution's fault, by the file's name."""
    file = tmp_path / "test_it.py"
    file.write_bytes(b"\x80\x81\xff")
    provider: Provider = Folder(tmp_path) if several else SingleFile(file)

    with pytest.raises(SolutionFault, match=r"test_it\.py is not Python source: it is not UTF-8 text") as caught:
        provider.solve(ANY, "", "")
    assert caught.value.cause is Cause.COMPILATION


def test_equal_sources_have_equal_digests() -> None:
    """The digest is of the source alone, and takes any text a model may write."""
    digests = [
        Solution(source, origin).sha256 for source, origin in (("a", "x"), ("a", "y"), ("b", "x"), ("\ud800", ""))
    ]

    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


WORKED = '''\
"""DPM-Solver++ in 28 steps."""

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

NUM_INFERENCE_STEPS = 28
OTHER_STEPS = 28
NAMED = "MyDDIMSchedulerX"


def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.bfloat16)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    mask = torch.ones(28, dtype=torch.float32)
    return pipeline, mask
'''


@pytest.fixture
def worked(tmp_path: Path) -> Path:
    """A worked answer for one case."""
    file = tmp_path / "sampler.py"
    file.write_text(WORKED)
    return file


def _exchanged(before: str, after: str) -> list[tuple[str, str]]:
    """The words in which two sources differ."""
    old, new = (re.split(r"(\W)", text) for text in (before, after))
    changes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [("".join(old[a:b]), "".join(new[c:d])) for tag, a, b, c, d in changes if tag != "equal"]


def test_a_worked_answer_that_fits_stays_as_it_is(worked: Path) -> None:
    """Where a task demands nothing of its own, not a letter is exchanged."""
    assert fitted(worked, ANY, sampler=None, steps=None).source == WORKED


def test_fitting_the_scheduler_exchanges_its_class(worked: Path) -> None:
    """The class is exchanged wherever it is named, and words that merely hold such a name stay."""
    source = fitted(worked, ANY, sampler="unipc", steps=None).source

    assert _exchanged(WORKED, source) == [("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")] * 2


def test_fitting_the_steps_exchanges_the_constant(worked: Path) -> None:
    """Only the value of NUM_INFERENCE_STEPS is exchanged, no other number that happens to be equal."""
    source = fitted(worked, ANY, sampler=None, steps=15).source

    assert source == WORKED.replace("NUM_INFERENCE_STEPS = 28", "NUM_INFERENCE_STEPS = 15")


def test_fitting_the_precision_exchanges_the_half_dtype(worked: Path) -> None:
    """The half precision becomes the task's own; full precision beside it stays."""
    demand = _demand(Task("sd15", methods={"half_precision": {"dtype": "float16"}}))

    source = fitted(worked, demand, sampler=None, steps=None).source
    assert source == WORKED.replace("torch.bfloat16", "torch.float16")


def test_a_fitted_answer_keeps_its_origin(worked: Path) -> None:
    """People are told which file an answer was made from."""
    assert fitted(worked, ANY, sampler="unipc", steps=15).origin == str(worked)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_baseline_runs_the_tasks_own_sampler(sampler: str) -> None:
    """What 'today' is follows the task: only the baseline's scheduler is exchanged, and what DDIM needs on latents."""
    shipped = (root() / "baselines" / "sd15.py").read_text().replace("PNDMScheduler", SAMPLERS[sampler][0])
    if sampler == "ddim":
        shipped = shipped.replace("scheduler.config)", "scheduler.config, clip_sample=False)")

    assert baseline_source(_demand(Task("sd15", sampler=sampler))) == shipped


def test_the_baseline_is_its_own_answer() -> None:
    """The null solution is the baseline's very source, also where a task demands more."""
    demand = _demand(Task("sd15", level=4, sampler="ddim"), FAST)

    assert Baseline().solve(demand, "", "") == Solution(baseline_source(demand), "baseline")


def test_a_baseline_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    """A user's baseline is theirs: nothing in it is exchanged."""
    (tmp_path / "slow.py").write_text(WORKED)

    assert baseline_source(_demand(Task("sd15", sampler="euler", baseline="slow.py"), folder=tmp_path)) == WORKED


def test_a_model_without_baseline_is_a_setup_error() -> None:
    """Where nothing is known of a model's 'today', the message says how to give a baseline."""
    with pytest.raises(SetupError, match=r"'unwritten' has no baseline: give one, .*baseline='baseline\.py'"):
        baseline_source(_demand(Task("unwritten")))


def test_a_model_without_worked_answer_is_a_setup_error() -> None:
    """No reference solution is our lack, not a failed task; the message names task and model."""
    demand = _demand(Task("unwritten", level=4), FAST)

    with pytest.raises(SetupError, match=r"no reference solution for task 'test_it' .*'unwritten'.*--diffbench-agent="):
        Reference().solve(demand, "", "")


ANSWERED: dict[str, tuple[Task, Markers, str]] = {
    "no level": (Task("sd15"), PLAIN, "baseline"),
    "level 1": (Task("sd15", level=1, sampler="euler", steps=30), PLAIN, "baseline"),
    "level 2 sampler": (Task("sd15", level=2, methods={"unipc": {"steps": 15}}), PLAIN, "unipc.py"),
    "level 2 precision": (
        Task("sd15", level=2, sampler="ddim", methods={"half_precision": {"dtype": "float16"}}),
        PLAIN,
        "half_precision.py",
    ),
    "level 3": (
        Task("sd15", level=3, methods={"half_precision": {"dtype": "float16"}, "ddim": {"steps": 30}}),
        PLAIN,
        "half_precision.py + sd15/ddim.py",
    ),
    "level 4": (Task("sd15", level=4, scenario="ddim-50", difficulty="hard"), FAST, "scenarios/ddim-50.py"),
    "level 5, from an image": (
        Task("sd15", level=5, strength=0.6, sampler="euler", fixed_schedule=True, scenario="image-euler-50-fixed"),
        Markers(latency=LatencyDemand(at_most_of_baseline=0.7)),
        "sd15_image_to_image/scenarios/image-euler-50-fixed.py",
    ),
}


@pytest.mark.parametrize(("task", "markers", "origin"), ANSWERED.values(), ids=ANSWERED)
def test_the_reference_answers_with_what_is_demanded(task: Task, markers: Markers, origin: str) -> None:
    """For each kind of task the right worked answer is found, and made to fit so that the static check accepts it."""
    demand = _demand(task, markers)

    solution = Reference().solve(demand, "", "")
    assert solution.origin.endswith(origin)
    assert static_check.check(solution.source, demand).functions


def test_whoever_need_not_be_so_fast_gets_a_milder_answer(tmp_path: Path) -> None:
    """By what is demanded, whatever it is called: other targets than those that ship may call more *easy*."""
    scenario = Task("sd15", level=4, scenario="ddim-50", difficulty="easy")
    medium = calibration.targets(3.0)["medium"]
    known = calibration.Calibration({}, {"sd15/ddim-50": calibration.Best(3.0, 3.0, 3.0, 0.0, "", "")})
    calibration.write(tmp_path / calibration.FILE, known)

    found = [
        Reference().solve(_demand(scenario, Markers(speed=SpeedDemand(target)), folder=folder), "", "").origin
        for folder, target in ((tmp_path / "level4", medium), (tmp_path / "level4", medium + 0.01), (tmp_path, medium))
    ]

    assert [origin.rpartition("/")[2] for origin in found] == ["ddim-50-mild.py", "ddim-50.py", "ddim-50.py"]


def test_what_is_easy_gets_the_mildest_answer_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody has written one for what is easy, the one for medium will do."""
    monkeypatch.setattr(reference, "root", lambda: tmp_path)
    (tmp_path / "sd15" / "scenarios").mkdir(parents=True)
    known = calibration.Calibration({}, {"sd15/mine": calibration.Best(3.0, 3.0, 3.0, 0.0, "", "")})
    calibration.write(tmp_path / calibration.FILE, known)
    easy = Task("sd15", level=4, scenario="mine", difficulty="easy")
    wanted = Markers(speed=SpeedDemand(calibration.targets(3.0)["easy"]))

    found = []
    for name in ("mine", "mine-mild", "mine-easy"):
        (tmp_path / "sd15" / "scenarios" / f"{name}.py").write_text(f'"""{name}"""\n')
        found.append(Reference().solve(_demand(easy, wanted, folder=tmp_path / "level4"), "", "").source)
    assert found == ['"""mine"""\n', '"""mine-mild"""\n', '"""mine-easy"""\n']
