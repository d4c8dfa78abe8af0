"""Answers that are paid once: a file for each question, read by whoever asks again, in whatever process or thread.

Who asks what another is asking waits for its answer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from typing import TYPE_CHECKING

from pytest_diffbench.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def place(folder: Path, key: str) -> Path:
    """The file for a question, whose key is a digest in hexadecimal."""
    return folder / key[:2] / f"{key}.json"


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """While nobody else works on the same answer; SetupError where none could be kept there."""
    lock = file.with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        stream = lock.open("w")
    except OSError as error:
        raise SetupError(f"diffbench: cannot keep answers in {lock.parent}: {error.strerror or error}") from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
        lock.unlink(missing_ok=True)


def write(file: Path, text: str) -> None:
    """Whole or not at all; SetupError where that is impossible: what was paid for is not lost silently."""
    temporary = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        with temporary.open("w", encoding="utf-8", errors="replace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise SetupError(f"diffbench: cannot keep an answer in {file.parent}: {error.strerror or error}") from error
