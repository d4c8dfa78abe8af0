"""`--diffbench-calibrate` and `--diffbench-targets`, as somebody would use them; who searches is a few lines here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from diffagent import options

from pytest_diffbench import cache
from tests.plugin.conftest import HEAD, own_task

CONFTEST = """
import pytest
from pytest_diffbench.calibration import Best

@pytest.hookimpl(tryfirst=True)
def pytest_diffbench_calibrate(config, demand, evaluations, say):
    say(f"seeking {demand.task.scenario} with {evaluations}")
    with open("asked.txt", "a") as file:
        file.write(f"{demand.task.scenario}\\n")
    return Best({speedup}, 3.5, 4.5, 0.01, "it(x=1)", "search", "def load(): ...")
"""


@pytest.fixture
def place(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.Pytester:
    """A project with one scenario, of a speed-up and of a latency, and a task that belongs to none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    scenario = own_task(scenario="mine", difficulty="medium", steps=4)
    project.makepyfile(
        test_mine=f"{HEAD}@pytest.mark.diffbench({scenario})\n@pytest.mark.speed(at_least=9)\n"
        "def test_speed(executability, speed):\n    '''Faster.'''\n\n"
        f"@pytest.mark.diffbench({scenario})\n@pytest.mark.latency(at_most_of_baseline=0.1)\n"
        "def test_latency(executability, speed):\n    '''Shorter.'''\n\n"
        f"@pytest.mark.diffbench({own_task()})\ndef test_plain(executability):\n    '''Run.'''\n"
    )
    project.makeconftest(CONFTEST.replace("{speedup}", "4.0"))
    return project


def _asked(place: pytest.Pytester) -> list[str]:
    file = place.path / "asked.txt"
    return file.read_text().split() if file.exists() else []


def _files() -> list[Path]:
    """The machine's own calibrations: one for each device, zoo and version."""
    return sorted(cache.folder().glob("calibration-*.json"))


def _found() -> dict[str, dict[str, object]]:
    (file,) = _files()
    content: dict[str, dict[str, dict[str, object]]] = json.loads(file.read_text())
    return content["scenarios"]


def test_each_scenario_is_sought_once_and_kept(place: pytest.Pytester) -> None:
    """No task is run; targets are told; a second time nothing is sought again."""
    result = place.runpytest("--diffbench-calibrate", "--diffbench-calibrate-evaluations=9")
    said = result.stdout.str()
    again = place.runpytest("--diffbench-calibrate")

    assert result.ret == again.ret == 0
    assert "calibrating 1 scenarios (0 are known already), about 8 minutes" in said
    assert "seeking mine with 9" in said
    assert "targets easy 1.74x, medium 2.46x, hard 3.24x" in said
    assert "(1 are known already)" in again.stdout.str()
    assert _asked(place) == ["mine"]
    assert len(_found()) == 1


def test_what_is_left_is_told_by_what_the_first_took(place: pytest.Pytester) -> None:
    """The estimate before is of another machine."""
    test = (place.path / "test_mine.py").read_text()
    (place.path / "test_other.py").write_text(test.replace("scenario='mine'", "scenario='other'"))

    said = place.runpytest("--diffbench-calibrate").stdout.str()

    assert "calibrating 2 scenarios (0 are known already), about 39 minutes on two cores" in said
    assert re.search(r"/mine \(1 of 2\)\n", said)
    assert re.search(r"/other \(2 of 2; about 0 minutes left\)\n", said)


def test_collecting_is_not_calibrating(place: pytest.Pytester) -> None:
    """`--collect-only` lists, as it does everywhere; nothing is sought for minutes."""
    result = place.runpytest("--diffbench-calibrate", "--collect-only", "-q")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["*::test_speed*"])
    assert not _asked(place)


def test_own_targets_are_what_was_calibrated(place: pytest.Pytester) -> None:
    """As they are collected: of a speed-up and of a latency; a task of no scenario stays as it is."""
    place.runpytest("--diffbench-calibrate")
    place.makeconftest(
        "def pytest_collection_finish(session):\n"
        "    from pytest_diffbench.demand import demanded_speedup\n"
        "    from pytest_diffbench.plugin.keys import DEMAND\n"
        "    for item in session.items:\n"
        "        print('wanted', item.name, demanded_speedup(item.stash[DEMAND].markers))\n"
    )

    shown = {
        scale: place.runpytest("--collect-only", "-q", f"--diffbench-targets={scale}").stdout.str()
        for scale in ("shipped", "own", "paper")
    }
    assert "wanted test_speed 9\n" in shown["shipped"]
    assert "wanted test_speed 2.46\n" in shown["own"]
    assert "wanted test_latency 2.45" in shown["own"]
    assert "wanted test_speed 4.0\n" in shown["paper"]
    assert all("wanted test_plain None" in text for text in shown.values())


def test_what_is_not_known_is_said(place: pytest.Pytester) -> None:
    """No calibration at all is a wrong command line; one scenario too few is the error of its tasks, the rest run."""
    nothing = place.runpytest("--diffbench-agent=baseline", "--diffbench-targets=own")
    by_default = place.runpytest("--diffbench-targets=own")
    paper = place.runpytest("--diffbench-agent=baseline", "--diffbench-targets=paper")

    assert nothing.ret == pytest.ExitCode.USAGE_ERROR
    nothing.stderr.fnmatch_lines(["*this machine is not calibrated: pytest suites --diffbench-calibrate*"])
    assert by_default.ret == pytest.ExitCode.USAGE_ERROR
    paper.assert_outcomes(errors=2, passed=1)
    paper.stdout.fnmatch_lines(
        ["*nothing is known of its scenario '*/mine': calibrate it*", "targets: by the paper's scale, *"]
    )


