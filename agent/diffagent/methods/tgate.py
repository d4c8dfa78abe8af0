"""T-GATE (Zhang et al. 2024, arXiv 2404.02747): cross-attention matters early, self-attention late; reuse the other."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from diffagent.methods.host import NotApplicable, Steps, denoiser, latents_of, replaced, unguided

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch


@contextlib.contextmanager
def tgate(
    pipeline: Any,
    gate_step: int = 10,
    sp_interval: int = 5,
    fi_interval: int = 1,
    warm_up: int = 2,
    *,
    drop_guidance: bool = True,
) -> Iterator[Any]:
    """Reuse cross-attention from `gate_step` on, and self-attention before it but for one step of `sp_interval`.

    Steps up to `warm_up` compute everything; after the gate, self-attention is computed in one step of `fi_interval`.
    With `drop_guidance`, as published, the prediction without the prompt is left out from the gate on, and what is
    reused is the mean of both: most of what the method saves. NotApplicable where there is no cross-attention;
    ValueError of intervals below 1.
    """
    if min(sp_interval, fi_interval) < 1:
        raise ValueError(f"sp_interval {sp_interval} and fi_interval {fi_interval}: at least 1 is needed")
    model = denoiser(pipeline)
    cross = _attention(model, "attn2")
    if not cross:
        raise NotApplicable(f"T-GATE reuses cross-attention; {type(model).__name__} has none")
    with Steps(pipeline) as steps, contextlib.ExitStack() as exits:
        gate = _Gate(steps, gate_step, sp_interval, fi_interval, warm_up)
        steps.on_image(gate.outputs.clear)
        steps.on_step(gate.decide)
        forward = model.forward

        def gated(*args: Any, **kwargs: Any) -> Any:
            steps.expect_scheduler()
            gate.call += 1
            if drop_guidance and gate.passed and steps.guided and len(latents_of(args, kwargs)) % 2 == 0:
                return unguided(forward, pipeline, args, kwargs)
            return forward(*args, **kwargs)

        exits.enter_context(replaced(model, "forward", gated))
        for module in cross:
            exits.enter_context(replaced(module, "forward", gate.kept(module, crosses=True)))
        for module in _attention(model, "attn1"):
            exits.enter_context(replaced(module, "forward", gate.kept(module, crosses=False)))
        yield pipeline


def _attention(model: Any, name: str) -> list[Any]:
    return [module for path, module in model.named_modules() if path.endswith(f".{name}")]


class _Gate:
    """What each attention gave when it was last computed, and which of them this step reuses."""

    def __init__(self, steps: Steps, gate_step: int, sp_interval: int, fi_interval: int, warm_up: int) -> None:
        self._steps = steps
        self._gate_step, self._sp_interval = gate_step, sp_interval
        self._fi_interval, self._warm_up = fi_interval, warm_up
        self.outputs: dict[tuple[int, int], torch.Tensor] = {}
        self.passed = False
        self.call = -1
        self._reuses = {True: False, False: False}

    def decide(self) -> None:
        """Another step."""
        step = self._steps.step
        self.call = -1
        self.passed = step >= self._gate_step
        if self.passed:
            self_attention = step % self._fi_interval != 0
        else:
            self_attention = self._warm_up < step < self._gate_step - 1 and step % self._sp_interval != 0
        self._reuses = {True: self.passed, False: self_attention}

    def kept(self, module: Any, *, crosses: bool) -> Callable[..., Any]:
        """`module.forward`, but for steps that reuse what it gave."""
        forward, name = module.forward, id(module)

        def reusing(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            key = (name, self.call)
            if self._reuses[crosses]:
                before = _fitting(self.outputs.get(key), len(hidden_states))
                if before is not None:
                    return before
            result: torch.Tensor = forward(hidden_states, *args, **kwargs)
            self.outputs[key] = result
            return result

        return reusing


def _fitting(before: torch.Tensor | None, batch: int) -> torch.Tensor | None:
    """What was kept, for `batch` rows: where guidance was dropped since, the mean with the prompt and without."""
    if before is None or len(before) == batch:
        return before
    if len(before) == 2 * batch:
        return (before[:batch] + before[batch:]) / 2
    return None
