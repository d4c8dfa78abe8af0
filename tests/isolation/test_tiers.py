"""What every tier promises, asked of each one that this machine has; and how one is chosen."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.isolation import Limits, Policy, Sandbox, Tier, bubblewrap, choose, landlock
from pytest_diffbench.isolation.cell import Cell
from pytest_diffbench.isolation.forkserver import ForkServers
from pytest_diffbench.isolation.tier import trial
from pytest_diffbench.records import Cause
from pytest_diffbench.wire import Request
from pytest_diffbench.zoo.weights import TINY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_diffbench.isolation.launch import Order

TIMEOUT_S: Final = 60.0
MODEL: Final = str(TINY / "sd15")
ASKED: Final = [Request(prompt="", seed=0, height=8, width=8, num_inference_steps=1)]
TIERS: Final = (Tier.BUBBLEWRAP, Tier.LANDLOCK)
WAYS: Final = {
    "bubblewrap": Policy(Tier.BUBBLEWRAP),
    "bubblewrap, forked": Policy(Tier.BUBBLEWRAP, forks=True),
    "landlock": Policy(Tier.LANDLOCK),
}
SERVERS: Final = ForkServers()


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[Policy]:
    """Each way to keep a process in that holds here; the reason where one does not."""
    found = WAYS[request.param]
    if (problem := trial(found)) is not None:
        pytest.skip(f"{request.param}: {problem}")
    yield found
    SERVERS.close()


def _name(way: Policy) -> str:
    return next(name for name, known in WAYS.items() if known == way)


def _sandbox(way: Policy, cores: Sequence[int] = ()) -> Sandbox:
    sandbox = Sandbox(way, models=(MODEL,), cores=cores, prepared=(), servers=SERVERS)
    assert (sandbox._cell._forked is not None) == way.forks
    return sandbox


def _says(way: Policy, expression: str, *, limits: Limits | None = None) -> str:
    """What a Python expression gives inside a sandbox, as text; `attempt(f, *args)` is a result or an error's name."""
    source = f"""
import ctypes, importlib, json, os, socket, subprocess, sys, tempfile, threading, time
from pathlib import Path
def attempt(function, *arguments):
    try:
        return function(*arguments)
    except OSError as error:
        return type(error).__name__
def load(model, device):
    raise ValueError(f"<{{{expression}}}>")
def generate(pipeline, requests):
    pass
"""
    with _sandbox(replace(way, limits=limits or Limits())) as sandbox:
        sandbox.wait_ready()
        with pytest.raises(SolutionFault) as caught:
            sandbox.load(source, model=MODEL, device="cpu", timeout_s=TIMEOUT_S)
    return caught.value.line.partition("<")[2].rpartition(">")[0]


# -- what can be reached -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ["1", "os.getppid()", "HARNESS"])
def test_no_environment_of_ours_can_be_read(way: Policy, owner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are in no `/proc/PID/environ` that a solution can open: bubblewrap's own init had them in the lab."""
    name = f"DIFFBENCH_KEY_{secrets.token_hex(4)}"
    expression = f"attempt(Path('/proc', str({owner}), 'environ').read_bytes)".replace("HARNESS", str(os.getpid()))
    script = f"""
from tests.isolation.test_tiers import WAYS, _says
print(_says(WAYS[{_name(way)!r}], {expression!r}))
"""
    said = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, name: "secret"},
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert said.stdout.strip()
    assert name not in said.stdout


def test_core_pattern_cannot_be_written(way: Policy) -> None:
    """A program named there would run as root on the host at the next crash: root's bubblewrap alone lets it."""
    before = Path("/proc/sys/kernel/core_pattern").read_text()

    said = _says(way, "attempt(os.open, '/proc/sys/kernel/core_pattern', os.O_WRONLY)")

    assert said in ("PermissionError", "OSError")
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_it_is_an_ordinary_user_of_its_own(way: Policy) -> None:
    """Landlock lets root read other processes; every sandbox has an id that nobody has, and no capabilities but one."""
    first, second = (_says(way, "os.getuid(), os.getgid(), os.getgroups()") for _ in range(2))
    capabilities = int(_says(way, "[l.split()[1] for l in open('/proc/self/status') if l.startswith('CapEff')][0]"), 16)

    assert capabilities in ((0, 1 << 2) if way.tier is Tier.LANDLOCK else (0,))
    if os.geteuid() == 0:
        assert first != second
        assert not first.startswith("(0,")


