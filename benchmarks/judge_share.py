"""What share of the tasks' wall time did the judge take? Read from the file of a run.

Run it as `python benchmarks/judge_share.py diffbench.json` after `make bench`. The judge's seconds are those in which
it looked at images (its models are loaded once a worker, which is counted apart); a task's wall time is that of its
stages.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path


def main() -> None:
    """Print the share over all judged tasks, and the task with the largest."""
    tasks = json.loads(Path(sys.argv[1]).read_text())["diffbench"]
    judged = [task for task in tasks if task["quality"] is not None]
    shares = {}
    for task in judged:
        wall_s = sum(stage["elapsed_s"] for stage in task["stages"])
        shares[task["nodeid"]] = task["quality"]["judge_s"] / wall_s
    total = sum(task["quality"]["judge_s"] for task in judged)
    wall = sum(stage["elapsed_s"] for task in judged for stage in task["stages"])
    worst = max(shares, key=lambda nodeid: shares[nodeid])
    middle = statistics.median(shares.values())
    print(f"{len(judged)} tasks, {wall:.0f} s: judging took {total / wall:.1%} (median {middle:.1%})")
    print(f"most: {shares[worst]:.1%} in {worst}")


if __name__ == "__main__":
    main()
