"""Acceleration methods as the plugin sees them: how each is spelled in a solution, and how its effect shows.

The plugin knows samplers and precision; any package or conftest adds more through `pytest_diffbench_methods`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from pytest_diffbench.records import Executability
    from pytest_diffbench.static_check import Reading
    from pytest_diffbench.zoo.models import Model

Parameters: TypeAlias = "Mapping[str, object]"

SAMPLERS: Final[Mapping[str, tuple[str, ...]]] = {
    "pndm": ("PNDMScheduler",),
    "ddim": ("DDIMScheduler",),
    "dpm_solver": ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"),
    "unipc": ("UniPCMultistepScheduler",),
    "euler": ("EulerDiscreteScheduler",),
    "heun": ("HeunDiscreteScheduler",),
}
"""Sampler names and the diffusers classes that implement each."""

SCHEDULER_FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "variance-preserving": (
        "DDIMScheduler",
        "DDIMParallelScheduler",
        "DDPMScheduler",
        "DDPMParallelScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "PNDMScheduler",
        "SASolverScheduler",
        "UniPCMultistepScheduler",
    ),
    "sigma-scaled": (
        "DPMSolverSDEScheduler",
        "EDMDPMSolverMultistepScheduler",
        "EDMEulerScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LMSDiscreteScheduler",
    ),
    "flow": (
        "FlowMatchEulerDiscreteScheduler",
        "FlowMatchHeunDiscreteScheduler",
        "FlowMatchLCMScheduler",
    ),
    "distilled": ("LCMScheduler", "TCDScheduler"),
}
"""What a scheduler takes its latents to be: of deviation 1 at every step, of the noise's own, a mixture with noise.

Those for distilled weights run on others too; that their images are too uniform then is for the judge to see.
"""
DTYPES: Final = ("float16", "bfloat16")


@dataclass(frozen=True)
class Method:
    """One method that a task can demand."""

    name: str
    summary: str
    """What a solver is told, e.g. "the DPM-Solver++ sampler (Lu et al. 2022)"."""
    parameters: Mapping[str, Callable[[object], bool]]
    """Every parameter that a task may give, and whether a value of it is valid."""
    source_problem: Callable[[Reading, Parameters], str | None]
    """What in the source contradicts the demand, or None; nothing is executed."""
    running_problem: Callable[[Executability, Parameters], str | None]
    """What in the running pipeline's own word contradicts the demand, or None; what cannot be seen is no problem."""
    sampler: str | None = None
    """The sampler that this method is, if it is one."""
    keeps_calls: bool = False
    """Whether the denoiser is called at every step all the same; only then are fewer calls than steps a fault."""
    model_problem: Callable[[Model], str | None] = lambda _: None
    """Why no pipeline of a model can use it, or None: such a task is refused, not given."""
    nothing_to_see: Callable[[Parameters, int, float], str | None] = lambda *_: None
    """Why it could not show with these parameters, in so many steps with this guidance, or None; refused likewise.

    A parameter that the task leaves out is the solution's to choose.
    """
    conflicts: Mapping[str, str] = field(default_factory=dict)
    """Methods that it does not go together with, and why: a task that demands both is refused."""
    applied: Callable[[Any, Parameters], AbstractContextManager[object]] | None = None
    """It at work on a pipeline, inside a `with`, so that what it saves can be counted; None where that counts nothing.

    A method that cannot work on this pipeline raises ValueError.
    """
    examples: tuple[Parameters, ...] = ()
    """Parameters that its ceiling is told for."""
    meanings: Mapping[str, str] = field(default_factory=dict)
    """What a solver is told of a parameter, e.g. of 'interval': "every so many steps all of it is computed"."""
    effect: str = ""
    """What a solver is told of how it must show when it runs; '' where nothing but its call is looked at."""


@dataclass(frozen=True)
class Spelling:
    """One way to call a method in a source: the function's own name, and where it takes each parameter."""

    function: str
    parameters: Mapping[str, Place]
    """By the names that tasks give them."""


@dataclass(frozen=True)
class Place:
    """Where a function takes a parameter: by keyword, or by position, and what it is where it is left out."""

    keyword: str
    position: int | None = None
    default: object = None


def spelled_otherwise(
    reading: Reading, spellings: Sequence[Spelling], parameters: Parameters, example: str
) -> str | None:
    """Why a source does not call a method with the demanded parameters, or None.

    `example` is a call that would do. Code of a solver's own that takes hold of layers, or of the steps, is no problem:
    whether it is the method shows when it runs.
    """
    calls = [(spelling, call) for spelling in spellings for call in reading.calls.get(spelling.function, ())]
    if not calls:
        return None if reading.by_hand else f"nothing in it applies what the task demands: {example}"
    for name, wanted in parameters.items():
        found = [call.value(spelling.parameters[name]) for spelling, call in calls if name in spelling.parameters]
        if found and wanted not in found and all(map(_is_known, found)):
            return f"it sets {name} to {found[0]!r}; the task demands {wanted!r}: {example}"
    return None


