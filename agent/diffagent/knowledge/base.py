"""The folders of knowledge, read: `method.toml` says what a method is, `code.jinja` how it is written.

A folder more is a method more; nothing else has to change. What is wrong with one is said with its path.
"""

from __future__ import annotations

import ast
import itertools
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import jinja2
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE: Final = Path(__file__).parent
FACTS: Final = "method.toml"
CODE: Final = "code.jinja"
RECIPES: Final = "recipes.toml"
KINDS: Final = ("sampler", "precision", "merging", "cache", "guidance")
"""In the order in which a plan lists them and a program applies them."""

_IMPORT: Final = re.compile(r"from\s+[\w.]+\s+import\s+\w+(\s*,\s*\w+)*\s*$")

Value = bool | int | float | str


class KnowledgeError(ValueError):
    """A folder of knowledge cannot be used; the message names the file, and what would be right."""


class _Fact(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Fact):
    """What somebody measured, or counted."""

    setting: str
    source: str
    speedup: float | None = None
    clip_score: float | None = None
    """Points lost."""
    fid: float | None = None
    """Points gained, which is worse."""


class Conflict(_Fact):
    """A method that this one does not go together with."""

    other: str = Field(alias="with")
    why: str


class Integer(_Fact):
    """A whole number in a range, both ends included."""

    type: Literal["integer"]
    means: str
    low: int
    high: int
    default: int
    below_steps: bool = False
    """Whether it counts steps of an image, and has to be less than there are."""

    def problem(self, value: object) -> str | None:
        """Why a value is none of it, or None."""
        if isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high:
            return None
        return f"{value!r} is no whole number from {self.low} to {self.high}"

    def default_on(self, device_kind: str) -> int:  # noqa: ARG002 (the same on every device)
        """What it is where nobody says."""
        return self.default

    @model_validator(mode="after")
    def _holds_its_default(self) -> Integer:
        _check(self.problem(self.default))
        return self


class Number(_Fact):
    """A number in a range, both ends included."""

    type: Literal["number"]
    means: str
    low: float
    high: float
    default: float
    below_steps: Literal[False] = False

    def problem(self, value: object) -> str | None:
        """Why a value is none of it, or None."""
        if isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high:
            return None
        return f"{value!r} is no number from {self.low:g} to {self.high:g}"

    def default_on(self, device_kind: str) -> float:  # noqa: ARG002 (the same on every device)
        """What it is where nobody says."""
        return self.default

    @model_validator(mode="after")
    def _holds_its_default(self) -> Number:
        _check(self.problem(self.default))
        return self


class Choice(_Fact):
    """One of a few values."""

    type: Literal["choice"]
    means: str
    choices: tuple[Value, ...]
    default: Value
    on: dict[str, Value] = Field(default_factory=dict)
    """The default by the kind of device, where that decides."""
    slower_on: dict[str, tuple[Value, ...]] = Field(default_factory=dict)
    """What makes a pipeline slower, by the kind of device: nobody who seeks speed need measure it."""
    below_steps: Literal[False] = False

    def problem(self, value: object) -> str | None:
        """Why a value is none of it, or None."""
        if any(value == choice and type(value) is type(choice) for choice in self.choices):
            return None
        return f"{value!r} is none of {', '.join(map(repr, self.choices))}"

    def default_on(self, device_kind: str) -> Value:
        """What it is where nobody says, on a kind of device ('cpu', 'cuda')."""
        return self.on.get(device_kind, self.default)

    @model_validator(mode="after")
    def _holds_its_default(self) -> Choice:
        slower = itertools.chain(*self.slower_on.values())
        for value in (self.default, *self.on.values(), *slower):
            _check(self.problem(value))
        return self


Parameter = Annotated[Integer | Number | Choice, Field(discriminator="type")]


def _check(problem: str | None) -> None:
    if problem is not None:
        raise ValueError(f"its default is outside of it: {problem}")


