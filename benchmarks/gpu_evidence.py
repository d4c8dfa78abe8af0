"""Does the tiny zoo rank plans as a real GPU does? The same plans, timed on real architectures and on tiny models.

`make gpu-evidence` runs it on a machine with CUDA and no checkpoints, in ten minutes or less; what was timed is in
`docs/evidence/` at once, and a run that was cut off goes on there. `python benchmarks/gpu_evidence.py --zoo tiny` times
the same plans on one core of a CPU. `--compare` prints both beside the papers' figures, and Spearman's rank correlation
of the two with its interval.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import platform
import statistics
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import torch
from diffagent import methods
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler
from scipy import stats

from pytest_diffbench.devices import inventory
from pytest_diffbench.evidence import ENOUGH_RHO
from pytest_diffbench.zoo.architectures import ARCHITECTURES, build
from pytest_diffbench.zoo.models import FAMILIES, Model
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

EVIDENCE = Path(__file__).parents[1] / "docs" / "evidence"
TINY_FILE = EVIDENCE / "tiny-cpu.json"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Plan:
    """What is changed in a pipeline."""

    name: str
    steps: int | None = None
    """DPM-Solver++ with so many; None: as it is run today."""
    half: bool = False
    applied: tuple[tuple[str, Mapping[str, object]], ...] = ()
    """Methods of `diffagent.methods`, each with its parameters."""

    def __or__(self, other: Plan) -> Plan:
        """Both."""
        return Plan(
            f"{self.name} + {other.name}",
            self.steps or other.steps,
            self.half or other.half,
            self.applied + other.applied,
        )


def _method(name: str, **parameters: object) -> Plan:
    told = ", ".join(f"{key}={value}" for key, value in parameters.items())
    return Plan(f"{name}({told})", applied=((name, parameters),))


PUBLISHED: Mapping[tuple[str, str], tuple[float, str]] = {
    ("sd15", "deepcache(interval=5)"): (2.3, "Ma et al. 2024: 2.3x on Stable Diffusion 1.5"),
    ("sd21", "deepcache(interval=3)"): (2.29, "DeepCache's repository: 2.24x to 2.33x on an A5000, 50 steps"),
    ("sd21", "deepcache(interval=5)"): (3.1, "DeepCache's repository: 3.0x to 3.2x on an A5000, 50 steps"),
    ("sdxl", "tgate(gate_step=20)"): (1.68, "Zhang et al. 2024: 53.2 s to 31.6 s, gate at 10 of 25 steps"),
    ("pixart_alpha", "tgate(gate_step=12)"): (1.68, "Zhang et al. 2024: 61.5 s to 36.7 s, gate at 15 of 25 steps"),
    ("pixart_sigma", "tgate(gate_step=12)"): (1.66, "Zhang et al. 2024: 60.5 s to 36.4 s, gate at 15 of 25 steps"),
    ("sd15", "token_merging(ratio=0.5)"): (1.87, "Bolya & Hoffman 2023, against attention without fusion"),
}
"""Speed-ups that papers and repositories state, each with its setting, which is not quite this one."""


def plans(model: Model) -> list[Plan]:
    """At least twenty: what the papers offer for this model one by one, in pairs, and in threes."""
    if model.denoiser == "unet":
        caches = [_method("deepcache", interval=interval) for interval in (2, 3, 5)]
    else:
        caches = [_method("block_reuse", interval=interval) for interval in (2, 3)]
    gate_step = 2 * model.steps // 5 if model.denoiser == "unet" else 3 * model.steps // 5
    guided = {
        "text": _method("tgate", gate_step=gate_step),
        "class": _method("guidance_window", start=0.2, stop=0.8),
    }[model.conditioning]
    merged = [_method("token_merging", ratio=ratio) for ratio in (0.3, 0.5)]
    few = model.steps * 2 // 5 if model.steps > 20 else 10
    fewer, half = Plan(f"dpm_solver(steps={few})", steps=few), Plan("float16", half=True)
    alone = [*caches, guided, *merged, fewer, half]
    second = caches[1]
    pairs = [fewer | half, fewer | guided, fewer | merged[1], half | guided, half | merged[1]]
    pairs += [second | guided, second | merged[1], *(fewer | cache for cache in caches[:2])]
    pairs += [half | cache for cache in caches[:2]]
    threes = [fewer | half | second, fewer | half | guided, fewer | half | merged[1], half | second | guided]
    return [*alone, *pairs, *threes]


def load(model: Model, zoo: str) -> Any:
    """The pipeline in float32, as it is run today."""
    if zoo == "tiny":
        pipeline = DiffusionPipeline.from_pretrained(TINY / model.name, dtype=torch.float32)
    else:
        pipeline = build(model, ARCHITECTURES[model.name], torch.float32, with_text=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cpu" if zoo == "tiny" else "cuda")


def told(model: Model, zoo: str, pipeline: Any, steps: int) -> dict[str, Any]:
    """What one image is asked for with: on real architectures, embeddings in place of words."""
    found: dict[str, Any] = {
        "num_inference_steps": steps,
        "guidance_scale": model.guidance,
        "generator": torch.Generator().manual_seed(0),
    }
    if model.conditioning == "class":
        return found | {"class_labels": [1]}
    side = 64 if zoo == "tiny" else model.size
    found |= {"height": side, "width": side}
    if model.name.startswith("pixart"):
        found["use_resolution_binning"] = False
    if zoo == "tiny":
        return found | {"prompt": "a small red star at the top left on a striped grey background"}
    architecture, denoiser = ARCHITECTURES[model.name], pipeline.components[model.denoiser]
    kind = {"device": denoiser.device, "dtype": denoiser.dtype}
    width = architecture.denoiser.get("caption_channels", architecture.denoiser["cross_attention_dim"])
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        found[name] = torch.randn(1, architecture.text_tokens, width, **kind)
    if model.name == "sdxl":
        pooled = architecture.text_encoders[-1]["projection_dim"]
        for name in ("pooled_prompt_embeds", "negative_pooled_prompt_embeds"):
            found[name] = torch.randn(1, pooled, **kind)
    if model.name.startswith("pixart"):
        found |= {"negative_prompt": None}
        for name in ("prompt_attention_mask", "negative_prompt_attention_mask"):
            found[name] = torch.ones(1, architecture.text_tokens, **kind)
    return found


def seconds(model: Model, zoo: str, pipeline: Any, plan: Plan | None) -> float:
    """What one image takes under a plan, after a short one to warm up; the pipeline is as before afterwards."""
    device, own = pipeline.components[model.denoiser].device, pipeline.scheduler
    steps = plan.steps if plan is not None and plan.steps is not None else model.steps
    half = torch.float16 if device.type == "cuda" else torch.bfloat16  # a CPU takes many times as long for float16
    if plan is not None and plan.half:
        pipeline.to(half)
    if plan is not None and plan.steps is not None:
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(own.config)
    try:
        with contextlib.ExitStack() as exits:
            for name, parameters in plan.applied if plan is not None else ():
                scaled = dict(parameters)
                if "gate_step" in scaled:  # a share of the steps that are run
                    scaled["gate_step"] = max(1, round(int(str(scaled["gate_step"])) * steps / model.steps))
                exits.enter_context(getattr(methods, name)(pipeline, **scaled))
            pipeline(**told(model, zoo, pipeline, min(4, steps)))
            _settle(device)
            began = time.perf_counter()
            pipeline(**told(model, zoo, pipeline, steps))
            _settle(device)
            return time.perf_counter() - began
    finally:
        pipeline.scheduler = own
        pipeline.to(torch.float32)


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Thrift:
    """How often is timed what: a large model takes seconds an image."""

    rounds: int
    """How often each plan is timed."""
    plans_a_plain: int
    """How many plans share one timing of the pipeline as it is; 1: there is one in every round, just before."""
    budget_s: float = math.inf
    """No plan is begun after so many seconds."""


ON_A_GPU = Thrift(rounds=1, plans_a_plain=8, budget_s=540)
ON_A_CPU = Thrift(rounds=5, plans_a_plain=1)


def measure(models: Sequence[Model], zoo: str, file: Path, thrift: Thrift, most: int | None = None) -> bool:
    """Time what the file does not hold yet, and keep each plan there as soon as it is timed; False: not all of them."""
    kept: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"machine": machine(zoo), "plans": []}
    began = time.monotonic()
    for model in models:
        known = {entry["plan"] for entry in kept["plans"] if entry["model"] == model.name}
        missing = [plan for plan in plans(model)[:most] if plan.name not in known]
        pipeline = load(model, zoo) if missing else None
        for count, plan in enumerate(missing):
            if time.monotonic() - began > thrift.budget_s:
                return False
            pairs = []
            for _ in range(thrift.rounds):
                if count % thrift.plans_a_plain == 0:
                    plain_s = seconds(model, zoo, pipeline, None)
                pairs.append((plain_s, seconds(model, zoo, pipeline, plan)))
            speedup = statistics.median(plain / planned for plain, planned in pairs)
            entry = {"model": model.name, "plan": plan.name, "speedup": speedup}
            kept["plans"].append(
                entry | {"plain_s": [pair[0] for pair in pairs], "plan_s": [pair[1] for pair in pairs]}
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(kept, indent=1) + "\n")
            print(f"{model.name:<13} {plan.name:<68} {pairs[-1][0]:8.3f} s {speedup:6.2f}x", flush=True)
        del pipeline
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return True


def machine(zoo: str) -> dict[str, str]:
    """What the figures depend on."""
    name = inventory()[0].model if zoo == "tiny" else torch.cuda.get_device_name(0)
    versions = {library: version(library) for library in ("torch", "diffusers", "transformers")}
    return {"device": name, "python": platform.python_version(), **versions}


def compare(real: Path, tiny: Path) -> float:
    """Print both beside the published figures; rho over all plans."""
    ours, theirs = (_speedups(file) for file in (tiny, real))
    both = [key for key in theirs if key in ours]
    print("| model | plan | real, GPU | tiny, CPU | published |\n|---|---|---|---|---|")
    for key in both:
        stated, source = PUBLISHED.get(key, (None, ""))
        published = f"{stated:.2f} ({source})" if stated is not None else ""
        print(f"| {key[0]} | {key[1]} | {theirs[key]:.2f} | {ours[key]:.2f} | {published} |")
    for name in [*dict.fromkeys(model for model, _ in both), "all"]:
        chosen = [key for key in both if name in (key[0], "all")]
        rho, low, high = correlation([theirs[key] for key in chosen], [ours[key] for key in chosen])
        verdict = "enough" if rho >= ENOUGH_RHO else "not enough"
        print(f"{name}: Spearman's rho {rho:.2f} [{low:.2f}, {high:.2f}] over {len(chosen)} plans: {verdict}")
    return rho


def correlation(some: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """Spearman's rho and its bootstrap interval (percentiles, pairs resampled)."""
    rho = _rho(np.array(some, dtype=np.float64), np.array(others, dtype=np.float64))
    resampled = stats.bootstrap(
        (np.array(some, dtype=np.float64), np.array(others, dtype=np.float64)),
        _rho,
        paired=True,
        vectorized=False,
        method="percentile",
        confidence_level=CONFIDENCE,
        rng=np.random.default_rng(0),
        n_resamples=2000,
    )
    return rho, float(resampled.confidence_interval.low), float(resampled.confidence_interval.high)


