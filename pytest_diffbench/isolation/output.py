"""A child's standard output and error, drained so that it never blocks, kept only in part."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT_BYTES: Final = 64 * 1024


class Output:
    """The last `KEPT_BYTES` that a child printed; `flooded` is called once if it prints more than the limit."""

    def __init__(self, descriptor: int, limit_bytes: int, flooded: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._limit_bytes = limit_bytes
        self._flooded = flooded
        self._kept = bytearray()
        self.printed_bytes = 0
        self._thread = threading.Thread(target=self._drain, name="diffbench-output", daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while chunk := os.read(self._descriptor, 65536):
            self.printed_bytes += len(chunk)
            self._kept = (self._kept + chunk)[-KEPT_BYTES:]
            if self.printed_bytes > self._limit_bytes:
                self._flooded()
                break
        os.close(self._descriptor)

    def tail(self, characters: int = 2000) -> str:
        """The end of what was printed, control characters removed."""
        return clean(bytes(self._kept))[-characters:]

    def join(self, timeout_s: float) -> None:
        """Wait until the child's end is closed and everything is read."""
        self._thread.join(timeout_s)


def clean(data: bytes) -> str:
    """Text that a terminal can safely show."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in text if c in "\n\t" or c.isprintable())