class Facts(_Fact):
    """What `method.toml` says."""

    title: str
    kind: Literal["sampler", "precision", "merging", "cache", "guidance"]
    does: str
    source: str
    denoisers: tuple[Literal["unet", "transformer"], ...]
    conditioning: tuple[Literal["text", "class"], ...]
    scheduler: str | None = None
    """The class of diffusers, of a sampler."""
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    gain: tuple[Figure, ...] = ()
    loss: tuple[Figure, ...] = ()
    conflicts: tuple[Conflict, ...] = ()

    @model_validator(mode="after")
    def _names_its_scheduler(self) -> Facts:
        if (self.kind == "sampler") is (self.scheduler is None):
            raise ValueError("a sampler names its scheduler class, and nothing else does")
        return self


@dataclass(frozen=True)
class Entry:
    """One method, all that is known of it."""

    name: str
    facts: Facts
    code: Any
    """The macros of its template, a module of jinja2."""

    def parameters(self, given: Mapping[str, Value], device_kind: str = "cuda") -> dict[str, Value]:
        """Every parameter of the method: as given, else its default on this kind of device."""
        known = self.facts.parameters
        return {name: given.get(name, parameter.default_on(device_kind)) for name, parameter in known.items()}

    def written(self, macro: str, parameters: Mapping[str, Value]) -> str | None:
        """What a macro of the template gives for these parameters; None where the template has none of that name."""
        found = getattr(self.code, macro, None)
        return str(found(dict(parameters))).strip() if found is not None else None

    @property
    def kept(self) -> Any:
        """The macro that says what the method leaves of a part's time in a step; None: it does not say."""
        return getattr(self.code, "kept", None)

    def share(self, parameters: Mapping[str, Value], depth: str, layer: str, step: int, steps: int) -> float:
        """The least share of a part's time that is left in one of so many steps, from 0 to 1."""
        assert self.kept is not None
        return float(str(self.kept(dict(parameters), depth, layer, step, steps)))


class Ingredient(_Fact):
    """A method of a recipe."""

    method: str
    parameters: dict[str, Value] = Field(default_factory=dict)


class Recipe(_Fact):
    """Methods that go well together, as somebody found."""

    denoisers: tuple[Literal["unet", "transformer"], ...]
    source: str
    methods: tuple[Ingredient, ...]


class _Recipes(_Fact):
    recipe: tuple[Recipe, ...] = ()


@dataclass(frozen=True)
class Knowledge:
    """All methods that are known, by name, and recipes of several."""

    entries: Mapping[str, Entry]
    recipes: tuple[Recipe, ...] = ()

    def __getitem__(self, name: str) -> Entry:
        return self.entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def of_kind(self, kind: str) -> list[Entry]:
        """The methods of a kind."""
        return [entry for entry in self.entries.values() if entry.facts.kind == kind]

    def conflict(self, one: str, other: str) -> str | None:
        """Why two methods do not go together, or None."""
        for first, second in ((one, other), (other, one)):
            for conflict in self.entries[first].facts.conflicts:
                if conflict.other == second:
                    return conflict.why
        return None

    def without(self, *names: str) -> Knowledge:
        """The same, as if some methods were not known."""
        entries = {name: entry for name, entry in self.entries.items() if name not in names}
        kept = [recipe for recipe in self.recipes if all(each.method in entries for each in recipe.methods)]
        return Knowledge(entries, tuple(kept))


