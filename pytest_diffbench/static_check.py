"""What a solution's source says, read from its syntax tree; nothing of it is executed.

It refuses what is plainly not what was asked for, early and with a line number. It is no defence: what cannot be
read is left to the running pipeline.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeGuard

from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.methods import family_problem, wrong_sampler
from pytest_diffbench.records import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.methods import Place

CONTRACT: Final[Mapping[str, tuple[str, ...]]] = {"load": ("model", "device"), "generate": ("pipeline", "requests")}
"""The two functions of a solution and their positional parameters."""

_PASSED_THROUGH: Final = object()
"""The value is what the harness hands in: the `model` of `load`, a request's `num_inference_steps`."""
_UNREAD: Final = object()
_SCHEDULER_MAKERS: Final = ("from_config", "from_pretrained")
_MOST_HOPS: Final = 8
"""So far a name is followed that stands for another name; `x = x` has no end."""
_LAYER_ATTRIBUTES: Final = ("forward", "processor", "transformer_blocks", "attn1", "attn2")
_CALLS_BY_HAND: Final = (
    "unet",
    "transformer",
    "set_attn_processor",
    "set_processor",
    "register_forward_hook",
    "register_forward_pre_hook",
    "setattr",
    "MethodType",
)


@dataclass(frozen=True)
class Call:
    """One call in a source, with what could be read of its arguments."""

    arguments: tuple[object, ...]
    keywords: Mapping[str, object]
    whole: bool
    """False where some are handed over by * or **."""

    def value(self, place: Place) -> object:
        """What is given at a place; its default where nothing is, and something unreadable where that is not sure."""
        if place.keyword in self.keywords:
            return self.keywords[place.keyword]
        if place.position is not None and place.position < len(self.arguments):
            return self.arguments[place.position]
        return place.default if self.whole else _UNREAD


@dataclass
class Reading:
    """The key attributes that a source states; a list holds every value found for one."""

    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    pipelines: list[str] = field(default_factory=list)
    models: list[object] = field(default_factory=list)
    schedulers: list[str] = field(default_factory=list)
    schedulers_known: bool = True
    """False where a scheduler is assigned that cannot be read."""
    makers_known: bool = True
    """False where a class that cannot be read makes something: a pipeline, perhaps, or a scheduler."""
    steps: list[object] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    dtypes_known: bool = True
    """False where a dtype is given that cannot be read."""
    calls: dict[str, list[Call]] = field(default_factory=dict)
    """By the function's own name, without what stands before its dot."""
    by_hand: bool = False
    """Whether it takes hold of layers (their `forward`, processors, hooks, a subclass), or of the steps themselves."""


