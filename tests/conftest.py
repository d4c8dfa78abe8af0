"""What all tests share: pytester, a clean environment, locks of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]

_OURS = (
    "PYTEST_XDIST_WORKER",  # pytest-benchmark reads it and disables itself in an inner run too
    "PYTEST_XDIST_WORKER_COUNT",
    "PYTEST_XDIST_TESTRUNUID",
    "PYTEST_ADDOPTS",
    "CUDA_VISIBLE_DEVICES",
    "DIFFBENCH_PREFERRED_DEVICE",
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """This suite may itself run under xdist; runs inside it must not notice."""
    for name in _OURS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of lock files that no other run shares."""
    folder = tmp_path / "locks"
    monkeypatch.setenv("DIFFBENCH_LOCKS", str(folder))
    return folder
