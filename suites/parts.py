"""A seeded part of the 604 tasks, one id a line: `python -m suites.parts 1/3 --seed 7 > part.txt`, `pytest @part.txt`.

The parts of one seed are all tasks, each once; each has its share of every file, so a part says what the whole would.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_diffbench import cli

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUITES = Path(__file__).parent


def part(ids: Sequence[str], number: int, parts: int, seed: int) -> Iterator[str]:
    """Those of one part, in the order of all: of each file every `parts`-th of its shuffled tasks."""
    drawn = random.Random(seed).sample(range(len(ids)), len(ids))  # noqa: S311 (no secret)
    ordered = sorted(drawn, key=lambda position: ids[position].partition("::")[0])
    chosen = set(ordered[number - 1 :: parts])
    return (task for position, task in enumerate(ids) if position in chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a part; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", metavar="NUMBER/PARTS", help="1/3 is the first of three parts")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    number, _, parts = chosen.part.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        parser.error(f"{chosen.part}: a part is such as 1/3")
    status, collected = cli.collect([str(SUITES)])
    if status == 0:
        ids = [nodeid for nodeid, _ in collected.tasks]
        print(*part(ids, int(number), int(parts), chosen.seed), sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
