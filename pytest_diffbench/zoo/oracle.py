"""A judge that learned nothing: it measures a drawing and says what share of the caption is true.

For the tiny zoo only. It is how the learned judge is itself judged.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import ndimage

from pytest_diffbench.zoo import drawings

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INK_DISTANCE: Final = 55.0
"""RGB distance from the background at which a pixel belongs to the shape."""
_MIN_AREA_PX: Final = 25
_MIN_OVERLAP: Final = 0.55
"""Intersection over union below which an outline is none of the known shapes."""
_RADII_PX: Final = np.arange(5.0, 20.5, 0.5)
_BORDER_PX: Final = 2


def read(image: NDArray[np.uint8]) -> dict[str, str]:
    """The attributes that can be measured in a drawing of shape (64, 64, 3); what is unclear is left out."""
    pixels = image.astype(np.float32)
    pattern, background = _backdrop(pixels)
    found = {"pattern": pattern, "background": background}
    ink = np.linalg.norm(pixels - drawings.backdrop(pattern, background), axis=-1) > _INK_DISTANCE
    ink = _largest_part(ink)
    if ink.sum() < _MIN_AREA_PX:
        return found
    found["colour"] = _colour(pixels, ink)
    rows, columns = np.nonzero(ink)
    centre_x, centre_y = columns.mean() + 0.5, rows.mean() + 0.5
    shape, radius_px, overlap = _outline(ink, centre_x, centre_y)
    found["place"] = _place(centre_x, centre_y)
    if overlap >= _MIN_OVERLAP:
        found["shape"] = shape
        found["size"] = min(drawings.SIZES, key=lambda size: abs(drawings.SIZES[size] - radius_px))
    return found


def truth(caption: str, image: NDArray[np.uint8]) -> float:
    """The share of the attributes stated in `caption` that the drawing shows, in [0, 1]."""
    claims, facts = drawings.stated(caption), read(image)
    if not claims:
        raise ValueError(f"caption {caption!r} states none of {', '.join(drawings.ATTRIBUTES)}")
    return sum(facts.get(name) == word for name, word in claims.items()) / len(claims)


def _backdrop(pixels: NDArray[np.float32]) -> tuple[str, str]:
    frame = np.ones(pixels.shape[:2], bool)
    frame[_BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX] = False
    choices = [(p, b) for p in drawings.PATTERNS for b in drawings.BACKGROUNDS]

    def distance(choice: tuple[str, str]) -> float:
        difference = np.linalg.norm(pixels - drawings.backdrop(*choice), axis=-1)[frame]
        return float(np.minimum(difference, 60).mean())

    return min(choices, key=distance)


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    areas = np.bincount(labels.ravel())[1:]
    largest: NDArray[np.bool_] = labels == 1 + int(areas.argmax())
    return largest


def _colour(pixels: NDArray[np.float32], ink: NDArray[np.bool_]) -> str:
    inner = ndimage.binary_erosion(ink)
    tone = np.median(pixels[inner if inner.sum() >= _MIN_AREA_PX else ink], axis=0)
    return min(drawings.COLOURS, key=lambda name: float(np.linalg.norm(tone - drawings.COLOURS[name])))


def _place(centre_x: float, centre_y: float) -> str:
    middle = drawings.SIDE_PX / 2
    offset = np.array([centre_x - middle, centre_y - middle])
    return min(
        drawings.PLACES, key=lambda p: float(np.abs(offset - drawings.STEP_PX * np.array(drawings.PLACES[p])).max())
    )


@cache
def _templates() -> tuple[list[tuple[str, float]], NDArray[np.float32]]:
    """Every shape at every radius, its centroid in the middle: names, and masks of (count, 64 * 64)."""
    middle, names, masks = drawings.SIDE_PX / 2, [], []
    for shape in drawings.SHAPES:
        for radius_px in _RADII_PX:
            mask = drawings.coverage(shape, float(radius_px), middle, middle)
            centre_y, centre_x = ndimage.center_of_mass(mask)
            masks.append(ndimage.shift(mask, (middle - 0.5 - centre_y, middle - 0.5 - centre_x), order=1).ravel())
            names.append((shape, float(radius_px)))
    return names, np.stack(masks).astype(np.float32)


def _outline(ink: NDArray[np.bool_], centre_x: float, centre_y: float) -> tuple[str, float, float]:
    """The shape and radius that overlap best, and their intersection over union."""
    middle = drawings.SIDE_PX / 2
    centred = ndimage.shift(ink.astype(np.float32), (middle - centre_y, middle - centre_x), order=1).ravel()
    names, masks = _templates()
    both = np.minimum(masks, centred).sum(axis=1)
    overlap = both / np.maximum(masks, centred).sum(axis=1)
    best = int(overlap.argmax())
    return (*names[best], float(overlap[best]))
