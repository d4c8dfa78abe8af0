"""What a run has found is kept while it runs, however it ends, and is not measured again when it is resumed."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_diffbench import history, journal
from pytest_diffbench.cli import main as diffbench
from pytest_diffbench.journal import Entry, Journal
from tests.plugin.conftest import HEAD, MODEL, SCORER, SOLUTIONS, furnish, own_task, read_strictly

if TYPE_CHECKING:
    from collections.abc import Sequence

TEST = f"""{HEAD}
@pytest.mark.diffbench({own_task(level=4, difficulty="hard")})
@pytest.mark.speed(at_least=1.5)
@pytest.mark.quality(max_loss=0.05)
def test_draw(executability, speed, quality):
    '''Draw faster.'''


@pytest.mark.diffbench({own_task(prompts="nowhere.txt")})
def test_infra(executability):
    '''Cannot be measured.'''


@pytest.mark.diffbench({own_task()})
def test_own_words(executability):
    '''Passes its stages, not its body.'''
    assert executability.load_s < 0, "not before it began"
"""
CHEAP = "".join(
    f"@pytest.mark.diffbench({own_task()})\ndef test_{name}(executability):\n    pass\n\n"
    f"def test_between_{name}():\n    pass\n\n"  # so that no process is started in advance
    for name in "abc"
)
UNPARSABLE = "def load(\n"
"""The cheapest solution: its verdict needs no process."""


def _environment() -> dict[str, str]:
    # unbuffered output would show in time what the plugin forgot to flush
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHONUNBUFFERED"))}
    return kept | {"COLUMNS": "160"}


def _command(*options: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-v", *options]


@dataclass(frozen=True)
class Ended:
    """What a run left behind."""

    status: int
    text: str
    json: Any


def _run(folder: Path, *options: str) -> Ended:
    file = folder / f"out{random.getrandbits(32)}.json"
    command = _command(*options, f"--benchmark-json={file}")
    ran = subprocess.run(
        command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=900, check=False
    )
    return Ended(ran.returncode, ran.stdout + ran.stderr, read_strictly(file) if file.exists() else None)


@dataclass(frozen=True)
class Both:
    """A run, and the same run resumed when nothing was left to do."""

    folder: Path
    first: Ended
    resumed: Ended

    @property
    def run(self) -> Path:
        """Its journal's folder."""
        return (self.folder / ".diffbench" / "last").resolve()


