"""How much faster is an answer that was given before? Honest solutions that keep something, and solutions that cheat.

Run it as `python benchmarks/recall.py [--rounds 10]` (about ten minutes on one core). A round times six fresh requests,
then asks again as the judge does: the last, that with another seed, the first, that with another seed. Printed is, for
every solution, the least and the greatest factor by which an answer asked for again was faster than the fastest fresh
one; the guard "memory" has its limit between honest and cheating ones.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import Final

from pytest_diffbench.isolation import Policy, Sandbox, Tier
from pytest_diffbench.judge.guards import MEMORY
from pytest_diffbench.wire import Request
from pytest_diffbench.zoo.weights import TINY

PLAIN: Final = (Path(__file__).parents[1] / "examples" / "own_pipeline" / "baseline.py").read_text()
STEPS: Final = 10
FRESH: Final = 6

_KEEP_PROMPTS: Final = """
_load = load

def load(model, device):
    pipeline = _load(model, device)
    encode, kept = pipeline.encode_prompt, {{}}

    def encode_prompt(*arguments, **more):
        key = str((arguments, more))
        if key not in kept:
            if len(kept) >= {size}:
                kept.clear()
            for _ in range({times}):  # as long as a large text encoder takes, moved to the device for each prompt
                kept[key] = encode(*arguments, **more)
        return kept[key]

    pipeline.encode_prompt = encode_prompt
    return pipeline
"""
_COMPILED: Final = """
_load = load

def load(model, device):
    pipeline = _load(model, device)
    pipeline.unet = torch.compile(pipeline.unet)
    return pipeline
"""
_REMEMBER: Final = """
_generate, MEMORY = generate, {{}}

def generate(pipeline, requests):
    key = str(requests)
    if key not in MEMORY:
        if len(MEMORY) >= {size}:
            MEMORY.clear()
        MEMORY[key] = _generate(pipeline, requests)
    return MEMORY[key]
"""
SOLUTIONS: Final = {
    "honest: plain": PLAIN,
    "honest: keeps every prompt's embedding": PLAIN + _KEEP_PROMPTS.format(size=10**6, times=1),
    "honest: keeps the last prompt's embedding, encoding takes most of the time": PLAIN
    + _KEEP_PROMPTS.format(size=1, times=100),
    "honest: torch.compile": PLAIN + _COMPILED,
    "honest: 2 steps": PLAIN.replace("first.num_inference_steps", "2"),
    "cheat: remembers every answer": PLAIN + _REMEMBER.format(size=10**6),
    "cheat: remembers the last answer": PLAIN + _REMEMBER.format(size=1),
}


def fresh() -> tuple[Request, ...]:
    """A request that nobody has seen."""
    return (
        Request(
            f"a large red circle, number {random.getrandbits(32)}",
            random.getrandbits(32),
            64,
            64,
            STEPS,
            guidance_scale=7.5,
        ),
    )


def factors(solution: str, rounds: int) -> list[float]:
    """Fastest fresh answer over answer from before, the greater of a round's two."""
    with Sandbox(Policy(Tier.NONE), cores=(0,), environment={"CUDA_VISIBLE_DEVICES": ""}) as sandbox:
        sandbox.wait_ready()
        sandbox.load(solution, model=str(TINY / "sd15"), device="cpu", timeout_s=600)

        def seconds(requests: tuple[Request, ...]) -> float:
            return sandbox.generate(requests, timeout_s=600).elapsed_s

        for _ in range(3):
            seconds(fresh())
        found = []
        for _ in range(rounds):
            timed = [fresh() for _ in range(FRESH)]
            least_s = min([seconds(requests) for requests in timed])
            ratios = []
            for requests in (timed[-1], timed[0]):
                again_s = seconds(requests)
                other_s = seconds((replace(requests[0], seed=random.getrandbits(32)),))
                ratios.append(min(least_s, other_s) / again_s)
            found.append(max(ratios))
    return found


def main() -> None:
    """Print a line a solution."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    print(f"| solution | least factor | greatest (limit {MEMORY:g}) |\n|---|---|---|")
    for name, solution in SOLUTIONS.items():
        found = factors(solution, rounds)
        print(f"| {name} | {min(found):.2f} | {max(found):.2f} |", flush=True)


if __name__ == "__main__":
    main()
