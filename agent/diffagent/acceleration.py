"""A plan at work on a pipeline in memory, until it is taken back: no test, no process, no pytest."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from diffagent import planfile
from diffagent.knowledge import known, read
from diffagent.plan import Plan, Subject, canonical, in_words, problems, steps_of
from diffagent.planfile import MadeFor
from pytest_diffbench.methods import SCHEDULER_FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from diffagent.knowledge.base import Entry
    from diffagent.plan import Applied

STEPS: Final = "num_inference_steps"
ANY_BUT_FLOW: Final = ("variance-preserving", "sigma-scaled", "distilled")
ONLY_AS_THEY_ARE: Final = ("variance-preserving", "distilled")


class PlanRefused(ValueError):
    """A plan cannot be used on a pipeline; the message says why, and what would be right."""


class Acceleration:
    """A plan at work. `undo()`, or the end of a `with`, leaves the pipeline exactly as it was."""

    def __init__(self, pipeline: Any, plan: Plan) -> None:
        self.pipeline = pipeline
        self.plan = plan
        self._exits = contextlib.ExitStack()

    def undo(self) -> None:
        """Take everything back; a second time does nothing."""
        self._exits.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def __repr__(self) -> str:
        return f"<Acceleration: {in_words(self.plan)}>"


def apply(
    pipeline: Any, plan: Plan | Path | str, *, steps: int | None = None, knowledge: Path | str | None = None
) -> Acceleration:
    """Accelerate a pipeline of diffusers in place; the handle that is returned takes it back.

    `plan` may be the path of a `plan.toml`. `steps` is how many the pipeline is run with today, where that is not its
    own default; a plan with steps of its own sets the default of `num_inference_steps`. `knowledge` is a folder of
    methods of your own, whose templates are read here for the function that they call. PlanRefused where the plan
    cannot work on this pipeline, or was found for another one; PlanFileError of a file that holds none, KnowledgeError
    of a folder that cannot be used.
    """
    methods = read(Path(knowledge), known()) if knowledge is not None else known()
    known_steps = steps if steps is not None else _default_steps(pipeline)
    if not isinstance(plan, Plan):
        content = planfile.load(Path(plan))
        _refuse_another(content.made_for, made_for(pipeline, known_steps))
        plan = content.plan
    subject = subject_of(pipeline, known_steps)
    if found := problems(plan, subject, methods):
        raise PlanRefused(f"this plan cannot work on a {type(pipeline).__name__}: {'; '.join(found)}")
    whole = canonical(plan, methods, subject.device_kind)
    handle = Acceleration(pipeline, whole)
    with contextlib.ExitStack() as undone_if_it_fails:
        undone_if_it_fails.callback(handle.undo)
        for applied in whole.methods:
            handle._exits.enter_context(_at_work(pipeline, applied, methods[applied.method]))  # noqa: SLF001 (its own handle)
        handle._exits.enter_context(_default(pipeline, steps_of(whole, subject, methods)))  # noqa: SLF001
        undone_if_it_fails.pop_all()
    return handle


def subject_of(pipeline: Any, steps: int) -> Subject:
    """What a pipeline in memory is, as far as plans ask."""
    is_dit = type(pipeline).__name__ == "DiTPipeline"
    flows = type(pipeline.scheduler).__name__ in SCHEDULER_FAMILIES["flow"]
    return Subject(
        denoiser="unet" if getattr(pipeline, "unet", None) is not None else "transformer",
        conditioning="class" if is_dit else "text",
        families=("flow",) if flows else ONLY_AS_THEY_ARE if is_dit else ANY_BUT_FLOW,
        steps=steps,
        device_kind=pipeline.device.type,
    )


def made_for(pipeline: Any, steps: int | None = None) -> MadeFor:
    """What a plan that is found for this pipeline was made for."""
    from diffagent.methods.host import denoiser

    model = denoiser(pipeline)
    return MadeFor(
        denoiser_class=type(model).__name__,
        denoiser_parameters=sum(weight.numel() for weight in model.parameters()),
        num_inference_steps=steps if steps is not None else _default_steps(pipeline),
    )


def _refuse_another(theirs: MadeFor, ours: MadeFor) -> None:
    if theirs != ours:
        told = [f"{name} {value}, not {getattr(ours, name)}" for name, value in theirs if value != getattr(ours, name)]
        raise PlanRefused(
            f"this plan was found for a {', '.join(told)}: measure it on this pipeline first, or give apply() its "
            "methods as a Plan"
        )


def _default_steps(pipeline: Any) -> int:
    found = inspect.signature(pipeline.__call__).parameters[STEPS].default
    return found if isinstance(found, int) else 50


@contextlib.contextmanager
def _at_work(pipeline: Any, applied: Applied, entry: Entry) -> Iterator[None]:
    """One method, for a while."""
    if entry.facts.kind == "sampler":
        with _sampling(pipeline, str(entry.facts.scheduler), applied):
            yield
    elif entry.facts.kind == "precision":
        with _in_precision(pipeline, str(applied.parameters["dtype"])):
            yield
    else:
        with _manager(pipeline, applied, entry):
            yield


def _manager(pipeline: Any, applied: Applied, entry: Entry) -> AbstractContextManager[object]:
    """What a method's template calls, called: a function that it imports, with the pipeline and plain values."""
    imports = ast.parse(entry.written("imports", applied.parameters) or "").body
    modules = {alias.name: each.module for each in imports if isinstance(each, ast.ImportFrom) for alias in each.names}
    call = ast.parse(entry.written("applied", applied.parameters) or "None", mode="eval").body
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and modules.get(call.func.id)):
        raise PlanRefused(f"{entry.name}: its template calls no function that it imports: apply() cannot use it")
    function = getattr(importlib.import_module(str(modules[call.func.id])), call.func.id)
    given = [pipeline if isinstance(each, ast.Name) else ast.literal_eval(each) for each in call.args]
    named = {each.arg: ast.literal_eval(each.value) for each in call.keywords if each.arg}
    manager: AbstractContextManager[object] = function(*given, **named)
    return manager


