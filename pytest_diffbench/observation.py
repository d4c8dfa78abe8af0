"""One call of a solution, looked at from inside its process: what its denoiser was asked, and the FLOPs of all of it.

Runs on the child's side. It imports torch and diffusers only where the solution has, changes nothing that outlives the
call, and finds nothing rather than fail: whatever cannot be observed is 0 or empty.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
import threading
import types
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST_OBJECTS: Final = 5000
"""Where the search for a denoiser ends."""
DEEPEST: Final = 5
_ARCHITECTURES: Final = ("UNet", "Transformer")
_PLAIN_LAYERS: Final = ("torch.nn.modules.", "diffusers.", "transformers.")
"""Modules of these hold their weights as parameters; quantised ones elsewhere may not."""
_COUNTED_NAMESPACES: Final = ("aten", "prim", "prims", "profiler")
_OPAQUE: Final = (type, types.ModuleType, str, bytes, int, float, complex, type(None))


def observe(roots: Iterable[object], call: Callable[[], object], met: list[Any]) -> dict[str, Any]:
    """Fields of `wire.Record` that one `call` shows; `roots` are where the solution may hold its denoiser.

    The denoisers that were called are added to `met`. Raises what `call` raises; then nothing was observed.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    known = denoisers(roots)
    try:
        watched = _Watched(torch, known)
        counter = _flop_counter(torch, watched)
        with watched, _eager(torch), counter:
            call()
        counted = {
            "flops": float(counter.get_total_flops()),
            "denoiser_flops": float(counter.denoiser_flops),
            "attention_tokens": counter.attention_tokens,
        }
    except BaseException:  # noqa: BLE001 (who cannot stand being counted is watched all the same)
        watched = _Watched(torch, known)
        seen = watched.during(call)
        met += watched.called
        return seen
    met += watched.called
    # in another thread, or by another library's operations, nothing is counted: too few is worse than none
    return watched.seen() if counter.blind or watched.elsewhere else {**watched.seen(), **counted}


def watch(met: Iterable[Any], call: Callable[[], object]) -> dict[str, Any]:
    """What `observe` finds, but for FLOPs, of the denoisers that it met: in the time that a call takes anyway.

    What looks at every module that is called, to meet denoisers, costs a tenth on a model of many small ones.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    return _Watched(torch, list(met), everywhere=False).during(call)


def denoisers(roots: Iterable[object]) -> list[Any]:
    """The diffusers UNets and transformers within reach of these objects, each once, without torch.compile's shell."""
    if "diffusers.models.modeling_utils" not in sys.modules:
        return []
    found: dict[int, Any] = {}
    waiting = deque((root, 0) for root in roots)
    seen: dict[int, object] = {}  # holds what it has seen: the id of a thing that has gone may be another's
    while waiting and len(seen) < MOST_OBJECTS:
        thing, depth = waiting.popleft()
        thing = getattr(thing, "__dict__", {}).get("_modules", {}).get("_orig_mod", thing)
        if isinstance(thing, _OPAQUE) or id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if _is_denoiser(thing):
            found[id(thing)] = thing
        elif depth < DEEPEST:
            waiting.extend((held, depth + 1) for held in itertools.islice(_held_by(thing), MOST_OBJECTS))
    return list(found.values())


def _held_by(thing: object) -> Iterator[object]:
    if isinstance(thing, dict):
        yield from thing.values()
    elif isinstance(thing, (list, tuple, set, frozenset)):
        yield from thing
    elif isinstance(thing, types.FunctionType):
        yield from (cell.cell_contents for cell in thing.__closure__ or () if _filled(cell))
    elif isinstance(thing, types.MethodType):
        yield thing.__self__
    elif _of_the_solution(thing):
        yield from getattr(thing, "__dict__", {}).values()


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (an empty one raises)
    except ValueError:
        return False
    return True


def _of_the_solution(thing: object) -> bool:
    """Whether to look inside: an object of its own, a pipeline, or a module around others; not a library's insides."""
    package = type(thing).__module__
    return package.startswith(("diffusers.pipelines", "torch.nn.modules.container")) or package.split(".")[0] not in (
        "torch",
        "diffusers",
        "transformers",
        "numpy",
        "PIL",
    )


def _is_denoiser(thing: object) -> bool:
    models = sys.modules.get("diffusers.models.modeling_utils")
    whole = models is not None and isinstance(thing, models.ModelMixin)
    return whole and any(word in class_name(thing) for word in _ARCHITECTURES)


def class_name(thing: object) -> str:
    """The class of diffusers that a thing is of, or is derived from: looked up where it claims to be; else ''."""
    for kind in type(thing).__mro__:
        module = kind.__module__
        if module.startswith("diffusers.") and getattr(sys.modules.get(module), kind.__name__, None) is kind:
            return str(kind.__name__)
    return ""


