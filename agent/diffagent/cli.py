"""The `diffagent` command: a pipeline made faster, with the evidence, for who does not think in tests."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from diffagent import compare, optimise, workplace
from pytest_diffbench.errors import DiffbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is that of the verdict: 0 passed, 1 not, 2 nothing could be measured."""
    asked = _parser().parse_args(arguments)
    try:
        return {"optimise": optimise.optimise, "compare": compare.compare}[asked.command](asked)
    except DiffbenchError as error:
        print(f"diffagent: {str(error).removeprefix('diffbench: ').removeprefix('diffagent: ')}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="diffagent", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module, summary in (
        ("optimise", optimise, "search for a plan that makes a pipeline faster, and prove it"),
        ("compare", compare, "let several ways to search spend the same budget, and say which found more"),
    ):
        command = commands.add_parser(name, help=summary, description=module.HELP)
        workplace.add_arguments(command)
        module.add_arguments(command)
    return parser
