"""The test files of the suites, one a level and model, as text: `python -m suites.files` writes what the grid says.

The targets of levels 4 and 5 are shares of what calibration found (`suites/calibration.json`).
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_diffbench import calibration
from pytest_diffbench.calibration import Calibration
from suites.grid import HALF_STEPS, STRENGTH, TITLES, USES, Entry, Use, entries, scenarios

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HERE: Final = Path(__file__).parent
CALIBRATION: Final = HERE / calibration.FILE
ANSWERS: Final = HERE.parent / "reference_solutions"
FOLDERS: Final = {
    1: "level1_pipelines",
    2: "level2_methods",
    3: "level3_combinations",
    4: "level4_speed",
    5: "level5_latency",
}
WIDTH: Final = 120

_HEAD: Final = '''"""{title}"""

import pytest

from pytest_diffbench import Task

'''
_TEST: Final = '''

@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.diffbench(t)) for n, t in TASKS.items()])
@pytest.mark.quality(max_loss=0.05)
def {function}(name, executability, speed, quality):
    """{asks}"""
'''
_TODAY: Final = """
def today(methods, steps={steps}, **more):
    if "half_precision" in methods:
        steps = {half_steps}  # a CPU without bfloat16 arithmetic takes ten times as long for each
    return Task("{model}", level={level}, sampler="{sampler}", steps=steps, methods=methods, **more)


"""
_TARGETS: Final = """# the best speed-up that is known of each, to the power of {exponents} (docs/tasks.md)
"""
_TARGET_TEST: Final = '''

def task(scenario, difficulty):
    how = SCENARIOS[scenario]
    name = f"{{scenario}}-{{difficulty}}"
    demanded = Task("{model}", level={level}, scenario=scenario, difficulty=difficulty, **how)
    target = pytest.mark.{marker}=TARGETS[scenario][difficulty])
    return pytest.param(name, marks=[pytest.mark.diffbench(demanded), target])


TASKS = [task(scenario, difficulty) for scenario, targets in TARGETS.items() for difficulty in targets]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.quality(max_loss=0.05)
def {function}(name, executability, speed, quality):
    """{asks}"""
'''


def written() -> dict[Path, str]:
    """Each file's path and text."""
    found = {}
    whole = entries()
    for level, folder in FOLDERS.items():
        for model in TITLES:
            own = [entry for entry in whole if entry.level == level and entry.use.model == model]
            found[HERE / folder / f"test_{model}.py"] = _TEXTS[level](model, own)
    return found


def shipped() -> Calibration:
    """What the targets follow from."""
    return calibration.read(CALIBRATION)


def shares(speedup: float) -> dict[str, float]:
    """The targets as shares of the baseline's latency."""
    return {name: calibration.as_share(target) for name, target in calibration.targets(speedup).items()}


def _plain(model: str, own: Sequence[Entry]) -> str:
    tasks = [_item(entry.name, f"Task({_arguments(model, entry)})") for entry in own]
    asks = "Write the inference pipeline that is described below, exactly as demanded."
    title = f"Run {TITLES[model]} as demanded: its sampler, steps, guidance, batch and size, nothing accelerated."
    test = _TEST.format(function="test_pipeline", asks=asks)
    return _HEAD.format(title=title) + _dictionary("TASKS", tasks) + test


def _arguments(model: str, entry: Entry) -> str:
    told = ", ".join(f"{key}={_literal(value)}" for key, value in entry.arguments.items())
    return f'"{model}", level={entry.level}, {told}'


def _one_method(model: str, own: Sequence[Entry]) -> str:
    asks = "Apply the demanded method to the pipeline below; its images must stay as good."
    return _with_methods(model, own, f"Make {TITLES[model]} faster with one method.", "test_method", asks)


def _combined(model: str, own: Sequence[Entry]) -> str:
    asks = "Apply the demanded methods together to the pipeline below; its images must stay as good."
    title = f"Make {TITLES[model]} faster with several methods at once."
    return _with_methods(model, own, title, "test_combination", asks)


def _with_methods(model: str, own: Sequence[Entry], title: str, function: str, asks: str) -> str:
    uses = [use for use in USES if use.model == model]
    noise, image = uses[0], uses[1] if len(uses) > 1 else None
    facts = {"model": model, "level": own[0].level, "sampler": noise.sampler, "steps": noise.steps}
    text = _HEAD.format(title=title) + _TODAY.format(half_steps=HALF_STEPS, **facts)
    text += _dictionary("FROM_NOISE", _method_items(own, noise))
    tasks = "{name: today(methods) for name, methods in FROM_NOISE.items()}"
    if image is not None:
        text += _dictionary("FROM_IMAGE", _method_items(own, image))
        called = f"today(methods, steps={image.steps}, strength={STRENGTH})"
        text += f"TASKS = {tasks} | {{\n    name: {called} for name, methods in FROM_IMAGE.items()\n}}\n"
    else:
        text += f"TASKS = {tasks}\n"
    return text + _TEST.format(function=function, asks=asks)


