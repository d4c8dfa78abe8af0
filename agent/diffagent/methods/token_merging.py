"""Token Merging for Stable Diffusion (Bolya & Hoffman 2023, arXiv 2303.17604): attend to fewer tokens."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import torch

from diffagent.methods.host import NotApplicable, denoiser, latents_of, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def token_merging(
    pipeline: Any, ratio: float = 0.5, max_downsample: int = 1, stride: int = 2, *, seed: int | None = None
) -> Iterator[Any]:
    """Merge this share of the tokens before every self-attention, at resolutions up to `max_downsample`.

    `max_downsample` counts from the largest grid of tokens that the model attends to (1, 2, 4, 8), so that a model
    whose highest resolution has no attention is not passed over. Of each `stride` x `stride` tokens one is a
    destination: the first, or with `seed` one of chance. NotApplicable where there is no self-attention over a grid of
    tokens that they could be merged in; ValueError of a ratio outside of 0 to 1 - 1 / stride^2.
    """
    if not 0 <= ratio <= 1 - 1 / stride**2:
        raise ValueError(
            f"ratio {ratio}: from 0 to {1 - 1 / stride**2:g} can be merged into one of {stride} x {stride}"
        )
    model = denoiser(pipeline)
    layers = [module for path, module in model.named_modules() if path.endswith(".attn1")]
    if not layers or _rotates(model):
        raise NotApplicable(f"Token Merging merges a grid of tokens in self-attention; {type(model).__name__} has none")
    grid = _Grid(model, ratio, max_downsample, stride, seed)
    with contextlib.ExitStack() as exits:
        forward = model.forward

        def measured(*args: Any, **kwargs: Any) -> Any:
            grid.begin(latents_of(args, kwargs))
            return forward(*args, **kwargs)

        exits.enter_context(replaced(model, "forward", measured))
        for module in layers:
            exits.enter_context(replaced(module, "forward", grid.merging(module)))
        yield pipeline


def _rotates(model: Any) -> bool:
    """Whether tokens carry their places in rotary tables, which have the length of what is not merged."""
    return any("rope" in name for name, _ in model.named_modules())


class _Grid:
    """The grid of tokens of the call that is running."""

    def __init__(self, model: Any, ratio: float, max_downsample: int, stride: int, seed: int | None) -> None:
        self._patch = getattr(model.config, "patch_size", None) or 1
        self._ratio, self._max_downsample, self._stride, self._seed = ratio, max_downsample, stride, seed
        self._height = self._width = 0
        self._finest = 0
        self._generator: torch.Generator | None = None

    def begin(self, latents: torch.Tensor) -> None:
        """Another call of the denoiser."""
        self._height, self._width = latents.shape[-2:]
        self._finest = 0
        self._generator = None if self._seed is None else torch.Generator().manual_seed(self._seed)

    def merging(self, attention: Any) -> Callable[..., torch.Tensor]:
        """`attention.forward` over merged tokens."""
        forward = attention.forward

        def merged(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            count = hidden_states.shape[1]
            downsample = max(1, round(math.sqrt(self._height * self._width / count)))
            self._finest = min(self._finest or downsample, downsample)
            height, width = math.ceil(self._height / downsample), math.ceil(self._width / downsample)
            fewer = int(count * self._ratio)
            whole = height * width == count and min(height, width) >= self._stride
            if not (fewer and whole and downsample <= self._max_downsample * self._finest):
                result: torch.Tensor = forward(hidden_states, *args, **kwargs)
                return result
            matching = Matching(hidden_states, (height, width), self._stride, fewer, self._generator)
            return matching.unmerge(forward(matching.merge(hidden_states), *args, **kwargs))

        return merged


class Matching:
    """Which tokens are merged into which: bipartite soft matching (section 3 of the paper), by cosine similarity."""

    def __init__(
        self,
        tokens: torch.Tensor,
        grid: tuple[int, int],
        stride: int,
        count: int,
        generator: torch.Generator | None = None,
    ) -> None:
        """Match `tokens`, (batch, height * width, channels), so that `count` of them go into others."""
        destinations, sources = _divide(grid, stride, generator, tokens.device)
        self._shape = tokens.shape
        self._destinations, self._sources = destinations, sources
        unit = torch.nn.functional.normalize(tokens, dim=-1)
        scores = unit[:, sources] @ unit[:, destinations].transpose(-1, -2)
        best, target = scores.max(dim=-1)
        ranking = best.argsort(dim=-1, descending=True)
        count = min(count, len(sources))
        self._merged, self._kept = ranking[:, :count], ranking[:, count:]
        self._targets = target.gather(1, self._merged)

    def merge(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (batch, n, channels) as fewer: those kept, then the destinations, each a mean."""
        sources, destinations = tokens[:, self._sources], tokens[:, self._destinations]
        kept = sources.gather(1, _over(self._kept, tokens))
        merged = sources.gather(1, _over(self._merged, tokens))
        destinations = destinations.scatter_reduce(1, _over(self._targets, tokens), merged, reduce="mean")
        return torch.cat([kept, destinations], dim=1)

    def unmerge(self, tokens: torch.Tensor) -> torch.Tensor:
        """All tokens again; those merged get what their destination got."""
        count = self._kept.shape[1]
        kept, destinations = tokens[:, :count], tokens[:, count:]
        restored = tokens.new_zeros(self._shape[0], self._shape[1], tokens.shape[-1])
        restored[:, self._destinations] = destinations
        restored.scatter_(1, _over(self._sources[self._kept], tokens), kept)
        merged = destinations.gather(1, _over(self._targets, tokens))
        return restored.scatter_(1, _over(self._sources[self._merged], tokens), merged)


def _over(indices: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return indices[..., None].expand(-1, -1, tokens.shape[-1])


def _divide(
    grid: tuple[int, int], stride: int, generator: torch.Generator | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """The places of the destinations, one in each `stride` x `stride` that is whole, and of all other tokens."""
    height, width = grid
    rows, columns = height // stride, width // stride
    if generator is None:
        chosen = torch.zeros(rows, columns, dtype=torch.long)
    else:
        chosen = torch.randint(stride**2, (rows, columns), generator=generator)
    tops, lefts = torch.arange(rows)[:, None] * stride, torch.arange(columns)[None] * stride
    destinations = ((tops + chosen // stride) * width + lefts + chosen % stride).flatten()
    is_destination = torch.zeros(height * width, dtype=torch.long)
    is_destination[destinations] = 1
    sources = is_destination.argsort(stable=True)[: height * width - rows * columns]
    return destinations.to(device), sources.to(device)