@pytest.mark.parametrize(
    "path",
    [
        "scorer",  # beside the model: what adversarial pixels would be made from
        "../../../reference_solutions",
        "../../../suites",
        "../train",
    ],
)
def test_answers_tasks_and_the_judge_are_hidden(way: Policy, path: str) -> None:
    """A solution reads its own model, and neither the judge's weights nor a worked answer."""
    folder = (TINY / path).resolve()
    files = [str(file) for file in folder.rglob("*") if file.is_file()][:3]
    assert files

    assert set(_says(way, f"*(attempt(open, name) for name in {files}),").strip("(),").split(", ")) <= {
        "'PermissionError'",
        "'FileNotFoundError'",
        "'NotADirectoryError'",
    }
    assert _says(way, f"len(open({str(Path(MODEL) / 'model_index.json')!r}).read()) > 0") == "True"


@pytest.mark.parametrize("folder", [MODEL, str(Path(__file__).parents[2] / "pytest_diffbench"), "/usr", "/", "/dev"])
def test_what_can_be_read_cannot_be_written(way: Policy, folder: str) -> None:
    """Weights, packages and the system are read-only."""
    name = f"{folder}/diffbench-{secrets.token_hex(4)}"
    with contextlib.suppress(FileNotFoundError):
        assert _says(way, f"attempt(open, {name!r}, 'w')") in ("PermissionError", "OSError")

    assert not Path(name).exists()


def test_more_can_be_made_readable(way: Policy, tmp_path: Path) -> None:
    """A package of the user's own that solutions import; what lies beside it stays closed."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/here.txt").write_text("mine")
    (tmp_path / "other.txt").write_text("other")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    source = f"""
def load(model, device):
    found = open({str(tmp_path / "mine/here.txt")!r}).read()
    try:
        found += open({str(tmp_path / "other.txt")!r}).read()
    except OSError:
        pass
    raise ValueError(f"<{{found}}>")
def generate(pipeline, requests):
    pass
"""
    with _sandbox(replace(way, readable=(str(tmp_path / "mine"),))) as sandbox:
        sandbox.wait_ready()
        with pytest.raises(SolutionFault, match="<mine>"):
            sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)


def test_a_solution_may_import_the_methods(way: Policy) -> None:
    """Those that are published, and ours, which a checkout has beside the package."""
    names = ["diffagent.methods", "tomesd", "DeepCache", "tgate"]

    assert _says(way, f"[importlib.import_module(name).__name__ for name in {names}]") == str(names)


def test_it_has_caches_and_a_home_of_its_own(way: Policy) -> None:
    """Home, temporary files and every cache lie in its scratch folder, which starts empty and leaves nothing."""
    # no file: a checkout that lies in /tmp has its folders there
    files = "len([1 for entry in os.scandir(tempfile.gettempdir()) if entry.is_file()])"
    expression = f"[{files}, Path('~').expanduser() == Path(tempfile.gettempdir())]"
    before = set(Path("/tmp").iterdir())

    assert _says(way, expression) == "[0, True]"
    assert _says(way, "open(tempfile.gettempdir() + '/left', 'w').write('x')") == "1"
    left = {entry for entry in set(Path("/tmp").iterdir()) - before if entry.name.startswith("diffbench-")}
    ends = time.monotonic() + 20
    while any(entry.exists() for entry in left) and time.monotonic() < ends:
        time.sleep(0.2)  # another worker's sandbox goes by itself
    assert [entry for entry in left if entry.exists()] == []


def test_the_parent_follows_no_link_of_a_solutions(way: Policy, tmp_path: Path) -> None:
    """A scratch folder full of links is removed, what they point to is not touched."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "kept.txt").write_text("kept")
    target.chmod(0o777)
    expression = (
        f"[os.symlink({str(target)!r}, tempfile.gettempdir() + '/link'), "
        "os.mkfifo(tempfile.gettempdir() + '/fifo'), os.symlink('/', tempfile.gettempdir() + '/root')]"
    )

    assert _says(way, expression) == "[None, None, None]"
    assert (target / "kept.txt").read_text() == "kept"


