"""`python -m pytest_diffbench.zoo.train`: train the tiny models of every family and put them where the zoo looks."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from pytest_diffbench.zoo import weights
from pytest_diffbench.zoo.train.parts import PARTS
from pytest_diffbench.zoo.train.publish import PUBLISHED, publish

if TYPE_CHECKING:
    from collections.abc import Iterable

ALL: Final = "all"


def train(names: Iterable[str], work: Path) -> None:
    """Train these parts, and what they are made from, as far as they are not there yet."""
    for name in names:
        part = PARTS[name]
        if not (work / name).exists():
            train(part.made_from, work)
            part.train(work, part.budget)


def main() -> None:
    """Train what is not trained yet, then publish."""
    parser = argparse.ArgumentParser(prog="python -m pytest_diffbench.zoo.train", description=__doc__)
    parser.add_argument("family", nargs="?", default=ALL, choices=[ALL, *PUBLISHED])
    parser.add_argument("--work", type=Path, default=Path("zoo-training"), help="where finished parts are kept")
    parser.add_argument("--part", choices=PARTS, help="train this part only, and publish nothing")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.part is not None:
        train([arguments.part], arguments.work)
        return
    families = list(PUBLISHED) if arguments.family == ALL else [arguments.family]
    for family in families:
        train(PUBLISHED[family].parts, arguments.work)
        publish(family, arguments.work, weights.TINY)


if __name__ == "__main__":
    main()