@pytest.fixture(
    scope="module", params=[pytest.param("0", marks=pytest.mark.slow, id="serial"), pytest.param("2", id="xdist")]
)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Both runs, made once for all promises below."""
    folder = tmp_path_factory.mktemp("project")
    furnish(folder)
    (folder / "test_mine.py").write_text(TEST)
    answers = folder / "answers" / "mine-draw"
    answers.mkdir(parents=True)
    (answers / "unparsable.py").write_text(UNPARSABLE)
    for name in ("fast", "slow"):
        (answers / f"{name}.py").write_text(SOLUTIONS[name])
    (folder / "answers" / "mine-own_words.py").write_text(SOLUTIONS["fast"])
    (folder / "answers" / "mine-infra.py").write_text(SOLUTIONS["fast"])
    run = partial(_run, folder, "-n", request.param, "--diffbench-agent=answers", "--diffbench-pairs=8")
    return Both(folder, run(), run("--diffbench-resume"))


def _without_marks(content: Any) -> Any:
    """What two runs of the same must have in common."""
    entries = [
        {k: v for k, v in entry.items() if k not in ("resumed", "line", "detail") or entry["verdict"] != "INFRA"}
        for entry in content["diffbench"]
    ]
    left = {name: value for name, value in content.items() if name not in ("datetime", "diffbench")}
    return left | {"diffbench": [{k: v for k, v in entry.items() if k != "resumed"} for entry in entries]}


def test_a_resumed_run_reports_as_if_it_had_run(both: Both) -> None:
    """Same numbers, same verdicts, same outcome of pytest; what is known says that it is, and runs no process."""
    assert _without_marks(both.resumed.json) == _without_marks(both.first.json)
    assert both.resumed.status == both.first.status == pytest.ExitCode.TESTS_FAILED
    assert [_outcome(both.first), _outcome(both.resumed)] == ["3 failed, 1 passed, 1 error"] * 2
    marks = {entry["nodeid"][14:]: entry["resumed"] for entry in both.resumed.json["diffbench"]}
    assert marks.pop("test_infra") is False
    assert set(marks.values()) == {True}
    assert not any(entry["resumed"] for entry in both.first.json["diffbench"])
    assert "starting a process" not in both.resumed.text
    assert both.resumed.text.count("known from the journal, not measured again") == 4
    assert "resumed: 4 of 5 tasks were known, and not measured again" in both.resumed.text
    assert re.search(
        rf"going on with {both.run.name} \(.*--diffbench-pairs=8.*\): 5 verdicts so far", both.resumed.text
    )


def _outcome(ended: Ended) -> str:
    found = re.search(r"\d+ failed, \d+ passed, \d+ error", ended.text)
    return found[0] if found else ended.text


def test_a_resumed_failure_gives_its_reason_again(both: Both) -> None:
    """The line to act on is the same, and names the same stage."""
    for reason in ("[speed] relative-speed error", "[executability] compilation error", "not before it began"):
        assert reason in both.first.text
        assert reason in both.resumed.text


def test_nothing_is_kept_twice(both: Both) -> None:
    """The second part of the run wrote nothing but what it measured itself: the task that could not be."""
    entries = journal.read(both.run).entries
    bodies: list[Any] = [entry.body for entry in entries if entry.kind == "verdict"]
    verdicts = [body["report"]["nodeid"][14:] for body in bodies]

    assert sorted(verdicts) == [
        "test_draw[fast]",
        "test_draw[slow]",
        "test_draw[unparsable]",
        "test_infra",
        "test_infra",
        "test_own_words",
    ]
    assert sum(entry.kind == "solution" for entry in entries) == 4
    assert sum(entry.kind == "start" for entry in entries) == 4


def test_every_pair_stage_text_and_image_is_there(both: Both) -> None:
    """What the file holds only at the end is in the journal piece by piece, and the images beside."""
    entries = journal.read(both.run).entries
    fast = next(entry for entry in both.first.json["diffbench"] if entry["nodeid"].endswith("test_draw[fast]"))
    attempt = next(a for a in history.load(both.run)[0].latest() if a.nodeid == fast["nodeid"])

    assert [pair["candidate_s"] for pair in attempt.pairs] == fast["speed"]["candidate_s"]
    assert [pair["baseline_s"] for pair in attempt.pairs] == fast["speed"]["baseline_s"]
    ended = [(stage["report"]["stage"], stage["report"]["verdict"]) for stage in attempt.stages]
    assert ended == [("executability", "PASS"), ("speed", "PASS"), ("quality", "PASS")]
    assert attempt.stages[-1]["evidence"] == fast["quality"]
    sources = [entry.body["source"] for entry in entries if entry.kind == "solution"]
    assert sorted(map(str, sources)) == sorted([UNPARSABLE, SOLUTIONS["fast"], SOLUTIONS["fast"], SOLUTIONS["slow"]])
    for pair in attempt.pairs:
        for name in (*pair["images"]["baseline"], *pair["images"]["candidate"]):
            assert (both.run / journal.IMAGES / name).is_file()


def test_export_writes_the_file_that_the_run_wrote(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    """`diffbench export RUN --benchmark-json` differs in nothing but the second of its making."""
    file = both.folder / "exported.json"

    assert diffbench(["export", str(both.run), "--benchmark-json", str(file)]) == 0
    exported = read_strictly(file)
    assert list(exported) == list(both.first.json)
    assert _without_marks(exported) == _without_marks(both.first.json)


def test_show_prints_every_verdict_and_the_table(
    both: Both, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`diffbench show last`, from a folder inside the project: the lines of the run, and its table."""
    monkeypatch.chdir(both.folder / "answers")

    assert diffbench(["show", "last"]) == 0
    text = capsys.readouterr().out
    assert "test_mine.py::test_draw[fast]  PASS | speed" in text
    assert "test_mine.py::test_draw[slow]  FAIL (relative-speed error) | speed" in text
    assert "test_mine.py::test_infra  INFRA: diffbench: cannot read the prompts" in text
    for row in (line.split()[:6] for line in both.first.text.splitlines() if "4 speed-up" in line):
        assert any(line.split()[:6] == row for line in text.splitlines())


