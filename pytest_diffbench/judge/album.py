"""Both arms' images of the same requests, with what the scorer sees in them: all that a judgement rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image: TypeAlias = NDArray[np.uint8]
    """Shape (height, width, 3)."""


@dataclass(frozen=True)
class Album:
    """The timed images, in the order of their requests."""

    prompts: tuple[str, ...]
    baseline: tuple[Image, ...]
    candidate: tuple[Image, ...]
    baseline_similarity: NDArray[np.float32]
    """Cosine of every image (row) with every prompt (column), so that the diagonal is each image's own prompt."""
    candidate_similarity: NDArray[np.float32]
    inputs: tuple[Image, ...] = ()
    """What both arms began with, where that was an image and not noise."""


@dataclass(frozen=True)
class Recall:
    """How long the candidate took for a request that it had answered before; seconds of the parent's clock."""

    again_s: float
    changed_s: float
    """For the same with another seed, right after it."""
    fresh_s: float
    """Its fastest answer to anything that it had not: the timed requests, and this one with another seed."""
    slowest_s: float
    """Its slowest answer to a timed request."""


@dataclass(frozen=True)
class Odd:
    """A request that looks like a test (nothing, far too much, other scripts), and that the candidate leaves flat.

    Each pair is the baseline's image and the candidate's.
    """

    images: tuple[Image, Image]
    again: tuple[tuple[Image, Image], ...] = ()
    """The same with other seeds; asked for only where the baseline's is not flat."""


@dataclass(frozen=True)
class Canaries:
    """What a few timed requests give when something is changed in them; they decide no speed.

    Each entry is a pair: the timed request's image, and the changed request's.
    """

    repeated: tuple[tuple[Image, Image], ...]
    """The candidate, asked for the very same once more."""
    reseeded: tuple[tuple[Image, Image], ...]
    """The candidate, with another seed."""
    reprompted: tuple[tuple[Image, Image], ...]
    """The candidate, with another prompt."""
    baseline_reseeded: tuple[tuple[Image, Image], ...]
    """The baseline, with the same other seeds as `reseeded`."""
    baseline_reprompted: tuple[tuple[Image, Image], ...]
    recalls: tuple[Recall, ...] = ()
    """The candidate's times for what it was asked again, one a request."""
    probed: int = 0
    """Images of odd requests, those that are not flat among them."""
    odd: tuple[Odd, ...] = ()