@pytest.mark.parametrize(
    "call",
    [
        "socket.create_connection(('127.0.0.1', PORT))",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socket(40)",
    ],
)
def test_there_is_no_network(way: Policy, call: str) -> None:
    """Neither loopback nor unix, netlink or vsock sockets."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        assert _says(way, f"attempt(lambda: {call.replace('PORT', str(port))})") == "OSError"


def test_no_other_process_can_be_touched(way: Policy) -> None:
    """Neither the harness nor a bystander of its user gets a signal."""
    with subprocess.Popen(["sleep", "60"]) as bystander:
        try:
            pids = [os.getpid(), bystander.pid, 1]
            said = _says(way, f"[attempt(os.kill, pid, 9) for pid in {pids} if pid != os.getppid()]")
            assert bystander.poll() is None
        finally:
            bystander.kill()

    assert "None" not in said.replace("ProcessLookupError", "") or way.tier is Tier.BUBBLEWRAP  # an own process 1


def test_a_core_is_not_its_to_choose(way: Policy) -> None:
    """It stays on the core that it is timed on, with the priority that it was given."""
    core = min(os.sched_getaffinity(0))
    source = f"""
import os
def load(model, device):
    found = []
    for call in (lambda: os.sched_setaffinity(0, range(64)), lambda: os.nice(-5)):
        try:
            call()
        except OSError as error:
            found.append(type(error).__name__)
    raise ValueError(f"<{{found}} {{os.sched_getaffinity(0) == {{{core}}}}}>")
def generate(pipeline, requests):
    pass
"""
    with _sandbox(way, cores=(core,)) as sandbox:
        sandbox.wait_ready()
        with pytest.raises(SolutionFault, match=r"<\['PermissionError', 'PermissionError'\] True>"):
            sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)


# -- limits ------------------------------------------------------------------------------------------------------------

SMALL: Final = Limits(memory_bytes=400 * 2**20, processes=40, disk_bytes=20 * 2**20, files=2000, output_bytes=2**20)
HUNGRY: Final[dict[str, tuple[Cause, str]]] = {
    "memory": (Cause.MEMORY, "while True: HELD.append(b'x' * 2**22)"),
    "memory in pieces": (
        Cause.MEMORY,
        """
for _ in range(4):
    if os.fork() == 0:
        break
HELD.append(b'x' * (180 * 2**20))
time.sleep(60)
""",
    ),
    "threads": (
        Cause.PROCESS_LIMIT,
        """
while True:
    try:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    except RuntimeError:
        time.sleep(60)
""",
    ),
    "processes": (
        Cause.PROCESS_LIMIT,
        """
while True:
    try:
        if os.fork() == 0:
            time.sleep(60)
    except OSError:
        time.sleep(60)
""",
    ),
    "bytes": (
        Cause.DISK_LIMIT,
        """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for n in itertools.count():
    try:
        with open(f'{tempfile.gettempdir()}/{n % 9}', 'ab') as file:
            file.write(bytes(2**20))
    except OSError:
        time.sleep(0.01)
""",
    ),
    "files": (
        Cause.DISK_LIMIT,
        """
for n in itertools.count():
    try:
        open(f'{tempfile.gettempdir()}/{n}', 'w').close()
    except OSError:
        time.sleep(60)
""",
    ),
    "output": (Cause.OUTPUT_LIMIT, "while True: print('x' * 4096)"),
}


def _loading(body: str) -> str:
    """A solution whose `load` does this."""
    head = "import ctypes, itertools, os, signal, tempfile, threading, time\nHELD = []\ndef load(model, device):\n"
    return head + textwrap.indent(body.strip(), "    ") + "\ngenerate = load\n"


@pytest.mark.parametrize("what", HUNGRY)
def test_a_limit_has_a_cause_of_its_own(way: Policy, what: str) -> None:
    """Whoever uses more than it may is ended soon, and told what it was; nothing of it is left."""
    cause, body = HUNGRY[what]
    with _sandbox(replace(way, limits=SMALL)) as sandbox:
        sandbox.wait_ready()
        with pytest.raises(SolutionFault) as caught:
            sandbox.load(_loading(body), model="", device="cpu", timeout_s=TIMEOUT_S)
        everything = sandbox._cell.everything()

    assert caught.value.cause is cause, caught.value.line
    assert caught.value.cause.failure_class is Cause.COMPILATION
    assert not any(Path(f"/proc/{pid}").exists() for pid in everything)


HANGS: Final = {
    "sleeps": "time.sleep(60)",
    "spins": "while True: pass",
    "ignores signals": """
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
time.sleep(60)
""",
    "stops itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "waits in C": "ctypes.CDLL(None).pause()",
    "closes everything": "os.closerange(0, 256)\ntime.sleep(60)",
    "forks on and on": """
