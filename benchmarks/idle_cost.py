"""What the plugin costs a project that merely has it installed, and what collecting the 604 tasks costs.

Run it as `python benchmarks/idle_cost.py [RUNS]`. Each pytest runs in a fork of a process that has imported pytest and
the plugins which run either way, so that what is measured is little else than ours; forks alternate, with and without
the plugin, and the cost is the median of the paired differences in processor time, which waits for nobody else, with
the quartiles and a 95 % interval of the median.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
from pathlib import Path

import pytest
import pytest_benchmark.plugin
import xdist.plugin
from scipy import stats

PRELOADED = (pytest_benchmark.plugin, xdist.plugin)
SUITES = Path(__file__).parents[1] / "suites"


def start(folder: Path, *options: str) -> float:
    """Seconds of processor time that one pytest takes from start to end.

    Raises:
        RuntimeError: it ended with another status than "all passed".
    """
    child = os.fork()
    if not child:
        os.chdir(folder)
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            status = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *options])
        os._exit(status)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"pytest {' '.join(options)} in {folder} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print both figures."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        without = ("-p", "no:diffbench")
        pairs = [(start(folder), start(folder, *without)) for _ in range(runs + 1)][1:]
        cost_ms = sorted(1000 * (installed - bare) for installed, bare in pairs)
        low, middle, high = statistics.quantiles(cost_ms, n=4)
        rank = int(stats.binom.ppf(0.025, runs, 0.5))  # sign test
        print(f"installed but unused: {middle:.1f} ms (95 % interval {cost_ms[rank - 1]:.1f} to {cost_ms[-rank]:.1f},")
        print(f"    quartiles {low:.1f} to {high:.1f}) over {runs} pairs")
        bare = [start(folder, "--collect-only", "-qq") for _ in range(6)][1:]
        collect = [start(SUITES.parent, "--collect-only", "-qq", "suites") for _ in range(6)][1:]
        empty_s = statistics.median(bare)
        seconds = statistics.median(collect) - empty_s
        print(f"collecting the 604 tasks: {seconds:.2f} s on top of an empty run's {empty_s:.2f} s")


if __name__ == "__main__":
    main()
