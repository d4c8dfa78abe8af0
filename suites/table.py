"""docs/tasks.md: what the 604 tasks are, counted from the grid. `python -m suites.table` prints it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from pytest_diffbench import calibration
from suites.files import shipped
from suites.grid import (
    COUNTS,
    HALF_SAMPLER_STEPS,
    HALF_STEPS,
    METHODS,
    STRENGTH,
    USES,
    demanded,
    entries,
    scenarios,
    works,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from suites.grid import Entry, Use

TEXT: Final = """# The 604 tasks

Written by `python -m suites.table` from the grid (`suites/grid.py`), as are the test files (`python -m suites.files`).
The counts of the levels are the paper's (arXiv 2601.03178); which tasks they are it does not say, so the grid is this
project's. Images have each model's own size (256 to 1024 pixels; the tiny zoo scales them down) but for six tasks of
level 1, which demand another. *image* is image-to-image at strength {strength}.

| model and use | {level_heads} | all |
| --- | {rules} | --- |
{counts}

- **Level 1**: the pipeline as demanded: sampler, steps, guidance, batch, size.
- **Level 2**: every method on everything that it works on ([support](support.md)), some once more with the second
  parameters below.
- **Level 3**: for each use all combinations of two to four methods that go together without half precision, then the
  same with another sampler, up to 25; and four with half precision (more would take hours on a CPU, where it is slow).
  T-GATE on the PixArt models is not combined: in the last step alone it loses 2 %.
- **Levels 4 and 5**: {scenarios} scenarios, each easy, medium and hard, by a speed-up and by the share of the
  baseline's latency that it comes to (measured beside the candidate, call by call, and not once before it: machines
  drift, and no limit is another machine's). In {fixed} of them sampler and steps must stay as they are and every step
  must call the denoiser, so that only a method can help; a solver that changes only sampler and steps can answer at
  most {free} of the {scenarios}. Both levels ask for the same work: one answer decides all six tasks of a scenario, and
  intervals count it once.

`make bench-all` answers all of them with the worked answers, and goes on where it was cut off with
`MORE=--diffbench-resume`. A part of them that says what the whole would, a seeded third here:
`python -m suites.parts 1/3 --seed 7 > part.txt`, then `pytest @part.txt`.

## Parameters that are demanded

| method | U-Nets | DiT | PixArt |
| --- | --- | --- | --- |
{methods}

A dash: the method cannot work there ([support](support.md)). T-GATE's step is given here as a share of the steps that
are run; in a `Task` it is the number of the step (0.9 of 50 steps is 45). Half precision is bfloat16 here, and runs
{half} steps, {half_sampler} where a sampler is demanded with it.

## Scenarios and their targets

Easy, medium and hard demand the best speed-up that is known to the power of {exponents} (of 6x: {of_six}).
The best was found on the tiny models, on a CPU, by `pytest suites --diffbench-calibrate` with 2 to 4 evaluations a
search instead of 50 (`dit`'s ddim-50: with 50) or, where it says so, by `benchmarks/ladder.py`, and certified by
calibration's own measurement: on requests that did not choose it, of at least a hundred images none was broken (under
3 % of all, with 95 % confidence). Your own machine's: [Calibration](scoring.md#calibration).

Worked answers do not dare more than they must: of some plans a scenario, looked at on 96 images each
(`benchmarks/ladder.py`), `reference_solutions/` has the most careful one that reaches the hard target and, where those
are others, as `…-mild.py` and `…-easy.py` those that reach the medium and the easy one; where there is no easy one, the
mild one answers the easy task too.

| scenario | today | best | easy | medium | hard | by |
| --- | --- | --- | --- | --- | --- | --- |
{targets}
"""


def written() -> str:
    """The whole file."""
    whole = entries()
    shared = scenarios()
    fixed = sum(bool(each.declared.get("fixed_schedule")) for each in shared)
    return TEXT.format(
        strength=f"{STRENGTH:g}",
        level_heads=" | ".join(f"level {level}" for level in COUNTS),
        rules=" | ".join("---" for _ in COUNTS),
        counts="\n".join(_counted(whole)),
        scenarios=len(shared),
        fixed=fixed,
        free=len(shared) - fixed,
        methods="\n".join(map(_method, METHODS)),
        half=HALF_STEPS,
        half_sampler=HALF_SAMPLER_STEPS,
        of_six=", ".join(f"{target:g}x" for target in calibration.targets(6.0).values()),
        exponents=", ".join(f"{share:g}" for share in calibration.SHARES.values()),
        targets="\n".join(_targets(shared)),
    )


def _counted(whole: Sequence[Entry]) -> Iterator[str]:
    counted = Counter((entry.use.name, entry.level) for entry in whole)
    for use in USES:
        yield _row(_title(use), [counted[use.name, level] for level in COUNTS])
    yield _row("all", [sum(entry.level == level for entry in whole) for level in COUNTS])


def _row(title: str, counts: Sequence[int]) -> str:
    return f"| {title} | {' | '.join(map(str, counts))} | {sum(counts)} |"


def _title(use: Use) -> str:
    return f"`{use.model}`{', image' if use.begins_with_image else ''}"


def _method(name: str) -> str:
    columns = (next(use for use in USES if use.model == model) for model in ("sd15", "dit", "pixart_alpha"))
    cells = (_parameters(demanded(name, use)) if works(name, use) else "-" for use in columns)
    return f"| `{name}` | {' | '.join(cells)} |"


def _parameters(given: Iterable[object]) -> str:
    told = []
    for each in given:
        assert isinstance(each, dict)
        told.append(", ".join(f"{name} = {value}" for name, value in each.items()))
    return "; or ".join(told)


def _targets(shared: Iterable[Entry]) -> Iterator[str]:
    known = shipped().scenarios
    for scenario in shared:
        best = known[f"{scenario.use.model}/{scenario.name}"]
        wanted = " | ".join(f"{target:.2f}x" for target in calibration.targets(best.speedup).values())
        kept = ", fixed" if scenario.declared.get("fixed_schedule") else ""
        today = f"{scenario.declared['steps']} steps of {scenario.declared['sampler']}{kept}"
        certified = best.speedup_low < best.speedup_high
        found = f"{best.speedup:.2f}x" + (f" [{best.speedup_low:.2f}, {best.speedup_high:.2f}]" if certified else "")
        yield f"| {_title(scenario.use)}: {scenario.name} | {today} | {found} | {wanted} | {best.source}: {best.how} |"


if __name__ == "__main__":
    print(written(), end="")
