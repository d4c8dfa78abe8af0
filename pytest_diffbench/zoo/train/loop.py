"""The optimisation loop that every part of the zoo shares."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WARM_UP_STEPS: Final = 100


def fit(
    name: str,
    parameters: Iterable[torch.nn.Parameter],
    loss_at: Callable[[int], torch.Tensor],
    *,
    steps: int,
    learning_rate: float,
    after_step: Callable[[int], None] | None = None,
) -> None:
    """Minimise `loss_at(step)` by AdamW under a cosine schedule, printing progress."""
    trained = list(parameters)
    optimiser = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    began, running = time.monotonic(), float("nan")
    for step in range(steps):
        loss = loss_at(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        if after_step is not None:
            after_step(step)
        running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 49 or step == steps - 1:
            took_s = time.monotonic() - began
            left_s = took_s / (step + 1) * (steps - step - 1)
            print(
                f"{name}: step {step + 1}/{steps}, loss {running:.4f}, {took_s:.0f} s, {left_s:.0f} s left", flush=True
            )


def _rate(step: int, steps: int) -> float:
    if step < WARM_UP_STEPS:
        return (step + 1) / WARM_UP_STEPS
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP_STEPS) / (steps - WARM_UP_STEPS)))
