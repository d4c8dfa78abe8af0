"""Runs that are killed at random moments and resumed: nothing committed is lost, doubled, or run again.

Run it as `python benchmarks/kill_and_resume.py [CYCLES] [--workers N] [--seed S]`. The tasks are as cheap as tasks can
be (solutions that do not parse), so that a kill falls into the writing of records most of the time. After every kill
the journal is read, and compared with what was there before; a violation ends it with status 1. It also says what one
record costs, without images and with a pair of them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_diffbench import journal
from pytest_diffbench.history import FOLDER, LAST, MOST_STARTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_diffbench.journal import Entry

TASK = """
import pytest
from pytest_diffbench import Task

@pytest.mark.diffbench(Task("sd15"))
def test_task_{number}(executability):
    pass

def test_between_{number}():  # so that no process is started in advance for a task that follows
    pass
"""
KILL_WITHIN_S = 1.5
"""After a run's first new record."""


class Violation(Exception):
    """The journal broke its promise."""


def furnish(folder: Path, tasks: int) -> None:
    """Lay out a project of so many tasks, and a solution that does not parse."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    (folder / "test_tasks.py").write_text("".join(TASK.format(number=number) for number in range(tasks)))
    (folder / "bad.py").write_text("def load(\n")


def start(folder: Path, *, workers: int, resume: bool) -> subprocess.Popen[str]:
    """A run, or the rest of one, in a process group of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(workers), "--diffbench-agent=bad.py"]
    command += ["--benchmark-json=out.json", *(["--diffbench-resume"] if resume else [])]
    environment = {"DIFFBENCH_LOCKS": str(folder / "locks")} | os.environ
    with (folder / "log.txt").open("w") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            text=True,
            start_new_session=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def check(entries: Iterable[Entry], committed: set[str]) -> tuple[set[str], set[str]]:
    """The node ids that have a verdict now, and those given up because their process died twice under them.

    Raises:
        Violation: a verdict of before is missing, there twice, or its task was run again.
    """
    verdicts: set[str] = set()
    given_up: set[str] = set()
    starts: dict[str, int] = {}
    for entry in entries:
        body: Any = entry.body
        if entry.kind == "start":
            if body["nodeid"] in verdicts:
                raise Violation(f"{body['nodeid']} was run again")
            starts[body["nodeid"]] = starts.get(body["nodeid"], 0) + 1
        elif entry.kind == "verdict":
            nodeid = body["report"]["nodeid"]
            if body["report"]["verdict"] == "INFRA":
                if starts.get(nodeid) != MOST_STARTS:
                    raise Violation(f"{nodeid} was not measured: {body['report']['line']}")
                given_up.add(nodeid)
                continue
            if nodeid in verdicts:
                raise Violation(f"{nodeid} has two verdicts")
            verdicts.add(nodeid)
    if missing := committed - verdicts:
        raise Violation(f"lost: {', '.join(sorted(missing))}")
    return verdicts, given_up


def kill_somewhere(process: subprocess.Popen[str], runs: Path, rng: random.Random) -> bool:
    """Kill a run and all its workers at a random moment; False where it was over before."""
    before = _size(runs)
    while process.poll() is None and _size(runs) == before:
        time.sleep(0.01)
    try:
        process.wait(rng.uniform(0, KILL_WITHIN_S))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def _size(runs: Path) -> int:
    return sum(file.stat().st_size for file in runs.glob(f"*/{journal.PATTERN}"))


def cycles(folder: Path, count: int, *, workers: int, tasks: int, rng: random.Random) -> dict[str, int]:
    """Kill and resume so many times, over as many runs as it takes; what was seen.

    Raises:
        Violation: the journal broke its promise.
    """
    furnish(folder, tasks)
    runs = folder / FOLDER
    seen = {"kills": 0, "runs": 0, "verdicts": 0, "given up": 0, "torn lines": 0}
    committed: set[str] = set()
    resume = False
    while seen["kills"] < count or resume:  # the last run is carried to its end
        process = start(folder, workers=workers, resume=resume)
        if seen["kills"] < count and kill_somewhere(process, runs, rng):
            seen["kills"] += 1
            seen["torn lines"] += _torn(runs)
        elif process.wait() not in (0, 1):
            raise Violation(f"a run ended with status {process.returncode}:\n{(folder / 'log.txt').read_text()}")
        if not (runs / LAST).exists():
            continue  # killed before its first record was whole
        contents = journal.read(runs / LAST)
        if contents.damaged:
            raise Violation(f"{contents.damaged} damaged lines")
        committed, given_up = check(contents.entries, committed)
        resume = True
        if process.returncode in (0, 1):
            _check_file(folder / "out.json", committed, given_up, tasks)
            seen["runs"] += 1
            seen["verdicts"] += len(committed)
            seen["given up"] += len(given_up - committed)
            committed, resume = set(), False
    return seen


def _torn(runs: Path) -> int:
    """Files whose last line was cut off."""
    tails = [file.read_bytes()[-1:] for file in (runs / LAST).glob(journal.PATTERN)]
    return sum(tail not in (b"", b"\n") for tail in tails)


def _check_file(file: Path, committed: set[str], given_up: set[str], tasks: int) -> None:
    reported = [entry["nodeid"] for entry in json.loads(file.read_text())["diffbench"]]
    if len(reported) != tasks or set(reported) != committed | given_up:
        raise Violation(f"the file holds {len(reported)} of {tasks} tasks, {len(set(reported))} different ones")


def cost_ms(folder: Path, side_px: int, count: int) -> list[float]:
    """Milliseconds of each record of a pair, with its two images where they have a size."""
    rng = np.random.default_rng(0)
    written = journal.Journal(folder, "benchmark")
    spent = []
    for number in range(count):
        images = [np.cumsum(rng.integers(0, 2, (side_px, side_px, 3)), 1).astype(np.uint8) for _ in range(2)]
        began = time.perf_counter()
        names = written.keep(images) if side_px else []
        written.append("pair", {"key": "0" * 64, "number": number, "prompt": "a" * 100, "images": names})
        spent.append(1000 * (time.perf_counter() - began))
    written.close()
    return spent


def main() -> int:
    """Print what was seen, and what a record costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cycles", type=int, nargs="?", default=200)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            (folder / "project").mkdir()
            rng = random.Random(chosen.seed)  # noqa: S311 (no secret)
            seen = cycles(folder / "project", chosen.cycles, workers=chosen.workers, tasks=chosen.tasks, rng=rng)
        except Violation as violation:
            print(f"VIOLATION: {violation}")
            return 1
        print(", ".join(f"{count} {what}" for what, count in seen.items()), "- nothing lost, doubled, or run again")
        for side_px, count in ((0, 300), (64, 100), (512, 20), (1024, 10)):
            low, middle, high = statistics.quantiles(cost_ms(folder / f"cost{side_px}", side_px, count), n=4)
            what = f"two images of {side_px} px" if side_px else "no images"
            print(f"a record with {what}: {middle:.1f} ms (quartiles {low:.1f} to {high:.1f}), {count} records")
    return 0


if __name__ == "__main__":
    sys.exit(main())
