"""Where a user's machine keeps what was found out, or made, once."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """The project's folder in the user's cache (XDG base directories); it may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pytest-diffbench"
