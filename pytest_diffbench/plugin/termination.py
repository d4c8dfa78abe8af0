"""SIGTERM ends a run as Ctrl-C does: what is finished is in the file, and what was cut off is no death."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def end_in_order(config: pytest.Config) -> None:
    """From here to the end of the run SIGTERM is KeyboardInterrupt.

    Where somebody else handles the signal, or this is no main thread, it stays as it was.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)
        config.add_cleanup(_leave)


def _interrupt(number: int, _: object) -> None:
    # once only: a second SIGTERM, while the file is being written, must not tear that apart
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")


def _leave() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
