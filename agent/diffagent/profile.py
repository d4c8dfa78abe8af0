"""Where the time of one image goes today, and what the pipeline is: measured once a task, in a process of its own.

The baseline is trusted code, so it runs here as it is; like any measurement it holds a device meanwhile. `observe` asks
for it, `main` is the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections import defaultdict
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from diffagent import leash, store
from pytest_diffbench.devices import inventory, lease
from pytest_diffbench.errors import SetupError
from pytest_diffbench.records import RequestSet
from pytest_diffbench.requests import sources
from pytest_diffbench.wire import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_diffbench.demand import Demand
    from pytest_diffbench.devices import Device
    from pytest_diffbench.zoo.supply import Weights

LAYERS: Final = {"attn1": "self_attention", "attn2": "cross_attention", "ff": "feed_forward"}
"""What diffusers calls the branches of a transformer block, and what they are."""
REST: Final = "rest"
TIMEOUT_S: Final = 600.0
FOLDER: Final = "profiles"
"""Beside the runs: they are theirs together."""
_MOST_MODULES: Final = 60
"""Lines of a module tree; a planner needs its shape, not every layer."""


@dataclass(frozen=True)
class Part:
    """A share of an image's time that no other part has."""

    depth: str
    """'deep': below a U-Net's outermost layers; 'outer': the rest of a denoiser; 'outside': not the denoiser."""
    layer: str
    """self_attention, cross_attention, feed_forward or rest of a denoiser; text_encoder, vae or overhead outside."""
    seconds: float


class Profile(BaseModel):
    """What was seen of the baseline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parts: tuple[Part, ...] = ()
    """None where the baseline is no pipeline of diffusers, so that nobody could look inside."""
    pipeline_class: str = ""
    denoiser_class: str = ""
    signature: str = ""
    """Of the pipeline's call."""
    modules: str = ""
    """Its components, and the outline of the denoiser."""

    @property
    def seconds(self) -> float:
        """Of one image."""
        return sum(part.seconds for part in self.parts)

    @property
    def table(self) -> list[tuple[str, float]]:
        """Every part that takes a hundredth or more, as words and share, the largest first."""
        shares = [(f"{part.layer} ({part.depth})", part.seconds / self.seconds) for part in self.parts if part.seconds]
        return sorted((each for each in shares if each[1] >= 0.01), key=lambda each: -each[1])


def kept(folder: Path, demand: Demand, weights: Weights, source: str, devices: Sequence[Device]) -> Profile:
    """The profile of a task's baseline, observed once for all runs: what is decided by it is decided again the same.

    SetupError where it cannot be had.
    """
    task, names = demand.task, [device.name for device in devices]
    asked = [weights.revision, source, devices[0].model, demand.steps, demand.size, demand.sampler, demand.guidance]
    versions = [version(name) for name in ("pytest-diffbench", "torch", "diffusers", "transformers")]
    facts = json.dumps([*versions, *asked, task.batch, task.strength])
    file = store.place(folder / FOLDER, hashlib.sha256(facts.encode()).hexdigest())
    if (known := _read(file)) is not None:
        return known
    with store.alone(file):
        if (known := _read(file)) is None:  # else it came while this one waited
            known = observe(demand, weights, source, names)
            store.write(file, known.model_dump_json())
        return known


