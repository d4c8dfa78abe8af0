"""The 604 tasks as a grid: which models, methods and scenarios there are, and which of them are put together.

The counts of the levels are the paper's. A *use* is a model together with what it begins with: noise, or an image.
`suites.files` writes the test files.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from diffagent import catalogue

from pytest_diffbench import methods, paper
from pytest_diffbench.calibration import SHARES
from pytest_diffbench.demand import denoising_steps
from pytest_diffbench.zoo.models import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

COUNTS: Final = dict(enumerate(paper.TASKS, start=1))
"""Tasks a level, as in the paper."""
TITLES: Final = {
    "sd15": "Stable Diffusion 1.5",
    "sd21": "Stable Diffusion 2.1",
    "sdxl": "Stable Diffusion XL",
    "dit": "DiT",
    "pixart_alpha": "PixArt-alpha",
    "pixart_sigma": "PixArt-Sigma",
}
STRENGTH: Final = 0.6


@dataclass(frozen=True)
class Use:
    """A model and how it is run today, where a task says nothing else."""

    model: str
    sampler: str
    steps: int
    begins_with_image: bool = False

    @property
    def prefix(self) -> str:
        """What the names of its tasks begin with, in the file of its model."""
        return "image-" if self.begins_with_image else ""

    @property
    def name(self) -> str:
        """Its own, unlike any other's."""
        return f"{self.model}_image_to_image" if self.begins_with_image else self.model


USES: Final = (
    Use("sd15", "ddim", 50),
    Use("sd15", "ddim", 50, begins_with_image=True),
    Use("sd21", "ddim", 50),
    Use("sd21", "ddim", 50, begins_with_image=True),
    Use("sdxl", "euler", 50),
    Use("sdxl", "euler", 50, begins_with_image=True),
    Use("dit", "ddim", 30),
    Use("pixart_alpha", "dpm_solver", 30),
    Use("pixart_sigma", "dpm_solver", 30),
)
KNOWN: Final = {method.name: method for method in (*methods.BUILT_IN, *catalogue.METHODS)}
MODELS: Final = {model.name: model for model in FAMILIES}

PLAIN: Final[Mapping[str, Sequence[tuple[str, int, Mapping[str, Any]]]]] = {
    "sd15": (
        ("pndm", 50, {}),
        ("ddim", 50, {}),
        ("ddim", 30, {"guidance": 5.0}),
        ("dpm_solver", 25, {}),
        ("euler", 30, {"batch": 2}),
        ("heun", 20, {"size": 640}),
    ),
    "sd15_image_to_image": (("ddim", 50, {}), ("unipc", 30, {"guidance": 5.0}), ("euler", 30, {"batch": 2})),
    "sd21": (
        ("ddim", 50, {}),
        ("pndm", 40, {}),
        ("dpm_solver", 20, {"guidance": 5.0}),
        ("unipc", 20, {"size": 576}),
        ("euler", 30, {"batch": 2}),
    ),
    "sd21_image_to_image": (("ddim", 50, {}), ("dpm_solver", 30, {"guidance": 5.0}), ("heun", 30, {"size": 576})),
    "sdxl": (
        ("euler", 50, {}),
        ("ddim", 30, {}),
        ("dpm_solver", 25, {"guidance": 7.0}),
        ("unipc", 20, {"size": 768}),
        ("euler", 30, {"batch": 2}),
        ("heun", 15, {}),
    ),
    "sdxl_image_to_image": (("euler", 50, {}), ("ddim", 40, {"guidance": 7.0}), ("dpm_solver", 30, {"batch": 2})),
    "dit": (
        ("ddim", 50, {}),
        ("dpm_solver", 25, {}),
        ("unipc", 25, {}),
        ("ddim", 40, {}),
        ("ddim", 30, {"batch": 2}),
    ),
    "pixart_alpha": (
        ("dpm_solver", 20, {}),
        ("ddim", 40, {}),
        ("unipc", 20, {"guidance": 6.0}),
        ("euler", 30, {"size": 384}),
        ("dpm_solver", 20, {"batch": 2}),
    ),
    "pixart_sigma": (
        ("dpm_solver", 20, {}),
        ("ddim", 40, {"guidance": 6.0}),
        ("unipc", 20, {"size": 768}),
        ("heun", 15, {}),
        ("pndm", 30, {"batch": 2}),
    ),
}
"""Level 1, by use: sampler, steps, and what differs from the model's own. Without PNDM on DiT, whose tiny images say
too little then to be a baseline.
"""

