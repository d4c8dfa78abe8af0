"""The harness's own share of one timed request, and how soon a solution finds a process ready for it.

Run it as `python benchmarks/channel.py [ROUNDS]`. The candidate returns an array that it made before, so all that is
timed beyond its own few microseconds is ours: request, wake-up, copy, receipt. Other work on the machine only adds to
it, so the figure is the best round's median; the spread of all rounds stands beside it.
"""

from __future__ import annotations

import statistics
import sys
import time

from pytest_diffbench.devices import inventory
from pytest_diffbench.isolation import Sandbox, Standby, choose
from pytest_diffbench.wire import Request

READY_MADE = """
import numpy as np

def load(model, device):
    return {}

def generate(pipeline, requests):
    made = pipeline.get(requests[0].height)
    if made is None:
        made = pipeline[requests[0].height] = np.full((requests[0].height, requests[0].width, 3), 127, np.uint8)
    return [made for _ in requests]
"""
SIDES_PX = (64, 512, 1024)
CALLS = 30
"""Of each size in a round."""


def share_ms(sandbox: Sandbox, side_px: int) -> float:
    """The median milliseconds of a round's calls, after three untimed ones."""
    request = Request(prompt="", seed=0, height=side_px, width=side_px, num_inference_steps=1)
    times_s = [sandbox.generate([request], timeout_s=60).elapsed_s for _ in range(CALLS + 3)]
    return 1000 * statistics.median(times_s[3:])


def print_share(sandbox: Sandbox, rounds: int) -> None:
    """A line for each size; the sizes take turns, so that a quiet moment is each one's."""
    medians_ms = [[share_ms(sandbox, side_px) for side_px in SIDES_PX] for _ in range(rounds)]
    for side_px, medians in zip(SIDES_PX, zip(*medians_ms, strict=True), strict=True):
        low, middle, high = statistics.quantiles(medians, n=4)
        print(
            f"{side_px} x {side_px}: {min(medians):.3f} ms a request, the best of {rounds} medians of {CALLS} calls "
            f"(all medians: quartiles {low:.3f}, {middle:.3f}, {high:.3f}, worst {max(medians):.3f})"
        )


def main() -> None:
    """Print both figures, in the best tier that holds here."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    device = inventory()[0]
    standby = Standby(choose())
    ready_s = []
    for _ in range(4):
        began = time.perf_counter()
        sandbox = standby.take(device, "")
        ready_s.append(time.perf_counter() - began)
        sandbox.load(READY_MADE, model="", device="cpu", timeout_s=60)
        if len(ready_s) == 1:
            print_share(sandbox, rounds)
        sandbox.close()
        standby.prepare(device, "")
        standby.settle()  # in a run this happens while the judge works
    standby.close()
    later = ", ".join(f"{seconds:.4f}" for seconds in ready_s[1:])
    print(f"from solution text to a process ready to load it: first {ready_s[0]:.2f} s, later ones {later} s")


if __name__ == "__main__":
    main()