@contextlib.contextmanager
def _sampling(pipeline: Any, scheduler: str, applied: Applied) -> Iterator[None]:
    import diffusers

    before, made = pipeline.scheduler, getattr(diffusers, scheduler)
    settings = {name: value for name, value in applied.parameters.items() if name != "steps"}
    if "clip_sample" in inspect.signature(made.__init__).parameters:
        settings["clip_sample"] = False  # its default is for pixels; latents are larger
    pipeline.scheduler = made.from_config(before.config, **settings)
    try:
        yield
    finally:
        pipeline.scheduler = before


@contextlib.contextmanager
def _in_precision(pipeline: Any, dtype: str) -> Iterator[None]:
    """Every weight in another dtype; the tensors themselves are kept, so that what comes back is exact."""
    import torch

    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    kept = [(tensor, tensor.data) for module in modules for tensor in (*module.parameters(), *module.buffers())]
    for tensor, data in kept:
        if data.is_floating_point():
            tensor.data = data.to(getattr(torch, dtype))
    try:
        yield
    finally:
        for tensor, data in kept:
            tensor.data = data


@contextlib.contextmanager
def _default(pipeline: Any, steps: int) -> Iterator[None]:
    """Another default of `num_inference_steps`: of this pipeline alone, by a class of its own."""
    own = type(pipeline)

    def calling(self: Any, *args: Any, **kwargs: Any) -> Any:
        told = inspect.signature(own.__call__).bind_partial(self, *args, **kwargs).arguments
        return own.__call__(self, *args, **kwargs if STEPS in told else {**kwargs, STEPS: steps})

    pipeline.__class__ = type(own.__name__, (own,), {"__call__": calling, "__module__": own.__module__})
    try:
        yield
    finally:
        pipeline.__class__ = own
