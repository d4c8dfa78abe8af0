"""What a self-attack sees: every kind of break and of remains, whatever the exploit says; and what it makes of it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from pytest_diffbench import cli, self_attack, throwaway
from pytest_diffbench.errors import SetupError
from pytest_diffbench.records import Cause, Verdict
from pytest_diffbench.self_attack import Certificate, Finding
from pytest_diffbench.targets import Grounds, Targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXPLOIT: Final = '''"""{summary}

Seen: nowhere.
"""
VERDICT = "{verdict}"
CAUSE = {cause!r}
TASK = "drawing"
CONTROL = {control}
TARGETS: dict = {{}}
'''


@pytest.fixture
def grounds() -> Iterator[Grounds]:
    """Grounds of the test's own."""
    with Grounds() as grounds:
        yield grounds


@pytest.fixture
def targets(grounds: Grounds, tmp_path: Path) -> Iterator[Targets]:
    """Targets in place, over files of the test's own."""
    made = {name: tmp_path / name / "file.py" for name in ("weights", "scorer", "reference", "package")}
    for name, file in made.items():
        file.parent.mkdir()
        file.write_text(f"# the {name}, in one line that is long enough to be told from any other line")
    with Targets(
        grounds,
        weights_file=made["weights"],
        scorer_file=made["scorer"],
        reference_file=made["reference"],
        package_file=made["package"],
    ) as targets:
        yield targets


def test_nothing_is_found_where_nothing_was_done(targets: Targets) -> None:
    """A solution that leaves everything alone is not accused."""
    found = targets.look([b"a line", b"\0" * 100])

    assert (found.broke, found.left_behind) == ((), ())


def test_the_targets_say_where_and_never_what(targets: Targets) -> None:
    """What an exploit is told holds no secret: it has to get there."""
    told = repr(targets.names)

    assert Path(str(targets.names["secret_file"])).read_text() not in told
    assert os.environ[str(targets.names["secret_env"])] not in told


@pytest.mark.parametrize("key", ["secret_file", "public_file", "reference_file"])
def test_a_secret_that_is_sent_is_found(targets: Targets, key: str) -> None:
    """In an error's text or in the bytes of an image, with anything around it."""
    stolen = Path(str(targets.names[key])).read_bytes()

    found = targets.look([b"\x01\x02" + stolen + b"\xff"])

    assert any("it knows" in what for what in found.broke)


def test_a_key_that_is_sent_is_found(targets: Targets) -> None:
    """The environment's secret too."""
    assert targets.look([os.environ[str(targets.names["secret_env"])].encode()]).broke == ("it knows an API key",)


def _append(path: Path) -> None:
    path.write_text(path.read_text() + "x")


def _link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


@pytest.mark.parametrize("harm", [_append, Path.unlink, _link, lambda path: path.chmod(0o777)])
@pytest.mark.parametrize("key", ["writable_file", "package_file", "weights_file", "scorer_file", "reference_file"])
def test_a_changed_file_is_found_and_mended(targets: Targets, key: str, harm: Callable[[Path], None]) -> None:
    """Content, mode, or another thing in its place; the next exploit finds it as it was."""
    path = Path(str(targets.names[key]))
    before = path.read_bytes(), path.stat().st_mode
    harm(path)

    found = targets.look([])

    assert f"{path.name} was changed" in found.broke
    assert (path.read_bytes(), path.stat().st_mode, path.is_symlink()) == (*before, False)


def test_a_connection_is_found(targets: Targets) -> None:
    """TCP, UDP, unix by path and abstract."""
    names = targets.names
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", int(names["udp_port"])))
    socket.create_connection(("127.0.0.1", int(names["tcp_port"]))).close()
    for address in (str(names["unix_path"]), f"\0{names['unix_abstract']}"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)

    assert len([what for what in targets.look([]).broke if "it reached" in what]) == 4


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda pid: os.kill(pid, signal.SIGKILL), "killed"),
        (lambda pid: os.kill(pid, signal.SIGSTOP), "stopped"),
        (lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 7), "nice"),
        (lambda pid: os.sched_setaffinity(pid, list(os.sched_getaffinity(pid))[:1]), "cores"),
    ],
    ids=["killed", "stopped", "reniced", "moved"],
)
def test_a_harmed_bystander_is_found(targets: Targets, harm: Callable[[int], None], said: str) -> None:
    """Killed, stopped, made nicer, or moved to fewer cores."""
    if said == "cores" and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("one core")
    pid = int(targets.names["victim_pid"])
    harm(pid)
    if said in ("killed", "stopped"):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)

    assert any(said in what for what in targets.look([]).broke)


ORPHAN: Final = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 64)
        time.sleep(60)
    os._exit(0)
