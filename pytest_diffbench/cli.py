"""The `diffbench` command: what a run would do, what one has done, and what this machine withstands."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_diffbench.errors import DiffbenchError
from pytest_diffbench.plugin import diffbench
from pytest_diffbench.plugin.keys import DEMAND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.plugin.session import Session


class _Collected:
    """Catches the tasks that pytest collects."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, Demand]] = []
        self.session: Session | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep what was collected."""
        self.session = diffbench(session.config)
        self.tasks = [(item.nodeid, item.stash[DEMAND]) for item in session.items if DEMAND in item.stash]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; its exit status."""
    parser = argparse.ArgumentParser(prog="diffbench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    tasks = commands.add_parser("tasks", help="list tasks: their ids and node ids")
    tasks.add_argument("paths", nargs="*", help="files, folders or node ids (default: what pytest would collect)")
    prompt = commands.add_parser("prompt", help="print the prompt that a solver gets for a task")
    prompt.add_argument("task", help="a node id, such as suites/level2_methods/test_sd15.py::test_method[unipc-30]")
    _add_stored(commands)
    attack = commands.add_parser("self-attack", help="run every exploit against this machine; print a certificate")
    attack.add_argument("names", nargs="*", help="parts of names of exploits (default: all)")
    attack.add_argument("--list", action="store_true", help="only list them, each with the verdict that it must get")
    attack.add_argument("--isolation", help="the tier to attack (default: the strongest that holds here)")
    attack.add_argument("--json", metavar="FILE", type=Path, help="write the certificate there")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "tasks":
            return _list_tasks(chosen.paths)
        if chosen.command == "prompt":
            return _print_prompt(chosen.task)
        if chosen.command == "self-attack":
            return _self_attack(chosen)
        # imported here: pydantic, rich and scipy, which listing tasks must not load
        from pytest_diffbench import stored

        return stored.main(chosen)
    except DiffbenchError as error:
        print(error, file=sys.stderr)
        return 1


def _add_stored(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommands that read a run's journal."""
    show = commands.add_parser("show", help="what a run has found so far, also one that was cut off")
    regrade = commands.add_parser("regrade", help="new thresholds over what a run has measured; nothing is measured")
    regrade.add_argument("--speed-at-least", type=float, metavar="X", help="of tasks that demand a speed-up")
    regrade.add_argument("--latency-at-most-s", type=float, metavar="S", help="of tasks that demand a latency")
    regrade.add_argument("--max-loss", type=float, metavar="Y", help="share of the CLIP-Score that may be lost")
    regrade.add_argument("--strict", action=argparse.BooleanOptionalAction, help="whether the strict margin gates")
    export = commands.add_parser("export", help="write the file that --benchmark-json would have written")
    for command in (show, regrade, export):
        command.add_argument("run", help="a run's folder, its id, or 'last'")
        command.add_argument(
            "--journal", metavar="FOLDER", help="where runs are kept (default: the nearest .diffbench)"
        )
    regrade.add_argument("--benchmark-json", metavar="FILE", help="write the regraded run to a file too")
    export.add_argument("--benchmark-json", metavar="FILE", required=True)


def _collect(paths: Sequence[str]) -> tuple[int, _Collected]:
    collected = _Collected()
    quiet = ["--collect-only", "-qqq", "--no-header", "--no-summary", "-p", "no:cacheprovider"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = pytest.main([*paths, *quiet], plugins=[collected])
    if status:
        print(said.getvalue().strip(), file=sys.stderr)
    return int(status), collected


def _list_tasks(paths: Sequence[str]) -> int:
    status, collected = _collect(paths)
    width = max((len(demand.task_id) for _, demand in collected.tasks), default=0)
    for nodeid, demand in collected.tasks:
        print(f"{demand.task_id:<{width}}  {nodeid}")
    return status


def _print_prompt(nodeid: str) -> int:
    status, collected = _collect([nodeid])
    if status:
        return status
    if len(collected.tasks) != 1 or collected.session is None:
        count = len(collected.tasks)
        print(f"diffbench: {nodeid} holds {count} tasks; name one (diffbench tasks {nodeid})", file=sys.stderr)
        return 1
    print(collected.session.prompt(collected.tasks[0][1]))
    return 0


def _self_attack(asked: argparse.Namespace) -> int:
    # imported here: the other commands need none of it
    from pytest_diffbench import self_attack
    from pytest_diffbench.records import plain

    exploits = self_attack.chosen(self_attack.corpus(), asked.names)
    if asked.list:
        width = max((len(exploit.name) for exploit in exploits), default=0)
        for exploit in exploits:
            print(f"{exploit.name:<{width}}  {exploit.expected}: {exploit.summary}")
        return 0
    certificate = self_attack.certify(
        exploits,
        isolation=asked.isolation,
        say=lambda finding: print("\n".join(self_attack.describe(finding)), file=sys.stderr, flush=True),
    )
    if asked.json is not None:
        asked.json.write_text(json.dumps(plain(certificate), indent=1, allow_nan=False) + "\n")
    print("\n".join(certificate.lines()))
    return 0 if certificate.held else 1


if __name__ == "__main__":
    sys.exit(main())
