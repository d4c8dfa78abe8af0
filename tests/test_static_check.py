"""What the static check reads in a source, what it refuses, and that no source breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffagent.catalogue import METHODS
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffbench import Task, methods
from pytest_diffbench.demand import Demand, Markers, SpeedDemand, resolve
from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.providers import reference
from pytest_diffbench.records import Cause
from pytest_diffbench.static_check import check, compiles, problems, read
from pytest_diffbench.zoo import models

ROOT = reference.root()
WORKED = sorted(str(file.relative_to(ROOT)) for file in ROOT.rglob("*.py"))

SOURCE = '''\
"""Both of the methods that are demanded."""

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline


def load(model, device):
    pipeline = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.bfloat16)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    return pipeline.to(device)


def generate(pipeline, requests):
    return pipeline([request.prompt for request in requests], num_inference_steps=20).images
'''
IMPORT = "from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline"
BUILD = "pipeline = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.bfloat16)"
SCHEDULE = "pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)"
CALL = "pipeline([request.prompt for request in requests], num_inference_steps=20).images"
SIGNATURE = "def load(model, device):"
CONTRACT = "\ndef load(model, device):\n    pass\n\ndef generate(pipeline, requests):\n    pass\n"


def _demand(task: Task, markers: Markers | None = None) -> Demand:
    return resolve(
        task,
        markers or Markers(),
        task_id="test_it",
        summary="Do it.",
        folder=Path(),
        known_models={model.name: model for model in models.FAMILIES},
        known_methods={method.name: method for method in (*methods.BUILT_IN, *METHODS)},
    )


DEMAND = _demand(Task("sd15", level=3, methods={"dpm_solver": {"steps": 20}, "half_precision": {}}))
AS_TODAY = _demand(Task("sd15", level=1))


def _rewritten(*changes: str) -> str:
    """`SOURCE` with old, new, old, new, … exchanged."""
    source = SOURCE
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source
        source = source.replace(old, new)
    return source


def _fitting(name: str) -> Demand:
    """The demand that a worked answer fits as it lies on disk."""
    file = Path(name)
    if file.parent.name == "baselines":
        model = file.stem.removesuffix("_image_to_image")
        begins_with_image = file.stem.endswith("_image_to_image")
        return _demand(Task(model, level=1, strength=0.6 if begins_with_image else None))
    use = file.parent.parent.name if file.parent.name == "scenarios" else file.parent.name
    model, strength = use.removesuffix("_image_to_image"), 0.6 if use.endswith("_image_to_image") else None
    if file.parent.name == "scenarios":
        task = Task(model, level=4, strength=strength, scenario=file.stem)
        return _demand(task, Markers(speed=SpeedDemand(at_least=1.4)))
    return _demand(Task(model, strength=strength, methods=[file.stem]))


@pytest.mark.parametrize("name", WORKED)
def test_every_worked_answer_is_accepted(name: str) -> None:
    """Each baseline and reference solution agrees with the demand it was written for, and its model is seen."""
    reading = check((ROOT / name).read_text(), _fitting(name))

    assert reading.pipelines


def test_a_plain_answer_is_read_in_full() -> None:
    """Functions, pipeline, scheduler, steps and dtype are all found where nothing is hidden."""
    reading = check(SOURCE, DEMAND)

    assert set(reading.functions) == {"load", "generate"}
    assert (reading.pipelines, reading.schedulers) == (["StableDiffusionPipeline"], ["DPMSolverMultistepScheduler"])
    assert (reading.steps, reading.dtypes, reading.schedulers_known) == ([20], ["bfloat16"], True)


SPELLINGS: dict[str, tuple[list[str], str, list[object]]] = {
    "pipeline under another name": (
        [IMPORT, f"{IMPORT} as Pipe", "= StableDiffusionPipeline.", "= Pipe."],
        "pipelines",
        ["StableDiffusionPipeline"],
    ),
    "scheduler under another name": (
        [IMPORT, f"{IMPORT}, DPMSolverMultistepScheduler as Fast", "= DPMSolverMultistepScheduler.", "= Fast."],
        "schedulers",
        ["DPMSolverMultistepScheduler"],
    ),
    "pipeline of a module": (
        ["= StableDiffusionPipeline.", "= diffusers.StableDiffusionPipeline."],
        "pipelines",
        ["StableDiffusionPipeline"],
    ),
    "scheduler of a module": (
        ["= DPMSolverMultistepScheduler.", "= diffusers.schedulers.DPMSolverMultistepScheduler."],
        "schedulers",
        ["DPMSolverMultistepScheduler"],
    ),
    "automatic pipeline": (
        ["StableDiffusionPipeline", "AutoPipelineForText2Image"],
        "pipelines",
        ["AutoPipelineForText2Image"],
    ),
    "general pipeline": (["StableDiffusionPipeline", "DiffusionPipeline"], "pipelines", ["DiffusionPipeline"]),
    "the model by its hub id": (
        ["from_pretrained(model", 'from_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5"'],
        "models",
        ["stable-diffusion-v1-5/stable-diffusion-v1-5"],
    ),
    "steps in a constant": ([IMPORT, f"{IMPORT}\nN = 20", "steps=20", "steps=N"], "steps", [20]),
    "steps in a constant of a constant": (
        [IMPORT, f"{IMPORT}\nM = 20\nN: int = M", "steps=20", "steps=N"],
        "steps",
        [20],
    ),
    "steps before the prompt": (
        [CALL, "pipeline(num_inference_steps=20, prompt=[r.prompt for r in requests]).images"],
        "steps",
        [20],
    ),
    "steps in a dictionary": (
        [CALL, 'pipeline([r.prompt for r in requests], **{"num_inference_steps": 20}).images'],
        "steps",
        [20],
    ),
    "steps in a dictionary by name": (
        [IMPORT, f'{IMPORT}\nHOW = {{"eta": 0, "num_inference_steps": 20}}', "num_inference_steps=20", "**HOW"],
        "steps",
        [20],
    ),
    "steps in dict()": (
        ["num_inference_steps=20", "**HOW", IMPORT, f"{IMPORT}\nHOW = dict(num_inference_steps=20)"],
        "steps",
        [20],
    ),
    "scheduler made directly": (
        [SCHEDULE, "pipeline.scheduler = DPMSolverMultistepScheduler(use_karras_sigmas=True)"],
        "schedulers",
        ["DPMSolverMultistepScheduler"],
    ),
    "scheduler assigned to an inner attribute": (
        ["pipeline.scheduler = ", "self.inner.pipeline.scheduler = "],
        "schedulers",
        ["DPMSolverMultistepScheduler"],
    ),
    "scheduler in a constant": (
        [IMPORT, f"{IMPORT}\nFast = DPMSolverMultistepScheduler", "= DPMSolverMultistepScheduler.", "= Fast."],
        "schedulers",
        ["DPMSolverMultistepScheduler"],
    ),
    "scheduler by keyword": (
        [
            SCHEDULE,
            "pass",
            "from_pretrained(model,",
            "from_pretrained(model, scheduler=DPMSolverMultistepScheduler.from_pretrained(model),",
        ],
        "schedulers",
        ["DPMSolverMultistepScheduler"],
    ),
    "scheduler of the same family": (
        ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"],
        "schedulers",
        ["DPMSolverSinglestepScheduler"],
    ),
    "half()": ([BUILD, "pipeline = StableDiffusionPipeline.from_pretrained(model).half()"], "dtypes", ["float16"]),
    "to(torch.bfloat16)": (
        [BUILD, "pipeline = StableDiffusionPipeline.from_pretrained(model).to(torch.bfloat16)"],
        "dtypes",
        ["bfloat16"],
    ),
    "to(device, torch.bfloat16)": (
        [BUILD, "pipeline = StableDiffusionPipeline.from_pretrained(model).to(device, torch.bfloat16)"],
        "dtypes",
        ["bfloat16"],
    ),
    "to(dtype=torch.bfloat16)": (
        [BUILD, "pipeline = StableDiffusionPipeline.from_pretrained(model).to(dtype=torch.bfloat16)"],
        "dtypes",
        ["bfloat16"],
    ),
    "dtype by its newer name": (["torch_dtype=", "dtype="], "dtypes", ["bfloat16"]),
    "dtype as text": (["torch.bfloat16", '"bfloat16"'], "dtypes", ["bfloat16"]),
    "dtype by its alias": (["torch.bfloat16", "torch.half"], "dtypes", ["float16"]),
    "dtype in a constant": (
        [IMPORT, f"{IMPORT}\nD = torch.bfloat16", "e=torch.bfloat16", "e=D"],
        "dtypes",
        ["bfloat16"],
    ),
}


@pytest.mark.parametrize(("changes", "attribute", "expected"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_spelling_is_understood(changes: list[str], attribute: str, expected: list[object]) -> None:
    """However an attribute is spelled, it is read, and a source that does what is demanded is accepted."""
    reading = check(_rewritten(*changes), DEMAND)

    assert getattr(reading, attribute) == expected


REJECTED: dict[str, tuple[list[str], list[str]]] = {
    "wrong scheduler": (
        ["DPMSolverMultistepScheduler", "EulerDiscreteScheduler"],
        ["demands DPMSolverMultistepScheduler", "it sets EulerDiscreteScheduler", "pipeline.scheduler ="],
    ),
    "wrong scheduler by keyword": (
        [
            SCHEDULE,
            "pass",
            "from_pretrained(model,",
            "from_pretrained(model, scheduler=DDIMScheduler.from_pretrained(model),",
        ],
        ["demands DPMSolverMultistepScheduler", "it sets DDIMScheduler"],
    ),
    "wrong scheduler behind an alias": (
        [IMPORT, f"{IMPORT}, DDIMScheduler as DPMSolver", "= DPMSolverMultistepScheduler.", "= DPMSolver."],
        ["it sets DDIMScheduler"],
    ),
    "no scheduler": ([SCHEDULE, "pass"], ["demands DPMSolverMultistepScheduler", "it sets no scheduler"]),
    "wrong steps": (["=20", "=25"], ["it runs 25 steps", "demands 20", "num_inference_steps=20"]),
    "wrong steps in a constant": ([IMPORT, f"{IMPORT}\nN = 25", "=20", "=N"], ["it runs 25 steps", "demands 20"]),
    "wrong steps in a dictionary": (["num_inference_steps=20", '**{"num_inference_steps": 25}'], ["it runs 25 steps"]),
    "steps as they are today": (["=20", "=requests[0].num_inference_steps"], ["it runs 50 steps", "demands 20"]),
    "another model": (
        ["from_pretrained(model", 'from_pretrained("stabilityai/sdxl-turbo"'],
        ["it loads 'stabilityai/sdxl-turbo'", "from_pretrained(model)"],
    ),
    "another model in a constant": (
        [IMPORT, f'{IMPORT}\nID = "stabilityai/sdxl-turbo"', "from_pretrained(model", "from_pretrained(ID"],
        ["it loads 'stabilityai/sdxl-turbo'"],
    ),
    "another pipeline class": (
        ["StableDiffusionPipeline", "StableDiffusionXLPipeline"],
        ["it builds StableDiffusionXLPipeline", "'sd15' needs StableDiffusionPipeline"],
    ),
    "full precision": (["torch.bfloat16", "torch.float32"], ["demands float16 or bfloat16", "it uses float32"]),
    "no precision": ([", torch_dtype=torch.bfloat16", ""], ["demands float16 or bfloat16", "it sets no dtype"]),
}


@pytest.mark.parametrize(("changes", "words"), REJECTED.values(), ids=REJECTED)
def test_what_was_not_demanded_is_rejected(changes: list[str], words: list[str]) -> None:
    """A source that plainly does something else is a key-attribute error whose line says what would be right."""
    with pytest.raises(SolutionFault) as caught:
        check(_rewritten(*changes), DEMAND)

    assert caught.value.cause is Cause.KEY_ATTRIBUTE
    assert [word for word in words if word not in caught.value.line] == []


def test_the_demanded_dtype_is_the_only_one() -> None:
    """A task that names its half precision does not take the other one."""
    demand = _demand(Task("sd15", level=2, methods={"half_precision": {"dtype": "float16"}}))
    source = _rewritten("DPMSolverMultistepScheduler", "PNDMScheduler", "=20", "=50")

    with pytest.raises(SolutionFault, match="demands float16, it uses bfloat16"):
        check(source, demand)


BROKEN: dict[str, tuple[str, list[str]]] = {
    "no load": (_rewritten("def load", "def make"), ["lacks the function load", "`def load(model, device)`"]),
    "no generate": (_rewritten("def generate", "def draw"), ["lacks the function generate", "(pipeline, requests)`"]),
    "nothing": ("", ["lacks the function load"]),
    "prose": ("Here is the code you asked for:", ["SyntaxError", "line 1"]),
    "one argument": (_rewritten(SIGNATURE, "def load(model):"), ["load must take two", "line 7"]),
    "three arguments": (_rewritten(SIGNATURE, "def load(model, device, dtype):"), ["load must take two", "line 7"]),
    "no arguments": (_rewritten(SIGNATURE, "def load():"), ["load must take two positional arguments"]),
    "arguments by name only": (_rewritten(SIGNATURE, "def load(*, model, device):"), ["load must take two"]),
    "a third by name": (_rewritten(SIGNATURE, "def load(model, device, *, dtype):"), ["load must take two"]),
    "generate of one": (_rewritten("(pipeline, requests)", "(requests)"), ["generate must take two", "line 13"]),
    "syntax error": (_rewritten("return pipeline.to", "return return"), ["SyntaxError", "line 10"]),
    "wrong indentation": (_rewritten("    return pipeline.to", " return pipeline.to"), ["unindent", "line 10"]),
    "null bytes": (SOURCE + "\0", ["null bytes"]),
    "half a character": (SOURCE + "# \ud800", ["not Python source"]),
}


@pytest.mark.parametrize(("source", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_solution_is_a_compilation_error(source: str, words: list[str]) -> None:
    """A source that does not parse, or lacks the contract's functions, fails with the line that is to blame."""
    with pytest.raises(SolutionFault) as caught:
        read(source)

    assert caught.value.cause is Cause.COMPILATION
    assert [word for word in words if word not in caught.value.line] == []