def _is_known(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


LEAST_SAVED: Final = 0.01
"""Of a step's work, on average over the steps: a method that saves less is not seen to have an effect."""


def saves_no_work(running: Executability, least: float = LEAST_SAVED) -> str | None:
    """Why a method that should save the denoiser work saves less than this share of it, step for step, or None."""
    seen, plain = running.observed, running.baseline_observed
    if seen is None or plain is None or not (seen.denoiser_flops and plain.denoiser_flops):
        return None
    ours, theirs = (one.denoiser_flops / max(1, one.denoiser_calls) for one in (seen, plain))
    if ours <= (1 - least) * theirs:
        return None
    return f"it has no effect: a step of its denoiser takes {ours:.3g} FLOPs, one of the baseline's {theirs:.3g}"


def merges_no_tokens(running: Executability) -> str | None:
    """Why a method that should let fewer tokens attend lets all of them, or None."""
    seen, plain = running.observed, running.baseline_observed
    if seen is None or plain is None or not 0 < plain.attention_tokens <= seen.attention_tokens:
        return None
    return f"it has no effect: {seen.attention_tokens} tokens attend to each other, as in the baseline"


def _is_step_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1000


def _sampler(name: str, summary: str) -> Method:
    def source_problem(reading: Reading, _: Parameters) -> str | None:
        return wrong_sampler(reading, name)

    def running_problem(running: Executability, _: Parameters) -> str | None:
        return None if sampler_agrees(running, name) else f"it runs {running.scheduler_class}, not {SAMPLERS[name][0]}"

    return Method(
        name,
        summary,
        {"steps": _is_step_count},
        source_problem,
        running_problem,
        sampler=name,
        keeps_calls=True,
        examples=({"steps": 20}, {"steps": 10}),
    )


def wrong_sampler(reading: Reading, name: str) -> str | None:
    """Why the source does not set the demanded sampler, or None."""
    classes = SAMPLERS[name]
    known = reading.schedulers_known and reading.makers_known
    if any(scheduler in classes for scheduler in reading.schedulers) or not known:
        return None
    found = f"it sets {', '.join(reading.schedulers)}" if reading.schedulers else "it sets no scheduler"
    return f"the task demands {classes[0]}, {found}: pipeline.scheduler = {classes[0]}.from_config(...)"


def family_problem(scheduler_class: str, families: Sequence[str]) -> str | None:
    """Why a model that takes schedulers of these families cannot run with one, or None; unknown ones may do."""
    found = next((name for name, classes in SCHEDULER_FAMILIES.items() if scheduler_class in classes), None)
    if found is None or found in families:
        return None
    right = " or ".join(family for family in families if family != "distilled")
    return f"{scheduler_class} is a {found} scheduler; this pipeline draws right with {right} ones only"


def sampler_agrees(running: Executability, name: str) -> bool:
    """Whether the running scheduler, where it can be seen, is the named one."""
    return running.scheduler_class in ("", *SAMPLERS[name])


def _precision_in_source(reading: Reading, parameters: Parameters) -> str | None:
    dtype = parameters.get("dtype")
    wanted = (str(dtype),) if dtype else DTYPES
    if any(found in wanted for found in reading.dtypes) or not reading.dtypes_known:
        return None
    found = f"it uses {', '.join(reading.dtypes)}" if reading.dtypes else "it sets no dtype"
    return f"the task demands {' or '.join(wanted)}, {found}: from_pretrained(model, dtype=torch.{wanted[0]})"


def _precision_running(running: Executability, parameters: Parameters) -> str | None:
    dtype = parameters.get("dtype")
    wanted = (str(dtype),) if dtype else DTYPES
    return None if running.dtype in ("", *wanted) else f"its denoiser runs in {running.dtype}, not {wanted[0]}"


BUILT_IN: Final[tuple[Method, ...]] = (
    _sampler("ddim", "the DDIM sampler (Song et al. 2021)"),
    _sampler("dpm_solver", "the DPM-Solver++ sampler (Lu et al. 2022)"),
    _sampler("unipc", "the UniPC sampler (Zhao et al. 2023)"),
    Method(
        "half_precision",
        "half precision: denoiser and autoencoder in float16 (GPU) or bfloat16 (CPU)",
        {"dtype": lambda value: value in DTYPES},
        _precision_in_source,
        _precision_running,
        keeps_calls=True,
    ),
)
