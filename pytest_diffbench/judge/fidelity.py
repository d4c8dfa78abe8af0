"""How close a candidate stays to the baseline's own images, in units of what another seed would change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image as Pillow

if TYPE_CHECKING:
    from pytest_diffbench.judge.album import Album, Canaries, Image

SIDE: Final = 32
"""Pixels of a thumbnail's side: coarse enough that a shift by a pixel of a large image is no difference."""


def fidelity(album: Album, canaries: Canaries) -> float | None:
    """1 - (distance to the same-seed baseline) / (the baseline's own distance between two seeds), of means.

    1: the baseline's own images; 0: as different as another seed makes them; below 0: more. None where the baseline
    does not change with its seed.
    """
    between_seeds = [distance(one, other) for one, other in canaries.baseline_reseeded]
    if not between_seeds or max(between_seeds) == 0:
        return None
    apart = [distance(one, other) for one, other in zip(album.baseline, album.candidate, strict=True)]
    return float(1 - np.mean(apart) / np.mean(between_seeds))


def distance(one: Image, other: Image) -> float:
    """Root mean square difference of two images' thumbnails, in grey levels of 0 to 255."""
    difference = _thumbnail(one) - _thumbnail(other)
    return float(np.sqrt(np.mean(np.square(difference))))


def _thumbnail(image: Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    small = Pillow.fromarray(image).resize((SIDE, SIDE), Pillow.Resampling.BOX)
    return np.asarray(small, np.float32)
