"""Tasks over xdist's workers: a device each, all of them reported, whatever dies."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest

from pytest_diffbench import history
from tests.plugin.conftest import HEAD, own_task, read_strictly


def test_a_worker_that_dies_costs_its_own_task_only(project: pytest.Pytester) -> None:
    """The task under which a worker died is an ERROR that is in the file; the others are measured."""
    project.makepyfile(
        test_mine=f"{HEAD}\nimport os\n"
        f"@pytest.mark.diffbench({own_task()})\ndef test_a(executability):\n    os._exit(3)\n\n"
        f"@pytest.mark.diffbench({own_task()})\ndef test_b(executability):\n    pass\n"
    )

    result = project.runpytest_subprocess(
        "-n1", "--diffbench-agent=fast.py", "--benchmark-json=out.json", "--junitxml=junit.xml", timeout=300
    )

    result.assert_outcomes(passed=1, errors=1)
    verdicts = {e["nodeid"][-6:]: e["verdict"] for e in read_strictly(project.path / "out.json")["diffbench"]}
    assert verdicts == {"test_a": "INFRA", "test_b": "PASS"}
    kept, _ = history.load(history.find("last", [project.path / ".diffbench"]))
    assert {report.nodeid[-6:]: str(report.verdict) for report in kept.reports()} == verdicts
    result.stdout.fnmatch_lines(["*the worker died while it measured this task*"])


@pytest.mark.parametrize("said", ["option", "ini"])
def test_n_auto_is_the_number_of_devices(said: str, project: pytest.Pytester) -> None:
    """`-n auto` starts one worker for each device that may be timed on, wherever the agent is named."""
    project.makepyfile(test_mine="def test_it():\n    pass\n")
    with (project.path / "pytest.ini").open("a") as file:
        file.write("diffbench_agent = fast.py\n" if said == "ini" else "")
    options = ["--diffbench-agent=fast.py"] if said == "option" else []

    result = project.runpytest_subprocess("-n", "auto", "--diffbench-devices=cpu:0", *options, timeout=120)

    result.stdout.fnmatch_lines(["*1 worker*"])


def test_without_tasks_n_auto_is_xdists_own(pytester: pytest.Pytester) -> None:
    """A project that merely has the plugin installed keeps xdist's number of workers and restarts."""
    pytester.makepyfile(
        "def test_it(request):\n    assert request.config.getoption('maxworkerrestart', None) is None\n"
    )

    result = pytester.runpytest_inprocess("-p", "no:randomly")

    result.assert_outcomes(passed=1)


def test_more_workers_than_devices_wait_for_each_other(project: pytest.Pytester) -> None:
    """Two workers on one device never time at once: what they did on it never overlaps."""
    log = project.path / "log.txt"
    watched = (
        (project.path / "fast.py")
        .read_text()
        .replace(
            "    time.sleep(SLEEP_S)\n",
            "    began = time.monotonic()\n    time.sleep(0.05)\n"
            f"    open({str(log)!r}, 'a').write(f'{{began}} {{time.monotonic()}}\\n')\n",
        )
    )
    (project.path / "watched.py").write_text(watched)
    tests = "".join(
        f"@pytest.mark.diffbench({own_task()})\ndef test_{name}(executability, speed):\n    pass\n\n" for name in "ab"
    )
    project.makepyfile(test_mine=f"{HEAD}\n{tests}")

    result = project.runpytest_subprocess(
        "-n2",
        "--diffbench-agent=watched.py",
        "--diffbench-devices=cpu:0",
        "--diffbench-pairs=4",
        "--diffbench-isolation=none",  # it writes down what it does, outside
        timeout=300,
    )

    result.assert_outcomes(passed=2)
    spans = sorted(tuple(map(float, line.split())) for line in log.read_text().splitlines())
    assert len(spans) >= 2 * (1 + 4 + 2 + 10)  # first call, probes, warm-up, pairs
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))


def test_a_scheduler_that_repeats_tasks_is_refused(project: pytest.Pytester) -> None:
    """`--dist=loadscope` would run a dead worker's task again and drop others: it is refused."""
    result = project.runpytest_subprocess("-n1", "--dist=loadscope", "--diffbench-agent=fast.py", timeout=120)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*use load or worksteal*"])


def test_benchmark_only_keeps_tasks(project: pytest.Pytester) -> None:
    """`--benchmark-only` works under xdist, and counts tasks as benchmarks."""
    project.makepyfile(
        test_mine=f"{HEAD}\n@pytest.mark.diffbench({own_task()})\ndef test_task(executability):\n    pass\n\n"
        "def test_plain():\n    pass\n"
    )

    result = project.runpytest_subprocess("-n1", "--benchmark-only", "--diffbench-agent=fast.py", timeout=300)

    result.assert_outcomes(passed=1, skipped=1)


def test_the_longest_tasks_come_first(project: pytest.Pytester) -> None:
    """By what an earlier run took; what it did not know comes before all, what is no task last, the rest as it was."""
    names = ("quick", "ordinary", "long", "new")
    project.makepyfile(
        test_mine=f"{HEAD}\ndef test_plain():\n    pass\n\n"
        + "".join(
            f"@pytest.mark.diffbench({own_task()})\ndef test_{name}(executability):\n    pass\n\n" for name in names
        )
    )
    ids = {name: f"mine-{name}" for name in names}
    (project.path / "durations.json").write_text(
        json.dumps({ids["quick"]: 2.0, ids["ordinary"]: 3.0, ids["long"]: 9.0})
    )
    with (project.path / "pytest.ini").open("a") as file:
        file.write("diffbench_durations = durations.json\ndiffbench_agent = broken.py\n")

    result = project.runpytest_subprocess("-n1", "-v", "--diffbench-agent=broken.py", timeout=300)
    (project.path / "durations.json").write_text("[1]")
    broken = project.runpytest_subprocess("-n1", "--diffbench-agent=broken.py", timeout=300)
    (project.path / "durations.json").unlink()
    first = project.runpytest_subprocess("-n1", timeout=300)

    ended = re.findall(r"\] (?:FAILED|PASSED).*::test_(\w+)", result.stdout.str())
    assert ended == ["new", "long", "quick", "ordinary", "plain"]
    assert "diffbench_durations" in broken.stdout.str() + broken.stderr.str()
    first.stdout.fnmatch_lines(["diffbench_durations: no durations.json yet; after this run: diffbench durations RUN*"])
    first.assert_outcomes(passed=1, failed=4)
