"""Captioned drawings: the whole world that the tiny models know, drawn by rule from a seed."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

SIDE_PX: Final = 64
"""Width and height of a drawing."""

COLOURS: Final[Mapping[str, tuple[int, int, int]]] = {
    "red": (220, 30, 40),
    "orange": (250, 130, 20),
    "yellow": (250, 225, 40),
    "green": (30, 150, 60),
    "cyan": (30, 200, 215),
    "blue": (35, 70, 220),
    "purple": (130, 40, 170),
    "pink": (250, 120, 190),
}
"""The colours that a shape can have; no background has any of them."""

BACKGROUNDS: Final[Mapping[str, tuple[tuple[int, int, int], tuple[int, int, int]]]] = {
    "white": ((250, 250, 250), (212, 212, 212)),
    "grey": ((190, 192, 198), (152, 154, 162)),
    "beige": ((238, 214, 170), (204, 176, 128)),
    "mint": ((190, 238, 208), (146, 204, 170)),
}
"""Each background's own tone, and the tone of its second band where it is striped.

All are lighter than the mean colour of a shape: a place then shows in the mean over colours, and can be learned early.
"""

PATTERNS: Final = ("plain", "striped")
BAND_PX: Final = 8

SIZES: Final[Mapping[str, float]] = {"small": 7.5, "medium": 11.5, "large": 16.0}
"""Circumscribed radius in pixels."""

STEP_PX: Final = 14
PLACES: Final[Mapping[str, tuple[int, int]]] = {
    "at the top left": (-1, -1),
    "at the top": (0, -1),
    "at the top right": (1, -1),
    "on the left": (-1, 0),
    "in the centre": (0, 0),
    "on the right": (1, 0),
    "at the bottom left": (-1, 1),
    "at the bottom": (0, 1),
    "at the bottom right": (1, 1),
}
"""Where the shape's centre lies, in steps of `STEP_PX` from the middle (right, down)."""


def _regular(corners: int, turn: float = -math.pi / 2) -> list[tuple[float, float]]:
    angles = [turn + 2 * math.pi * k / corners for k in range(corners)]
    return [(math.cos(a), math.sin(a)) for a in angles]


def _star() -> list[tuple[float, float]]:
    outer, inner = _regular(5), _regular(5, -math.pi / 2 + math.pi / 5)
    return [point for o, i in zip(outer, inner, strict=True) for point in (o, (0.42 * i[0], 0.42 * i[1]))]


def _heart() -> list[tuple[float, float]]:
    t = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [(float(a) / 17, float(b) / 17) for a, b in zip(x, y, strict=True)]


_CROSS: Final = [
    (-0.3, -0.95), (0.3, -0.95), (0.3, -0.3), (0.95, -0.3), (0.95, 0.3), (0.3, 0.3),
    (0.3, 0.95), (-0.3, 0.95), (-0.3, 0.3), (-0.95, 0.3), (-0.95, -0.3), (-0.3, -0.3),
]  # fmt: skip

_OUTLINES: Final[Mapping[str, list[tuple[float, float]]]] = {
    "square": [(0.8 * x, 0.8 * y) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))],
    "triangle": _regular(3),
    "diamond": [(0.0, -1.0), (0.62, 0.0), (0.0, 1.0), (-0.62, 0.0)],
    "star": _star(),
    "cross": _CROSS,
    "heart": _heart(),
}
SHAPES: Final = ("circle", "ring", *_OUTLINES)
LABELS: Final = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
"""The classes of drawings, for models that draw by class; a class says nothing of size, place and background."""


def class_caption(label: str) -> str:
    """The sentence that states a class and nothing else."""
    return f"{'an' if label[0] in 'aeiou' else 'a'} {label}"


@dataclass(frozen=True)
class Scene:
    """What a drawing shows: six attributes, each a word or two of its caption."""

    size: str
    colour: str
    shape: str
    place: str
    pattern: str
    background: str

    @property
    def caption(self) -> str:
        """The sentence that states all six attributes."""
        return self.describe(place=True, size=True, background=True)

    @property
    def label(self) -> str:
        """Its class, one of `LABELS`."""
        return f"{self.colour} {self.shape}"

    def describe(self, *, place: bool, size: bool, background: bool) -> str:
        """A sentence that always names colour and shape, the rest where asked for."""
        words = [self.size] if size else []
        words += [self.colour, self.shape]
        article = "an" if words[0][0] in "aeiou" else "a"
        sentence = " ".join([article, *words])
        if place:
            sentence += f" {self.place}"
        if background:
            sentence += f" on a {self.pattern} {self.background} background"
        return sentence

    @property
    def held_out(self) -> bool:
        """Whether no model of the zoo was trained on this combination (one in ten)."""
        key = "|".join(getattr(self, field.name) for field in fields(self))
        return hashlib.sha256(key.encode()).digest()[0] < 26

    def differences(self, other: Scene) -> int:
        """In how many of the six attributes two scenes differ."""
        return sum(getattr(self, f.name) != getattr(other, f.name) for f in fields(self))


