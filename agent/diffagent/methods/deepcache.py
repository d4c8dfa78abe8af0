"""DeepCache (Ma et al. 2024, arXiv 2312.00858): a U-Net's deep features change little from step to step: keep them."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import torch

from diffagent.methods.host import NotApplicable, Steps, denoiser, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def deepcache(
    pipeline: Any, interval: int = 3, branch: int = 0, *, center: int | None = None, power: float = 1.4
) -> Iterator[Any]:
    """Run the whole U-Net in one step of `interval`; in the others, only what lies above the skip of `branch`.

    `branch` counts skip connections from the image inwards: 0 is the shallowest, and the fastest. With `center` the
    whole steps are not evenly spread but crowd around it, by the `power` of their distance (section 3.4 of the paper;
    a center above 1 is a step of 50, of which the same share is taken). NotApplicable where there is no U-Net with
    skip connections; ValueError of an interval or branch that there is none of.
    """
    unet = denoiser(pipeline)
    if not hasattr(unet, "up_blocks"):
        raise NotApplicable(f"DeepCache keeps the features below a U-Net's skips; {type(unet).__name__} has none")
    skips = 1 + sum(len(block.resnets) + bool(block.downsamplers) for block in unet.down_blocks)
    if interval < 1 or not 0 <= branch < skips:
        raise ValueError(f"interval {interval} and branch {branch}: at least 1, and from 0 to {skips - 1}, are needed")
    with Steps(pipeline) as steps, contextlib.ExitStack() as exits:
        cache = _Cache(steps, interval, center, power)
        steps.on_image(cache.begin)
        steps.on_step(cache.decide)
        first = unet.conv_in.forward  # not the U-Net's own: another method may cut the batch between the two

        def watched(latents: torch.Tensor) -> Any:
            steps.expect_scheduler()
            cache.call(latents.shape)
            return first(latents)

        exits.enter_context(replaced(unet.conv_in, "forward", watched))
        for module in _below(unet, branch):
            exits.enter_context(replaced(module, "forward", cache.kept(module)))
        yield pipeline


def whole_steps(total: int, interval: int, center: int | None = None, power: float = 1.4) -> frozenset[int]:
    """The steps of `total` in which everything is computed, the first one always among them."""
    if center is None:
        return frozenset(range(0, total, interval))
    middle = center * total / 50 if center > 1 else center * total
    ends = -(middle ** (1 / power)), (total - middle) ** (1 / power)
    roots = torch.linspace(*ends, max(1, math.ceil(total / interval)), dtype=torch.float64).tolist()
    spread = (round(middle + math.copysign(abs(root) ** power, root)) for root in roots)
    return frozenset({0, *(min(total - 1, max(0, step)) for step in spread)})


class _Cache:
    """What the modules below the skip gave in the last whole step, by the call within the step."""

    def __init__(self, steps: Steps, interval: int, center: int | None, power: float) -> None:
        self._steps, self._schedule = steps, (interval, center, power)
        self._whole: frozenset[int] = frozenset()
        self._outputs: dict[tuple[int, int], Any] = {}
        self._shapes: dict[int, torch.Size] = {}
        self._call = 0
        self._reuses = False
        self._reuses_now = False

    def begin(self) -> None:
        """Another image: nothing of the one before is true of it."""
        self._outputs.clear()
        self._shapes.clear()
        interval, center, power = self._schedule
        self._whole = whole_steps(self._steps.total, interval, center, power)

    def decide(self) -> None:
        """Another step."""
        self._reuses = self._steps.step not in self._whole
        self._call = -1

    def call(self, shape: torch.Size) -> None:
        """A call of the U-Net; one of another shape than before (guidance was cut off) has nothing to reuse."""
        self._call += 1
        self._reuses_now = self._reuses and self._shapes.get(self._call) == shape
        self._shapes[self._call] = shape

    def kept(self, module: Any) -> Callable[..., Any]:
        """`module.forward`, but for steps that reuse what it gave."""
        forward, name = module.forward, id(module)

        def reusing(*args: Any, **kwargs: Any) -> Any:
            key = (name, self._call)
            if self._reuses_now:
                return self._outputs[key]
            self._outputs[key] = result = forward(*args, **kwargs)
            return result

        return reusing


def _below(unet: Any, branch: int) -> Iterator[Any]:
    """Every module whose output a step that reuses takes as it was: what lies deeper than the skip of `branch`."""
    layers = len(unet.down_blocks[0].resnets) + 1
    kept_block, kept_layer = divmod(branch, layers)
    down, up = unet.down_blocks, unet.up_blocks[::-1]
    yield from (*down[kept_block + 1 :], unet.mid_block, *up[kept_block + 1 :])
    if kept_layer == 0:
        yield down[kept_block]
    else:
        yield from (module for module, layer in _with_layers(down[kept_block]) if layer >= kept_layer)
        yield from down[kept_block].downsamplers or ()
    count = len(up[kept_block].resnets)
    yield from (module for module, layer in _with_layers(up[kept_block]) if count - 1 - layer > kept_layer)


def _with_layers(block: Any) -> Iterator[tuple[Any, int]]:
    for modules in (block.resnets, getattr(block, "attentions", None) or ()):
        for layer, module in enumerate(modules):
            yield module, layer