METHODS: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "ddim": ({"steps": 40},),
    "dpm_solver": ({"steps": 40}, {"steps": 30}),
    "unipc": ({"steps": 40},),
    "half_precision": ({"dtype": "bfloat16"},),
    "token_merging": ({"ratio": 0.15}, {"ratio": 0.25}),
    "deepcache": ({"interval": 2, "branch": 2}, {"interval": 2, "branch": 1}),
    "tgate": ({"gate_step": 0.9}, {"gate_step": 0.8}),  # a share of the steps that are run
    "guidance_window": ({"stop": 0.8},),
    "block_reuse": ({"interval": 2, "warm_up": 8}, {"interval": 2, "warm_up": 4}),
}
"""Level 2, and the parts of level 3: each method with the parameters that are demanded of it, mild ones first.

Tiny models bear less than real ones: a task is of use only where the worked answer surely keeps its quality.
"""
_PIXART: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "ddim": ({"steps": 28},),
    "dpm_solver": ({"steps": 28}, {"steps": 22}),
    "unipc": ({"steps": 29},),
    "token_merging": ({"ratio": 0.03}, {"ratio": 0.05}),
    "tgate": ({"gate_step": 0.97},),
}
OTHERWISE: Final[Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]] = {
    "dit": {
        "ddim": ({"steps": 25},),
        "dpm_solver": ({"steps": 24}, {"steps": 20}),
        "unipc": ({"steps": 25},),
        "token_merging": ({"ratio": 0.1}, {"ratio": 0.15}),
    },
    "pixart_alpha": _PIXART,
    "pixart_sigma": _PIXART,
}
"""Models that take fewer steps today, or bear less."""
ALONE: Final[Mapping[str, Sequence[str]]] = {"pixart_alpha": ("tgate",), "pixart_sigma": ("tgate",)}
"""What is not combined with anything: in the last step alone it loses 2 % there, so nothing is left for another."""
SAMPLERS: Final = ("ddim", "dpm_solver", "unipc")
SAMPLER: Final = "sampler"
"""Stands for any of them."""
HALF: Final = "half_precision"
HALF_STEPS: Final = 20
"""A CPU without bfloat16 arithmetic takes ten times as long for a step, and tiny models bear little in fewer."""
HALF_SAMPLER_STEPS: Final = 19
WITHOUT_HALF: Final = 25
WITH_HALF: Final = 4
"""Combinations a use."""

SCENARIOS: Final[Mapping[str, Sequence[tuple[str, int, bool]]]] = {
    "sd15": (
        ("ddim", 50, False),
        ("euler", 50, False),
        ("ddim", 50, True),
        ("ddim", 30, True),
        ("euler", 30, True),
    ),
    "sd15_image_to_image": (("ddim", 50, False), ("ddim", 50, True), ("euler", 50, True)),
    "sd21": (("ddim", 50, False), ("ddim", 50, True), ("euler", 30, True), ("ddim", 30, True)),
    "sd21_image_to_image": (("ddim", 50, True), ("euler", 30, True), ("euler", 50, True)),
    "sdxl": (("euler", 50, False), ("euler", 50, True), ("ddim", 40, True), ("dpm_solver", 25, True)),
    "sdxl_image_to_image": (("euler", 50, True), ("ddim", 50, True), ("dpm_solver", 40, True)),
    "dit": (("ddim", 50, False), ("ddim", 50, True), ("dpm_solver", 25, True)),
    "pixart_alpha": (("dpm_solver", 20, False), ("dpm_solver", 20, True), ("ddim", 40, True)),
    "pixart_sigma": (("dpm_solver", 20, True), ("ddim", 40, True), ("euler", 30, True)),
}
"""Levels 4 and 5, by use: sampler, steps, and whether they are fixed, so that only a method can help."""