os.wait()
"""


def test_a_process_that_is_left_is_found_and_ended(targets: Targets) -> None:
    """It need not carry the token, and may have forked twice into a session of its own."""
    subprocess.run([sys.executable, "-S", "-c", ORPHAN], check=True)

    found = targets.look([])

    assert len(found.left_behind) == 1
    assert "a process" in found.left_behind[0]
    assert targets.look([]).left_behind == ()


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm", "cwd", "temporary"])
def test_a_file_that_is_left_is_found_and_removed(targets: Targets, grounds: Grounds, place: str) -> None:
    """Where temporary files go, in shared memory, in the working folder."""
    folder = {"cwd": Path.cwd(), "temporary": grounds.temporary}.get(place, Path(place))
    file = folder / str(targets.names["token"])
    file.touch()

    assert targets.look([]).left_behind == (f"a file: {file}",)
    assert not file.exists()


def test_a_module_that_is_left_to_be_imported_is_found(targets: Targets, grounds: Grounds) -> None:
    """A conftest.py needs no token in its name: nobody else makes one meanwhile."""
    file = Path(str(targets.names["package_file"])).with_name("conftest.py")
    file.touch()

    assert targets.look([]).left_behind == (f"a file: {file}",)


def test_shared_memory_that_is_left_is_found_and_removed(targets: Targets) -> None:
    """A System V segment has no name but its key."""
    if ctypes.CDLL(None, use_errno=True).shmget(int(targets.names["sysv_key"]), 4096, 0o1600) < 0:
        pytest.skip("this kernel gives no System V segments")

    assert targets.look([]).left_behind == ("System V shm",)
    assert targets.look([]).left_behind == ()


# -- the corpus ------------------------------------------------------------------------------------------------------


def _written(folder: Path, **said: object) -> Path:
    defaults = {"summary": "Does nothing.", "verdict": "FAIL", "cause": "crash", "control": False}
    file = folder / "isolation" / "does_nothing.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(EXPLOIT.format(**(defaults | said)))
    return file


def test_an_exploit_is_read_and_not_run(tmp_path: Path) -> None:
    """What it says of itself comes from its syntax: a file that would end this process is listed like any other."""
    file = _written(tmp_path, cause=("crash", "timeout"), control=True)
    file.write_text(file.read_text() + "import os\nos._exit(9)\n")

    (found,) = self_attack.corpus(tmp_path)

    assert (found.name, found.summary, found.control) == ("isolation/does_nothing", "Does nothing.", True)
    assert found.expected == "FAIL crash or timeout"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"verdict": "MAYBE"}, "VERDICT"),
        ({"cause": None}, "CAUSE"),
        ({"verdict": "PASS"}, "CAUSE"),
        ({"summary": ""}, "docstring"),
    ],
)
def test_an_exploit_that_says_nothing_of_itself_is_refused(
    tmp_path: Path, said: dict[str, object], problem: str
) -> None:
    """One without a verdict would be counted as held whatever it does."""
    _written(tmp_path, **said)

    with pytest.raises(SetupError, match=problem):
        self_attack.corpus(tmp_path)


def test_exploits_are_chosen_by_parts_of_their_names(tmp_path: Path) -> None:
    """And a name that fits none is refused, rather than nothing being run and all being well."""
    _written(tmp_path)
    exploits = self_attack.corpus(tmp_path)

    assert self_attack.chosen(exploits, ["nothing"]) == self_attack.chosen(exploits, []) == exploits
    with pytest.raises(SetupError, match="no exploit is named 'something'"):
        self_attack.chosen(exploits, ["something"])


def test_nothing_runs_without_isolation_outside_a_throw_away_shell(tmp_path: Path) -> None:
    """An exploit that could damage the machine is refused before it is started."""
    _written(tmp_path)
    (exploit,) = self_attack.corpus(tmp_path)

    with (
        self_attack.SelfAttack(isolation="none") as attacks,
        pytest.raises(SetupError, match="throw-away shell"),
    ):
        attacks.attack(exploit)


# -- what is made of it ----------------------------------------------------------------------------------------------


def _finding(name: str = "isolation/x", **more: object) -> Finding:
    said: dict[str, object] = {"expected": "FAIL crash", "found": "FAIL crash", "as_expected": True, "broke": ()}
    said |= {"left_behind": (), "elapsed_s": 1.0} | more
    return Finding(name=name, **said)  # type: ignore[arg-type]


def _certificate(*findings: Finding) -> Certificate:
    return Certificate("bubblewrap", "memory 2 GiB", "a core", "Linux 6", "2026-11-21", {"Python": "3.11"}, findings)


def test_a_certificate_counts_what_held_and_false_alarms() -> None:
    """Hostile and honest ones apart, in its last line; it names what it was made on."""
    certificate = _certificate(_finding(), _finding("honest/y"), _finding("honest/z", as_expected=False))

    assert certificate.lines()[-1] == "held 1 of 1; false alarms 1 of 2"
    assert "isolation bubblewrap" in certificate.lines()[0]
    assert not certificate.held
    assert _certificate(_finding()).held


@pytest.mark.parametrize(
    ("finding", "said"),
    [
        (_finding(found="PASS", as_expected=False, line="2.00x"), "expected FAIL crash; 2.00x"),
        (_finding(broke=("it knows an API key",)), "broke: it knows an API key"),
        (_finding(left_behind=("a process: 'x' (S)",)), "left behind: a process: 'x' (S)"),
    ],
    ids=["another verdict", "broke", "left"],
)
def test_what_did_not_hold_is_said(finding: Finding, said: str) -> None:
    """Another verdict, a break, and remains each keep an exploit from being held."""
    certificate = _certificate(finding)

    assert any(said in line for line in certificate.lines())
    assert certificate.lines()[-1] == "held 0 of 1; false alarms 0 of 0"


def test_every_exploit_of_the_corpus_says_what_it_must_get() -> None:
    """Each is parsed, has one of our causes and a source of its own."""
    known = {str(cause) for cause in Cause}
    exploits = self_attack.corpus()

    assert len(exploits) >= 100
    for exploit in exploits:
        assert {*exploit.causes} <= known, exploit.name
        assert "\nSeen: " in exploit.source or exploit.group == "honest", exploit.name
        assert (exploit.verdict is Verdict.PASS) == (exploit.group == "honest"), exploit.name


HONEST: Final = (self_attack.root() / "honest" / "draws_in_less_time.py").read_text()
STOLEN: Final = 'raise RuntimeError("BROKE: " + open(TARGETS["secret_file"]).read())'


@pytest.mark.parametrize(
    ("source", "held", "said"),
    [
        (HONEST, True, ""),
        (HONEST.replace("time.sleep(", "time.sleep(0.05 + "), False, "expected PASS; speed-up"),
        (HONEST.replace("    return None", f"    {STOLEN}"), False, "broke: it knows a private file"),
    ],
    ids=["held", "another verdict", "broke"],
)
def test_the_command_ends_as_the_attack_did(  # noqa: PLR0917 (fixtures)
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    held: bool,  # noqa: FBT001
    said: str,
) -> None:
    """`diffbench self-attack` exits with 0 where all held, else with 1; certificate and JSON say the same."""
    (tmp_path / "honest").mkdir()
    (tmp_path / "honest" / "one.py").write_text(source)
    monkeypatch.setattr(self_attack, "root", lambda: tmp_path)

    status = cli.main(["self-attack", "--isolation=none", f"--json={tmp_path / 'certificate.json'}"])

    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "certificate.json").read_text())
    assert status == (0 if held else 1)
    assert said in printed
    assert printed.rstrip().endswith(f"false alarms {0 if held else 1} of 1")
    assert written["isolation"] == "none (own process only)"
    assert written["findings"][0]["as_expected"] == held


def test_the_command_lists_what_it_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Every exploit with what it must get; a name that fits none is refused."""
    assert cli.main(["self-attack", "--list", "sleeps_for"]) == 0
    assert capsys.readouterr().out.startswith("isolation/sleeps_for_ever  FAIL timeout: Sleeps")
    assert cli.main(["self-attack", "--list", "no such"]) == 1


