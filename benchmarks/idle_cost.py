"""What the plugin costs a project that merely has it installed, and what collecting 604 tasks costs.

Run it as `python benchmarks/idle_cost.py [RUNS]`. Starts alternate, with and without the plugin; the cost is the
median of the paired differences, in processor time, which waits for nobody else. Hypothesis's own plugin is left out
of both: it takes longer than all of ours.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TASKS = """
import pytest
from pytest_diffbench import Task

TASKS = [Task("sd15", level=1, steps=steps, sampler="ddim") for steps in range(1, 605)]

@pytest.mark.parametrize("n", [pytest.param(i, marks=pytest.mark.diffbench(task)) for i, task in enumerate(TASKS)])
def test_task(n, executability, speed, quality):
    pass
"""


def start(folder: Path, *options: str) -> float:
    """Seconds of processor time that one pytest takes from start to end."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print both figures."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        without = ("-p", "no:diffbench")
        pairs = [(start(folder), start(folder, *without)) for _ in range(runs + 1)][1:]
        cost_ms = [1000 * (installed - bare) for installed, bare in pairs]
        low, middle, high = statistics.quantiles(cost_ms, n=4)
        print(f"installed but unused: {middle:.1f} ms (quartiles {low:.1f} to {high:.1f}) over {runs} pairs")
        (folder / "test_nothing.py").unlink()
        (folder / "test_tasks.py").write_text(TASKS)
        collect = [start(folder, "--collect-only", "-qq") for _ in range(6)][1:]
        (folder / "test_tasks.py").write_text("def test_nothing():\n    pass\n")
        bare = [start(folder, "--collect-only", "-qq") for _ in range(6)][1:]
        empty_s = statistics.median(bare)
        seconds = statistics.median(collect) - empty_s
        print(f"collecting 604 parametrised tasks: {seconds:.2f} s on top of an empty run's {empty_s:.2f} s")


if __name__ == "__main__":
    main()
