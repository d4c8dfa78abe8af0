"""Real architectures filled at random, for whoever wants their speed and has no weights: made once, kept in the cache.

Their images are noise, which nobody can judge.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import shutil
from typing import TYPE_CHECKING, Final

from pytest_diffbench import cache
from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_diffbench.zoo.models import Model

LIBRARIES: Final = ("diffusers", "transformers")


def digest(model: Model) -> str:
    """What such a folder depends on: the settings, and the libraries that wrote it; SetupError of an unknown model."""
    # imported here: torch and diffusers
    from pytest_diffbench.zoo.architectures import ARCHITECTURES

    if model.name not in ARCHITECTURES:
        raise SetupError(
            f"diffbench: nobody has written down the architecture of model {model.name!r}: "
            f"known are {', '.join(ARCHITECTURES)}"
        )
    versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    return hashlib.sha256("\n".join([repr(ARCHITECTURES[model.name]), *versions]).encode()).hexdigest()


def folder(model: Model) -> Path:
    """A pipeline's folder with random weights, written where there is none yet; SetupError where that is impossible."""
    place = cache.folder() / "architecture" / f"{model.name}-{digest(model)[:16]}"
    try:
        with _alone(place):
            if not place.is_dir():
                _write(model, place)
    except OSError as error:
        raise SetupError(
            f"diffbench: cannot write {place} ({error.strerror or error}): it takes some gigabytes; "
            "set XDG_CACHE_HOME to a folder that has them"
        ) from error
    return place


def _write(model: Model, place: Path) -> None:
    from pytest_diffbench.zoo.architectures import ARCHITECTURES, write

    unfinished = place.with_suffix(f".{os.getpid()}")
    try:
        write(model, unfinished, ARCHITECTURES[model.name])
        for entry in (unfinished, *unfinished.rglob("*")):  # its readers may be other users
            entry.chmod(0o755 if entry.is_dir() else 0o644)
        unfinished.rename(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One process at a time: the others find what the first has written."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
