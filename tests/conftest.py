"""What all tests share: pytester, a clean environment, the machine's cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.fixture(scope="session", autouse=True)
def _a_core_each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All workers lease from the same lock files: else every one of them would time on the first core."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / "locks"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFBENCH_LOCKS", str(folder))
        yield
