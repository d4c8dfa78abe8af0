"""The `diffbench` command: what a run would do, what one has done, and what this machine withstands."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import pytest

from pytest_diffbench.errors import DiffbenchError, SetupError
from pytest_diffbench.plugin import diffbench
from pytest_diffbench.plugin.keys import DEMAND, ZOOS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.plugin.session import Session


COLLECTING: Final = ("tasks", "prompt", "export-prompts", "private-split")
"""Subcommands that hand on what else they are given to pytest, such as --diffbench-targets=own."""

_Named = TypeVar("_Named")


class Collected:
    """Catches the tasks that pytest collects."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, Demand]] = []
        self.session: Session | None = None
        self.problems: list[str] = []
        """Why files could not be collected."""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what is wrong."""
        if report.failed:
            self.problems.append(report.longreprtext)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep what was collected."""
        self.session = diffbench(session.config)
        self.tasks = [(item.nodeid, item.stash[DEMAND]) for item in session.items if DEMAND in item.stash]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; its exit status."""
    parser = argparse.ArgumentParser(prog="diffbench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    where = "files, folders or node ids (default: what pytest would collect); its options too, each as --option=value"
    tasks = commands.add_parser("tasks", help="list tasks: their ids and node ids")
    tasks.add_argument("paths", nargs="*", help=where)
    prompt = commands.add_parser("prompt", help="print the prompt that a solver gets for a task")
    prompt.add_argument("task", help="a node id, such as suites/level2_methods/test_sd15.py::test_method[unipc-40]")
    prompts = commands.add_parser("export-prompts", help="write the prompts of many tasks, a line of JSON each")
    prompts.add_argument("paths", nargs="*", help=where)
    prompts.add_argument("--out", type=Path, metavar="FILE", help="where to (default: standard output)")
    private = commands.add_parser("private-split", help="draw siblings of tasks: the same with other numbers")
    private.add_argument("paths", nargs="*", help=where)
    private.add_argument("--seed", type=int, required=True, metavar="N", help="keep it to yourself")
    private.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new, or empty")
    ceiling = commands.add_parser("ceiling", help="the most that each method can gain on the real models, counted")
    ceiling.add_argument("models", nargs="*", help="names of the zoo (default: all; each takes a minute or more)")
    ceiling.add_argument("--method", action="append", metavar="NAME", help="only this one (may be given again)")
    ceiling.add_argument("--steps", type=int, help="denoising steps (default: each model's own)")
    ceiling.add_argument("--size", type=int, metavar="PX", help="of the images (default: each model's own)")
    models = commands.add_parser("models", help="what is known of each model, and which zoo has it here")
    models.add_argument("--fetch", action="append", metavar="NAME", help="download a checkpoint (or the scorer) first")
    commands.add_parser("support", help="which method works on which model, as a Markdown table")
    verify = commands.add_parser("verify-zoo", help="run each model of a zoo once as it is, and remember that it runs")
    verify.add_argument("zoo", choices=ZOOS)
    verify.add_argument("models", nargs="*", help="names of the zoo (default: all)")
    _add_stored(commands)
    attack = commands.add_parser("self-attack", help="run every exploit against this machine; print a certificate")
    attack.add_argument("names", nargs="*", help="parts of names of exploits (default: all)")
    attack.add_argument("--list", action="store_true", help="only list them, each with the verdict that it must get")
    attack.add_argument("--isolation", help="the tier to attack (default: the strongest that holds here)")
    attack.add_argument("--json", metavar="FILE", type=Path, help="write the certificate there")
    chosen, options = parser.parse_known_args(arguments)
    if options and chosen.command not in COLLECTING:
        parser.error(f"unrecognized arguments: {' '.join(options)}")
    commands_by_name: Mapping[str, Callable[[argparse.Namespace], int]] = {
        "tasks": lambda asked: _list_tasks([*asked.paths, *options]),
        "prompt": lambda asked: _print_prompt([asked.task, *options]),
        "export-prompts": lambda asked: _export_prompts([*asked.paths, *options], asked.out),
        "private-split": lambda asked: _split([*asked.paths, *options], asked.seed, asked.out),
        "self-attack": _self_attack,
        "models": lambda asked: _print_models(asked.fetch or []),
        "verify-zoo": lambda asked: _verify(asked.zoo, asked.models),
        "ceiling": _print_ceilings,
        "support": lambda _: _print_support(),
    }
    try:
        return commands_by_name.get(chosen.command, _read_stored)(chosen)
    except DiffbenchError as error:
        print(error, file=sys.stderr)
        return 1


def _read_stored(asked: argparse.Namespace) -> int:
    # imported here: pydantic, rich and scipy, which listing tasks must not load
    from pytest_diffbench import stored

    return stored.main(asked)


def _add_stored(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommands that read a run's journal."""
    show = commands.add_parser("show", help="what a run has found so far, also one that was cut off")
    regrade = commands.add_parser("regrade", help="new thresholds over what a run has measured; nothing is measured")
    regrade.add_argument("--speed-at-least", type=float, metavar="X", help="of tasks that demand a speed-up")
    regrade.add_argument("--latency-at-most-s", type=float, metavar="S", help="of tasks that demand a latency")
    regrade.add_argument("--max-loss", type=float, metavar="Y", help="share of the CLIP-Score that may be lost")
    regrade.add_argument("--strict", action=argparse.BooleanOptionalAction, help="whether the strict margin gates")
    export = commands.add_parser("export", help="write the file that --benchmark-json would have written")
    durations = commands.add_parser("durations", help="what each task of a run took, for the ini value of that name")
    durations.add_argument("--out", type=Path, metavar="FILE", required=True, help="as JSON, seconds by task id")
    score = commands.add_parser("score", help="the figures of a run, or of two runs task by task")
    for command in (show, regrade, export, durations, score):
        which = ", or its JSON file" if command in (durations, score) else ""
        command.add_argument("run", help=f"a run's folder, its id, or 'last'{which}")
        command.add_argument(
            "--journal", metavar="FOLDER", help="where runs are kept (default: the nearest .diffbench)"
        )
    score.add_argument("against", nargs="?", help="another run, to be compared with task by task")
    score.add_argument("--fast", type=float, action="append", default=[], metavar="P", help="one more p of fast_p")
    score.add_argument("--paper", action="store_true", help="the paper's pass rates, also of a run of fewer tasks")
    score.add_argument(
        "--json", type=Path, metavar="FILE", help="write the first run's figures, and the comparison, to a file"
    )
    regrade.add_argument("--benchmark-json", metavar="FILE", help="write the regraded run to a file too")
    export.add_argument("--benchmark-json", metavar="FILE", required=True)


