"""The best answer that is known to each scenario, and the targets of levels 4 and 5 that follow from it.

A scenario is a model and how it is run today; its tasks differ in how much of the way to that answer they demand.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import math
import os
import platform
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_diffbench import cache
from pytest_diffbench.demand import LatencyDemand, SpeedDemand
from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.devices import Device

LIBRARIES: Final = ("pytest-diffbench", "torch", "diffusers", "transformers")
FORMAT: Final = 1
FILE: Final = "calibration.json"
"""Beside the folders of a suite: what it was shipped with."""
SHARES: Final[Mapping[str, float]] = {"easy": 0.4, "medium": 0.65, "hard": 0.85}
"""How much of the way to the best answer a target demands, in logarithms: of 6x these are 2.05x, 3.2x and 4.6x."""
PAPER_SHARES: Final[Mapping[str, float]] = {"easy": 0.8, "medium": 1.0, "hard": 1.2}
"""The paper demands the best point as *medium* and scales the others from it (arXiv 2601.03178 does not say by how
much): the hard ones are then out of reach of everything that calibration tried."""
SPEEDUP_DIGITS: Final = 2
SHARE_DIGITS: Final = 3

Scale = Literal["shipped", "own", "paper"]


@dataclass(frozen=True)
class Best:
    """The fastest answer to a scenario that was certified to keep its quality."""

    speedup: float
    speedup_low: float
    speedup_high: float
    clip_loss: float
    how: str
    """In words, such as 'deepcache(interval=3)'."""
    source: str
    """Who found it."""
    program: str = ""
    """Its text; what a suite is shipped with says it in words only."""
    noise: float = 0.0
    """The baseline against itself, measured beside it: how far from 1 that came out, in logarithms."""
    baseline_s: float = 0.0
    """A call of the baseline, median."""
    edition: str = ""
    """Of the scenario that it answers, by `edition.of_scenario`; of what a suite is shipped with the suite knows."""


LEAST_HALF_WIDTHS: Final = 3
"""Between two difficulties, in half-widths of the best speed-up's interval."""


@dataclass(frozen=True)
class Calibration:
    """The scenarios that were calibrated, and where."""

    machine: Mapping[str, str]
    """What must be the same for it to hold; nothing of what is shipped, whose targets are ratios."""
    scenarios: Mapping[str, Best]
    """By `key_of`."""


def key_of(demand: Demand) -> str:
    """A scenario's name, unlike any other's: 'sd15/ddim-50'."""
    return f"{demand.model.name}/{demand.task.scenario}"


def targets(speedup: float, shares: Mapping[str, float] = SHARES) -> dict[str, float]:
    """The speed-up that each difficulty demands, rounded down."""
    return {name: rounded_down(math.pow(speedup, share)) for name, share in shares.items()}


def is_resolved(best: Best, shares: Mapping[str, float] = SHARES) -> bool:
    """Whether its interval is narrow enough for difficulties to differ: by three times its half-width or more."""
    ordered = sorted(shares.values())
    gap = min(later - earlier for earlier, later in itertools.pairwise(ordered)) * math.log(best.speedup)
    return gap >= LEAST_HALF_WIDTHS * math.log(best.speedup_high / best.speedup_low) / 2


def rounded_down(target: float) -> float:
    """A speed-up as tasks demand it."""
    return _floored(target, SPEEDUP_DIGITS)


def as_share(target: float) -> float:
    """A speed-up as a share of the baseline's latency, rounded up."""
    return -_floored(-1 / target, SHARE_DIGITS)


def _floored(value: float, digits: int) -> float:
    unit = math.pow(10, -digits)
    return round(math.floor(round(value / unit, 6)) * unit, digits)


def retargeted(demand: Demand, best: Best, scale: Scale) -> Demand:
    """The task with the target that follows from what is known of its scenario."""
    known = targets(best.speedup, PAPER_SHARES if scale == "paper" else SHARES)
    target = known[str(demand.task.difficulty)]
    markers = demand.markers
    if markers.speed is not None:
        return replace(demand, markers=replace(markers, speed=SpeedDemand(max(1.0, target))))
    if markers.latency is not None:
        share = LatencyDemand(at_most_of_baseline=min(1.0, as_share(target)), percentile=markers.latency.percentile)
        return replace(demand, markers=replace(markers, latency=share))
    return demand


def shipped_with(demand: Demand) -> Best | None:
    """What the suite that a task belongs to was shipped with; None where it says nothing of its scenario."""
    file = demand.folder.parent / FILE
    return read(file).scenarios.get(key_of(demand)) if file.is_file() else None


def own_file(machine: Mapping[str, str]) -> Path:
    """Where this machine's own is kept: a file for each device, zoo and version, so that none replaces another."""
    digest = hashlib.sha256(json.dumps(dict(machine), sort_keys=True).encode()).hexdigest()
    return cache.folder() / f"calibration-{digest[:12]}.json"


def read(file: Path) -> Calibration:
    """A calibration; SetupError of a file that is none."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise SetupError(f"diffbench: {file} has format {content['format']!r}, this version reads {FORMAT}")
        return Calibration(content["machine"], {key: Best(**best) for key, best in content["scenarios"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetupError(
            f"diffbench: {file} is no calibration ({type(error).__name__}: {error}): "
            "make one, pytest suites --diffbench-calibrate"
        ) from error


def write(file: Path, calibration: Calibration) -> None:
    """Write it whole, or not at all."""
    text = json.dumps({"format": FORMAT, **asdict(calibration)}, indent=1, ensure_ascii=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.write_text(f"{text}\n", encoding="utf-8")
    temporary.replace(file)


def versions() -> dict[str, str]:
    """Of the libraries that a measurement rests on."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def machine(devices: Iterable[Device], *, zoo: str, isolation: str) -> dict[str, str]:
    """What a measurement rests on beside its task: devices, cores, zoo, isolation, versions, this project's among them.

    Host and kernel are none of it: names change with every start of a container, and hours would be lost.
    """
    told = sorted({f"{device.kind}: {device.model}" for device in devices})
    facts = {"devices": ", ".join(told), "cores": str(os.cpu_count()), "zoo": zoo, "isolation": isolation}
    return {**facts, "python": platform.python_version(), **versions()}


def of_machine(machine: Mapping[str, str]) -> Calibration:
    """This machine's own; SetupError where there is none, or where it was made on another one."""
    file = own_file(machine)
    if not file.is_file():
        raise SetupError("diffbench: this machine is not calibrated: pytest suites --diffbench-calibrate")
    found = read(file)
    keys = sorted({*machine, *found.machine})
    there_and_here = {key: (found.machine.get(key), machine.get(key)) for key in keys}
    other = [f"{key} {there!r}, here {here!r}" for key, (there, here) in there_and_here.items() if there != here]
    if other:
        raise SetupError(
            f"diffbench: {file} was made elsewhere ({'; '.join(other)}): calibrate here, "
            "pytest suites --diffbench-calibrate"
        )
    return found
