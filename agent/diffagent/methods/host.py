"""The pipeline that a method works on: its denoiser, the step that it is at, and everything put back afterwards."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Final, Self

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MISSING: Final = object()


class NotApplicable(ValueError):
    """A pipeline lacks what a method works on."""


def denoiser(pipeline: Any) -> Any:
    """A pipeline's U-Net or transformer, without torch.compile's shell; NotApplicable where it has neither."""
    for name in ("unet", "transformer"):
        model = getattr(pipeline, name, None)
        if model is not None:
            return getattr(model, "_orig_mod", model)
    raise NotApplicable(f"{type(pipeline).__name__} has neither a unet nor a transformer")


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let an object have another attribute for a while; one that only its class had is its class's again."""
    before = vars(owner).get(name, _MISSING)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is _MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def latents_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """The noisy latents among a denoiser's arguments: (batch, channels, height, width), or tokens."""
    latents: Any = args[0] if args else kwargs.get("sample", kwargs.get("hidden_states"))
    assert torch.is_tensor(latents)
    return latents


def timestep_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What stands behind the latents, or is called so."""
    return args[0] if args else kwargs.get("timestep")


class Steps:
    """Where the running image is, as its scheduler is told: at which step, of how many, and whether it is guided.

    Every scheduler of diffusers begins an image by `set_timesteps` and ends a step by `step`, so this also counts right
    where a timestep comes twice, and where an image begins halfway (image-to-image).

    What a method decides for a step it decides in `on_step`, which runs outside of anything that is compiled: its
    wrappers then read plain booleans, for which torch.compile keeps two graphs instead of one a step.
    """

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._scheduler = pipeline.scheduler
        self._exits = contextlib.ExitStack()
        self._on_image: list[Callable[[], None]] = []
        self._on_step: list[Callable[[], None]] = []
        self._placed = False
        """Whether it is known where among the scheduler's timesteps the image began."""
        self.step = 0
        """From 0 on, counted from the first one that runs."""
        self.total = 0
        """How many run: fewer than the scheduler was set to where an image begins halfway."""
        self.guided = False
        """Whether latents come twice in a batch, once with the prompt and once without (Ho & Salimans 2022)."""

    def on_image(self, act: Callable[[], None]) -> None:
        """`act` whenever another image begins, before `on_step`."""
        self._on_image.append(act)

    def on_step(self, act: Callable[[], None]) -> None:
        """`act` at the beginning of every step."""
        self._on_step.append(act)

    def expect_scheduler(self) -> None:
        """RuntimeError where the pipeline has got another scheduler since: its steps would be counted by nobody."""
        if not torch.compiler.is_compiling() and self._pipeline.scheduler is not self._scheduler:
            raise RuntimeError("the pipeline got another scheduler inside a method's with block: set it before")

    def __enter__(self) -> Self:
        scheduler = self._scheduler
        set_timesteps, step = scheduler.set_timesteps, scheduler.step

        @functools.wraps(set_timesteps)  # pipelines read its signature
        def beginning(*args: Any, **kwargs: Any) -> Any:
            result = set_timesteps(*args, **kwargs)
            self.step, self.total, self.guided = 0, len(scheduler.timesteps), False
            self._placed = False
            for act in (*self._on_image, *self._on_step):
                act()
            return result

        @functools.wraps(step)
        def stepping(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            self.step += 1
            for act in self._on_step:
                act()
            return result

        self._exits.enter_context(replaced(scheduler, "set_timesteps", beginning))
        self._exits.enter_context(replaced(scheduler, "step", stepping))
        self._exits.callback(self._watch_latents())
        return self

    def _watch_latents(self) -> Callable[[], None]:
        """Look at what a step begins with, where it is handed to the scheduler or, by some, only to the denoiser."""
        scheduler = self._scheduler
        if not hasattr(scheduler, "scale_model_input"):
            handle = denoiser(self._pipeline).register_forward_pre_hook(
                lambda _, args, kwargs: self._look(latents_of(args, kwargs), timestep_of(args[1:], kwargs)),
                with_kwargs=True,
            )
            undo: Callable[[], None] = handle.remove
            return undo
        scale = scheduler.scale_model_input

        @functools.wraps(scale)
        def scaling(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self._look(sample, timestep_of(args, kwargs))
            return scale(sample, *args, **kwargs)

        exits = contextlib.ExitStack()
        exits.enter_context(replaced(scheduler, "scale_model_input", scaling))
        return exits.close

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def _place(self, timestep: Any) -> None:
        """Leave out the timesteps before the first that runs; what was decided for that step is decided anew."""
        self._placed = True
        timesteps = torch.as_tensor(self._scheduler.timesteps)
        now = torch.as_tensor(timestep, device=timesteps.device).flatten()[:1].to(timesteps.dtype)
        found = (timesteps == now).nonzero()
        if self.step == 0 and len(found) and int(found[0]):
            self.total = len(timesteps) - int(found[0])
            for act in (*self._on_image, *self._on_step):
                act()

    def _look(self, latents: torch.Tensor, timestep: Any) -> None:
        if not self._placed and timestep is not None and not torch.compiler.is_compiling():
            self._place(timestep)
        if self.step > 1:  # the first noise of two images may be the same, what they became is not
            return
        said = getattr(self._pipeline, "do_classifier_free_guidance", True)
        half, odd = divmod(len(latents), 2)
        self.guided = bool(said) and not odd and torch.equal(latents[:half], latents[half:])


def conditional_half(pipeline: Any) -> int:
    """Which half of a guided batch has the prompt: DiT's pipeline puts it first, all others last."""
    return 0 if type(pipeline).__name__ == "DiTPipeline" else 1


def half_of(value: Any, batch: int, half: int) -> Any:
    """One half of everything in `value` that has `batch` rows; the rest as it is."""
    if torch.is_tensor(value):
        if value.dim() == 0 or len(value) != batch:
            return value
        return value[: batch // 2] if half == 0 else value[batch // 2 :]
    if isinstance(value, dict):
        return {name: half_of(part, batch, half) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(half_of(part, batch, half) for part in value)
    return value


def doubled(output: Any) -> Any:
    """A denoiser's output with every row twice, so that both halves of a guided batch have the same."""
    if isinstance(output, tuple):
        return tuple(torch.cat([part, part]) if torch.is_tensor(part) else part for part in output)
    return type(output)(sample=torch.cat([output.sample, output.sample]))


def unguided(forward: Callable[..., Any], pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `forward` gives for the half with the prompt, for both: u + s (c - u) is then c, for half the work."""
    batch, half = len(latents_of(args, kwargs)), conditional_half(pipeline)
    return doubled(forward(*half_of(args, batch, half), **half_of(kwargs, batch, half)))
