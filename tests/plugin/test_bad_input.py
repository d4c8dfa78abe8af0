"""Bad input gets a clear message or verdict; the other tasks go on, and nothing measured is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pytest_diffbench.plugin import PUBLIC_SEED
from pytest_diffbench.plugin.recorder import write
from pytest_diffbench.zoo import weights
from tests.plugin.conftest import ARTIST, HEAD, SOLUTIONS, own_task, read_strictly

TASK = f"{HEAD}\n@pytest.mark.diffbench({own_task()})\ndef test_draw(executability):\n    '''Draw.'''\n"


def test_a_binary_solution_is_a_failure_of_the_solution(project: pytest.Pytester) -> None:
    """A file that is no text gets the paper's compilation error."""
    project.makepyfile(test_mine=TASK)
    (project.path / "blob.py").write_bytes(b"\xff\xfe\x00\x01" * 64)

    result = project.runpytest_inprocess("--diffbench-agent=blob.py")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*compilation error: blob.py is not Python source: it is not UTF-8 text*"])


def test_a_syntax_error_names_its_line(project: pytest.Pytester) -> None:
    """A solution that does not parse fails without a process being started."""
    project.makepyfile(test_mine=TASK)
    (project.path / "typo.py").write_text("def load(model, device):\n    return (\n\ndef generate():\n")

    result = project.runpytest_inprocess("--diffbench-agent=typo.py")

    result.stdout.fnmatch_lines(["*compilation error: SyntaxError: '(' was never closed (solution.py line 2)*"])


def test_a_missing_function_is_named(project: pytest.Pytester) -> None:
    """A solution that lacks half the contract is told which half."""
    project.makepyfile(test_mine=TASK)
    (project.path / "half.py").write_text("def load(model, device):\n    return None\n")

    result = project.runpytest_inprocess("--diffbench-agent=half.py")

    result.stdout.fnmatch_lines(["*lacks the function generate*def generate(pipeline, requests)*"])


def test_an_answer_that_is_missing_counts_as_not_solved(project: pytest.Pytester) -> None:
    """A folder without an answer to a task cannot shrink the denominator."""
    project.makepyfile(test_mine=TASK)
    project.mkdir("answers")

    result = project.runpytest_inprocess("--diffbench-agent=answers", "--benchmark-json=out.json")

    result.assert_outcomes(failed=1)
    assert read_strictly(project.path / "out.json")["diffbench"][0]["verdict"] == "FAIL"


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (own_task(prompts=None), "must bring its own judge: add prompts='prompts.txt' to Task(...)"),
        (own_task(scorer="./nowhere"), "is no folder of a transformers CLIPModel"),
        (own_task(prompts="missing.txt"), "cannot read the prompts in"),
        (own_task(prompts="few.txt"), "holds 2 different prompts, one a line; at least 10 are needed"),
        (own_task(baseline="missing.py"), "cannot read the solution"),
    ],
)
def test_a_foreign_model_without_its_judge_says_what_to_give(project: pytest.Pytester, task: str, words: str) -> None:
    """What a task of one's own lacks is a set-up error that names it."""
    (project.path / "few.txt").write_text("one\ntwo\ntwo\n")
    project.makepyfile(test_mine=f"{HEAD}\n@pytest.mark.diffbench({task})\ndef test_draw(executability):\n    pass\n")

    result = project.runpytest_inprocess("--diffbench-agent=fast.py")

    result.assert_outcomes(errors=1)
    assert words in result.stdout.str()


def test_too_few_prompts_of_ones_own_are_no_public_ones(project: pytest.Pytester) -> None:
    """Ten prompts serve a verdict; of a public set it is said how many it needs."""
    lines = (project.path / "prompts.txt").read_text().splitlines()[:10]
    (project.path / "prompts.txt").write_text("\n".join(lines))
    project.makepyfile(test_mine=TASK)

    result = project.runpytest_inprocess("--diffbench-agent=fast.py", "--diffbench-requests=public")

    result.assert_outcomes(errors=1)
    result.stdout.re_match_lines([r".*prompts.txt holds 10 different prompts, .* 4 and 10 are needed: add prompts"])
    project.runpytest_inprocess("--diffbench-agent=fast.py").assert_outcomes(passed=1)


def test_public_requests_make_no_score(project: pytest.Pytester) -> None:
    """The record says so, the terminal says so, and there is no S_p; without a number of one's own they repeat."""
    project.makepyfile(test_mine=TASK)

    result = project.runpytest_inprocess(
        "--diffbench-agent=fast.py", "--diffbench-requests=public", "--benchmark-json=out.json"
    )

    result.assert_outcomes(passed=1)
    (task,) = read_strictly(project.path / "out.json")["diffbench"]
    assert (task["requests"], task["seed"]) == ("public", PUBLIC_SEED)
    again = f"--diffbench-requests=public --diffbench-seed={PUBLIC_SEED}"
    result.stdout.fnmatch_lines([f"requests: public, so there is no score; the same requests again: {again}"])
    assert "100.0%" not in result.stdout.str().partition("S_p")[2]


def test_a_claim_that_leaves_the_house_needs_secret_requests(project: pytest.Pytester) -> None:
    """Certifying on requests that anybody may know is refused before anything runs."""
    project.makepyfile(test_mine=TASK)

    result = project.runpytest_inprocess(
        "--diffbench-agent=fast.py", "--diffbench-requests=public", "--diffbench-certify"
    )

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--diffbench-certify: results to publish need secret requests*"])


