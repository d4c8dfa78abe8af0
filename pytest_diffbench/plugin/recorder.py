"""Collects finished tasks where reports arrive (controller or only process), shows them, and writes the file.

One object a config: `pytest_runtest_logreport` is told of no config, and a module's global would be shared by the
runs inside a run that plugin tests are made of.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_diffbench.plugin.keys import NULL

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_diffbench.records import TaskReport


class Recorder:
    """The finished tasks of one run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._benchmarks: dict[str, list[dict[str, Any]]] = {}
        self.reports: dict[str, TaskReport] = {}
        """By node id."""
        self.started: dict[str, dict[str, Any]] = {}
        """Tasks that have begun: enough of each to report it should its worker die."""
        self._null: list[str] = []
        """What A/A runs said."""
        self._journal: dict[str, Any] = {"folder": "", "problem": ""}
        """Where the run is kept, and what last could not be."""
        self._saved: Path | None = None
        self._save_problem = ""

    # -- as reports arrive -----------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a task's evidence off its report; show what a running one is doing."""
        if (live := getattr(report, "diffbench_live", None)) is not None:
            from pytest_diffbench.plugin.termination import end_in_order

            end_in_order(self._config)
            self.started[report.nodeid] = live["started"]
            self._show(report.nodeid, live["stage"], live["line"])
        if report.when == "call":
            self._null += [str(value) for name, value in report.user_properties if name == NULL]
        if (finished := getattr(report, "diffbench", None)) is not None:
            # imported here: a project without tasks never comes this far
            from pytest_diffbench.records import task_report

            self._benchmarks[report.nodeid] = finished["benchmarks"]
            self.reports[report.nodeid] = task = task_report(finished["task"])
            self._journal |= {name: value for name, value in finished.get("journal", {}).items() if value}
            self._config.hook.pytest_diffbench_result(config=self._config, report=task)
            from pytest_diffbench.wording import verdict_line

            if line := verdict_line(task):
                self._show(report.nodeid, "", line)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """`PASSED (2.03x, CLIP -0.6 %)`; a failed task keeps pytest's plain word, whose summary holds the reason."""
        if getattr(report, "diffbench_live", None) is not None:
            return "", "", ""
        task = self.reports.get(report.nodeid)
        if task is None or report.when != "call":
            return None
        from pytest_diffbench.plugin import terminal
        from pytest_diffbench.records import Verdict

        if task.verdict is Verdict.UNDECIDED:
            return report.outcome, "u", "UNDECIDED"
        return ("passed", ".", f"PASSED{terminal.brief(task)}") if report.passed else None

    def _show(self, nodeid: str, stage: str, line: str) -> None:
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None and self._config.get_verbosity() >= 0:
            reporter.ensure_newline()
            said = f"{stage}: {line}" if stage else line
            reporter.write_line(f"  {nodeid.rpartition('/')[2]}  {said}", light=True)
            reporter.flush()  # through a pipe too: a log that is looked at while the run lasts

    # -- at the end ------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Hand both arms of every task to pytest-benchmark before it writes, compares and tables them."""
        benchmarks = getattr(self._config, "_benchmarksession", None)
        if benchmarks is not None and self.reports:
            self._hand_over(benchmarks, session)
        return (yield)

    def _hand_over(self, benchmarks: Any, session: pytest.Session) -> None:
        from pytest_diffbench import benchmark_json

        only_ours = not benchmarks.benchmarks
        for nodeid in sorted(self._benchmarks):  # they arrive in any order
            benchmarks.benchmarks += [benchmark_json.metadata(entry) for entry in self._benchmarks[nodeid]]
        if only_ours and not benchmarks.verbose:
            benchmarks.quiet = True  # a table of 604 groups says nothing; ours follows
        if benchmarks.json:
            benchmarks.save_json = lambda content: self._save(Path(benchmarks.json), content, session)
            if not benchmarks.benchmarks:
                self._save_without_timings(benchmarks)

    def _save_without_timings(self, benchmarks: Any) -> None:
        """What pytest-benchmark does, which writes nothing at all where nothing was timed."""
        hook = self._config.hook
        content = hook.pytest_benchmark_generate_json(
            config=self._config,
            benchmarks=[],
            include_data=True,
            machine_info=benchmarks.get_machine_info(),
            commit_info=hook.pytest_benchmark_generate_commit_info(config=self._config),
        )
        hook.pytest_benchmark_update_json(config=self._config, benchmarks=[], output_json=content)
        benchmarks.save_json(content)

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """Every task, failed and crashed ones too, in the file's top-level `diffbench` list."""
        if self.reports:
            from pytest_diffbench import benchmark_json, scoring

            reports = [self.reports[nodeid] for nodeid in sorted(self.reports)]
            output_json["diffbench"] = [benchmark_json.summary(report) for report in reports]
            output_json["diffbench_score"] = scoring.card(reports)

    def _save(self, file: Path, content: dict[str, Any], session: pytest.Session) -> None:
        """Write the file whole or not at all; what cannot be written there is kept elsewhere."""
        text = _as_text(content)
        try:
            write(file, text)
        except OSError as error:
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
            rescued = Path(tempfile.gettempdir()) / f"diffbench-rescued-{os.getpid()}.json"
            self._save_problem = f"diffbench: cannot write {file}: {error.strerror or error}"
            try:
                write(rescued, text)
            except OSError:
                self._save_problem += "; nor the temporary folder: the measurements follow\n" + text
                return
            self._saved = rescued
            self._save_problem += f"; the measurements are kept in {rescued}"
        else:
            self._saved = file

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table by level, and where the file went."""
        if self._null:
            terminalreporter.section("diffbench: the baseline against itself")
            for line in self._null:
                terminalreporter.write_line(line)
        if not self.reports:
            return
        from pytest_diffbench.plugin import answers, diffbench, terminal

        ours = diffbench(self._config)
        reports = list(self.reports.values())
        unused = answers.unused(ours.agent_path, reports) if ours.agent_path is not None else []
        more = [*unused, *ours.target_lines(), *ours.noise_lines([])]
        terminal.summarise(terminalreporter, reports, self._saved, more=more)
        terminal.journal(terminalreporter, reports, **self._journal)
        if self._save_problem:
            terminalreporter.write_line(self._save_problem, red=True)


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write the measurements atomically; OSError where that is impossible."""
    write(file, _as_text(content))


def _as_text(content: dict[str, Any]) -> str:
    from pytest_diffbench.records import plain

    return json.dumps(plain(content), indent=4, allow_nan=False)


def write(file: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old content or the new; OSError where that is impossible."""
    if file.exists() and not file.is_file():  # a device or pipe has no content to protect
        file.write_text(text)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