def test_a_scenario_without_an_answer_fails_the_run(place: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is made up."""
    monkeypatch.setattr(options, "calibrated", lambda *_: None)
    place.makeconftest("")

    result = place.runpytest("--diffbench-calibrate")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "no answer could be certified" in result.stdout.str()
    assert not _files()


def test_what_goes_wrong_with_one_scenario_is_said(place: pytest.Pytester) -> None:
    """It costs the run its success, and the other scenarios nothing: no traceback of ours."""
    place.makeconftest(
        "import pytest\nfrom pytest_diffbench.errors import SetupError\n\n@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_diffbench_calibrate(config, demand):\n    raise SetupError('the device is gone')\n"
    )

    result = place.runpytest("--diffbench-calibrate")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*/mine: the device is gone"])
    result.stdout.no_fnmatch_line("*use it with*")  # there is nothing to use
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_weights_that_are_missing_are_one_scenarios_trouble(place: pytest.Pytester) -> None:
    """Said of it with the mend, and no error of ours."""
    place.makeconftest("")
    (place.path / "test_published.py").write_text(
        f"{HEAD}@pytest.mark.diffbench(Task('sd15', level=4, scenario='mine', difficulty='hard'))\n"
        "@pytest.mark.speed(at_least=2)\ndef test_published(executability, speed, quality):\n    'Faster.'\n"
    )

    result = place.runpytest("test_published.py", "--diffbench-calibrate", "--diffbench-zoo=full")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["sd15/mine: *model 'sd15' needs weights*"])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_a_budget_holds_in_calibration(place: pytest.Pytester) -> None:
    """What costs more than may be spent is not begun."""
    place.makeconftest("")

    result = place.runpytest("--diffbench-calibrate", "--diffbench-budget-device-s=1")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*/mine: *budget*"])
    assert not _files()


def test_a_file_that_is_no_calibration_is_not_written_over(place: pytest.Pytester) -> None:
    """What may have taken hours to measure is named, and left as it is."""
    place.runpytest("--diffbench-calibrate")
    (file,) = _files()
    file.write_text("{cut off")

    result = place.runpytest("--diffbench-calibrate")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*calibration-*.json is no calibration *once that file is out of the way*"])
    assert file.read_text() == "{cut off"


def test_a_scenario_that_has_changed_is_sought_again(place: pytest.Pytester) -> None:
    """What was found of another baseline, or other steps, says nothing of it; other targets change nothing."""
    place.runpytest("--diffbench-calibrate")
    task = place.path / "test_mine.py"
    task.write_text(task.read_text().replace("at_least=9", "at_least=8"))
    targets = place.runpytest("--diffbench-calibrate")
    before = task.read_text()
    task.write_text(before.replace("steps=4", "steps=5"))
    assert task.read_text() != before
    own = place.runpytest("-k", "speed", "--diffbench-agent=baseline", "--diffbench-targets=own")
    again = place.runpytest("--diffbench-calibrate")

    assert "(1 are known already)" in targets.stdout.str()
    own.stdout.fnmatch_lines(["*nothing is known of its scenario '*/mine': calibrate it*"])
    assert "(0 are known already)" in again.stdout.str()
    assert _asked(place) == ["mine", "mine"]


def test_the_papers_scale_takes_what_is_shipped_where_nothing_else_is_known(place: pytest.Pytester) -> None:
    """One calibrated scenario of one's own does not cost the suites their tasks."""
    place.runpytest("--diffbench-calibrate")

    result = place.runpytest(
        str(Path(__file__).parents[2] / "suites"), "--collect-only", "-q", "--diffbench-targets=paper"
    )

    assert result.ret == 0
    result.stdout.no_fnmatch_line("*nothing is known*")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-p", "no:diffagent", "--noconftest"], "nothing here searches for answers: install diffagent"),
        (["-k", "plain"], "none of the tasks has a scenario and a difficulty"),
        (["--diffbench-calibrate-evaluations=0"], "give 1 or more"),
        (["-n", "2"], "uses every device itself: leave -n out"),
        (["--diffbench-zoo=architecture"], "random weights draw nothing that could be judged"),
    ],
)
def test_what_cannot_be_calibrated_is_a_usage_error(place: pytest.Pytester, arguments: list[str], says: str) -> None:
    """With what would be right."""
    result = place.runpytest_subprocess("--diffbench-calibrate", *arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert says in result.stderr.str() + result.stdout.str()


def test_a_file_that_cannot_be_collected_ends_it(place: pytest.Pytester) -> None:
    """Before hours are spent on the rest, as it would end any run; unless that is wanted."""
    place.makepyfile(test_broken="import nothing_of_this_name")

    broken = place.runpytest("--diffbench-calibrate")
    assert broken.ret == pytest.ExitCode.INTERRUPTED
    assert not _asked(place)
    place.runpytest("--diffbench-calibrate", "--continue-on-collection-errors")
    assert _asked(place)