def read(folder: Path, beside: Knowledge | None = None) -> Knowledge:
    """The knowledge in a folder of folders; KnowledgeError where one cannot be used.

    `beside` is what is known already: what the folder says of the same method goes before it.
    """
    if not folder.is_dir():
        raise KnowledgeError(f"{folder} is no folder: give one with a folder a method, each with {FACTS} and {CODE}")
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 (it writes Python, no HTML)
        keep_trailing_newline=True,
    )
    found = {path.name: path / FACTS for path in sorted(folder.iterdir()) if (path / FACTS).is_file()}
    if lacking := [path.parent for path in sorted(folder.glob(f"*/{CODE}")) if path.parent.name not in found]:
        raise KnowledgeError(f"{lacking[0]}: there is no {FACTS}, which says what the method is")
    if not found and not (folder / RECIPES).is_file():
        raise KnowledgeError(f"{folder} holds no method: give a folder a method, each with {FACTS} and {CODE}")
    own = {name: _entry(name, path, templates) for name, path in found.items()}
    entries = {**(beside.entries if beside is not None else {}), **own}
    for name, entry in own.items():
        for conflict in entry.facts.conflicts:
            if conflict.other not in entries:
                raise KnowledgeError(
                    f"{found[name]}: conflicts with {conflict.other!r}, which is none of {list(entries)}"
                )
    ordered = sorted(entries.values(), key=lambda entry: (KINDS.index(entry.facts.kind), entry.name))
    recipes = (*_recipes(folder / RECIPES, entries), *(beside.recipes if beside is not None else ()))
    return Knowledge({entry.name: entry for entry in ordered}, recipes)


def _recipes(path: Path, entries: Mapping[str, Entry]) -> tuple[Recipe, ...]:
    try:
        found = _Recipes.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).recipe if path.exists() else ()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise KnowledgeError(f"{path}: {error}") from error
    for each in (each for recipe in found for each in recipe.methods):
        if each.method not in entries:
            raise KnowledgeError(f"{path}: a recipe uses {each.method!r}, which is none of {', '.join(entries)}")
    return found


def _entry(name: str, path: Path, templates: jinja2.Environment) -> Entry:
    try:
        facts = Facts.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise KnowledgeError(f"{path}: {error}") from error
    file = path.parent / CODE
    try:
        entry = Entry(name, facts, templates.get_template(f"{name}/{CODE}").module)
        for parameters in _corners(entry):
            _try(entry, parameters, file)
    except KnowledgeError:
        raise
    except Exception as error:  # whatever a template of others does
        raise KnowledgeError(f"{file}: {type(error).__name__}: {error}") from error
    return entry


def _corners(entry: Entry) -> Iterator[dict[str, Value]]:
    """Each device's defaults, and those with one parameter at an end of its range, or at one of its choices."""
    yield entry.parameters({}, "cpu")
    yield entry.parameters({}, "cuda")
    for name, parameter in entry.facts.parameters.items():
        ends = parameter.choices if isinstance(parameter, Choice) else (parameter.low, parameter.high)
        yield from (entry.parameters({name: end}) for end in ends)


def _try(entry: Entry, parameters: Mapping[str, Value], file: Path) -> None:
    """KnowledgeError where a template gives what no program could hold, or a share that is none."""
    needed = ("imports", *MACROS[entry.facts.kind])
    if any(entry.written(macro, parameters) is None for macro in needed):
        raise KnowledgeError(f"{file}: a {entry.facts.kind} needs the macros {', '.join(needed)}")
    for line in (entry.written("imports", parameters) or "").splitlines():
        if line.strip() and not _IMPORT.match(line):
            raise KnowledgeError(f"{file}: the macro imports says {line.strip()!r}; write `from module import name`")
    for macro in MACROS[entry.facts.kind]:
        text = entry.written(macro, parameters) or ""
        try:
            ast.parse(text or "None", mode="eval")  # for some parameters there may be nothing to do
        except (SyntaxError, ValueError) as error:
            raise KnowledgeError(f"{file}: the macro {macro} gives {text!r}, no Python expression: {error}") from error
    share = entry.share(parameters, "outer", "rest", 1, 10) if entry.kept is not None else 1.0
    if not 0 <= share <= 1:
        raise KnowledgeError(f"{file}: the macro kept says {share:g}; a share from 0 to 1 is needed")


MACROS: Final[Mapping[str, tuple[str, ...]]] = {
    "sampler": ("scheduler",),
    "precision": ("dtype",),
    "merging": ("applied",),
    "cache": ("applied",),
    "guidance": ("applied",),
}
"""What a template of each kind has to say, beside its imports."""


@cache
def known() -> Knowledge:
    """What this package knows."""
    return read(HERE)