def test_regrading_by_the_same_thresholds_changes_nothing(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    """The functions that decided then decide now, on the stored pairs and scores."""
    file = both.folder / "regraded.json"

    assert diffbench(["regrade", str(both.run), "--benchmark-json", str(file)]) == 0
    assert "0 verdicts changed" in capsys.readouterr().out
    for old, new in zip(both.first.json["diffbench"], read_strictly(file)["diffbench"], strict=True):
        assert (old["verdict"], old["cause"], old["speed"]) == (new["verdict"], new["cause"], new["speed"])
        if old["quality"] is not None:
            both_ways = [[task["quality"][name] for name in ("loss", "loss_low", "loss_high")] for task in (old, new)]
            assert both_ways[1] == pytest.approx(both_ways[0], abs=1e-6)
            outcomes = [
                (q["decision"], q["decided_after"], q["strict_decision"], q["guards"])
                for q in (old["quality"], new["quality"])
            ]
            assert outcomes[0] == outcomes[1]


def test_regrading_by_others_changes_what_they_touch(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    """The slow solution passes where almost nothing is demanded, the fast one fails where too much is."""
    assert diffbench(["regrade", str(both.run), "--speed-at-least=0.2"]) == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if "test_draw[slow]  PASS" in line)
    assert "its baseline timed alone: measure it, was FAIL (relative-speed error)" in line
    assert "1 verdicts changed" in text

    assert diffbench(["regrade", str(both.run), "--speed-at-least=50"]) == 0
    assert "test_draw[fast]  FAIL (relative-speed error), was PASS" in capsys.readouterr().out


def test_the_terminal_says_where_the_run_is_kept(both: Both) -> None:
    """One line at the end; version control does not see the folder."""
    shown = both.run.relative_to(both.folder)
    assert f"journal: {shown} (diffbench show {shown})" in both.first.text
    assert (both.folder / ".diffbench" / ".gitignore").read_text() == "*\n"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{6}-[0-9a-f]{6}", both.run.name)


# -- runs that are cut off ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2], ids=["serial", "xdist"])
def test_runs_killed_at_random_moments_lose_nothing(tmp_path: Path, workers: int) -> None:
    """Killed -9 and resumed until it is done: all tasks are in the file, none was lost, doubled, or run again."""
    checker = _kill_and_resume()

    seen = checker.cycles(tmp_path, 3, workers=workers, tasks=20, rng=random.Random(workers))

    assert seen["kills"] == 3
    assert seen["verdicts"] + seen["given up"] == 20 * seen["runs"]


def _kill_and_resume() -> Any:
    """The benchmark that does it two hundred times."""
    file = Path(__file__).parents[2] / "benchmarks" / "kill_and_resume.py"
    spec = importlib.util.spec_from_file_location("kill_and_resume", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("kinds", "found"),
    [
        (["start", "verdict", "start"], "run again"),
        (["start", "verdict", "verdict"], "two verdicts"),
        (["start"], "lost: a"),
    ],
)
def test_the_check_of_killed_runs_can_fail(kinds: Sequence[str], found: str) -> None:
    """The control: a journal that lost, doubled or ran something again does not pass it."""
    checker = _kill_and_resume()
    entries = [Entry(kind, "", {"nodeid": "a", "report": {"nodeid": "a", "verdict": "FAIL"}}) for kind in kinds]

    with pytest.raises(checker.Violation, match=found):
        checker.check(entries, {"a"})


@pytest.mark.parametrize(
    ("workers", "number", "group"),
    [
        ("0", signal.SIGTERM, False),
        pytest.param("0", signal.SIGINT, False, marks=pytest.mark.slow),
        pytest.param("2", signal.SIGTERM, False, marks=pytest.mark.slow),
        pytest.param("2", signal.SIGTERM, True, marks=pytest.mark.slow),
        ("2", signal.SIGINT, True),
    ],
)
def test_an_interrupted_run_leaves_its_file(
    project: pytest.Pytester,
    workers: str,
    number: signal.Signals,
    group: bool,  # noqa: FBT001 (a table's column: whether the workers get the signal too, as from a terminal)
) -> None:
    """SIGTERM as Ctrl-C: the finished tasks are in the file, and what was cut off does not count as a death."""
    hanging = SOLUTIONS["fast"].replace("    return None\n", "    time.sleep(600)\n")
    _answer(project.path, a=UNPARSABLE, b=UNPARSABLE, c=hanging)
    project.makepyfile(test_mine=HEAD + CHEAP)
    command = _command("-n", workers, "--diffbench-agent=answers", "--benchmark-json=out.json")
    with subprocess.Popen(
        ["env", "--default-signal=INT", *command],  # a suite that runs in the background may have it ignored
        cwd=project.path,
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if sum("compilation error" in each or "FAILED" in each for each in lines) >= 2 and "loading" in line:
                break
        (os.killpg if group else os.kill)(process.pid, number)
        text = "".join(lines) + process.stdout.read()
        status = process.wait(120)

    assert status == pytest.ExitCode.INTERRUPTED, text
    verdicts = {e["nodeid"][-6:]: e["verdict"] for e in read_strictly(project.path / "out.json")["diffbench"]}
    assert verdicts == {"test_a": "FAIL", "test_b": "FAIL"}
    found, _ = history.load(project.path / ".diffbench" / "last")
    unfinished = {attempt.nodeid[-6:]: attempt.unfinished for attempt in found.latest()}
    assert unfinished == {"test_a": 0, "test_b": 0, "test_c": 0}


def _answer(folder: Path, **sources: str) -> None:
    (folder / "answers").mkdir(exist_ok=True)
    for name, source in sources.items():
        (folder / "answers" / f"mine-{name}.py").write_text(source)


def test_show_tells_what_was_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run without any verdict has its lines too."""
    written = Journal(tmp_path / "run", "w")
    written.append("run", {"seed": 1})
    written.append("start", {"key": "k", "nodeid": "test_mine.py::test_a", "facts": {}, "started": {}})
    written.append("stage", {"key": "k", "report": {"stage": "executability", "verdict": "PASS"}})
    written.append("pair", {"key": "k", "timed_again": ""})
    written.append("pair", {"key": "k", "timed_again": "throttled"})
    written.close()

    assert diffbench(["show", "run", "--journal", str(tmp_path)]) == 0
    shown = "test_mine.py::test_a  cut off after 1 pairs (stages that ended: executability)"
    assert shown in capsys.readouterr().out


def test_a_task_that_kills_its_process_twice_is_given_up(project: pytest.Pytester) -> None:
    """A third time it is not tried but listed; the other tasks are measured; a new run tries it again."""
    _answer(project.path, a=UNPARSABLE, b=UNPARSABLE, c=UNPARSABLE)
    project.makepyfile(test_mine=HEAD + CHEAP)
    project.makeconftest(
        "import os, signal, pytest\n"
        "@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_runtest_call(item):\n"
        "    if item.name == 'test_b':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = partial(_run, project.path, "--diffbench-agent=answers")

    assert [run().status, run("--diffbench-resume").status] == [-signal.SIGKILL] * 2
    third = run("--diffbench-resume")
    verdicts = {e["nodeid"][-6:]: (e["verdict"], e["cause"]) for e in third.json["diffbench"]}
    failed = ("FAIL", "compilation error")
    assert verdicts == {"test_a": failed, "test_b": ("INFRA", "quarantined"), "test_c": failed}
    assert "quarantined: 2 tries ended with the death of the process" in third.text
    again = run("--diffbench-resume")
    assert {e["nodeid"][-6:]: e["cause"] for e in again.json["diffbench"]}["test_b"] == "quarantined"
    assert run().status == -signal.SIGKILL


# -- what is the same, and what is not ---------------------------------------------------------------------------------

STAMPED = """
import os, pytest
from pytest_diffbench.plugin import ledger

BEGIN = ledger.Ledger.begin

def begin(self, item, demand, **more):
    return BEGIN(self, item, demand, **more | {"isolation": os.environ["STAMP"]})

@pytest.fixture(autouse=True)
def stamped(monkeypatch):
    monkeypatch.setattr(ledger.Ledger, "begin", begin)
"""


def test_evidence_of_another_isolation_is_not_taken_over(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured without isolation is measured again with it, and the other way round."""
    _answer(project.path, a=UNPARSABLE, b=UNPARSABLE, c=UNPARSABLE)
    project.makepyfile(test_mine=HEAD + CHEAP)
    project.makeconftest(STAMPED)
    known = []
    for stamp, options in (("none", []), ("none", ["--diffbench-resume"]), ("bubblewrap", ["--diffbench-resume"])):
        monkeypatch.setenv("STAMP", stamp)
        ended = _run(project.path, "--diffbench-agent=answers", *options)
        known.append([entry["resumed"] for entry in ended.json["diffbench"]])

    assert known == [[False] * 3, [True] * 3, [False] * 3]


def test_what_has_changed_is_measured_again(project: pytest.Pytester) -> None:
    """Another solution, another test body, another option: each touches its own tasks; the seed stays."""
    _answer(project.path, a=UNPARSABLE, b=UNPARSABLE, c=UNPARSABLE)
    project.makepyfile(test_mine=HEAD + CHEAP)
    first = _run(project.path, "--diffbench-agent=answers")
    _answer(project.path, a=UNPARSABLE + "#")
    project.makepyfile(test_mine=HEAD + CHEAP.replace("def test_b(executability):\n", "def test_b(executability):\n\n"))
    resumed = _run(project.path, "--diffbench-agent=answers", "--diffbench-resume")
    strict = _run(project.path, "--diffbench-agent=answers", "--diffbench-resume", "--diffbench-undecided=fail")

    assert _resumed(resumed) == {"test_a": False, "test_b": False, "test_c": True}
    assert _resumed(strict) == {"test_a": False, "test_b": False, "test_c": False}
    editions = [{entry["task_edition"] for entry in ended.json["diffbench"]} for ended in (resumed, strict)]
    assert editions[0].isdisjoint(editions[1]), "what is judged by other rules is not ranked with the rest"
    assert {entry["seed"] for ended in (first, resumed, strict) for entry in ended.json["diffbench"]} == {
        first.json["diffbench"][0]["seed"]
    }


@pytest.mark.parametrize("what", ["model", "scorer", "readable"])
def test_what_a_task_stands_on_is_part_of_it(what: str, project: pytest.Pytester) -> None:
    """New weights, another scorer, an edit in the package that solutions read: measured again."""
    folders = {"model": Path(MODEL), "scorer": Path(SCORER)}
    for name, folder in folders.items():
        shutil.copytree(folder, project.path / name)
    (project.path / "src").mkdir()
    (project.path / "src" / "mine.py").write_text("SCALE = 1")
    task = own_task(scorer="./scorer").replace(repr(MODEL), "'./model'")
    project.makepyfile(test_mine=f"{HEAD}@pytest.mark.diffbench({task})\ndef test_a(executability):\n    pass\n")
    (project.path / "answer.py").write_text(UNPARSABLE)
    options = ["--diffbench-agent=answer.py", "--diffbench-readable=src"]

    _run(project.path, *options)
    assert _resumed(_run(project.path, *options, "--diffbench-resume")) == {"test_a": True}
    edited = {"model": "model/unet/config.json", "scorer": "scorer/config.json", "readable": "src/mine.py"}[what]
    with (project.path / edited).open("a") as file:
        file.write("\n")
    assert _resumed(_run(project.path, *options, "--diffbench-resume")) == {"test_a": False}


def _resumed(ended: Ended) -> dict[str, bool]:
    return {entry["nodeid"][-6:]: entry["resumed"] for entry in ended.json["diffbench"]}


def test_a_provider_is_asked_once(project: pytest.Pytester) -> None:
    """A language model costs money and never says the same twice: what it has said is taken from the journal."""
    project.makepyfile(test_mine=HEAD + CHEAP)
    project.makeconftest(
        "from pathlib import Path\n"
        "from pytest_diffbench.providers import Solution\n"
        "class Mine:\n"
        "    def solve(self, demand, prompt, attempt):\n"
        "        asked = Path('asked.txt').open('a')\n"
        "        asked.write(demand.task_id + '\\n')\n"
        "        asked.close()\n"
        "        return Solution(f'def load({Path(\"asked.txt\").stat().st_size}', origin='mine')\n"
        "def pytest_diffbench_providers(config):\n"
        "    return {'mine': Mine}\n"
    )
    _run(project.path, "--diffbench-agent=mine")
    resumed = _run(project.path, "--diffbench-agent=mine", "--diffbench-resume")

    assert set(_resumed(resumed).values()) == {True}
    assert len((project.path / "asked.txt").read_text().splitlines()) == 3


# -- where it is kept --------------------------------------------------------------------------------------------------


def test_without_a_task_nothing_is_made(project: pytest.Pytester) -> None:
    """Neither by other tests nor by collecting tasks."""
    project.makepyfile(test_mine=HEAD + CHEAP, test_plain="def test_it():\n    pass\n")

    project.runpytest_subprocess("test_plain.py", timeout=120).assert_outcomes(passed=1)
    project.runpytest_subprocess("--collect-only", "-q", timeout=120)
    assert not (project.path / ".diffbench").exists()


def test_another_folder_can_be_named(project: pytest.Pytester) -> None:
    """`--diffbench-journal`: runs lie there, under their ids, and are resumed from there; images only if wanted."""
    project.makepyfile(test_mine=HEAD + CHEAP)
    (project.path / "bad.py").write_text(UNPARSABLE)
    options = ["--diffbench-agent=bad.py", "--diffbench-journal=kept", "--diffbench-keep-images=none"]
    _run(project.path, *options)
    resumed = _run(project.path, *options, "--diffbench-resume=last")

    assert set(_resumed(resumed).values()) == {True}
    assert not (project.path / ".diffbench").exists()
    assert not (project.path / "kept" / ".gitignore").exists()  # somebody else's folder, perhaps a repository


def test_a_journal_that_cannot_be_written_is_an_error(project: pytest.Pytester) -> None:
    """Nothing is measured that would be lost: the task is an ERROR that says what to do."""
    project.makepyfile(test_mine=HEAD + CHEAP)
    (project.path / "bad.py").write_text(UNPARSABLE)
    ended = _run(project.path, "--diffbench-agent=bad.py", "--diffbench-journal=bad.py")

    assert {entry["verdict"] for entry in ended.json["diffbench"]} == {"INFRA"}
    assert "or name another folder with --diffbench-journal" in ended.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--diffbench-resume"], "*'last' is no run that anything was measured in*"),
        (["--diffbench-resume", "test_mine.py"], "*a path of tests after --diffbench-resume needs an '=' before it*"),
        (["--diffbench-resume=good", "--diffbench-seed=7"], "*a run that is resumed keeps its own, 5: leave it out*"),
        (["--diffbench-resume=busy"], "*the run is still going on*"),
        (["--diffbench-resume=headless"], "*too damaged to go on from: start a new run*"),
        (["--diffbench-resume=other"], "*other is a run of reference, not of fast.py: name another run, or none*"),
    ],
)
def test_what_cannot_be_resumed_is_refused(project: pytest.Pytester, options: list[str], said: str) -> None:
    """Before anything runs, in one line that says what would be right."""
    runs = project.path / ".diffbench"
    project.makepyfile(test_mine=HEAD + CHEAP)
    for name in ("good", "busy", "other"):
        written = Journal(runs / name, "w")
        written.append("run", {"seed": 5, "agent": "reference" if name == "other" else "fast.py"})
        if name != "busy":
            written.close()
    (runs / "headless").mkdir()
    (runs / "headless" / "journal-w.jsonl").write_text("nothing\n")

    result = project.runpytest_subprocess("--diffbench-agent=fast.py", *options, timeout=120)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_whoever_forgets_the_agent_resumes_nobody_elses_run(project: pytest.Pytester) -> None:
    """Else the worked answers' verdicts would stand in the journal of another."""
    project.makepyfile(test_mine=HEAD + CHEAP)
    written = Journal(project.path / ".diffbench" / "theirs", "w")
    written.append("run", {"seed": 5, "agent": "fast.py"})
    written.close()

    result = project.runpytest_subprocess("--diffbench-resume=theirs", timeout=120)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*theirs is a run of fast.py, not of reference: name another run, or none*"])
    assert len(history.load(project.path / ".diffbench" / "theirs")[0].headers) == 1
