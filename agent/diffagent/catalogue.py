"""The methods of `diffagent.methods` as tasks demand them: parameters, spellings, and how each one shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytest_diffbench.methods import (
    LEAST_SAVED,
    Method,
    Place,
    Spelling,
    merges_no_tokens,
    saves_no_work,
    spelled_otherwise,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from pytest_diffbench.methods import Parameters
    from pytest_diffbench.records import Executability
    from pytest_diffbench.static_check import Reading
    from pytest_diffbench.zoo.models import Model

MOST_STEPS: Final = 1000


def _count(least: int, most: int = MOST_STEPS) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _share(most: float) -> Callable[[object], bool]:
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= most


def _method(
    name: str,
    summary: str,
    parameters: Mapping[str, Callable[[object], bool]],
    spellings: tuple[Spelling, ...],
    shows: Callable[[Executability], str | None],
    **more: Any,
) -> Method:
    def source_problem(reading: Reading, demanded: Parameters) -> str | None:
        told = "".join(f", {parameter}={value!r}" for parameter, value in demanded.items())
        example = f"with diffagent.methods.{name}(pipeline{told}): ..."
        return spelled_otherwise(reading, spellings, demanded, example)

    def running_problem(running: Executability, _: Parameters) -> str | None:
        problem = shows(running)
        return f"the task demands {name}; {problem}" if problem else None

    def applied(pipeline: Any, demanded: Parameters) -> AbstractContextManager[Any]:
        # imported here: torch and diffusers, which nobody who only demands a method needs
        from diffagent import methods

        manager: AbstractContextManager[Any] = getattr(methods, name)(pipeline, **demanded)
        return manager

    return Method(name, summary, parameters, source_problem, running_problem, keeps_calls=True, applied=applied, **more)


def _needs_unet(model: Model) -> str | None:
    return (
        None if model.denoiser == "unet" else "it keeps the features below a U-Net's skips, and a transformer has none"
    )


def _needs_text(model: Model) -> str | None:
    return (
        None if model.conditioning == "text" else "it reuses cross-attention, and a model that draws by class has none"
    )


def _merges_none(demanded: Parameters, _steps: int, _guidance: float) -> str | None:
    return None if demanded.get("ratio") != 0 else "ratio=0 merges no tokens; give more"


def _gates_none(demanded: Parameters, steps: int, _guidance: float) -> str | None:
    gate, interval = demanded.get("gate_step"), demanded.get("sp_interval")
    if interval != 1 or not isinstance(gate, int) or gate < steps:  # self-attention is reused before the gate too
        return None
    return f"gate_step={gate} leaves none of {steps} steps behind the gate; give less, or sp_interval above 1"


def _reuses_none(demanded: Parameters, steps: int, _guidance: float) -> str | None:
    warm_up = demanded.get("warm_up")
    if not isinstance(warm_up, int) or warm_up + 1 < steps:  # the first step after it computes what others reuse
        return None
    return f"warm_up={warm_up} leaves no step of {steps} that reuses anything; give less than {steps - 1}"


def _leaves_nothing_out(demanded: Parameters, steps: int, guidance: float) -> str | None:
    if guidance <= 1:
        return f"with guidance {guidance} there is none to leave out; give more than 1"
    start, stop = (demanded.get(name) for name in ("start", "stop"))
    if not isinstance(start, (int, float)) or not isinstance(stop, (int, float)):
        return None  # a solution may choose the other one
    if start > stop:
        return f"it would start at {start} and stop at {stop} of the steps; give start <= stop"
    unguided = sum(not start <= step / steps < stop for step in range(steps))
    if unguided / steps / 2 < LEAST_SAVED:  # half of such a step's work
        return f"from {start} to {stop} {steps - unguided} of {steps} steps are guided; give a smaller window"
    return None


_TGATE_PLACES: Final = {
    "gate_step": Place("gate_step", 1, 10),
    "sp_interval": Place("sp_interval", 2, 5),
    "fi_interval": Place("fi_interval", 3, 1),
    "warm_up": Place("warm_up", 4, 2),
}
_TGATE_KEYWORDS: Final = {name: Place(place.keyword) for name, place in _TGATE_PLACES.items()}
_TGATE_LOADERS: Final = (
    "TgateSDLoader",
    "TgateSDXLLoader",
    "TgatePixArtAlphaLoader",
    "TgatePixArtSigmaLoader",
    "TgateSDDeepCacheLoader",
    "TgateSDXLDeepCacheLoader",
)

_LESS_WORK: Final = f"a step of the denoiser takes at least {100 * LEAST_SAVED:g} % less work than in the code below"
_WARM_UP: Final = "so many first steps compute everything"
_ONE_CACHE: Final = "both keep features of the same blocks: what one keeps, the other never sees computed"
_ONE_MECHANISM: Final = "both leave guidance out of late steps: the same mechanism twice"
_ONE_LAYER: Final = "both keep what attention gave: two caches on one layer"

METHODS: Final = (
    _method(
        "token_merging",
        "Token Merging (Bolya & Hoffman 2023): similar tokens are merged before self-attention",
        {"ratio": _share(0.75), "max_downsample": lambda value: value in (1, 2, 4, 8)},
        (
            Spelling(
                "token_merging",
                {"ratio": Place("ratio", 1, 0.5), "max_downsample": Place("max_downsample", 2, 1)},
            ),
            Spelling(
                "apply_patch",
                {"ratio": Place("ratio", 1, 0.5), "max_downsample": Place("max_downsample", 2, 1)},
            ),
        ),
        merges_no_tokens,
        nothing_to_see=_merges_none,
        examples=({"ratio": 0.3}, {"ratio": 0.5}, {"ratio": 0.5, "max_downsample": 2}),
        meanings={
            "ratio": "this share of the tokens is merged into others",
            "max_downsample": "only where the grid of tokens is at most so many times smaller than the largest",
        },
        effect="fewer tokens attend to each other than in the code below",
    ),
    _method(
        "deepcache",
        "DeepCache (Ma et al. 2024): deep features of the U-Net are reused between steps",
        {"interval": _count(2), "branch": _count(0, 64)},
        (
            Spelling("deepcache", {"interval": Place("interval", 1, 3), "branch": Place("branch", 2, 0)}),
            Spelling(
                "set_params",
                {"interval": Place("cache_interval", 0, 1), "branch": Place("cache_branch_id", 1, 0)},
            ),
        ),
        saves_no_work,
        model_problem=_needs_unet,
        conflicts={"block_reuse": _ONE_CACHE},
        examples=({"interval": 2}, {"interval": 3}, {"interval": 5}),
        meanings={
            "interval": "one step of so many computes the whole U-Net",
            "branch": "the others compute what lies above this skip connection, counted from the image inwards, from 0",
        },
        effect=_LESS_WORK,
    ),
    _method(
        "tgate",
        "T-GATE (Zhang et al. 2024): cross-attention, and guidance with it, is left out from a step on",
        {"gate_step": _count(1), "sp_interval": _count(1), "fi_interval": _count(1), "warm_up": _count(0)},
        (Spelling("tgate", _TGATE_PLACES), *(Spelling(loader, _TGATE_KEYWORDS) for loader in _TGATE_LOADERS)),
        saves_no_work,
        model_problem=_needs_text,
        nothing_to_see=_gates_none,
        conflicts={"guidance_window": _ONE_MECHANISM, "block_reuse": _ONE_LAYER},
        examples=({"gate_step": 10}, {"gate_step": 20}),
        meanings={
            "gate_step": "from this step on, counted from 0, cross-attention is reused and guidance left out",
            "sp_interval": "before it, one step of so many computes self-attention",
            "fi_interval": "after it, one step of so many does",
            "warm_up": _WARM_UP,
        },
        effect=_LESS_WORK,
    ),
    _method(
        "guidance_window",
        "guidance in a window of the steps (Kynkäänniemi et al. 2024): outside of it, no prediction without the prompt",
        {"start": _share(1), "stop": _share(1)},
        (Spelling("guidance_window", {"start": Place("start", 1, 0.0), "stop": Place("stop", 2, 1.0)}),),
        saves_no_work,
        nothing_to_see=_leaves_nothing_out,
        examples=({"start": 0.2, "stop": 0.8},),
        meanings={
            "start": "guided are the steps from this share of them on",
            "stop": "up to this share",
        },
        effect=_LESS_WORK,
    ),
    _method(
        "block_reuse",
        "FORA (Selvaraju et al. 2024): what attention and feed-forward gave is reused between steps",
        {"interval": _count(2), "warm_up": _count(1)},
        (Spelling("block_reuse", {"interval": Place("interval", 1, 2), "warm_up": Place("warm_up", 2, 1)}),),
        saves_no_work,
        nothing_to_see=_reuses_none,
        examples=({"interval": 2}, {"interval": 3}),
        meanings={"interval": "one step of so many computes everything, the others reuse it", "warm_up": _WARM_UP},
        effect=_LESS_WORK,
    ),
)
"""In the order in which `diffagent.methods` names them."""