def read(source: str) -> Reading:
    """What a source states; SolutionFault where it does not parse or lacks the contract's functions."""
    try:
        tree = ast.parse(source)
        reading = Reading(functions={node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)})
        _check_contract(tree, reading)
        _Reader(tree, reading).visit(tree)
    except SyntaxError as error:
        where = f" (solution.py line {error.lineno})" if error.lineno else ""
        raise SolutionFault(Cause.COMPILATION, f"SyntaxError: {error.msg}{where}") from error
    except ValueError as error:
        raise SolutionFault(Cause.COMPILATION, f"not Python source: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise SolutionFault(Cause.COMPILATION, "not readable: its expressions are nested too deeply") from error
    return reading


def check(source: str, demand: Demand) -> Reading:
    """The reading of a source that agrees with the demand; SolutionFault with one actionable line where it does not."""
    reading = read(source)
    for problem in problems(reading, demand):
        raise SolutionFault(Cause.KEY_ATTRIBUTE, problem)
    return reading


def problems(reading: Reading, demand: Demand) -> Iterator[str]:
    """Each key attribute that contradicts the demand, as one line."""
    known = demand.pipeline_classes
    if reading.makers_known and reading.pipelines and not set(reading.pipelines) & set(known):
        yield f"it builds {', '.join(reading.pipelines)}; model {demand.model.name!r} needs {known[0]}"
    named = [model for model in reading.models if isinstance(model, str) and model != demand.model.hub_id]
    if named:
        yield f"it loads {named[0]!r}; load the folder that is handed in: from_pretrained(model)"
    sampler = demand.demanded_sampler
    own_scheduler = not reading.schedulers and sampler == demand.model.sampler  # needs no spelling out
    if sampler is not None and not own_scheduler and (problem := wrong_sampler(reading, sampler)):
        yield problem
    families = demand.model.families
    unfit = [problem for name in reading.schedulers if (problem := family_problem(name, families))]
    if unfit and len(unfit) == len(reading.schedulers) and reading.makers_known:
        yield unfit[0]
    yield from _step_problems(reading, demand)
    for name, parameters in demand.methods.items():
        method = demand.known_methods[name]
        if method.sampler is None and (problem := method.source_problem(reading, parameters)):
            yield problem


def _step_problems(reading: Reading, demand: Demand) -> Iterator[str]:
    wanted = demand.demanded_steps
    if wanted is None:
        return
    stated = [demand.steps if steps is _PASSED_THROUGH else steps for steps in reading.steps]
    wrong = [steps for steps in stated if isinstance(steps, int) and steps != wanted]
    if wrong and wanted not in stated and _UNREAD not in stated:
        yield f"it runs {wrong[0]} steps; the task demands {wanted}: num_inference_steps={wanted}"


def _check_contract(tree: ast.Module, reading: Reading) -> None:
    bound_otherwise = set(_bound_names(tree))
    for name, parameters in CONTRACT.items():
        signature = f"def {name}({', '.join(parameters)})"
        if name not in reading.functions:
            if name in bound_otherwise or "*" in bound_otherwise:
                continue  # made another way; loading it will show
            raise SolutionFault(Cause.COMPILATION, f"it lacks the function {name}: a solution defines `{signature}`")
        arguments = reading.functions[name].args
        positional = [*arguments.posonlyargs, *arguments.args]
        required = len(positional) - len(arguments.defaults)
        takes_two = required <= len(parameters) and (len(positional) >= len(parameters) or arguments.vararg)
        if not takes_two or any(default is None for default in arguments.kw_defaults):
            line = reading.functions[name].lineno
            raise SolutionFault(
                Cause.COMPILATION, f"{name} must take two positional arguments: `{signature}` (solution.py line {line})"
            )


def _bound_names(tree: ast.Module) -> Iterator[str]:
    """Every name that some statement binds by other means than a plain top-level function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from (child.name for child in ast.walk(node) if isinstance(child, ast.FunctionDef))


class _Reader(ast.NodeVisitor):
    """Collects key attributes from calls, keywords, dictionaries and assignments."""

    def __init__(self, tree: ast.Module, reading: Reading) -> None:
        self._reading = reading
        self._bound = _all_bound(tree)
        self._resolved: dict[str, str] = {}
        load = reading.functions.get("load")
        self._model_parameter = load.args.args[0].arg if load is not None and load.args.args else "model"

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            self._note_method_call(node, node.func)
        self._note_call(self._name(node.func), node)
        made = self._class(node.func)
        if made.endswith("Scheduler"):
            self._reading.schedulers.append(made)
        elif _is_pipeline(made):  # of another's components
            self._reading.pipelines.append(made)
        elif not made and any(_is_components(keyword) for keyword in node.keywords):
            self._reading.makers_known = False
        for keyword in node.keywords:
            self._note(keyword.arg, keyword.value)
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                self._note(key.value, value)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            if isinstance(target, ast.Attribute) and target.attr == "scheduler":
                self._note_scheduler(node.value)
            set_here = {part.attr for part in ast.walk(target) if isinstance(part, ast.Attribute)}
            self._reading.by_hand |= not set_here.isdisjoint(_LAYER_ATTRIBUTES)
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._reading.by_hand |= bool(node.bases)
        self.generic_visit(node)

    def _note_method_call(self, node: ast.Call, callee: ast.Attribute) -> None:
        owner = self._class(callee.value)
        self._reading.makers_known &= bool(owner) or callee.attr not in (*_SCHEDULER_MAKERS, "from_pipe")
        if callee.attr in ("from_pretrained", "from_pipe") and _is_pipeline(owner):
            self._reading.pipelines.append(owner)
            if callee.attr == "from_pretrained":
                named = [k.value for k in node.keywords if k.arg == "pretrained_model_name_or_path"]
                first = [*node.args, *named]
                self._reading.models.append(self._value(first[0]) if first else _UNREAD)
        elif callee.attr in _SCHEDULER_MAKERS and owner.endswith("Scheduler"):
            self._reading.schedulers.append(owner)
        elif callee.attr in ("half", "bfloat16"):
            self._reading.dtypes.append({"half": "float16"}.get(callee.attr, callee.attr))
        elif callee.attr == "to":
            for argument in node.args:
                self._note_dtype(argument, certain=False)

    def _note_call(self, name: str, node: ast.Call) -> None:
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        keywords = {keyword.arg: self._value(keyword.value) for keyword in node.keywords if keyword.arg}
        whole = not starred and len(keywords) == len(node.keywords)
        arguments = () if starred else tuple(map(self._value, node.args))
        self._reading.calls.setdefault(name, []).append(Call(arguments, keywords, whole))
        self._reading.by_hand |= name in _CALLS_BY_HAND or "callback_on_step_end" in keywords

    def _note(self, name: str | None, value: ast.expr) -> None:
        if name == "num_inference_steps":
            self._reading.steps.append(self._value(value))
        elif name in ("torch_dtype", "dtype"):
            self._note_dtype(value)
        elif name == "scheduler":
            self._note_scheduler(value)

    def _note_scheduler(self, value: ast.expr) -> None:
        called = value.func if isinstance(value, ast.Call) else value
        owner = called.value if isinstance(called, ast.Attribute) and called.attr in _SCHEDULER_MAKERS else called
        if not self._class(owner).endswith("Scheduler"):
            self._reading.schedulers_known = False

    def _note_dtype(self, value: ast.expr, *, certain: bool = True) -> None:
        """Note a dtype; `certain` where the value can be nothing else (`.to` also takes devices)."""
        name = value.attr if isinstance(value, ast.Attribute) else self._value(value)
        spelled = str(name).removeprefix("torch.") if isinstance(name, str) else ""
        spelled = {"half": "float16", "float": "float32"}.get(spelled, spelled)
        if "float" in spelled:
            self._reading.dtypes.append(spelled)
        elif certain:
            self._reading.dtypes_known = False

    def _name(self, node: ast.expr, hops: int = _MOST_HOPS) -> str:
        """What is called, by its own name."""
        if isinstance(node, ast.Attribute):
            return node.attr
        if isinstance(node, ast.Name):
            imported = {each for each in self._bound.get(node.id, ()) if isinstance(each, str)}
            bound = self._constant(node.id)
            if isinstance(bound, (ast.Name, ast.Attribute)) and hops:
                return self._name(bound, hops - 1)
            return imported.pop() if len(imported) == 1 else node.id
        return ""

    def _constant(self, name: str) -> ast.expr | None:
        """What a name is bound to, if to one expression only."""
        bound = self._bound.get(name, ())
        return bound[0] if len(bound) == 1 and isinstance(bound[0], ast.expr) else None

    def _class(self, node: ast.expr | str | None) -> str:
        """The class of a library that an expression stands for, or whose subclass it is; '' where that is not sure.

        A name's ending says nothing where the source binds it: `Pipeline` may be a parameter, or one class of two.
        """
        if isinstance(node, str):
            return node
        if isinstance(node, ast.Attribute):
            return node.attr if self._is_module(node.value) else ""
        if isinstance(node, ast.Name):
            return self._class_named(node.id)
        if isinstance(node, ast.Call) and self._name(node.func) == "getattr" and len(node.args) == 2:
            looked_up = self._value(node.args[1])
            return looked_up if isinstance(looked_up, str) and self._is_module(node.args[0]) else ""
        return ""

    def _class_named(self, name: str) -> str:
        if name not in self._resolved:
            self._resolved[name] = ""  # what is bound to itself is nothing
            found = {self._class(bound) for bound in self._bound.get(name, [name]) if not _is_nothing(bound)}
            self._resolved[name] = found.pop() if len(found) == 1 else ""
        return self._resolved[name]

    def _is_module(self, node: ast.expr) -> bool:
        """Whether it is imported, or part of what is; what the source itself does not bind is taken for it."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and all(isinstance(bound, str) for bound in self._bound.get(node.id, ()))

    def _value(self, node: ast.expr, hops: int = _MOST_HOPS) -> object:
        """The constant that an expression stands for, `_PASSED_THROUGH`, or `_UNREAD`."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Attribute):
            if node.attr == "num_inference_steps":
                return _PASSED_THROUGH
            return f"torch.{node.attr}" if isinstance(node.value, ast.Name) and node.value.id == "torch" else _UNREAD
        if isinstance(node, ast.Name):
            if node.id == self._model_parameter:
                return _PASSED_THROUGH
            bound = self._constant(node.id)
            return self._value(bound, hops - 1) if bound is not None and hops else _UNREAD
        return _UNREAD


def _is_pipeline(name: str) -> bool:
    return name.endswith(("Pipeline", "Img2ImgPipeline")) or name.startswith("AutoPipelineFor")


def _all_bound(tree: ast.Module) -> dict[str, list[ast.expr | str | None]]:
    """All that a name may stand for: what it is imported as, bound to, or derived of; None for what cannot be read."""
    bound: dict[str, list[ast.expr | str | None]] = {}
    for node in ast.walk(tree):
        for name, value in _bindings(node):
            bound.setdefault(name, []).append(value)
    return bound


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr | str | None]]:
    if isinstance(node, ast.ImportFrom):
        yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
    elif isinstance(node, ast.Import):
        yield from ((name, name) for alias in node.names if (name := alias.asname or alias.name.partition(".")[0]))
    elif isinstance(node, ast.ClassDef):
        yield node.name, node.bases[0] if node.bases else None
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield node.name, None
    elif isinstance(node, ast.arg):
        yield node.arg, None
    elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from ((target.id, node.value) for target in targets if isinstance(target, ast.Name))
        unpacked = [target for target in targets if not isinstance(target, ast.Name)]
        yield from ((part.id, None) for target in unpacked for part in ast.walk(target) if _is_bound(part))
    elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension, ast.AugAssign)):
        yield from ((part.id, None) for part in ast.walk(node.target) if _is_bound(part))
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield from ((part.id, None) for part in ast.walk(node.optional_vars) if _is_bound(part))


def _is_nothing(bound: ast.expr | str | None) -> bool:
    """Whether it is `None`, to which a name is bound where an import has failed: no class at all."""
    return isinstance(bound, ast.Constant) and bound.value is None


def _is_components(keyword: ast.keyword) -> bool:
    """Whether it hands over a pipeline's parts: `**pipeline.components`."""
    return keyword.arg is None and isinstance(keyword.value, ast.Attribute) and keyword.value.attr == "components"


def _is_bound(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def compiles(source: str) -> bool:
    """Whether a source names what compiles a model: `torch.compile`, `unet.compile_repeated_blocks` and the like."""
    return any(map(_compiles, ast.walk(ast.parse(source))))


def _compiles(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute) and node.attr.startswith("compile"):
        return not (isinstance(node.value, ast.Name) and node.value.id == "re")
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == "torch"
        and any(alias.name == "compile" for alias in node.names)
    )
