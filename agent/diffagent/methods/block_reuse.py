"""FORA (Selvaraju et al. 2024, arXiv 2407.01425): attention and feed-forward are new in one step of N, else reused."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from diffagent.methods.host import NotApplicable, Steps, denoiser, latents_of, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

LAYERS: Final = ("attn1", "attn2", "attn", "ff", "ff_context")
"""The names that diffusers gives to the residual branches of a transformer block."""


@contextlib.contextmanager
def block_reuse(pipeline: Any, interval: int = 2, warm_up: int = 1) -> Iterator[Any]:
    """Compute every block's attention and feed-forward in one step of `interval`, and reuse them in the others.

    The first `warm_up` steps compute everything. NotApplicable where there are no transformer blocks; ValueError of
    less than 1 for either number.
    """
    if min(interval, warm_up) < 1:
        raise ValueError(f"interval {interval} and warm_up {warm_up}: at least 1 is needed")
    model = denoiser(pipeline)
    layers = [module for path, module in model.named_modules() if path.rsplit(".", 1)[-1] in LAYERS]
    if not layers:
        raise NotApplicable(f"FORA reuses the branches of transformer blocks; {type(model).__name__} has none")
    with Steps(pipeline) as steps, contextlib.ExitStack() as exits:
        reuse = _Reuse(steps, interval, warm_up)
        steps.on_image(reuse.outputs.clear)
        steps.on_step(reuse.decide)
        forward = model.forward

        def counted(*args: Any, **kwargs: Any) -> Any:
            steps.expect_scheduler()
            reuse.call += 1
            return forward(*args, **kwargs)

        exits.enter_context(replaced(model, "forward", counted))
        for module in layers:
            exits.enter_context(replaced(module, "forward", reuse.kept(module)))
        yield pipeline


class _Reuse:
    """What each branch gave when it was last computed, of which input shape, and whether this step reuses it."""

    def __init__(self, steps: Steps, interval: int, warm_up: int) -> None:
        self._steps, self._interval, self._warm_up = steps, interval, warm_up
        self.outputs: dict[tuple[int, int], tuple[torch.Size, Any]] = {}
        self.call = -1
        self._reuses = False

    def decide(self) -> None:
        """Another step."""
        since = self._steps.step - self._warm_up
        self._reuses = since >= 0 and since % self._interval != 0
        self.call = -1

    def kept(self, module: Any) -> Callable[..., Any]:
        """`module.forward`, but for steps that reuse what it gave."""
        forward, name = module.forward, id(module)

        def reusing(*args: Any, **kwargs: Any) -> Any:
            key, shape = (name, self.call), latents_of(args, kwargs).shape
            if self._reuses:
                kept_shape, result = self.outputs.get(key, (None, None))
                if kept_shape == shape:
                    return result
            result = forward(*args, **kwargs)
            self.outputs[key] = (shape, result)
            return result

        return reusing