@pytest.mark.parametrize(
    "signature",
    [
        "def load(path, where):",
        "def load(model, device, /):",
        'def load(model, device="cpu", dtype=None):',
        "def load(*arguments):",
        "def load(model, *rest, verbose=False, **options):",
    ],
)
def test_any_function_that_takes_two_arguments_will_do(signature: str) -> None:
    """The contract is about how a function can be called, not about the names it chose."""
    assert "load" in read(_rewritten(SIGNATURE, signature)).functions


@pytest.mark.parametrize("line", ["load = make(1)", "from helpers import load", "from helpers import make as load"])
def test_a_function_made_another_way_is_left_to_the_run(line: str) -> None:
    """What cannot be read is no fault: a `load` that is bound at the top may turn out to be a function."""
    source = f"{line}\n\n" + _rewritten("def load", "def another")

    assert "load" not in read(source).functions


def test_the_models_own_scheduler_needs_no_spelling_out() -> None:
    """A plain pipeline that keeps the scheduler it was loaded with, and the request's steps, is what is demanded."""
    source = _rewritten(SCHEDULE, "pass", "=20", "=requests[0].num_inference_steps")

    assert check(source, AS_TODAY).schedulers == []


def test_a_scheduler_that_cannot_be_read_is_left_to_the_run() -> None:
    """A scheduler that some function makes is no fault, and is known to be unknown."""
    reading = check(_rewritten(SCHEDULE, "pipeline.scheduler = fast_scheduler(pipeline)"), DEMAND)

    assert (reading.schedulers, reading.schedulers_known) == ([], False)


