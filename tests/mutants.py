"""Sources that get exactly one key attribute of a task wrong, made from one that gets all of them right."""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, Final

from pytest_diffbench.methods import SAMPLERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_diffbench.demand import Demand

FUNCTIONS: Final = ("token_merging", "deepcache", "tgate", "guidance_window", "block_reuse")
OTHER_VALUES: Final = {
    "ratio": 0.33,
    "max_downsample": 8,
    "interval": 7,
    "branch": 3,
    "gate_step": 3,
    "sp_interval": 9,
    "fi_interval": 9,
    "start": 0.33,
    "stop": 0.77,
    "warm_up": 7,
}


def mutants(source: str, demand: Demand) -> Iterator[tuple[str, str]]:
    """The attribute, and the source that has it wrong."""
    tree = ast.parse(source)
    yield "pipeline", _changed(tree, _renamed(set(demand.pipeline_classes), "FluxPipeline"))
    yield "model", _changed(tree, _other_model)
    if demand.demanded_sampler is not None:
        yield from _schedulers(tree, demand)
    if demand.demanded_steps is not None:
        yield from _steps(tree, demand)
    if "half_precision" in demand.methods:
        yield "dtype", _changed(tree, _dtype("float32"))
        yield "no dtype", _changed(tree, _without_keyword("dtype"))
        named = demand.methods["half_precision"].get("dtype")
        if named is not None:
            yield "the other dtype", _changed(tree, _dtype("float16" if named == "bfloat16" else "bfloat16"))
    for name in demand.methods:
        if name in FUNCTIONS:
            yield from _method(tree, name, demand)


def _schedulers(tree: ast.Module, demand: Demand) -> Iterator[tuple[str, str]]:
    right = set(SAMPLERS[demand.demanded_sampler or ""])
    for name, classes in SAMPLERS.items():
        if name != demand.demanded_sampler:
            yield f"scheduler {name}", _changed(tree, _renamed(right, classes[0]))
    if demand.demanded_sampler != demand.model.sampler:
        yield "no scheduler", _changed(tree, _without_scheduler)


def _steps(tree: ast.Module, demand: Demand) -> Iterator[tuple[str, str]]:
    wanted = demand.demanded_steps
    assert wanted is not None
    for steps in (wanted + 1, max(1, wanted // 2) if wanted > 1 else 3):
        yield f"{steps} steps", _changed(tree, _keyword("num_inference_steps", steps))
    if wanted != demand.steps:
        passed_through = ast.parse("requests[0].num_inference_steps", mode="eval").body
        yield "steps of today", _changed(tree, _keyword("num_inference_steps", passed_through))


def _method(tree: ast.Module, name: str, demand: Demand) -> Iterator[tuple[str, str]]:
    yield f"no {name}", _changed(tree, _without_manager(name))
    other = next(each for each in FUNCTIONS if each not in demand.methods)
    yield f"{other} for {name}", _changed(tree, _renamed({name}, other))
    for parameter, value in demand.methods[name].items():
        wrong = OTHER_VALUES[parameter]
        assert wrong != value
        yield f"{name}, {parameter}", _changed(tree, _keyword(parameter, wrong, of=name))


def _changed(tree: ast.Module, change: Callable[[ast.AST], ast.AST | list[ast.stmt] | None]) -> str:
    """The tree with every node exchanged for what `change` makes of it."""

    class Changing(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST | list[ast.stmt] | None:
            """Children first."""
            return change(self.generic_visit(node))

    changed = copy.deepcopy(tree)
    Changing().visit(changed)
    return ast.unparse(ast.fix_missing_locations(changed))


def _renamed(names: set[str], other: str) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Name) and node.id in names:
            node.id = other
        elif isinstance(node, ast.alias) and node.name in names:
            node.name = other
        return node

    return change


def _other_model(node: ast.AST) -> ast.AST:
    made = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained"
    if made and isinstance(node, ast.Call) and node.args:
        node.args[0] = ast.Constant("someone/else")
    return node


def _dtype(name: str) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Attribute) and node.attr in ("float16", "bfloat16"):
            node.attr = name
        return node

    return change


def _without_keyword(name: str) -> Callable[[ast.AST], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Call):
            node.keywords = [each for each in node.keywords if each.arg != name]
        return node

    return change


def _keyword(name: str, value: ast.expr | float, of: str | None = None) -> Callable[[ast.AST], ast.AST]:
    made = value if isinstance(value, ast.expr) else ast.Constant(value)

    def change(node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Call) and (of is None or (isinstance(node.func, ast.Name) and node.func.id == of)):
            for keyword in node.keywords:
                if keyword.arg == name:
                    keyword.value = made
        return node

    return change


def _without_scheduler(node: ast.AST) -> ast.AST | None:
    sets = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)
    if sets and isinstance(node, ast.Assign) and getattr(node.targets[0], "attr", "") == "scheduler":
        return ast.Pass()
    return node


def _without_manager(name: str) -> Callable[[ast.AST], ast.AST | list[ast.stmt]]:
    def change(node: ast.AST) -> ast.AST | list[ast.stmt]:
        if not isinstance(node, ast.With):
            return node
        node.items = [
            each for each in node.items if getattr(getattr(each.context_expr, "func", None), "id", "") != name
        ]
        return node if node.items else node.body

    return change