ATTRIBUTES: Final[Mapping[str, Sequence[str]]] = {
    "size": tuple(SIZES),
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "place": tuple(PLACES),
    "pattern": PATTERNS,
    "background": tuple(BACKGROUNDS),
}
"""Every attribute's words, in the order of `Scene`'s fields."""


def scenes() -> Iterator[Scene]:
    """Every scene there is (13,824), in a fixed order."""
    return (Scene(*words) for words in itertools.product(*ATTRIBUTES.values()))


def stated(caption: str) -> dict[str, str]:
    """The attributes that a caption states, in any phrasing that uses the zoo's own words."""
    text, found = caption.lower(), {}
    for name, words in ATTRIBUTES.items():
        # the longest first: "at the top left" also holds "at the top"
        pattern = "|".join(rf"\b{re.escape(word)}\b" for word in sorted(words, key=len, reverse=True))
        if match := re.search(pattern, text):
            found[name] = match.group()
    return found


def sample_scene(rng: np.random.Generator, *, held_out: bool | None = None) -> Scene:
    """A random scene; `held_out` restricts it to unseen (True) or trained-on (False) combinations."""
    while True:
        scene = Scene(*(str(rng.choice(words)) for words in ATTRIBUTES.values()))
        if held_out is None or scene.held_out == held_out:
            return scene


def vary(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same scene with one attribute changed, never to a held-out combination."""
    while True:
        name = str(rng.choice(list(ATTRIBUTES)))
        words = {f.name: getattr(scene, f.name) for f in fields(scene)}
        words[name] = str(rng.choice([w for w in ATTRIBUTES[name] if w != words[name]]))
        varied = Scene(**words)
        if not varied.held_out:
            return varied


def training_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Mostly the full caption, one time in five one that leaves something unsaid."""
    if rng.random() < 0.8:
        return scene.caption
    place, size, background = (bool(rng.random() < 0.5) for _ in range(3))
    return scene.describe(place=place, size=size, background=background)


@cache
def backdrop(pattern: str, background: str) -> NDArray[np.uint8]:
    """An empty background: (height, width, 3)."""
    own, second = BACKGROUNDS[background]
    canvas = np.empty((SIDE_PX, SIDE_PX, 3), np.uint8)
    canvas[:] = own
    if pattern == "striped":
        rows = (np.arange(SIDE_PX) // BAND_PX) % 2 == 1
        canvas[rows] = second
    return canvas


def coverage(shape: str, radius_px: float, centre_x: float, centre_y: float) -> NDArray[np.float32]:
    """How much of each pixel a shape covers, in [0, 1]: (height, width)."""
    scale = 4  # drawn four times as large and averaged: smooth edges
    mask = Image.new("L", (SIDE_PX * scale, SIDE_PX * scale))
    pen = ImageDraw.Draw(mask)

    def disc(radius: float, fill: int) -> None:
        r = radius * radius_px
        box = [(c + d) * scale for d in (-r, r) for c in (centre_x, centre_y)]
        pen.ellipse(box, fill=fill)

    if shape in _OUTLINES:
        points = [((centre_x + radius_px * x) * scale, (centre_y + radius_px * y) * scale) for x, y in _OUTLINES[shape]]
        pen.polygon(points, fill=255)
    else:
        disc(0.95, 255)
        if shape == "ring":
            disc(0.5, 0)
    return np.asarray(mask.reduce(scale)).astype(np.float32) / np.float32(255)


def draw(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A drawing of the scene, a little different for each state of `rng`: (height, width, 3)."""
    right, down = PLACES[scene.place]
    centre_x, centre_y = (SIDE_PX / 2 + STEP_PX * step + rng.uniform(-1.5, 1.5) for step in (right, down))
    radius_px = SIZES[scene.size] + rng.uniform(-0.8, 0.8)
    alpha = coverage(scene.shape, radius_px, centre_x, centre_y)[..., None]
    ink = np.array(COLOURS[scene.colour]) + rng.uniform(-10, 10, 3)
    paper = backdrop(scene.pattern, scene.background) + rng.uniform(-5, 5)
    return np.clip(np.rint(alpha * ink + (1 - alpha) * paper), 0, 255).astype(np.uint8)


def sample(
    rng: np.random.Generator, count: int, *, caption: Callable[[Scene, np.random.Generator], str] = training_caption
) -> tuple[list[str], NDArray[np.uint8]]:
    """`count` captions and their drawings, none of a held-out scene: (count, height, width, 3)."""
    chosen = [sample_scene(rng, held_out=False) for _ in range(count)]
    return [caption(s, rng) for s in chosen], np.stack([draw(s, rng) for s in chosen])