ctypes.CDLL(None).prctl(1, 0)
while True:
    try:
        if os.fork():
            time.sleep(0.05)
    except OSError:
        time.sleep(0.05)
""",
}


@pytest.mark.parametrize("how", HANGS)
def test_what_hangs_is_gone_soon_after_its_deadline(way: Policy, how: str) -> None:
    """However a solution refuses to end, nothing of it runs once its time limit was told."""
    with _sandbox(replace(way, limits=SMALL)) as sandbox:
        sandbox.wait_ready()
        with pytest.raises(SolutionFault) as caught:
            sandbox.load(_loading(HANGS[how]), model="", device="cpu", timeout_s=0.7)
        found = [pid for pid in sandbox._cell.everything() if Path(f"/proc/{pid}").exists()]

    assert caught.value.cause in (Cause.SETUP_LIMIT, Cause.PROTOCOL, Cause.PROCESS_LIMIT)
    assert not found


# -- beginning and end -------------------------------------------------------------------------------------------------


@pytest.fixture
def nap() -> Iterator[str]:
    """An argument that no other process has; whoever has it in the end is ended."""
    found = f"600.{secrets.randbelow(10**9):09}"
    yield found
    for pid in _with_argument(found):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


def _with_argument(argument: str) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdecimal() and argument.encode() in (process / "cmdline").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


ESCAPE: Final = """
import ctypes, os, signal, subprocess
def load(model, device):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(1, 0)  # not to be told of a parent's death
    for leave in (os.setsid, lambda: os.setpgid(0, 0)):
        try:
            leave()
        except OSError:
            pass
    if os.fork() == 0:
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "NAP"])
        os._exit(0)
    os.wait()
def generate(pipeline, requests):
    pass
"""
"""Everything that a process can do to outlive those who started it."""


def test_a_killed_harness_takes_everything_along(way: Policy, nap: str) -> None:
    """SIGKILL lets a harness tidy nothing up; what a solution started is gone within two seconds all the same."""
    script = f"""
import sys, time
from tests.isolation.test_tiers import WAYS, _sandbox
sandbox = _sandbox(WAYS[{_name(way)!r}])
sandbox.wait_ready()
sandbox.load({ESCAPE.replace("NAP", nap)!r}, model="", device="cpu", timeout_s=60)
print(sandbox._cell.scratch, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        scratch = harness.stdout.readline().strip()
        assert _becomes(lambda: bool(_with_argument(nap)))
        harness.kill()

    assert _becomes(lambda: not _with_argument(nap))
    assert scratch == "None" or _becomes(lambda: not Path(scratch).exists())


def test_nothing_outlives_the_process_that_started_it(way: Policy, nap: str) -> None:
    """A solution whose own process ends leaves nothing running beside the next measurement."""
    source = ESCAPE.replace("NAP", nap).replace("os.wait()", "os.wait()\n    os._exit(3)")
    with _sandbox(way) as sandbox:
        sandbox.wait_ready()
        with pytest.raises(SolutionFault, match="exit code 3"):
            sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)

    assert _becomes(lambda: not _with_argument(nap))


def test_a_stopped_sandbox_is_stopped_whole(way: Policy, nap: str) -> None:
    """While the other arm is timed nothing in it runs, whatever it forked and however it tried to get away."""
    source = ESCAPE.replace("NAP", nap)
    with _sandbox(way) as sandbox:
        sandbox.wait_ready()
        sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)
        assert _becomes(lambda: bool(_with_argument(nap)))
        (sleeper,) = _with_argument(nap)

        sandbox.pause()
        stopped = _becomes(lambda: _state(sleeper) == _state(sandbox.pid) == "T")
        sandbox.resume()
        resumed = _becomes(lambda: _state(sleeper) == _state(sandbox.pid) == "S")

    assert (stopped, resumed) == (True, True)