@pytest.mark.parametrize(("harm", "words"), [("cut", "is damaged"), ("removed", "the tiny zoo lacks")])
def test_damaged_weights_are_an_error_that_names_the_file(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, harm: str, words: str
) -> None:
    """A weight file that is missing or differs from its digest stops its tasks in set-up, with the mend."""
    zoo = project.path / "zoo"
    shutil.copytree(weights.TINY, zoo)
    monkeypatch.setattr(weights, "TINY", zoo)
    file = zoo / "sd15" / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1]) if harm == "cut" else file.unlink()
    project.makepyfile(
        test_mine=f"{HEAD}\n@pytest.mark.diffbench(Task('sd15'))\ndef test_draw(executability):\n    pass\n"
    )

    result = project.runpytest_inprocess("--diffbench-agent=baseline")

    result.assert_outcomes(errors=1)
    text = result.stdout.str()
    assert words in text
    assert "diffusion_pytorch_model.safetensors" in text
    assert "install pytest-diffbench again" in text


def test_a_full_disk_loses_no_measurement(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file cannot be written, the run says so, fails, and keeps the numbers elsewhere."""
    spare = project.mkdir("spare")
    monkeypatch.setattr("tempfile.tempdir", str(spare))
    project.makepyfile(test_mine=TASK)

    result = project.runpytest_inprocess("--diffbench-agent=fast.py", "--benchmark-json=/dev/full")

    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    text = result.stdout.str()
    assert "cannot write /dev/full: No space left on device; the measurements are kept in" in text
    rescued = next(spare.glob("diffbench-rescued-*.json"))
    assert read_strictly(rescued)["diffbench"][0]["verdict"] == "PASS"
    assert Path("/dev/full").exists()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A write that fails leaves the old content, and nothing beside it."""
    file = tmp_path / "out.json"
    file.write_text("old")

    with pytest.raises(UnicodeEncodeError):
        write(file, "new \ud800")

    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_run_that_is_cut_off_leaves_no_file_of_yesterday(project: pytest.Pytester) -> None:
    """The file of an earlier run is gone as soon as the next one starts, which asking for the tasks does not."""
    (project.path / "out.json").write_text("{}")
    project.makepyfile(test_mine=TASK + "\n\ndef pytest_never():\n    pass\n")
    options = ["--diffbench-agent=fast.py", "--benchmark-json=out.json"]

    project.runpytest_inprocess(*options, "--collect-only")
    assert (project.path / "out.json").exists()
    project.runpytest_inprocess(*options, "-k", "nothing_at_all")

    assert not (project.path / "out.json").exists()


def test_a_solution_that_sleeps_for_ever_is_ended(project: pytest.Pytester) -> None:
    """A hanging solution fails at its task's own time limit, and the next task runs."""
    limited = f"@pytest.mark.executability(timeout_s=1)\n@pytest.mark.diffbench({own_task()})\n"
    tests = [f"{limited}def test_{name}(executability):\n    pass\n\n" for name in "ab"]
    project.makepyfile(test_mine="\n".join([HEAD, *tests]))
    answers = project.mkdir("answers")
    (answers / "mine-a.py").write_text(ARTIST.format(sleep_s=3600))
    (answers / "mine-b.py").write_text(SOLUTIONS["fast"])

    result = project.runpytest_inprocess("--diffbench-agent=answers")

    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*timeout: generate did not finish within 1 s*"])


def test_a_provider_that_cannot_be_reached_is_infrastructure(project: pytest.Pytester) -> None:
    """A provider's SetupError is an ERROR in set-up, outside the denominator."""
    project.makeconftest(
        "from pytest_diffbench.errors import SetupError\n"
        "class Away:\n"
        "    def solve(self, demand, prompt, attempt):\n"
        "        raise SetupError('the model server does not answer')\n"
        "def pytest_diffbench_providers(config):\n"
        "    return {'away': Away}\n"
    )
    project.makepyfile(test_mine=TASK)

    result = project.runpytest_inprocess("--diffbench-agent=away", "--benchmark-json=out.json")

    result.assert_outcomes(errors=1)
    assert read_strictly(project.path / "out.json")["diffbench"][0]["verdict"] == "INFRA"


def test_an_undecided_task_can_be_skipped(project: pytest.Pytester) -> None:
    """`--diffbench-undecided=skip` is pytest's word for it only: not tried twice, and still not passed."""
    task = f"{HEAD}\n@pytest.mark.diffbench({own_task()})\n@pytest.mark.speed(at_least=1.5)\n"
    project.makepyfile(test_mine=f"{task}def test_draw(executability, speed):\n    pass\n")

    result = project.runpytest_inprocess(
        "-v",
        "--diffbench-agent=wavering.py",
        "--diffbench-undecided=skip",
        "--diffbench-pairs=4",
        "--benchmark-json=out.json",
    )

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*UNDECIDED*", " your own*1*0*0.0%*1 undecided"])
    (entry,) = read_strictly(project.path / "out.json")["diffbench"]
    assert (entry["verdict"], entry["undecided_runs"]) == ("UNDECIDED", 0)
