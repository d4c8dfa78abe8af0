"""The harness's own share of one timed request, and how soon a solution finds a process ready for it.

Run it as `python benchmarks/channel.py [CALLS]`. The candidate returns an array that it made while loading, so all
that is timed beyond its own few microseconds is ours: request, wake-up, copy, receipt.
"""

from __future__ import annotations

import statistics
import sys
import time

from pytest_diffbench.devices import inventory
from pytest_diffbench.isolation import Sandbox, Standby
from pytest_diffbench.wire import Request

READY_MADE = """
import numpy as np

def load(model, device):
    return {}

def generate(pipeline, requests):
    made = pipeline.get(requests[0].height)
    if made is None:
        made = pipeline[requests[0].height] = np.zeros((requests[0].height, requests[0].width, 3), np.uint8)
    return [made for _ in requests]
"""
SIDES_PX = (64, 512, 1024)


def share_ms(sandbox: Sandbox, side_px: int, calls: int) -> list[float]:
    """Milliseconds of each call after ten untimed ones."""
    request = Request(prompt="", seed=0, height=side_px, width=side_px, num_inference_steps=1)
    return [1000 * sandbox.generate([request], timeout_s=60).elapsed_s for _ in range(calls + 10)][10:]


def main() -> None:
    """Print both figures."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    device = inventory()[0]
    standby = Standby()
    ready_s = []
    for _ in range(4):
        began = time.perf_counter()
        sandbox = standby.take(device)
        ready_s.append(time.perf_counter() - began)
        sandbox.load(READY_MADE, model="", device="cpu", timeout_s=60)
        for side_px in SIDES_PX if len(ready_s) == 1 else ():
            times = share_ms(sandbox, side_px, calls)
            low, middle, high = statistics.quantiles(times, n=4)
            print(
                f"{side_px} x {side_px}: {middle:.3f} ms a request (quartiles {low:.3f} to {high:.3f}), {calls} calls"
            )
        sandbox.close()
        standby.prepare(device)
        standby.settle()  # in a run this happens while the judge works
    standby.close()
    later = ", ".join(f"{seconds:.4f}" for seconds in ready_s[1:])
    print(f"from solution text to a process ready to load it: first {ready_s[0]:.2f} s, later ones {later} s")


if __name__ == "__main__":
    main()
