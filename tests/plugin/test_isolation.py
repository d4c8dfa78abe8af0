"""What the command line says of isolation: spelled out, stamped on every record, refused where it makes no sense."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_diffbench.errors import SetupError
from pytest_diffbench.plugin import session
from tests.plugin.conftest import HEAD, own_task, read_strictly

if TYPE_CHECKING:
    from pytest_diffbench import isolation


def _task(project: pytest.Pytester) -> None:
    task = f"{HEAD}\n@pytest.mark.diffbench({own_task()})\n"
    project.makepyfile(test_mine=f"{task}def test_draw(executability):\n    pass\n")


@pytest.mark.parametrize("stamp", ["none", "external"])
def test_giving_up_isolation_is_stamped_on_every_record(project: pytest.Pytester, stamp: str) -> None:
    """In the JSON and on the terminal, with the limits; comparing keys on names that say it too."""
    _task(project)

    result = project.runpytest_inprocess(
        "--diffbench-agent=fast.py", f"--diffbench-isolation={stamp}", "--benchmark-json=out.json"
    )

    result.assert_outcomes(passed=1)
    (entry,) = read_strictly(project.path / "out.json")["diffbench"]
    assert entry["isolation"].startswith(stamp)
    assert "memory" in entry["limits"]
    result.stdout.fnmatch_lines([f"timed on *; isolation: {stamp}*", "limits: load 600 s, call 600 s, memory *"])


def test_limits_are_what_was_asked_for(project: pytest.Pytester) -> None:
    """A solution that prints more than it may is told so, with the number."""
    _task(project)
    (project.path / "loud.py").write_text(
        (project.path / "fast.py").read_text().replace("return None", "print('x' * 2_000_000)")
    )

    result = project.runpytest_inprocess("--diffbench-agent=loud.py", "--diffbench-limits=output=1MB")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*output limit: the solution printed more than 977 KiB*"])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--diffbench-limits=ram=8GiB", "*--diffbench-limits: no limit is called 'ram'*"),
        ("--diffbench-readable=nowhere", "*--diffbench-readable: *nowhere does not exist*"),
        ("--diffbench-isolation=docker", "*invalid choice: 'docker'*"),
    ],
)
def test_what_cannot_be_carried_out_is_a_usage_error(project: pytest.Pytester, option: str, said: str) -> None:
    """Before anything runs, with what would be right."""
    _task(project)

    result = project.runpytest_inprocess("--diffbench-agent=fast.py", option)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_a_machine_that_keeps_nothing_in_is_refused(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Solutions never run without isolation because it happened to be missing."""

    def nothing(*_: object) -> isolation.Policy:
        raise SetupError("diffbench: nothing keeps an untrusted solution in on this machine")

    monkeypatch.setattr(session, "choose", nothing)
    _task(project)

    result = project.runpytest_inprocess("--diffbench-agent=fast.py")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*nothing keeps an untrusted solution in*"])


def test_files_of_ones_own_can_be_made_readable(project: pytest.Pytester) -> None:
    """A solution that needs the user's own package fails without the option, and works with it."""
    _task(project)
    (project.path / "mine").mkdir()
    (project.path / "mine" / "secret_sauce.txt").write_text("0.01")
    reads = f"float(open({str(project.path / 'mine' / 'secret_sauce.txt')!r}).read())"
    source = (project.path / "fast.py").read_text().replace("return None", f"return {reads}")
    (project.path / "fast.py").write_text(source)

    without = project.runpytest_inprocess("--diffbench-agent=fast.py")
    given = project.runpytest_inprocess("--diffbench-agent=fast.py", "--diffbench-readable=mine")

    without.assert_outcomes(failed=1)
    given.assert_outcomes(passed=1)