def test_steps_that_cannot_be_read_are_left_to_the_run() -> None:
    """A step count that is computed is no fault."""
    source = _rewritten("=20", "=round(40 / 2)")

    assert [step for step in check(source, DEMAND).steps if isinstance(step, int)] == []


def test_a_warm_up_with_fewer_steps_is_no_fault() -> None:
    """Another step count beside the demanded one is allowed."""
    source = _rewritten("return pipeline.to", 'pipeline("", num_inference_steps=1)\n    return pipeline.to')

    assert check(source, DEMAND).steps == [1, 20]


def test_a_name_that_is_bound_twice_says_nothing() -> None:
    """A name whose value depends on the way through the code is not read, rather than read wrongly."""
    source = _rewritten(IMPORT, f"{IMPORT}\nN = 25\nif torch:\n    N = 20", "steps=20", "steps=N")

    assert [step for step in check(source, DEMAND).steps if isinstance(step, int)] == []


def test_free_tasks_take_any_scheduler_and_steps() -> None:
    """A speed-up task leaves scheduler, steps and precision to the solver."""
    demand = _demand(Task("sd15", level=4), Markers(speed=SpeedDemand(at_least=2)))
    source = _rewritten("DPMSolverMultistepScheduler", "LCMScheduler", "=20", "=4", "bfloat16", "float32")

    assert list(problems(read(source), demand)) == []