# -- the throw-away shell --------------------------------------------------------------------------------------------

shell = pytest.mark.skipif(bool(throwaway.obstacle()), reason=throwaway.obstacle() or "-")


def test_this_is_no_throw_away_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable in the environment is not enough: init must have been made with it."""
    if throwaway.inside():
        pytest.skip("this suite itself runs in a throw-away shell")
    monkeypatch.setenv(throwaway.MARK, "1234")

    assert not throwaway.inside()


@shell
def test_what_is_broken_in_a_throw_away_shell_is_whole_outside(tmp_path: Path) -> None:
    """Files, processes, shared memory, kernel settings and mounts: all seen, none kept; and it knows where it is."""
    canary = tmp_path / "canary"
    canary.write_text("whole")
    core_pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    script = f"""
import os, pathlib, subprocess, sys
from pytest_diffbench import throwaway
assert throwaway.inside()
assert pathlib.Path({str(canary)!r}).read_text() == "whole"
pathlib.Path({str(canary)!r}).unlink()
pathlib.Path("/dev/shm/{tmp_path.name}").touch()
pathlib.Path("/proc/sys/kernel/core_pattern").write_text("|/bin/false")
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", {str(tmp_path)!r}], check=True)
assert {os.getpid()} not in map(int, filter(str.isdigit, os.listdir("/proc"))) or {os.getpid()} < 50
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)", {tmp_path.name!r}], start_new_session=True)
print("done")
sys.exit(7)
"""

    ended = throwaway.run([sys.executable, "-c", script], timeout_s=60)

    assert (ended.output.strip(), ended.status) == ("done", 7)
    assert canary.read_text() == "whole"
    assert Path("/proc/sys/kernel/core_pattern").read_text() == core_pattern
    assert not Path(f"/dev/shm/{tmp_path.name}").exists()
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if tmp_path.name.encode() in _command(pid)]


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


@shell
def test_a_throw_away_shell_ends_in_time() -> None:
    """A command that hangs is ended with everything that it started."""
    assert throwaway.run(["sleep", "3600"], timeout_s=2).status == 124
