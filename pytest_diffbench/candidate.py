"""The child's side: runs inside the process that untrusted code lives in.

It imports nothing of ours but `wire` and `observation`. Whatever it says is untrusted once a solution has run. It has
no clock, no secret and no expectation.
"""

from __future__ import annotations

import functools
import gc
import importlib
import itertools
import linecache
import os
import socket
import sys
import traceback
import types
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pytest_diffbench import observation, wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SOURCE_NAME: Final = "solution.py"
_WITH_REQUESTS: Final = (wire.GENERATE, wire.DESCRIBE, wire.WATCH)


class ContractBroken(Exception):
    """A solution returned something else than it promised."""


class Solution:
    """A loaded solution: its module's two functions, and what `load` returned."""

    def __init__(self, source: str, model: str, device: str) -> None:
        module = types.ModuleType("solution")
        module.__file__ = SOURCE_NAME
        sys.modules["solution"] = module
        linecache.cache[SOURCE_NAME] = (len(source), None, source.splitlines(keepends=True), SOURCE_NAME)
        code = compile(source, SOURCE_NAME, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 (this process exists to do so)
        self._module = module
        self._met: list[object] = []
        """Denoisers that were called while it was observed."""
        self.generate = module.generate
        self.pipeline = module.load(model, device)

    def images(self, requests: Sequence[wire.Request]) -> list[memoryview]:
        """Each request's pixels as height * width * 3 bytes."""
        answer = self.generate(self.pipeline, requests)
        if isinstance(answer, (str, bytes)) or not hasattr(answer, "__iter__"):
            raise ContractBroken(f"generate returned {_name(answer)}; expected a list of {len(requests)} images")
        images = list(itertools.islice(answer, len(requests) + 1))
        if len(images) != len(requests):
            raise ContractBroken(f"generate returned {len(images)} images for {len(requests)} requests")
        return [_pixels(image, request) for image, request in zip(images, requests, strict=True)]

    def describe(self, requests: Sequence[wire.Request], *, count_flops: bool = True) -> bytes:
        """What can be seen of the pipeline from outside its own code, as an encoded record.

        With requests, they are answered once and their call is observed. What goes wrong on the way is not its fault:
        then there is nothing to see.
        """
        seen: dict[str, Any] = {}
        try:
            if requests:
                roots = (self.pipeline, self.generate, self._module.__dict__)
                call = functools.partial(self.images, requests)
                seen = (
                    observation.observe(roots, call, self._met) if count_flops else observation.watch(self._met, call)
                )
        except BaseException:  # noqa: BLE001 (nothing a solution raises while observed may fail it)
            seen = {}
        try:
            return replace(self._attributes(), **seen).encode()
        except BaseException:  # noqa: BLE001 (names and numbers are the solution's objects)
            return wire.Record().encode()

    def _attributes(self) -> wire.Record:
        pipelines = sys.modules.get("diffusers.pipelines.pipeline_utils")
        for thing in _reachable(self.pipeline) if pipelines is not None else ():
            if isinstance(thing, pipelines.DiffusionPipeline):  # type: ignore[union-attr]
                scheduler = getattr(thing, "scheduler", None)
                denoiser = getattr(thing, "unet", None)  # compiled, it has no truth: its length raises
                denoiser = denoiser if denoiser is not None else getattr(thing, "transformer", None)
                return wire.Record(
                    pipeline_class=_class_of(thing),
                    scheduler_class=_class_of(scheduler) if scheduler is not None else "",
                    dtype=_dtype(denoiser),
                    num_inference_steps=int(getattr(scheduler, "num_inference_steps", None) or 0),
                )
        return wire.Record()


def _class_of(thing: object) -> str:
    """The class of diffusers that it is of, whatever it calls itself; a class of the solution's own says so."""
    name = observation.class_name(thing)
    derived = name not in ("", "DiffusionPipeline", "SchedulerMixin", "ConfigMixin")
    return name if derived else f"own.{type(thing).__name__}"


def _dtype(denoiser: Any) -> str:
    """Of its weights, not of what it says; '' where there are none."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(denoiser, torch.nn.Module):
        return ""
    kinds = [weight.dtype for weight in torch.nn.Module.parameters(denoiser) if weight.is_floating_point()]
    return str(kinds[0]).removeprefix("torch.") if kinds else ""


def _reachable(thing: object) -> Iterator[object]:
    """The object itself, then what it holds directly."""
    yield thing
    if isinstance(thing, dict):
        yield from thing.values()
    elif isinstance(thing, (list, tuple)):
        yield from thing
    else:
        yield from getattr(thing, "__dict__", {}).values()


def _name(thing: object) -> str:
    kind = type(thing)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.split('.')[0]}.{kind.__name__}"


def _pixels(image: object, request: wire.Request) -> memoryview:
    import numpy as np  # imported before any solution ran; a name here would be its to change
    from PIL import Image

    size = (request.height, request.width, 3)
    expected = f"expected a PIL image or a uint8 array of shape {size}"
    if isinstance(image, Image.Image):
        array = np.asarray(image.convert("RGB"))
    elif isinstance(image, np.ndarray):
        array = image
    else:
        raise ContractBroken(f"generate returned {_name(image)} for an image; {expected}")
    if array.dtype != np.uint8:
        unusual = " with NaN or infinity" if array.dtype.kind == "f" and not np.isfinite(array).all() else ""
        raise ContractBroken(f"generate returned an array of {array.dtype}{unusual}; {expected}")
    if array.shape != size:
        raise ContractBroken(f"generate returned an image of shape {array.shape}; {expected}")
    return np.ascontiguousarray(array).data.cast("B")


def _fault(error: BaseException) -> bytes:
    """A FAULT's payload: one line of summary, then the traceback."""
    if isinstance(error, ContractBroken):
        code, text = wire.BROKE_CONTRACT, str(error)
    else:
        code = wire.RAISED
        try:
            text = f"{_summary(error)}\n" + "".join(traceback.format_exception(error))
        except BaseException as second:  # noqa: BLE001 (its own words for itself can raise too)
            text = f"{type(error).__name__}, and describing it raised {type(second).__name__}"
    data = text.encode("utf-8", "replace")
    if len(data) > wire.FAULT_LIMIT:  # keep the summary and the end, where the error is
        data = data[:1000] + b"\n...\n" + data[-(wire.FAULT_LIMIT - 1005) :]
    return code + wire.LENGTH.pack(len(data)) + data


def _summary(error: BaseException) -> str:
    """One line: what was raised, and where in the solution."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == SOURCE_NAME]
    line, message = frames[-1].lineno if frames else None, str(error)
    if isinstance(error, SyntaxError) and error.filename == SOURCE_NAME:
        line, message = error.lineno, error.msg
    where = f" ({SOURCE_NAME} line {line})" if line else ""
    return f"{type(error).__name__}: {' '.join(message.split())[:300]}{where}"


def serve(channel: socket.socket) -> None:
    """Answer messages until the parent has gone."""
    solution: Solution | None = None
    while True:
        try:
            kind, nonce, body = wire.receive_message(channel)
            requests = wire.receive_requests(channel, body) if kind in _WITH_REQUESTS else []
        except EOFError:
            return
        try:
            if kind == wire.LOAD and isinstance(body, dict):
                solution = Solution(body["source"], body["model"], body["device"])
                reply: list[bytes | memoryview] = [wire.LOADED]
            elif kind == wire.GENERATE and solution is not None:
                reply = [wire.IMAGES, *solution.images(requests)]
            elif kind in (wire.DESCRIBE, wire.WATCH) and solution is not None:
                reply = [wire.RECORD, solution.describe(requests, count_flops=kind == wire.DESCRIBE)]
            else:
                reply = [wire.FAULT, _fault(ContractBroken(f"message {kind!r} out of order"))]
        except BaseException as error:  # noqa: BLE001 (whatever a solution raises is an answer)
            reply = [wire.FAULT, _fault(error)]
        wire.send(channel, [nonce, *reply])


def prepare(names: Sequence[str]) -> None:
    """Import what any solution needs; where that was done before a fork, there is nothing left to do."""
    gc.disable()  # it would search a heap that only grows, again and again: a sixth of the time
    for name in names:
        importlib.import_module(name)
    gc.freeze()  # nor shall it search that later, while a call is timed, or copy what a fork shares
    gc.enable()


def main(descriptor: int, prepared: Sequence[str]) -> None:
    """Import what any solution needs, say READY, serve."""
    channel = socket.socket(fileno=descriptor)
    prepare(prepared)
    if "torch" in sys.modules and "OMP_NUM_THREADS" in os.environ:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    channel.sendall(wire.READY)
    serve(channel)