@pytest.mark.parametrize(
    ("model", "scheduler", "family"),
    [
        ("dit", "EulerDiscreteScheduler", "sigma-scaled"),
        ("dit", "HeunDiscreteScheduler", "sigma-scaled"),
        ("sd15", "FlowMatchEulerDiscreteScheduler", "flow"),
        ("pixart_alpha", "FlowMatchHeunDiscreteScheduler", "flow"),
    ],
)
def test_a_scheduler_of_a_family_that_cannot_draw_is_refused(model: str, scheduler: str, family: str) -> None:
    """Also where the task leaves it free: it would run, and its images would be flat, or noise."""
    demand = _demand(Task(model, level=4), Markers(speed=SpeedDemand(at_least=2)))
    source = SOURCE.replace("StableDiffusionPipeline", demand.pipeline_classes[0])

    (found,) = problems(read(source.replace("DPMSolverMultistepScheduler", scheduler)), demand)
    assert found.startswith(f"{scheduler} is a {family} scheduler; this pipeline draws right with variance-preserving")
    assert list(problems(read(source), demand)) == []


@pytest.mark.parametrize(
    "bindings", ["N = N", "N = M\nM = N", "N = A\nA = B\nB = A"], ids=["itself", "each other", "a ring"]
)
def test_a_name_that_stands_for_itself_is_given_up(bindings: str) -> None:
    """Following a name ends, whatever it is bound to; nothing is read from it."""
    source = _rewritten(IMPORT, f"{IMPORT}\n{bindings}", "steps=20", "steps=N", "e=torch.bfloat16", "e=N")
    source = source.replace("= DPMSolverMultistepScheduler.", "= N.").replace("= StableDiffusionPipeline.", "= N.")

    reading = read(source)
    assert (reading.pipelines, reading.schedulers, reading.dtypes) == ([], [], [])
    assert not isinstance(reading.steps[0], (int, str))