@dataclass(frozen=True)
class Entry:
    """One task: its name in the file of its model and level, and what is handed to `Task`."""

    level: int
    use: Use
    name: str
    declared: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything that is handed to `Task` beside the model and the level."""
        strength = {"strength": STRENGTH} if self.use.begins_with_image else {}
        return {**self.declared, **strength}


def entries() -> tuple[Entry, ...]:
    """All 604, by level and use."""
    return tuple(itertools.chain(_plain(), _one_method(), _combinations(), _targets(4), _targets(5)))


def scenarios() -> tuple[Entry, ...]:
    """The 31 that levels 4 and 5 share, as tasks without a target."""
    return tuple(
        Entry(4, use, f"{use.prefix}{sampler}-{steps}{'-fixed' * fixed}", _scenario(sampler, steps, fixed))
        for use in USES
        for sampler, steps, fixed in SCENARIOS[use.name]
    )


def _scenario(sampler: str, steps: int, fixed: bool) -> dict[str, Any]:  # noqa: FBT001 (a row of the table above)
    return {"sampler": sampler, "steps": steps, **({"fixed_schedule": True} if fixed else {})}


def _plain() -> Iterator[Entry]:
    for use in USES:
        for sampler, steps, more in PLAIN[use.name]:
            own = "".join(f"-{key}-{value:g}" for key, value in more.items())
            name = f"{use.prefix}{sampler}-{steps}{own}"
            yield Entry(1, use, name, {"sampler": sampler, "steps": steps, **more})


def _one_method() -> Iterator[Entry]:
    for use in USES:
        for method in METHODS:
            if works(method, use):
                for parameters in demanded(method, use):
                    yield _with_methods(2, use, {method: parameters})


def demanded(method: str, use: Use) -> Sequence[Mapping[str, Any]]:
    """With which parameters tasks of this use demand a method, mild ones first."""
    return OTHERWISE.get(use.model, {}).get(method, METHODS[method])


def _combinations() -> Iterator[Entry]:
    for place, use in enumerate(USES):
        sets = [
            together
            for size in (2, 3, 4)
            for together in itertools.combinations((SAMPLER, *list(METHODS)[len(SAMPLERS) :]), size)
            if all(works(method, use) and method not in ALONE.get(use.model, ()) for method in together)
            and not _conflict(together)
        ]
        whole = [together for together in sets if HALF not in together]
        # without T-GATE: in the last of so few steps it loses 5 %
        halved = [together for together in sets if HALF in together and "tgate" not in together]
        rounds = [
            (index, turn)
            for turn in range(len(SAMPLERS))
            for index, together in enumerate(whole)
            if SAMPLER in together or not turn
        ]
        for index, turn in rounds[:WITHOUT_HALF]:
            yield _combined(use, whole[index], turn=place + index + turn)
        for index in range(WITH_HALF):
            together = halved[(place + index * len(halved) // WITH_HALF) % len(halved)]
            yield _combined(use, together, turn=place + index)


def _combined(use: Use, together: Sequence[str], *, turn: int) -> Entry:
    """The samplers take turns; of each method the mild parameters, for losses add up."""
    found: dict[str, Mapping[str, Any]] = {}
    for method in together:
        name = SAMPLERS[turn % len(SAMPLERS)] if method == SAMPLER else method
        found[name] = demanded(name, use)[0]
    return _with_methods(3, use, found)


def _with_methods(level: int, use: Use, wanted: Mapping[str, Mapping[str, Any]]) -> Entry:
    given = {name: dict(parameters) for name, parameters in wanted.items()}
    steps = HALF_STEPS if HALF in given else use.steps
    sampler = next((name for name in given if name in SAMPLERS), None)
    if sampler is not None and HALF in given:
        given[sampler]["steps"] = HALF_SAMPLER_STEPS
    if "tgate" in given:
        taken = given[sampler]["steps"] if sampler is not None else steps
        run = denoising_steps(taken, STRENGTH if use.begins_with_image else None)
        given["tgate"]["gate_step"] = min(run - 1, round(run * given["tgate"]["gate_step"]))
    name = use.prefix + "+".join(_told(name, parameters) for name, parameters in given.items())
    return Entry(level, use, name, {"sampler": use.sampler, "steps": steps, "methods": given})


def _told(method: str, parameters: Mapping[str, Any]) -> str:
    values = [str(value) for key, value in parameters.items() if key != "dtype"]
    return "-".join([method, *values])


def works(method: str, use: Use) -> bool:
    """Whether a method can work there."""
    return method == SAMPLER or KNOWN[method].model_problem(MODELS[use.model]) is None


def _conflict(together: Sequence[str]) -> bool:
    return any(other in KNOWN[one].conflicts for one in together if one != SAMPLER for other in together)


def _targets(level: int) -> Iterator[Entry]:
    for scenario in scenarios():
        for difficulty in SHARES:
            declared = {**scenario.declared, "scenario": scenario.name, "difficulty": difficulty}
            yield Entry(level, scenario.use, f"{scenario.name}-{difficulty}", declared)