def test_shared_memory_is_its_own_and_gone_with_it(way: Policy) -> None:
    """A pool of processes works where the harness is root, or has namespaces; what it leaves is removed."""
    if way.tier is Tier.LANDLOCK and os.geteuid() != 0:
        pytest.skip("an ordinary user's solutions have none behind Landlock")
    name = f"diffbench-{secrets.token_hex(4)}"
    source = f"""
import multiprocessing
from multiprocessing.shared_memory import SharedMemory
def double(number):
    return 2 * number
def load(model, device):
    from multiprocessing import resource_tracker
    resource_tracker.register = lambda *_: None
    SharedMemory({name!r}, create=True, size=4096).close()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        raise ValueError(f"<{{pool.map(double, [1, 2, 3])}}>")
def generate(pipeline, requests):
    pass
"""
    with _sandbox(way) as sandbox:
        sandbox.wait_ready()
        with pytest.raises(SolutionFault, match=r"<\[2, 4, 6\]>"):
            sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)

    assert _becomes(lambda: not Path("/dev/shm", name).exists())


def test_groups_and_folders_are_gone_with_it(way: Policy) -> None:
    """No control group and no folder is left, and no descriptor of ours."""
    with _sandbox(way) as sandbox:
        sandbox.wait_ready()
        cell = sandbox._cell
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
    sandbox.close()

    assert cell.cgroup is None or not cell.cgroup._folder.exists()
    assert cell.scratch is None or not Path(cell.scratch).exists()
    assert len(list(Path("/proc/self/fd").iterdir())) < descriptors


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _becomes(condition: Callable[[], bool], wait_s: float = 10.0) -> bool:
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


# -- the choice --------------------------------------------------------------------------------------------------------


def test_the_best_tier_that_holds_is_chosen() -> None:
    """By trial: the first of bubblewrap and Landlock with which no door was open."""
    held = [tier for tier in TIERS if trial(Policy(tier)) is None]
    if not held:
        pytest.skip("nothing holds here")

    assert choose().tier is held[0]


def test_a_missing_program_is_named_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing holds, an error says what is missing, how to mend it, and what the ways out are called."""
    monkeypatch.setattr(bubblewrap, "found", lambda: None)
    monkeypatch.setattr(landlock, "version", lambda: 0)

    with pytest.raises(SetupError) as caught:
        choose()

    said = str(caught.value)
    assert "the program bwrap is not installed" in said
    assert "apt-get install bubblewrap" in said
    assert "this kernel has no Landlock" in said
    assert "--diffbench-isolation=external" in said
    assert "--diffbench-isolation=none" in said


def test_a_tier_with_an_open_door_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial sees what is open: a process of its own keeps nothing in, and is told from a sandbox by that."""
    problem = trial(Policy(Tier.NONE))

    assert problem is not None
    for door in ("environment can be read", "files can be read", "loopback can be reached", "user namespace"):
        assert door in problem


def test_a_tier_that_lost_one_of_its_means_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Landlock whose filter of system calls is missing would pass any check of versions."""
    if trial(Policy(Tier.LANDLOCK)) is not None:
        pytest.skip("Landlock does not hold here")
    started = Cell._start

    def without_filter(cell: Cell, order: object, *more: object) -> None:
        from dataclasses import replace

        started(cell, replace(order, seccomp=False), *more)  # type: ignore[type-var, arg-type]

    monkeypatch.setattr(Cell, "_start", without_filter)

    problem = trial(Policy(Tier.LANDLOCK))

    assert problem is not None
    assert "a process group can be left" in problem


@pytest.mark.parametrize(
    ("kept", "door"),
    [({"seccomp": False}, "a process group can be left"), ({"uid": None}, "it has root's id")],
    ids=["calls", "root"],
)
def test_a_fork_that_keeps_a_right_is_refused(kept: dict[str, Any], door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forks are tried out as every way is; where they do not hold, bubblewrap starts each process by itself."""
    if trial(WAYS["bubblewrap, forked"]) is not None:
        pytest.skip("forks do not hold here")
    if "uid" in kept and os.geteuid() != 0:
        pytest.skip("only root has root's id to keep")
    forked = Cell._fork

    def without(cell: Cell, order: Order, *more: Any) -> None:
        forked(cell, replace(order, **kept), *more)

    monkeypatch.setattr(Cell, "_fork", without)

    assert door in str(trial(WAYS["bubblewrap, forked"]))
    chosen = choose("bubblewrap")
    assert (chosen.tier, chosen.forks) == (Tier.BUBBLEWRAP, False)


@pytest.mark.parametrize(("name", "stamp"), [("none", "none (own process only)"), ("external", "external")])
def test_giving_up_isolation_is_spelled_out_and_stamped(name: str, stamp: str) -> None:
    """Neither is ever chosen by itself; both say so on every record."""
    assert choose(name).stamp.startswith(stamp)
