"""A coding agent as a command: what it is given, how often it may measure, and what becomes of what it leaves."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from diffagent.workshop import Terms, Workshop

from pytest_diffbench.demand import Markers, SpeedDemand
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.records import Cause
from pytest_diffbench.zoo import supply
from tests.agent.demands import demand
from tests.agent.imagined import Imagined
from tests.plugin.conftest import HEAD, SOLUTIONS, furnish, own_task

if TYPE_CHECKING:
    from pytest_diffbench.demand import Demand
    from pytest_diffbench.zoo.supply import Weights

TASK = demand("sd15", Markers(speed=SpeedDemand(3.0)), level=4)
FAST = "def load(model, device): ...\ndef generate(pipeline, requests):\n    return pipeline(num_inference_steps=15)\n"


def _weights(task: Demand) -> Weights:
    return supply.Zoo().supply(task.model, image_to_image=task.task.strength is not None)


def _workshop(folder: Path, script: str, *, machine: Any = None, **terms: Any) -> Workshop:
    """A shop whose command is a Python script."""
    file = folder / "agent.py"
    file.write_text(script)
    return Workshop(
        f"{sys.executable} {file} '{{prompt}}'",
        machine or Imagined(3.0),
        _weights,
        folder / "spaces",
        Terms(**{"timeout_s": 60.0, **terms}),
    )


LEAVES = f"open('solution.py', 'w').write({FAST!r})\n"


def test_what_it_leaves_is_the_answer(tmp_path: Path) -> None:
    """It finds its task, the code as it is today and public requests; what it prints is kept."""
    look = (
        "import json, sys, pathlib\n"
        "assert 'at least 3.0 times faster' in pathlib.Path('TASK.md').read_text()\n"
        "assert sys.argv[1] == pathlib.Path('TASK.md').read_text()\n"
        "assert 'def load' in pathlib.Path('baseline.py').read_text()\n"
        "assert len(json.load(open('requests.json'))) == 8\n"
        "print('I am done')\n"
    )
    shop = _workshop(tmp_path, look + LEAVES)
    solution = shop.solve(TASK, "Make it at least 3.0 times faster.", "")

    assert solution.source == FAST
    assert (tmp_path / "spaces" / "test_it" / "transcript.txt").read_text() == "I am done\n"
    assert shop.label.startswith("cmd:")


def test_it_may_measure_as_often_as_it_is_allowed(tmp_path: Path) -> None:
    """The answer is the public verdict; what is counted is counted by us."""
    script = (
        LEAVES
        + "import subprocess\n"
        + "for _ in range(3):\n"
        + "    done = subprocess.run(['./evaluate'], capture_output=True, text=True)\n"
        + "    print(done.returncode, done.stdout, done.stderr, flush=True)\n"
    )
    machine = Imagined(3.0)
    _workshop(tmp_path, script, machine=machine, evaluations=2).solve(TASK, "", "")
    said = (tmp_path / "spaces" / "test_it" / "transcript.txt").read_text()

    assert said.count("0 PASS\nspeed-up 3.333") == 2
    assert "1 evaluations are left" in said
    assert "REFUSED: all evaluations are used up" in said
    assert len(machine.generations) == 2
    assert len({order.seed for order in machine.orders}) == 2


def test_images_to_begin_with_lie_beside_the_requests(tmp_path: Path) -> None:
    """As files, which a request names."""
    shop = _workshop(tmp_path, LEAVES)
    shop.solve(demand("sdxl", strength=0.6), "", "")
    place = tmp_path / "spaces" / "test_it"

    named = [request["image"] for request in json.loads((place / "requests.json").read_text())]
    assert all((place / name).is_file() for name in named)


@pytest.mark.parametrize(
    ("script", "terms", "said"),
    [
        ("print('no idea')", {}, "left no solution.py (it ended with exit code 0)"),
        ("raise SystemExit(3)", {}, "left no solution.py (it ended with exit code 3)"),
        ("import time; time.sleep(60)", {"timeout_s": 0.5}, "left no solution.py (its 0.5 s were over)"),
        ("open('solution.py', 'wb').write(b'\\xff\\xfe')", {}, "is no UTF-8 text"),
    ],
)
def test_nothing_usable_is_the_commands_failure(
    tmp_path: Path, script: str, terms: dict[str, float], said: str
) -> None:
    """A compilation error with the end of what it printed."""
    with pytest.raises(SolutionFault) as raised:
        _workshop(tmp_path, script, **terms).solve(TASK, "", "")

    assert raised.value.cause is Cause.COMPILATION
    assert said in str(raised.value)
    if "no idea" in script:
        assert "no idea" in raised.value.detail


@pytest.mark.parametrize("command", ["", "'", "/nowhere/agent --yes"])
def test_a_command_that_cannot_be_started_is_said(tmp_path: Path, command: str) -> None:
    """Not held against anybody's solution."""
    with pytest.raises(SetupError, match="diffbench-agent=cmd:"):
        Workshop(command, Imagined(3.0), _weights, tmp_path / "spaces").solve(TASK, "", "")


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    """No server of an agent's goes on after its time."""
    script = "import subprocess\nprint(subprocess.Popen(['sleep', '60']).pid, flush=True)\n" + LEAVES
    _workshop(tmp_path, script).solve(TASK, "", "")
    pid = int((tmp_path / "spaces" / "test_it" / "transcript.txt").read_text())

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