def _method_items(own: Sequence[Entry], use: Use) -> list[str]:
    return [_item(entry.name, _literal(entry.declared["methods"])) for entry in own if entry.use == use]


def _with_targets(model: str, own: Sequence[Entry]) -> str:
    level = own[0].level
    title, function, marker, targets = _TARGETED[level]
    found = shipped().scenarios
    shared = [scenario for scenario in scenarios() if scenario.use.model == model]
    each_target = {each.name: targets(found[f"{model}/{each.name}"].speedup) for each in shared}
    text = _HEAD.format(title=title.format(TITLES[model]))
    text += _dictionary("SCENARIOS", [_item(each.name, _literal(each.arguments)) for each in shared])
    text += _TARGETS.format(exponents=", ".join(f"{share:g}" for share in calibration.SHARES.values()))
    text += _dictionary("TARGETS", [_item(name, _literal(values)) for name, values in each_target.items()])
    asks = "Reach the target by any means; the images must stay as good."
    return text + _TARGET_TEST.format(model=model, level=level, marker=marker, function=function, asks=asks)


def _dictionary(name: str, items: Iterable[str]) -> str:
    return f"{name} = {{\n{''.join(items)}}}\n"


def _item(name: str, value: str) -> str:
    """One line of a dictionary, or as many as it takes, as ruff formats them."""
    line = f'    "{name}": {value},\n'
    if len(line) <= WIDTH + 1:
        return line
    inner = "".join(f"        {part},\n" for part in _parts(value[1:-1]))
    return f'    "{name}": {value[0]}\n{inner}    {value[-1]},\n'


def _parts(text: str) -> list[str]:
    """Split at the commas that stand in no bracket."""
    parts, depth = [""], 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _literal(value: object) -> str:
    """As Python, with the quotes that this project has."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}": {_literal(each)}' for key, each in value.items()) + "}"
    return json.dumps(value) if isinstance(value, str) else repr(value)


_TARGETED: Final = {
    4: (
        "Make {} faster by a factor, losing at most 5 % of its CLIP-Score.",
        "test_speedup",
        "speed(at_least",
        calibration.targets,
    ),
    5: (
        "Bring {} below a latency, losing at most 5 % of its CLIP-Score.",
        "test_latency",
        "latency(at_most_of_baseline",
        shares,
    ),
}
_TEXTS: Final = {1: _plain, 2: _one_method, 3: _combined, 4: _with_targets, 5: _with_targets}


def take(own: Calibration) -> None:
    """Ship what a machine was calibrated to; worked answers that fit are written by `benchmarks/ladder.py`.

    ValueError of anything but tiny models on a CPU, which is what docs/tasks.md says that the targets come from.
    """
    zoo, devices = own.machine.get("zoo"), own.machine.get("devices", "")
    if zoo != "tiny" or {each.partition(":")[0] for each in devices.split(", ")} != {"cpu"}:
        raise ValueError(f"the shipped targets come from tiny models on a CPU, not from {zoo!r} on {devices!r}")
    known = dict(shipped().scenarios)
    for scenario in scenarios():
        key = f"{scenario.use.model}/{scenario.name}"
        if key in own.scenarios:
            known[key] = replace(own.scenarios[key], program="", edition="")
    calibration.write(CALIBRATION, Calibration({}, known))


def titled(program: str, name: str, how: str) -> str:
    """The program under another docstring: what it is for, and how it answers that."""
    body = re.sub(r'\A""".*?"""\n', "", program, flags=re.DOTALL)
    line = f'"""{name}: {how}."""'
    return f"{line}\n{body}" if len(line) <= WIDTH else f'"""{name}.\n\n{textwrap.fill(how, WIDTH)}\n"""\n{body}'


def main() -> None:
    """Write every file anew; with `--take FILE` from what a machine was calibrated to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--take", type=Path, metavar="FILE", help="the targets that follow from this calibration")
    if (file := parser.parse_args().take) is not None:
        take(calibration.read(file))
    for path, text in written().items():
        path.write_text(text)
        print(path.relative_to(HERE.parent))


if __name__ == "__main__":
    main()
