"""The agent as a provider, in earnest: real runs within real runs, over real HTTP; killed, refused, gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from pytest_diffbench import journal
from tests.agent.loopback import KEY, MODEL, Answer, Loopback
from tests.agent.naps import napping
from tests.plugin.conftest import HEAD, furnish, own_task

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OPTIONS = (
    "--diffbench-agent=diffagent",
    f"--diffbench-llm={MODEL}",
    "--diffbench-shape=population=1,parents=1,generations=1",
    "--benchmark-json=run.json",
)


@pytest.fixture
def place(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two tasks, one that can be done and one that cannot."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    furnish(pytester.path)
    tests = ""
    for name, factor in (("near", 1.3), ("far", 50)):
        tests += f"@pytest.mark.diffbench({own_task()})\n@pytest.mark.speed(at_least={factor})\n"
        tests += f"def test_{name}(executability, speed, quality):\n    '''Task {name}.'''\n\n"
    (pytester.path / "test_mine.py").write_text(f"{HEAD}{tests}")
    return pytester.path


def _verdicts(place: Path) -> Counter[tuple[str, str]]:
    """How often each candidate of each generation got one."""
    found: Counter[tuple[str, str]] = Counter()
    for run in place.glob(".diffbench/agent/*/*/*/journal/*"):
        if not run.is_symlink():
            verdicts: list[Any] = [entry.body for entry in journal.read(run).entries if entry.kind == "verdict"]
            found.update((str(run), body["report"]["nodeid"]) for body in verdicts)
    return found


def test_the_agent_is_scored_and_goes_on_where_it_was_killed(
    pytester: pytest.Pytester, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, killed once a generation is measured; resumed, nothing is asked and nothing measured twice."""
    with Loopback(napping) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        command = [sys.executable, "-m", "pytest", *OPTIONS, "-n", "2"]
        started = subprocess.Popen(command, cwd=place, start_new_session=True)
        deadline = time.monotonic() + 300
        while not list(place.glob(".diffbench/agent/*/*/diffagent-0-0/run.json")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGKILL)  # its workers, and the generations that they measure, with it
        started.wait()
        result = pytester.runpytest_subprocess(*OPTIONS, "-n", "2", "--diffbench-resume")
        asked = Counter(json.dumps(each, sort_keys=True) for each in server.requests)

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_*  solution: generation 1 of 1: 1 ideas",
            f"*diffbench: diffagent:{MODEL}*",
            "language models: * replies, *",
            "known already: *",
        ]
    )
    assert max(asked.values()) == 1
    assert max(_verdicts(place).values()) == 1
    entries = json.loads((place / "run.json").read_text())["diffbench"]
    assert {entry["agent"] for entry in entries} == {f"diffagent:{MODEL} population 1 parents 1 generations 1"}
    assert {entry["requests"] for entry in entries} == {"secret"}
    measured = [json.loads(file.read_text())["diffbench"] for file in place.glob(".diffbench/agent/*/*/*/run.json")]
    assert {entry["requests"] for each in measured for entry in each} == {"public"}
    files = [file for file in place.rglob("*") if file.is_file()]
    assert not any(KEY.encode() in file.read_bytes() for file in files)


@pytest.mark.slow  # the agent's own tests know every way in which a server can fail
def test_a_server_that_goes_down_is_no_verdict(
    pytester: pytest.Pytester, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is an ERROR that says so; once the server is back, the run goes on with all that it has paid."""
    mended = threading.Event()

    def script(asked: Mapping[str, Any]) -> Answer:
        if len(server.requests) > 2 and not mended.is_set():
            return Answer("out of order", status=503)
        return napping(asked)

    with Loopback(script) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        first = pytester.runpytest_subprocess(*OPTIONS, "-k", "near")
        paid = server.requests[:2]
        server.requests = []
        mended.set()
        result = pytester.runpytest_subprocess(*OPTIONS, "-k", "near", "--diffbench-resume")

    first.assert_outcomes(errors=1, deselected=1)
    first.stdout.fnmatch_lines(["*failed: 503: out of order*"])
    result.assert_outcomes(passed=1, deselected=1)
    assert not [each for each in server.requests if each in paid]
