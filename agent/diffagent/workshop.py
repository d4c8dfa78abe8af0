"""`--diffbench-agent=cmd:COMMAND`: a coding agent of one's own gets a workspace, and leaves `solution.py` there.

It may measure what it has on public requests, as often as it is allowed; the counting is done here, not there. The
command is the user's own program and runs with the user's rights; what it leaves is as untrusted as any solution.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from diffagent import keys, leash
from diffagent.budget import BudgetSpent
from diffagent.generation import Order
from diffagent.loop import report_of
from pytest_diffbench.errors import SetupError, SolutionFault
from pytest_diffbench.providers import Solution, baseline_source
from pytest_diffbench.records import Cause, RequestSet
from pytest_diffbench.requests import sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from diffagent.fitness import Fitness
    from diffagent.loop import Machine
    from pytest_diffbench.demand import Demand
    from pytest_diffbench.zoo.supply import Weights

SOLUTION: Final = "solution.py"
TASK: Final = "TASK.md"
TRANSCRIPT: Final = "transcript.txt"
EVALUATIONS: Final = 28
"""The paper's whole budget, P x T_sel."""
TIMEOUT_S: Final = 3600.0
SHOWN_REQUESTS: Final = 8
ENDS_WITHIN_S: Final = 5.0
_HINT: Final = """
## Your workspace
Leave your answer in `solution.py`, in the folder that you are started in. `baseline.py` is the code as it is today,
`requests.json` holds a few public requests. `./evaluate` measures `solution.py` on other public requests, and says what
the benchmark will say on secret ones; {evaluations} evaluations are allowed.
"""
_EVALUATE: Final = '''#!{python}
"""Measures a solution on public requests: ./evaluate [FILE], by default solution.py."""
import json
import socket
import sys

file = sys.argv[1] if len(sys.argv) > 1 else "solution.py"
with open(file, encoding="utf-8", errors="replace") as stream:
    asked = json.dumps({{"source": stream.read()}})
with socket.socket(socket.AF_UNIX) as line:
    line.connect({socket!r})
    line.sendall(asked.encode() + b"\\n")
    answer = line.makefile().read()
print(answer)
sys.exit(not answer.startswith("PASS"))
'''


@dataclass(frozen=True)
class Terms:
    """What a command may take."""

    timeout_s: float = TIMEOUT_S
    evaluations: int = EVALUATIONS