def test_a_key_that_it_prints_is_blotted_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs its key; the transcript does not."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    _workshop(tmp_path, "import os\nprint(os.environ['OPENAI_API_KEY'])\n" + LEAVES).solve(TASK, "", "")

    assert (tmp_path / "spaces" / "test_it" / "transcript.txt").read_text() == "[key]\n"


def test_trouble_of_ours_is_no_verdict(tmp_path: Path) -> None:
    """It is told, and may go on."""

    class Broken(Imagined):
        def measure(self, *_: Any) -> Any:
            """No device."""
            raise SetupError("diffbench: no device")

    script = "import subprocess\nopen('x.py','w').write('1')\nsubprocess.run(['./evaluate', 'x.py'])\n" + LEAVES
    _workshop(tmp_path, script, machine=Broken(3.0)).solve(TASK, "", "")

    assert "INFRA: diffbench: no device" in (tmp_path / "spaces" / "test_it" / "transcript.txt").read_text()


def test_a_command_is_scored(pytester: pytest.Pytester) -> None:
    """From the command line, with a public evaluation in earnest on the way; the verdict is on secret requests."""
    furnish(pytester.path)
    source = f"{HEAD}@pytest.mark.diffbench({own_task()})\n@pytest.mark.speed(at_least=1.5)\n"
    pytester.makepyfile(test_mine=f"{source}def test_it(executability, speed, quality):\n    '''Go.'''\n")
    pytester.makepyfile(
        agent=f"open('solution.py', 'w').write({SOLUTIONS['fast']!r})\n__import__('subprocess').run(['./evaluate'])\n"
    )
    agent = f"--diffbench-agent=cmd:{sys.executable} {pytester.path / 'agent.py'}"
    result = pytester.runpytest_subprocess(agent, "test_mine.py", "-v")

    result.assert_outcomes(passed=1)
    (transcript,) = pytester.path.rglob("transcript.txt")
    assert transcript.read_text().startswith("PASS\nspeed-up ")
    result.stdout.fnmatch_lines(["agents measured for * device seconds, on public requests"])


def test_a_command_is_named(pytester: pytest.Pytester) -> None:
    """Behind the colon; `search` takes nothing there."""
    pytester.makepyfile("def test_never(): ...\n")

    wrong = {"cmd": "say what, behind a colon: cmd:…", "search:x": "'search' takes nothing behind a colon"}
    for agent, said in wrong.items():
        result = pytester.runpytest_inprocess(f"--diffbench-agent={agent}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert said in result.stderr.str()