def _rho(some: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    return float(stats.spearmanr(some, others).statistic)


def _speedups(file: Path) -> dict[tuple[str, str], float]:
    return {(entry["model"], entry["plan"]): entry["speedup"] for entry in json.loads(file.read_text())["plans"]}


def gpu_files() -> Iterator[Path]:
    """What GPUs have timed."""
    return (file for file in sorted(EVIDENCE.glob("*.json")) if file != TINY_FILE)


def main() -> None:
    """Time, or compare what was timed."""
    parser = argparse.ArgumentParser(description=__doc__)
    known = {model.name: model for model in FAMILIES}
    parser.add_argument("models", nargs="*", help="names of the zoo (default: all)")
    parser.add_argument("--zoo", choices=("architecture", "tiny"), default="architecture")
    parser.add_argument("--file", type=Path, help="where figures are kept (default: docs/evidence/DEVICE.json)")
    parser.add_argument("--most", type=int, help="plans of each model (default: all)")
    parser.add_argument("--compare", action="store_true", help="time nothing; print what every file says")
    asked = parser.parse_args()
    diffusers.utils.logging.set_verbosity_error()
    if asked.compare:
        for file in [asked.file] if asked.file is not None else gpu_files():
            print(f"{file.name} beside {TINY_FILE.name}")
            compare(file, TINY_FILE)
        return
    if asked.zoo == "architecture" and not torch.cuda.is_available():
        parser.exit(1, "no CUDA device here: nothing is timed, and nothing is extrapolated\n")
    if asked.zoo == "tiny":
        torch.set_num_threads(1)
    name = machine(asked.zoo)["device"].replace(" ", "-").lower()
    file = asked.file or (TINY_FILE if asked.zoo == "tiny" else EVIDENCE / f"{name}.json")
    thrift = ON_A_CPU if asked.zoo == "tiny" else ON_A_GPU
    if not measure([known[name] for name in asked.models or known], asked.zoo, file, thrift, asked.most):
        print(f"ten minutes are nearly over: what was timed is in {file}; the same command goes on there")
        return
    if asked.zoo == "architecture" and TINY_FILE.is_file():
        compare(file, TINY_FILE)


if __name__ == "__main__":
    main()
