"""What any package or conftest may hook into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_diffbench.calibration import Best
    from pytest_diffbench.demand import Demand
    from pytest_diffbench.judge.metric import Metric
    from pytest_diffbench.methods import Method
    from pytest_diffbench.providers import Provider
    from pytest_diffbench.records import TaskReport
    from pytest_diffbench.zoo.models import Model


def pytest_diffbench_providers(config: pytest.Config) -> Mapping[str, Callable[[], Provider]]:  # type: ignore[empty-body]
    """Return solution providers by name; each is made only if `--diffbench-agent` chooses it.

    ::

        def pytest_diffbench_providers(config):
            return {"mine": MyProvider}
    """


def pytest_diffbench_methods(config: pytest.Config) -> Iterable[Method]:  # type: ignore[empty-body]
    """Return acceleration methods that tasks may demand beside the built-in ones."""


def pytest_diffbench_models(config: pytest.Config) -> Iterable[Model]:  # type: ignore[empty-body]
    """Return models that tasks may name beside the built-in ones."""


def pytest_diffbench_metrics(config: pytest.Config) -> Iterable[Metric]:  # type: ignore[empty-body]
    """Return metrics that every task's images are judged by beside CLIP-Score.

    One with `max_loss` may fail a task, one without is only reported::

        from pytest_diffbench.judge.metric import Metric


        def brightness(prompts, images):
            return [image.mean() for image in images]


        def pytest_diffbench_metrics(config):
            return [Metric("brightness", brightness, max_loss=0.1)]
    """


def pytest_diffbench_result(config: pytest.Config, report: TaskReport) -> None:
    """Called once for each finished task, as it arrives, on the controller or in the only process."""


@pytest.hookspec(firstresult=True)
def pytest_diffbench_calibrate(
    config: pytest.Config, demand: Demand, evaluations: int, say: Callable[[str], None]
) -> Best | None:
    """Return the best answer to a task's scenario that is certified to keep its quality; None where there is none."""
