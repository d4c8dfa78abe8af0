"""A small foreign project: a model folder, a baseline, prompts, a scorer, and solutions of every kind.

Its baseline draws what the prompt says instead of running a denoiser: the smallest thing that makes clock, judge and
processes do their real work.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

# pytester forgets what an inner run imports: torch would be loaded twice, and our own classes would differ
import pytest_diffbench.judge
import pytest_diffbench.plugin.collection
import pytest_diffbench.plugin.placement
import pytest_diffbench.plugin.session
import pytest_diffbench.plugin.terminal
import pytest_diffbench.probes  # noqa: F401 (the last of several; ruff counts only it)
from pytest_diffbench.zoo import drawings
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from pathlib import Path

NAP_S = 0.02
"""Of the baseline: many times what drawing and asking take, and short, for most of what these tests take is naps."""
ARTIST = """
import time
import numpy as np
from pytest_diffbench.zoo import drawings

SLEEP_S = {sleep_s}

def load(model, device):
    return None

def generate(pipeline, requests):
    time.sleep(SLEEP_S)
    return [draw(request) for request in requests]

def draw(request):
    words = drawings.stated(request.prompt)
    if len(words) < 6:
        return np.zeros((request.height, request.width, 3), np.uint8)
    return drawings.draw(drawings.Scene(**words), np.random.default_rng(request.seed))
"""
"""Draws the caption truthfully after a nap."""

SOLUTIONS = {
    "fast": ARTIST.format(sleep_s=NAP_S / 4),
    "slow": ARTIST.format(sleep_s=1.5 * NAP_S),
    "blank": ARTIST.format(sleep_s=NAP_S / 4).replace("drawings.draw(", "0 * drawings.draw("),
    "broken": "def load(model, device):\n    return toch.float16\n\ndef generate(pipeline, requests):\n    return []\n",
    "blurred": ARTIST.format(sleep_s=NAP_S / 4)
    .replace(
        "return drawings.draw(drawings.Scene(**words), np.random.default_rng(request.seed))",
        "image = drawings.draw(drawings.Scene(**words), np.random.default_rng(request.seed))\n"
        "    return Image.fromarray(image).filter(ImageFilter.GaussianBlur(1))",
    )
    .replace("import numpy", "from PIL import Image, ImageFilter\nimport numpy"),
    "wavering": ARTIST.format(sleep_s=NAP_S / 4).replace(
        "time.sleep(SLEEP_S)", "CALLS.append(0)\n    time.sleep(SLEEP_S if len(CALLS) % 2 else 16 * SLEEP_S)"
    )
    + "\nCALLS = []\n",
    "dies": ARTIST.format(sleep_s=NAP_S / 4).replace("time.sleep(SLEEP_S)", "__import__('os')._exit(3)"),
}

MODEL, SCORER = str(TINY / "sd15"), str(TINY / "scorer")


HEAD = "import pytest\nfrom pytest_diffbench import Task\n\n"


def own_task(**more: object) -> str:
    """The source of a `Task(...)` over the project's own model, with more arguments where given."""
    given = {"baseline": "baseline.py", "prompts": "prompts.txt", "scorer": SCORER, "size": 64} | more
    arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
    return f"Task({MODEL!r}, {arguments})"


def furnish(folder: Path) -> None:
    """Lay out the project: `baseline.py`, `prompts.txt`, a file for each solution, strict markers; no task yet."""
    rng = np.random.default_rng(5)
    captions = [drawings.sample_scene(rng).caption for _ in range(24)]
    (folder / "prompts.txt").write_text("\n".join(captions))
    (folder / "baseline.py").write_text(ARTIST.format(sleep_s=NAP_S))
    for name, source in SOLUTIONS.items():
        (folder / f"{name}.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\nstrict = true\naddopts = -p no:cacheprovider\n")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """An empty folder, furnished."""
    furnish(pytester.path)
    return pytester


def read_strictly(file: Path) -> Any:
    """A file's JSON; NaN and infinity, which strict readers refuse, fail the test."""
    return json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"not strict JSON: {name}"))
