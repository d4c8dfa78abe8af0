"""Tasks on xdist's workers: a device each, as many workers as devices, and a verdict for what dies."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from pytest_diffbench.plugin.keys import agent_is_chosen

if TYPE_CHECKING:
    from pytest_diffbench.plugin.recorder import Recorder


class Placement:
    """The controller's side of a run with xdist."""

    def __init__(self, config: pytest.Config, recorder: Recorder) -> None:
        self._config = config
        self._recorder = recorder
        chosen = agent_is_chosen(config)
        if chosen and config.getoption("maxworkerrestart", default=None) is None:
            config.option.maxworkerrestart = "10000"  # by default the rest of the tasks is silently dropped after 4 * n
        if chosen and config.getoption("maxschedchunk", default=None) is None:
            config.option.maxschedchunk = 1  # tasks take seconds to minutes: hand them out one by one

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: list[Any]) -> None:
        """Give each worker its own device to prefer; one that replaces a dead worker has the same spec, so the same."""
        for position, spec in enumerate(specs):
            spec.env["DIFFBENCH_PREFERRED_DEVICE"] = str(position)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """All workers draw their requests from the run's one number, and keep what they find in its one folder."""
        from pytest_diffbench.plugin import ledger

        node.workerinput["diffbench_seed"] = self._config.option.diffbench_seed
        node.workerinput["diffbench_place"] = ledger.as_plain(ledger.place(self._config))

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """A worker that died under a task is the machine's fault or ours: an ERROR that is in the file."""
        started = self._recorder.started.get(crashitem)
        if started is None or crashitem in self._recorder.reports:
            return
        from pytest_diffbench.errors import SetupError
        from pytest_diffbench.plugin import diffbench
        from pytest_diffbench.records import TaskReport, Verdict, plain

        line = f"diffbench: the worker died while it measured this task ({report.longrepr})"
        task = TaskReport(nodeid=crashitem, verdict=Verdict.INFRA, line=line, **started)
        report.when = "setup"
        report.longrepr = line
        report.diffbench = {"task": plain(task), "benchmarks": []}  # type: ignore[attr-defined]
        with contextlib.suppress(SetupError):  # the report says it all the same
            diffbench(self._config).ledger.stray(task)