@given(st.text(st.characters()))
@settings(deadline=None)
def test_no_text_breaks_the_check(text: str) -> None:
    """Text that is no solution is the solution's fault, and nothing else: no crash of ours."""
    with pytest.raises(SolutionFault):
        read(text)


@given(st.text(st.characters(max_codepoint=127), max_size=60))
@settings(deadline=None)
def test_no_text_beside_the_two_functions_breaks_the_check(text: str) -> None:
    """With the contract kept, any text is read or is the solution's fault."""
    try:
        reading = read(text + CONTRACT)
    except SolutionFault as fault:
        assert fault.line  # noqa: PT017 (either way is right)
    else:
        assert {"load", "generate"} <= set(reading.functions)


_NAMES = st.sampled_from(
    [
        *("model", "x", "load", "torch", "float16", "DDIMScheduler", "FluxPipeline", "from_config", "from_pretrained"),
        *("scheduler", "dtype", "torch_dtype", "num_inference_steps", "to", "half"),
    ]
)
_LEAVES = _NAMES | st.sampled_from(["1", "None", "...", "'float'", "b'x'", "f'{x}'", "True", "1j", "{**x}", "()"])


def _larger(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({}).{}".format, parts, _NAMES),
        st.builds("{}({}, *{}, {}={}, **{})".format, _NAMES, parts, parts, _NAMES, parts, parts),
        st.builds("({}).{}({}, {}={})".format, parts, _NAMES, parts, _NAMES, parts),
        st.builds("({})()".format, parts),
        st.builds("{{'scheduler': {}, {}: {}, **{}}}".format, parts, parts, parts, parts),
        st.builds("[{} for {} in {}]".format, parts, _NAMES, parts),
        st.builds("(lambda {}: {})".format, _NAMES, parts),
        st.builds("({} := {})".format, _NAMES, parts),
    )


_TARGETS = _NAMES | st.builds("{}.{}".format, _NAMES, _NAMES) | st.builds("{}[0], *{}".format, _NAMES, _NAMES)
_STATEMENTS = st.builds("{} = {}".format, _TARGETS, st.recursive(_LEAVES, _larger, max_leaves=12))


@given(st.lists(_STATEMENTS, max_size=8))
@settings(deadline=None)
def test_no_program_breaks_the_check(statements: list[str]) -> None:
    """Whatever valid program stands beside the two functions, it is read to its end and compared."""
    try:
        reading = read("\n".join(statements) + CONTRACT)
    except SolutionFault as fault:
        assert "SyntaxError" in fault.line  # noqa: PT017 (a keyword given twice, say)
    else:
        assert all(isinstance(line, str) for line in problems(reading, DEMAND))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch\nunet = torch.compile(unet)", True),
        ("@torch.compile\ndef step(x): return x", True),
        ("from torch import compile as faster", True),
        ("pipe.unet.compile_repeated_blocks(fullgraph=True)", True),
        ("# torch.compile\n'compile'", False),
        ("import re\nPATTERN = re.compile('a')\ncode = compile('1', 'a', 'eval')", False),
        ("from re import compile", False),
    ],
)
def test_what_compiles_a_model_is_told_from_other_compiling(source: str, found: bool) -> None:  # noqa: FBT001 (a column)
    """Regular expressions, Python's own `compile` and comments are none."""
    assert compiles(source) is found
