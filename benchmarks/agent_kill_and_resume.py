"""A run of the agent is killed again and again, and goes on: is anything paid twice?

`python benchmarks/agent_kill_and_resume.py 20` runs `--diffbench-agent=diffagent` over a scripted server (no language
model) on a foreign project whose pipeline draws without denoising, kills it with SIGKILL at random moments, resumes it,
and counts: what the server was asked twice, and what was measured twice after it had a verdict.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pytest_diffbench import journal
from tests.agent.loopback import KEY, MODEL, Loopback
from tests.agent.naps import napping
from tests.plugin.conftest import HEAD, furnish, own_task

TASKS = 2


def main() -> None:
    """Kill, resume, count."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rng = random.Random(1)  # noqa: S311 (no secret)
    with tempfile.TemporaryDirectory() as name, Loopback(napping) as server:
        folder = Path(name)
        _furnish(folder)
        environment = os.environ | {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}
        command = [sys.executable, "-m", "pytest", "-q", "--diffbench-agent=diffagent", f"--diffbench-llm={MODEL}"]
        command += ["--diffbench-isolation=none", "--benchmark-json=run.json"]
        killed = 0
        while True:
            resumed = [*command, "--diffbench-resume"] if list(folder.glob(".diffbench/*/journal-*.jsonl")) else command
            started = subprocess.Popen(resumed, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
            if killed < kills:
                time.sleep(rng.uniform(2.0, 15.0))
                if started.poll() is None:
                    started.send_signal(signal.SIGKILL)
                    started.communicate()
                    killed += 1
                    continue
            said, _ = started.communicate()
            break
        print("\n".join(said.splitlines()[-12:]))
        _report(folder, server, killed)


def _furnish(folder: Path) -> None:
    furnish(folder)
    mark = f"@pytest.mark.diffbench({own_task()})\n@pytest.mark.speed(at_least=50)\n"
    tests = "".join(
        f"{mark}def test_{number}(executability, speed, quality):\n    '''Task {number}.'''\n\n"
        for number in range(TASKS)
    )
    (folder / "test_mine.py").write_text(f"{HEAD}{tests}")


def _report(folder: Path, server: Loopback, killed: int) -> None:
    asked = Counter(json.dumps(each, sort_keys=True) for each in server.requests)
    measured: Counter[tuple[str, str]] = Counter()
    for run in folder.glob(".diffbench/agent/*/*/*/journal/*"):
        if run.is_symlink():
            continue
        for entry in journal.read(run).entries:
            if entry.kind == "verdict":
                report: Any = entry.body["report"]
                measured[str(run), report["nodeid"]] += 1
    print(f"killed {killed} times")
    print(f"model: {sum(asked.values())} questions, {sum(count - 1 for count in asked.values())} of them asked again")
    print(f"verdicts: {sum(measured.values())}, {sum(count - 1 for count in measured.values())} of them measured again")


if __name__ == "__main__":
    main()
