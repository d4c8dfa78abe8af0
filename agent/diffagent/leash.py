"""Started in place of a command: runs it so that it ends, in order, when the process that started it ends.

`python leash.py PARENT COMMAND…`. It needs nothing but the standard library, and is run as a file: it takes 15 ms.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PR_SET_PDEATHSIG: Final = 1


def tied(command: Sequence[str]) -> list[str]:
    """The command as one that ends with this process; its program is named by an absolute path, or one that has a /."""
    return [sys.executable, "-S", "-E", __file__, str(os.getpid()), *command]


def main(parent: int, command: list[str]) -> None:
    """Become the command; SIGTERM comes when the parent's thread that started it is gone, however it ended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before it could be watched
        sys.exit(-signal.SIGTERM)
    os.execv(command[0], command)  # noqa: S606 (a list, and no shell)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
