"""What is wrong with a task is said when it is collected: the file, the task, and what would be right."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_diffbench import cli
from pytest_diffbench.plugin import answers
from pytest_diffbench.providers import NO_ANSWER
from pytest_diffbench.records import TaskReport, Verdict

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "import pytest\nfrom pytest_diffbench import Task\n"

WRONG = [
    ("@pytest.mark.diffbench(Task('sd51'))", ["'sd51' is unknown", "sd15"]),
    ("@pytest.mark.diffbench(Task('sd15', level=7))", ["level is 7", "1 to 5"]),
    ("@pytest.mark.diffbench(Task('sd15', level=4))", ["level 4 demands a speed-up", "speed(at_least=1.8)"]),
    ("@pytest.mark.diffbench(Task('sd15', level=2, methods=('deepcash',)))", ["'deepcash' is unknown", "dpm_solver"]),
    ("@pytest.mark.diffbench(Task('sd15'))\n@pytest.mark.speed(at_least=0.5)", ["0.5", "1 or more"]),
    ("@pytest.mark.diffbench(Task('sd15'))\n@pytest.mark.speed(at_last=2)", ["speed takes at_least"]),
    ("@pytest.mark.diffbench('sd15')", ["holds str", "Task('sd15')"]),
    ("@pytest.mark.diffbench(Task('sd15'))\n@pytest.mark.latency(at_most_s=1)\n@pytest.mark.speed(2)", ["contradict"]),
    ("@pytest.mark.diffbench(Task('./nowhere'))", ["'./nowhere' is no diffusers folder", "model_index.json"]),
]


@pytest.mark.parametrize(("markers", "words"), WRONG, ids=[words[0] for _, words in WRONG])
def test_a_wrong_declaration_names_file_task_and_mend(
    pytester: pytest.Pytester, markers: str, words: list[str]
) -> None:
    """A wrong declaration is a collection error without a traceback of ours."""
    pytester.makepyfile(test_mine=f"{HEAD}\n{markers}\ndef test_it(executability, speed, quality):\n    pass\n")

    result = pytester.runpytest_inprocess()

    assert result.ret == pytest.ExitCode.INTERRUPTED
    text = result.stdout.str()
    assert "test_mine.py: task test_it: " in text
    assert all(word in text for word in words)
    assert "Traceback" not in text
    assert "plugin/collection.py" not in text


def test_a_marker_that_would_never_be_checked_is_refused(pytester: pytest.Pytester) -> None:
    """A quality marker on a test without the quality fixture is an error, not a silent pass."""
    pytester.makepyfile(
        f"{HEAD}\n@pytest.mark.diffbench(Task('sd15'))\n@pytest.mark.quality(max_loss=0.1)\n"
        "def test_it(executability, speed):\n    pass\n"
    )

    result = pytester.runpytest_inprocess()

    result.stdout.fnmatch_lines(["*'quality' needs the fixture 'quality'*"])


def test_a_test_without_stages_is_refused(pytester: pytest.Pytester) -> None:
    """A task that asks for no stage would measure nothing."""
    pytester.makepyfile(f"{HEAD}\n@pytest.mark.diffbench(Task('sd15'))\ndef test_it():\n    pass\n")

    result = pytester.runpytest_inprocess()

    result.stdout.fnmatch_lines(["*none of the fixtures executability, speed, quality*"])


def test_a_stage_without_a_task_is_an_error_that_says_so(pytester: pytest.Pytester) -> None:
    """A test that uses a stage but is no task learns what it lacks."""
    pytester.makepyfile("def test_it(speed):\n    pass\n")

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*is no task: add @pytest.mark.diffbench(Task(...))*"])


def test_other_files_still_run(pytester: pytest.Pytester) -> None:
    """With pytest's own flag, one file's wrong task leaves the others unharmed."""
    pytester.makepyfile(
        test_bad=f"{HEAD}\n@pytest.mark.diffbench(Task('sd51'))\ndef test_it(speed):\n    pass\n",
        test_good="def test_fine():\n    pass\n",
    )

    result = pytester.runpytest_inprocess("--continue-on-collection-errors")

    result.assert_outcomes(passed=1, errors=1)


def test_levels_are_markers(pytester: pytest.Pytester) -> None:
    """`-m level2` selects the tasks of level 2, also under strict markers."""
    pytester.makeini("[pytest]\nstrict = true")
    pytester.makepyfile(
        f"{HEAD}\n"
        "TASKS = [Task('sd15', level=1), Task('sd15', level=2, methods=('unipc',))]\n"
        "MARKED = [pytest.param(n, marks=pytest.mark.diffbench(task)) for n, task in enumerate(TASKS)]\n\n"
        "@pytest.mark.parametrize('n', MARKED)\n"
        "def test_it(n, executability):\n    pass\n"
    )

    result = pytester.runpytest_inprocess("--collect-only", "-q", "-m", "level2")

    result.stdout.fnmatch_lines(["*test_it?1?*", "1/2 tests collected*"])


def test_attempts_multiply_a_task(pytester: pytest.Pytester) -> None:
    """`--diffbench-attempts=3` makes test[1] to test[3], each selectable by its node id."""
    pytester.makepyfile(
        test_mine=f"{HEAD}\n@pytest.mark.diffbench(Task('sd15'))\ndef test_it(executability):\n    pass\n"
    )

    result = pytester.runpytest_inprocess("--collect-only", "-q", "--diffbench-attempts=3", "test_mine.py::test_it[2]")

    result.stdout.fnmatch_lines(["*::test_it?2?", "1 test collected*"])


def test_a_folder_of_several_answers_names_its_items(pytester: pytest.Pytester) -> None:
    """FOLDER/<task-id>/<name>.py becomes the item test[name]."""
    pytester.makepyfile(
        test_mine=f"{HEAD}\n@pytest.mark.diffbench(Task('sd15'))\ndef test_it(executability):\n    pass\n"
    )
    answers = pytester.mkdir("answers") / "mine-it"
    answers.mkdir()
    (answers / "plan_a.py").write_text("")
    (answers / "plan_b.py").write_text("")

    result = pytester.runpytest_inprocess("--collect-only", "-q", "--diffbench-agent=answers")

    result.stdout.fnmatch_lines(["*::test_it?plan_a?", "*::test_it?plan_b?", "2 tests collected*"])


def test_answers_a_folder_too_deep_are_refused(pytester: pytest.Pytester) -> None:
    """Laid out by level, say: each would multiply every task; the message says where answers belong."""
    pytester.makepyfile(
        test_mine=f"{HEAD}\n@pytest.mark.diffbench(Task('sd15'))\ndef test_it(executability):\n    pass\n"
    )
    deep = pytester.mkdir("answers") / "level4"
    deep.mkdir()
    (deep / "mine-it.py").write_text("")

    result = pytester.runpytest_inprocess("--collect-only", "--diffbench-agent=answers")

    assert result.ret != 0
    result.stdout.fnmatch_lines(["*mine-it.py would be one of several answers to a task 'level4'*<task-id>.py*"])


def test_a_folder_is_asked_for_no_attempts(pytester: pytest.Pytester) -> None:
    """How many answers a task has is what lies there."""
    pytester.mkdir("answers")
    pytester.makepyfile("def test_never():\n    raise SystemExit('ran')\n")

    result = pytester.runpytest_inprocess("--diffbench-attempts=2", "--diffbench-agent=answers")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "FOLDER/<task-id>/1.py" in result.stderr.str()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_two_tasks_with_one_id_are_refused(pytester: pytest.Pytester, workers: str) -> None:
    """Two tasks that would share an answer's file name are told to differ, also where workers collect them."""
    source = f"{HEAD}\n@pytest.mark.diffbench(Task('sd15'))\ndef test_it(executability):\n    pass\n"
    for folder in ("a/same", "b/same"):
        path = pytester.path / folder
        path.mkdir(parents=True)
        (path / "test_mine.py").write_text(source)

    (pytester.path / "bad.py").write_text("def load(")  # workers go on with what they could collect
    result = pytester.runpytest_subprocess("--import-mode=importlib", "--diffbench-agent=bad.py", "-n", workers)

    result.stdout.fnmatch_lines(["*a/same/test_mine.py::test_it and b/same/*share the task id 'same-mine-it': rename*"])
    assert result.parseoutcomes()["errors"] == 1


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (
            "--diffbench-agent=gtp",
            "no such provider; use one of baseline, best-of-n, cmd, diffagent, evolution, gpt, mine, ",
        ),
        ("--diffbench-agent=missing.py", "missing.py does not exist"),
        ("--diffbench-attempts=0", "give 1 or more"),
        ("--diffbench-pairs=1", "give 4 or more"),
        ("--diffbench-quick", "a verdict takes its time: add --diffbench-requests=public"),
        ("--diffbench-race=2", "give a speed-up above 0, and --diffbench-requests=public"),
        ("--diffbench-images=100", "say nothing of fewer than 1000 images"),
        ("--diffbench-devices=cpu:9999", "cpu:9999 is not here; this machine has"),
    ],
)
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "xdist"])
def test_a_wrong_command_line_is_refused_before_anything_runs(
    pytester: pytest.Pytester, option: str, words: str, workers: tuple[str, ...]
) -> None:
    """A usage error says what would be right, and lists providers from conftests too."""
    pytester.makeconftest("def pytest_diffbench_providers(config):\n    return {'mine': object}\n")
    pytester.makepyfile("def test_never():\n    raise SystemExit('ran')\n")
    agent = () if "agent" in option else ("--diffbench-agent=reference",)

    result = pytester.runpytest_inprocess(option, *agent, *workers)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert words in result.stderr.str()


def test_the_command_says_why_tasks_cannot_be_collected(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    """`diffbench tasks` and whatever else collects: in the words that pytest would have."""
    file = pytester.makepyfile(f"{HEAD}\n@pytest.mark.diffbench(Task('sd99'))\ndef test_it(executability):\n    pass\n")
    capsys.readouterr()

    assert cli.main(["tasks", str(file)]) != 0
    assert "model 'sd99' is unknown: use one of" in capsys.readouterr().err


def test_answers_that_belong_to_no_task_are_named(tmp_path: Path) -> None:
    """Where tasks lack one: a folder's name in the ids is other than it was when the prompts were written, say."""
    for name in ("mine2-it.py", "mine2-that/1.py", "mine-it.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    lacking = TaskReport("t.py::test_it", "mine-it", "answers", Verdict.FAIL, line=f"{NO_ANSWER}: it does not exist")

    assert answers.unused(tmp_path, [lacking]) == [
        "answers that belong to no task of this run: 2 (mine2-it, mine2-that)"
    ]
    assert answers.unused(tmp_path, [replace(lacking, line="")]) == []