class _Watched:
    """Hooks on the denoisers, for the length of a `with`; one that nobody found is met when it is called."""

    def __init__(self, torch: Any, modules: list[Any], *, everywhere: bool = True) -> None:
        self._everywhere = everywhere
        self.elsewhere = False
        """Whether a denoiser ran in another thread than the one that is observed."""
        self._torch = torch
        self._modules = modules
        self._known = {id(part) for module in modules for part in module.modules()}
        """Denoisers, and what they are made of, which is called with them."""
        self._thread = threading.get_ident()
        self._called: dict[int, Any] = {}
        self._calls: list[tuple[int, int, int, Any]] = []
        """Of each call: latents in it, their height and width, the timestep."""
        self._unseen = 0
        """Calls whose arguments could not be looked at: the first ones of a denoiser that nobody found."""
        self.inside = 0
        """How many calls of a denoiser are running."""
        self._hooks = contextlib.ExitStack()

    def __enter__(self) -> None:
        with contextlib.ExitStack() as hooks:  # all of them, or none
            for module in self._modules:
                self._hook(module, hooks)
            if self._everywhere:
                register = self._torch.nn.modules.module.register_module_forward_pre_hook
                hooks.callback(register(self._meet).remove)
            self._hooks = hooks.pop_all()

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def during(self, call: Callable[[], object]) -> dict[str, Any]:
        """What the hooks see of one call, and nothing is counted."""
        with self, _eager(self._torch):
            call()
        return self.seen()

    def _meet(self, module: Any, args: tuple[Any, ...]) -> None:
        if id(module) in self._known or not _is_denoiser(module):
            return
        self._known |= {id(part) for part in module.modules()}
        self._hook(module, self._hooks)
        if args:
            self._look(module, args, {})
        else:
            self.inside += 1
            self._unseen += 1

    def _hook(self, module: Any, hooks: contextlib.ExitStack) -> None:
        hooks.callback(module.register_forward_pre_hook(self._look, with_kwargs=True).remove)
        hooks.callback(module.register_forward_hook(self._leave, always_call=True).remove)

    def _leave(self, *_: object) -> None:
        self.inside -= 1

    def _look(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.inside += 1
        self.elsewhere |= threading.get_ident() != self._thread
        self._called[id(module)] = module
        latents: Any = kwargs.get("sample", kwargs.get("hidden_states", args[0] if args else None))
        shape = tuple(int(side) for side in latents.shape)
        height, width = (shape[-2], shape[-1]) if len(shape) > 3 else (shape[1], 1)  # packed tokens: a column
        timestep = kwargs.get("timestep", args[1] if len(args) > 1 else None)
        if isinstance(timestep, self._torch.Tensor):  # its value is asked for at the end: a GPU would be waited for
            timestep = timestep.detach().flatten()[0].clone()
        self._calls.append((shape[0], height, width, timestep))

    @property
    def called(self) -> list[Any]:
        """The denoisers that were."""
        return list(self._called.values())

    def seen(self) -> dict[str, Any]:
        """What the hooks saw: of several denoisers the largest, and the calls on the largest latents alone."""
        if not self._calls:
            return {}
        _, height, width, _ = max(self._calls, key=lambda call: call[1] * call[2])
        full = [call for call in self._calls if call[1] * call[2] == height * width]
        batch = max(call[0] for call in full)
        counts = {id(module): _parameters(module) for module in self._called.values()}
        largest = max(self._called.values(), key=lambda module: counts[id(module)])
        return {
            "denoiser_class": class_name(largest),
            "denoiser_calls": len(full) + self._unseen,
            "denoiser_evaluations": sum(call[0] for call in full) + self._unseen * batch,
            "denoiser_timesteps": len({float(call[3]) for call in full if call[3] is not None}),
            "denoiser_batch": batch,
            "denoiser_parameters": counts[id(largest)],
            "latent_height": height,
            "latent_width": width,
        }


def _parameters(module: Any) -> int:
    """How many parameters it has; 0 where some may be packed, and so cannot be counted."""
    plain = all(type(part).__module__.startswith(_PLAIN_LAYERS) for part in module.modules() if part is not module)
    parameters = list(module.parameters())
    if not plain or not all(parameter.is_floating_point() for parameter in parameters):
        return 0
    return sum(parameter.numel() for parameter in parameters)


def _eager(torch: Any) -> contextlib.AbstractContextManager[object]:
    """Let compiled code run as it was written: its operations can be seen then, and nothing is compiled anew."""
    compiles = "torch._dynamo" in sys.modules  # else nothing is compiled, and importing it would take seconds
    return torch.compiler.set_stance("force_eager") if compiles else contextlib.nullcontext()


def _flop_counter(torch: Any, watched: _Watched) -> Any:
    """The counter of torch, with what it lacks: attention on the CPU, its tokens, and whether it saw everything."""
    library: Any = importlib.import_module("torch.utils.flop_counter")  # torch loads it only when asked
    aten = torch.ops.aten
    attention = library.flop_registry[aten._scaled_dot_product_flash_attention]  # noqa: SLF001 (an operator's name)
    on_the_cpu = aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001

    class Counter(library.FlopCounterMode):  # type: ignore[misc]
        blind = False
        denoiser_flops = 0
        attention_tokens = 0

        def __init__(self) -> None:
            super().__init__(display=False)
            self.flop_registry[on_the_cpu] = attention
            # by module nothing is asked, and its hooks on every module take as long as all the rest
            nothing = types.SimpleNamespace(parents={"Global"})
            nothing.__enter__ = nothing.__exit__ = lambda *_: None
            self.mod_tracker = nothing

        def _count_flops(self, packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
            name = getattr(packet, "_qualified_op_name", "?::")
            known = name.split("::")[0] in _COUNTED_NAMESPACES or packet in self.flop_registry
            self.blind |= not known
            # as many queries as keys: of the denoiser, for an autoencoder attends too
            if watched.inside and "scaled_dot_product" in name and args[0].shape[-2] == args[1].shape[-2]:
                self.attention_tokens = max(self.attention_tokens, int(args[0].shape[-2]))
            counts = self.flop_counts["Global"]
            before = counts[packet]
            result = super()._count_flops(packet, out, args, kwargs)
            self.denoiser_flops += counts[packet] - before if watched.inside else 0
            return result

    return Counter()
