"""Guidance in a part of the steps only (Kynkäänniemi et al. 2024, arXiv 2404.07724): elsewhere, half the work."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from diffagent.methods.host import Steps, denoiser, latents_of, replaced, unguided

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def guidance_window(pipeline: Any, start: float = 0.0, stop: float = 1.0) -> Iterator[Any]:
    """Guide while `start <= step / steps < stop`; outside, the prediction with the prompt stands for both.

    Works on pipelines that ask for both predictions in one batch, and on those that ask for one after the other, the
    one with the prompt first, as all of diffusers do: the second call of a step is answered with the first one's
    prediction. ValueError of shares outside of 0 <= start <= stop <= 1.
    """
    if not 0 <= start <= stop <= 1:
        raise ValueError(f"guidance from {start} to {stop} of the steps: 0 <= start <= stop <= 1 is needed")
    model = denoiser(pipeline)
    with Steps(pipeline) as steps, contextlib.ExitStack() as exits:
        window = _Window(steps, start, stop)
        steps.on_step(window.decide)
        forward = model.forward

        def windowed(*args: Any, **kwargs: Any) -> Any:
            steps.expect_scheduler()
            if window.open:
                return forward(*args, **kwargs)
            if steps.guided and len(latents_of(args, kwargs)) % 2 == 0:
                return unguided(forward, pipeline, args, kwargs)
            if window.first is None:
                window.first = forward(*args, **kwargs)
            return window.first

        exits.enter_context(replaced(model, "forward", windowed))
        yield pipeline


class _Window:
    """Whether this step is guided, and what its first call gave if it is not."""

    def __init__(self, steps: Steps, start: float, stop: float) -> None:
        self._steps, self._start, self._stop = steps, start, stop
        self.open = True
        self.first: Any = None

    def decide(self) -> None:
        self.open = self._start <= self._steps.step / max(1, self._steps.total) < self._stop
        self.first = None