class Workshop:
    """The provider: the command is started once for each task."""

    def __init__(
        self,
        command: str,
        machine: Machine,
        weights: Callable[[Demand], Weights],
        folder: Path,
        terms: Terms | None = None,
    ) -> None:
        """`folder` keeps the workspaces, transcripts among them; SetupError of a command that cannot be read."""
        self.label = f"cmd:{command}"
        self._command = _split(command)
        self._machine = machine
        self._weights = weights
        self._folder = folder
        self._terms = terms or Terms()

    def solve(self, demand: Demand, prompt: str, attempt: str) -> Solution:
        """What the command left; SolutionFault where that is nothing, SetupError where it cannot be started."""
        place = self._folder / f"{demand.task_id}{f'-{attempt}' if attempt else ''}"
        with _socket() as path:
            self._furnish(place, demand, prompt, path)
            bench = Bench(self._machine, demand, attempt, self._terms.evaluations)
            with bench.open_at(path):
                ended = self._run(place, (place / TASK).read_text())
        file = place / SOLUTION
        if not file.is_file():
            raise SolutionFault(
                Cause.COMPILATION, f"the command left no {SOLUTION} ({ended})", _tail(place / TRANSCRIPT)
            )
        try:
            return Solution(file.read_text(encoding="utf-8"), f"{self.label}: {file}")
        except UnicodeDecodeError as error:
            raise SolutionFault(Cause.COMPILATION, f"{SOLUTION} is no UTF-8 text") from error

    def _furnish(self, place: Path, demand: Demand, prompt: str, socket: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        try:
            place.mkdir(parents=True)
            (place / TASK).write_text(f"{prompt.rstrip()}\n{_HINT.format(evaluations=self._terms.evaluations)}")
            (place / "baseline.py").write_text(baseline_source(demand))
            (place / "requests.json").write_text(json.dumps(self._requests(demand, place), indent=1))
            script = place / "evaluate"
            script.write_text(_EVALUATE.format(python=sys.executable, socket=str(socket)))
            script.chmod(0o755)
        except OSError as error:
            raise SetupError(f"diffbench: cannot write {place}: {error.strerror or error}") from error

    def _requests(self, demand: Demand, place: Path) -> list[dict[str, Any]]:
        """A few public requests; their images lie beside."""
        weights = self._weights(demand)
        if weights.public_problem:
            return []
        source = sources(demand, weights, "workshop", RequestSet.PUBLIC)("shown")
        told = []
        for number in range(SHOWN_REQUESTS):
            request = source.batch()[0]
            facts = {name: each for name, each in vars(request).items() if each is not None and name != "image"}
            if request.image is not None:
                request.image.save(place / f"request-{number}.png")
                facts["image"] = f"request-{number}.png"
            told.append(facts)
        return told

    def _run(self, place: Path, prompt: str) -> str:
        """Run the command to its end, or the end of its time; how it ended."""
        program, *rest = self._command
        command = [self._found(program, place), *(argument.replace("{prompt}", prompt) for argument in rest)]
        with (place / TRANSCRIPT).open("wb") as transcript:
            try:
                started = subprocess.Popen(
                    leash.tied(command),
                    cwd=place,
                    stdin=subprocess.DEVNULL,
                    stdout=transcript,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise SetupError(f"diffbench: --diffbench-agent={self.label}: cannot be started: {error}") from error
            try:
                ended = f"it ended with exit code {started.wait(self._terms.timeout_s)}"
            except subprocess.TimeoutExpired:
                ended = f"its {self._terms.timeout_s:g} s were over"
            finally:
                _end(started)
        _blot_out(place / TRANSCRIPT)
        return ended

    def _found(self, program: str, place: Path) -> str:
        """The program's path; SetupError where there is none."""
        found = shutil.which(str(place / program) if "/" in program else program)
        if found is None:
            raise SetupError(f"diffbench: --diffbench-agent={self.label}: there is no program {program!r} to start")
        return found


class Bench:
    """Where a command has its solutions measured: over a socket, one at a time, and not more often than allowed."""

    def __init__(self, machine: Machine, demand: Demand, attempt: str, evaluations: int) -> None:
        self._machine = machine
        self._demand = demand
        self._attempt = attempt
        self._left = evaluations
        self._count = 0

    @contextlib.contextmanager
    def open_at(self, path: Path) -> Iterator[None]:
        """While the command runs."""
        bench = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                """One solution."""
                try:
                    source = str(json.loads(self.rfile.readline())["source"])
                except (ValueError, KeyError, TypeError):
                    return
                self.wfile.write(bench.said_of(source).encode())

        with socketserver.UnixStreamServer(str(path), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, name="diffagent-bench", daemon=True)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def said_of(self, source: str) -> str:
        """The verdict on a solution, on public requests, as text that begins with it."""
        if self._left <= 0:
            return "REFUSED: all evaluations are used up"
        self._left -= 1
        self._count += 1
        label = f"cmd{self._attempt}-{self._count}"
        digest = hashlib.sha256(f"{self._demand.task_id} {label}".encode()).digest()
        try:
            found = self._machine.measure(self._demand, {"s": source}, Order(int.from_bytes(digest[:6]), label))
        except BudgetSpent as spent:
            self._left = 0
            return f"REFUSED: {spent}"
        except SetupError as error:
            return f"INFRA: {error}"
        return f"{_told(found['s'])}\n{self._left} evaluations are left" if "s" in found else "INFRA: it has no verdict"


def _told(fitness: Fitness) -> str:
    lines = [fitness.verdict]
    if fitness.speedup is not None:
        lines.append(
            f"speed-up {fitness.speedup:.3f} [{fitness.speedup_low or 0:.3f}, {fitness.speedup_high or 0:.3f}]"
        )
    if fitness.loss is not None:
        lines.append(f"loss of CLIP-Score {fitness.loss:.4f} (allowed: {fitness.max_loss})")
    if fitness.line:
        lines.append(report_of(fitness))
    return "\n".join(lines)


def _split(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SetupError(f"diffbench: --diffbench-agent=cmd:{command}: {error}") from error
    if not words:
        raise SetupError("diffbench: --diffbench-agent=cmd:…: give a command behind the colon")
    return words


@contextlib.contextmanager
def _socket() -> Iterator[Path]:
    """A path that a socket can have: not longer than the kernel allows, and nobody else's."""
    folder = tempfile.mkdtemp(prefix="diffagent-")
    try:
        yield Path(folder) / "bench"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _end(started: subprocess.Popen[bytes]) -> None:
    """The command and all that it started: first asked, then made to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(ENDS_WITHIN_S)


def _blot_out(transcript: Path) -> None:
    """No key stays in what a command printed."""
    said = transcript.read_bytes()
    if (blotted := keys.blotted(said)) != said:
        transcript.write_bytes(blotted)


def _tail(transcript: Path) -> str:
    return transcript.read_text(errors="replace")[-2000:]
