"""Pytest as a user starts it: a command in a folder, with nothing of the test run around it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What became of `pytest -v` with these arguments."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *arguments],
        cwd=folder,
        env=environment | {"COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