def _read(file: Path) -> Profile | None:
    try:
        return Profile.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def observe(demand: Demand, weights: Weights, source: str, device_names: Sequence[str] = ()) -> Profile:
    """The profile of a task's baseline on the first of these devices that is free; SetupError where it fails."""
    request = sources(demand, weights, "profile", RequestSet.PUBLIC)("profile")
    asked = {
        "source": source,
        "model": str(weights.path),
        "devices": list(device_names),
        "requests": [_told(each) for each in request.batch()],
    }
    started = subprocess.Popen(
        leash.tied([sys.executable, "-m", __name__]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, failed = started.communicate(json.dumps(asked), TIMEOUT_S)
    except BaseException as error:
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise SetupError(f"diffagent: the baseline could not be profiled: it took over {TIMEOUT_S:g} s") from None
    if started.returncode:
        raise SetupError(f"diffagent: the baseline could not be profiled: {failed.strip()[-1000:]}")
    return Profile.model_validate_json(said.splitlines()[-1])


def _told(request: Request) -> dict[str, object]:
    told = {name: value for name, value in vars(request).items() if name != "image"}
    return told | {"image": _as_bytes(request.image) if request.image is not None else None}


def _as_bytes(image: Any) -> dict[str, object]:
    return {"size": list(image.size), "hex": image.tobytes().hex()}


def _request(told: dict[str, Any]) -> Request:
    # imported here: an image library, where there is an image
    from PIL import Image

    image = told.pop("image")
    made = Image.frombytes("RGB", tuple(image["size"]), bytes.fromhex(image["hex"])) if image is not None else None
    return Request(**told, image=made)


# -- in the process ----------------------------------------------------------------------------------------------------


class Watch:
    """Times of the parts of a pipeline's call, by hooks; what lies inside another part is taken from it."""

    def __init__(self, pipeline: Any, settle: Callable[[], None]) -> None:
        self._pipeline = pipeline
        self._settle = settle
        self._began: dict[int, float] = {}
        self.inclusive: defaultdict[tuple[str, str], float] = defaultdict(float)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """While the pipeline is called."""
        with contextlib.ExitStack() as exits:
            for module, key in self._modules():
                before = module.register_forward_pre_hook(lambda each, *_: self._begin(each))
                after = module.register_forward_hook(lambda each, *_, key=key: self._end(each, key))
                exits.callback(before.remove)
                exits.callback(after.remove)
            vae = getattr(self._pipeline, "vae", None)
            for name in ("encode", "decode") if vae is not None else ():
                exits.enter_context(self._around(vae, name))
            yield

    def _modules(self) -> Iterator[tuple[Any, tuple[str, str]]]:
        for name, part in self._pipeline.components.items():
            if name.startswith("text_encoder") and part is not None:
                yield part, ("outside", "text_encoder")
        model = denoiser_of(self._pipeline)
        if model is None:
            return
        yield model, ("denoiser", "")
        for path, module in model.named_modules():
            layer = LAYERS.get(path.rpartition(".")[2])
            if layer is not None:
                yield module, ("deep" if is_deep(model, path) else "outer", layer)
            elif _is_deep_whole(model, path):
                yield module, ("deep", "")

    @contextlib.contextmanager
    def _around(self, owner: Any, name: str) -> Iterator[None]:
        method = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._begin(method)
            try:
                return method(*args, **kwargs)
            finally:
                self._end(method, ("outside", "vae"))

        setattr(owner, name, timed)
        try:
            yield
        finally:
            delattr(owner, name)

    def _begin(self, thing: object) -> None:
        self._settle()
        self._began[id(thing)] = time.perf_counter()

    def _end(self, thing: object, key: tuple[str, str]) -> None:
        self._settle()
        self.inclusive[key] += time.perf_counter() - self._began.pop(id(thing))

    def parts(self, total_s: float) -> tuple[Part, ...]:
        """Shares that do not overlap, and sum up to the whole call."""
        found = self.inclusive
        leaves = {(depth, layer): found[depth, layer] for depth in ("deep", "outer") for layer in LAYERS.values()}
        deep = found["deep", ""]
        within_deep = sum(seconds for (depth, _), seconds in leaves.items() if depth == "deep")
        within_outer = sum(seconds for (depth, _), seconds in leaves.items() if depth == "outer")
        leaves["deep", REST] = max(0.0, deep - within_deep)
        leaves["outer", REST] = max(0.0, found["denoiser", ""] - deep - within_outer)
        outside = {("outside", name): found["outside", name] for name in ("text_encoder", "vae")}
        known = sum(leaves.values()) + sum(outside.values())
        outside["outside", "overhead"] = max(0.0, total_s - known)
        return tuple(Part(depth, layer, seconds) for (depth, layer), seconds in (leaves | outside).items())


def denoiser_of(pipeline: Any) -> Any:
    """A pipeline's U-Net or transformer, or None."""
    return next((part for name in ("unet", "transformer") if (part := getattr(pipeline, name, None)) is not None), None)


def is_deep(model: Any, path: str) -> bool:
    """Whether a module lies below the shallowest skip of a U-Net: what DeepCache may leave out (Ma et al. 2024).

    Of the last block upwards that is all but its last layer; lists of modules, which nobody calls, are nowhere.
    """
    if not hasattr(model, "up_blocks"):
        return False
    block, *inside = path.split(".")
    if block == "mid_block":
        return True
    if block not in ("down_blocks", "up_blocks") or not inside:
        return False
    if block == "down_blocks" or inside[0] != str(len(model.up_blocks) - 1):
        return True
    kept = [[kind, str(len(model.up_blocks[-1].resnets) - 1)] for kind in ("resnets", "attentions")]
    return len(inside) > 2 and inside[1:3] not in kept


def _is_deep_whole(model: Any, path: str) -> bool:
    """Whether a module is one of those that together are all that is deep, none inside another."""
    return is_deep(model, path) and not is_deep(model, path.rpartition(".")[0])


def _pipeline_in(loaded: Any) -> Any:
    """What of a baseline's `load` is a pipeline of diffusers; None where nothing is."""
    from diffusers import DiffusionPipeline

    held = (
        list(loaded.values()) if isinstance(loaded, dict) else list(loaded) if isinstance(loaded, (list, tuple)) else []
    )
    held += list(getattr(loaded, "__dict__", {}).values())
    return next((thing for thing in (loaded, *held) if isinstance(thing, DiffusionPipeline)), None)


def _of_anything(loaded: Any) -> Profile:
    """What can be said of what is no pipeline of diffusers: the models that it holds, and how it is called."""
    held = loaded if isinstance(loaded, dict) else getattr(loaded, "__dict__", {})
    models = {str(name): part for name, part in held.items() if hasattr(part, "named_modules")}
    if not models:
        return Profile()
    largest = max(models.values(), key=lambda model: sum(weight.numel() for weight in model.parameters()))
    return Profile(
        pipeline_class=type(loaded).__name__,
        denoiser_class=type(largest).__name__,
        signature=str(inspect.signature(loaded)) if callable(loaded) else "",
        modules=outline(models, largest),
    )


def outline(components: Mapping[str, Any], model: Any) -> str:
    """The components of a pipeline with their sizes, and the blocks of its denoiser."""
    lines = []
    for name, part in components.items():
        weights = f", {sum(w.numel() for w in part.parameters()):,} parameters" if hasattr(part, "parameters") else ""
        lines.append(f"pipeline.{name}: {type(part).__name__}{weights}")
    for path, module in model.named_modules() if model is not None else ():
        if path and path.count(".") <= 2 and not any(each.isdigit() and int(each) for each in path.split(".")):
            children = f" x {len(module)}" if type(module).__name__ == "ModuleList" else ""
            lines.append(f"  {path}: {type(module).__name__}{children}")
    more = len(lines) - _MOST_MODULES
    return "\n".join(lines[:_MOST_MODULES] + ([f"  … and {more} more"] if more > 0 else []))


def main() -> None:
    """Read what is asked from standard input, profile, and print the answer as one line of JSON."""
    asked = json.loads(sys.stdin.read())
    with lease(inventory(asked["devices"])) as device:
        os.environ.update(device.environment)
        if device.cores:
            os.sched_setaffinity(0, device.cores)
        # imported here: it must see the device's environment
        import torch

        if device.kind == "cpu":
            torch.set_num_threads(1)
        print(json.dumps(_profile(asked, device.torch_device).model_dump(), default=asdict))


def _profile(asked: dict[str, Any], device: str) -> Profile:
    import torch

    def settle() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    module = types.ModuleType("baseline")
    exec(compile(asked["source"], "baseline.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 (trusted: ours, or the user's own)
    loaded = module.load(asked["model"], device)
    requests = [_request(told) for told in asked["requests"]]
    list(module.generate(loaded, requests))
    pipeline = _pipeline_in(loaded)
    if pipeline is None:
        return _of_anything(loaded)
    watch = Watch(pipeline, settle)
    with watch.watching():
        settle()
        began = time.perf_counter()
        list(module.generate(loaded, requests))
        settle()
        total_s = time.perf_counter() - began
    return Profile(
        parts=watch.parts(total_s),
        pipeline_class=type(pipeline).__name__,
        denoiser_class=type(denoiser_of(pipeline)).__name__,
        signature=str(inspect.signature(pipeline.__call__)),
        modules=outline(pipeline.components, denoiser_of(pipeline)),
    )


if __name__ == "__main__":
    main()