def collect(arguments: Sequence[str]) -> tuple[int, Collected]:
    """The tasks that pytest collects with these paths and options, and its exit status.

    What is wrong goes to stderr.
    """
    collected = Collected()
    quiet = ["--collect-only", "-qqq", "--no-header", "--no-summary", "-p", "no:cacheprovider"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = pytest.main([*arguments, *quiet], plugins=[collected])
    if status:
        print("\n".join([*collected.problems, said.getvalue().strip()]), file=sys.stderr)
    return int(status), collected


def _list_tasks(arguments: Sequence[str]) -> int:
    status, collected = collect(arguments)
    width = max((len(demand.task_id) for _, demand in collected.tasks), default=0)
    for nodeid, demand in collected.tasks:
        print(f"{demand.task_id:<{width}}  {nodeid}")
    return status


def _print_prompt(arguments: Sequence[str]) -> int:
    status, collected = collect(arguments)
    if status:
        return status
    if len(collected.tasks) != 1 or collected.session is None:
        named, count = arguments[0], len(collected.tasks)
        print(f"diffbench: {named} holds {count} tasks; name one (diffbench tasks {named})", file=sys.stderr)
        return 1
    print(collected.session.prompt(collected.tasks[0][1]))
    return 0


def _export_prompts(arguments: Sequence[str], out: Path | None) -> int:
    """A line a task: its id, which an answer's file is named by, its level, and the prompt."""
    status, collected = collect(arguments)
    if collected.session is None or status:
        return status
    _refuse_nothing(collected)
    told = {}
    for _, demand in collected.tasks:
        level = demand.task.level
        told[demand.task_id] = {"task_id": demand.task_id, "level": level, "prompt": collected.session.prompt(demand)}
    text = "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in told.values())
    if out is None:
        print(text, end="")
        return 0
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SetupError(f"diffbench: cannot write {out}: {error.strerror or error}") from error
    print(f"{out}: {len(told)} prompts; answers as FOLDER/<task_id>.py are graded with --diffbench-agent=FOLDER")
    return 0


def _refuse_nothing(collected: Collected) -> None:
    if not collected.tasks:
        raise SetupError("diffbench: no task is there: name files or folders whose tests have the marker diffbench")


def _split(arguments: Sequence[str], seed: int, out: Path) -> int:
    # imported here: nothing else needs it
    from pytest_diffbench import private_split

    status, collected = collect(arguments)
    if status:
        return status
    _refuse_nothing(collected)
    files = private_split.write([demand for _, demand in collected.tasks], seed, out)
    print(f"{out}: {len(collected.tasks)} tasks in {files} files, whose numbers nobody has published")
    return 0


def _configured() -> Session:
    """What pytest knows here: models and methods of any plugin, and of the conftest files of this folder."""
    collected = Collected()
    nothing = ["--collect-only", "-qqq", "--no-header", "--no-summary", "-p", "no:cacheprovider", "--ignore-glob=*"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        pytest.main(nothing, plugins=[collected])
    if collected.session is None:
        raise SetupError(f"diffbench: pytest could not start here:\n{said.getvalue().strip()}")
    return collected.session


def _print_ceilings(asked: argparse.Namespace) -> int:
    session = _configured()
    # imported here: torch and diffusers
    from transformers.utils import logging

    from pytest_diffbench.ceiling import Subject
    from pytest_diffbench.zoo.architectures import ARCHITECTURES

    logging.set_verbosity_error()  # it tells everybody about image processors that nothing here uses
    models = _named(asked.models, {name: model for name, model in session.models.items() if name in ARCHITECTURES})
    methods = _named(asked.method or [], session.methods)
    for model in models:
        subject = Subject(model, asked.steps or model.steps, asked.size or model.size)
        counted = subject.denoiser()
        print(
            f"{model.name}: {subject.size_px} px, {subject.steps} guided steps; denoiser "
            f"{counted.parameters / 1e6:.1f} M parameters, {counted.macs / 1e9:.1f} GMAC a call and latent",
            flush=True,
        )
        for found in subject.ceilings(methods):
            told = f"{found.method}({', '.join(f'{name}={value}' for name, value in found.parameters.items())})"
            if found.work_share is None or found.speedup is None:
                line = f"cannot work: {found.problem}"
            else:
                line = f"{found.work_share:.3f} of the work, at most {found.speedup:.2f}x"
            print(f"  {told:<48}  {line}", flush=True)
    return 0


def _print_models(fetched: Sequence[str]) -> int:
    session = _configured()
    # imported here: the other commands need none of it
    from rich.console import Console

    from pytest_diffbench import presence
    from pytest_diffbench.plugin.terminal import LEAST_COLUMNS
    from pytest_diffbench.zoo import checkpoints

    for name in fetched:
        if name not in checkpoints.CHECKPOINTS:
            raise SetupError(f"diffbench: {name!r} is no checkpoint: use one of {', '.join(checkpoints.CHECKPOINTS)}")
        print(f"{name}: {checkpoints.fetch(name, session.zoo.checkpoints)}", flush=True)
    Console(width=max(shutil.get_terminal_size().columns, LEAST_COLUMNS)).print(presence.table(session.zoo))
    return 0


def _print_support() -> int:
    session = _configured()
    from pytest_diffbench import support

    print(support.table(list(session.models.values()), session.methods.values()), end="")
    return 0


def _verify(zoo: str, names: Sequence[str]) -> int:
    session = _configured()
    from pytest_diffbench import presence
    from pytest_diffbench.zoo.models import FAMILIES

    status = 0
    for model in _named(names, {model.name: model for model in FAMILIES}):
        verified = presence.verify(replace(session.zoo, name=zoo), model)
        status = max(status, int(not verified))
    return status


def _named(names: Sequence[str], known: Mapping[str, _Named]) -> list[_Named]:
    """Those named, or all; SetupError of a name that is none."""
    for name in names:
        if name not in known:
            raise SetupError(f"diffbench: {name!r} is unknown: use one of {', '.join(sorted(known))}")
    return [known[name] for name in names] if names else list(known.values())


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
