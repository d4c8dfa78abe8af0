"""What solutions do wrong, by accident or on purpose, and what their authors are told: a table and its exceptions."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import textwrap
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from pytest_diffbench import wire
from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.records import Cause

if TYPE_CHECKING:
    from pytest_diffbench.isolation import Sandbox

TIMEOUT_S: Final = 60.0
SHORT_S: Final = 0.5
BATCH: Final = tuple(
    wire.Request(prompt="a red square", seed=seed, height=24, width=16, num_inference_steps=1) for seed in range(2)
)
PREAMBLE: Final = """\
import ctypes, json, os, signal, socket, subprocess, sys, time
import numpy as np
from PIL import Image

CHANNEL = next(int(n) for n in os.listdir("/proc/self/fd") if "socket:" in os.readlink(f"/proc/self/fd/{n}"))

def images(requests):
    return [np.zeros((r.height, r.width, 3), np.uint8) for r in requests]

"""
LOAD: Final = "def load(model, device):\n"
GENERATE: Final = "def generate(pipeline, requests):\n"
FIRST_LINE: Final = (PREAMBLE + LOAD + "    pass\n\n" + GENERATE).count("\n") + 1
"""Where in `solution.py` the first line of `_generate`'s body stands."""


@dataclass(frozen=True)
class Bad:
    """A solution and how it must end."""

    source: str
    cause: Cause
    line: str
    """A part of the one line."""
    detail: str = ""
    """A part of what stands behind it."""
    timeout_s: float = TIMEOUT_S


def _generate(body: str) -> str:
    """A solution that loads, and whose `generate` does this."""
    return PREAMBLE + LOAD + "    pass\n\n" + GENERATE + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")


def _load(body: str) -> str:
    """A solution whose `load` does this."""
    return PREAMBLE + GENERATE + "    return images(requests)\n\n" + LOAD + textwrap.indent(body, "    ")


def _fault_of_load(sandbox: Sandbox, source: str, timeout_s: float = TIMEOUT_S) -> SolutionFault:
    with pytest.raises(SolutionFault) as caught:
        sandbox.load(source, model="", device="cpu", timeout_s=timeout_s)
    return caught.value


def _fault_of_generate(sandbox: Sandbox, source: str, timeout_s: float = TIMEOUT_S) -> SolutionFault:
    sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)
    with pytest.raises(SolutionFault) as caught:
        sandbox.generate(BATCH, timeout_s=timeout_s)
    return caught.value


CANNOT_LOAD: Final = {
    "syntax-error": Bad(
        "import os\n\ndef load(:\n    pass\n",
        Cause.COMPILATION,
        "load raised SyntaxError: invalid syntax (solution.py line 3)",
        detail="def load(:",
    ),
    "syntax-error-in-text-of-its-own": Bad(
        _load("return eval('1 +')\n"),
        Cause.COMPILATION,
        f"(solution.py line {FIRST_LINE})",
        detail="return eval('1 +')",
    ),
    "null-byte": Bad(
        "import os\0", Cause.COMPILATION, "load raised SyntaxError: source code string cannot contain null"
    ),
    "missing-module": Bad(
        "import os\nimport module_that_is_nowhere\n",
        Cause.COMPILATION,
        "load raised ModuleNotFoundError: No module named 'module_that_is_nowhere' (solution.py line 2)",
    ),
    "no-generate": Bad("load = print\n", Cause.COMPILATION, "no attribute 'generate'"),
    "load-raises": Bad(
        _load("raise RuntimeError('no such model')\n"),
        Cause.COMPILATION,
        f"load raised RuntimeError: no such model (solution.py line {FIRST_LINE})",
    ),
    "load-sleeps": Bad(
        _load("time.sleep(3600)\n"), Cause.SETUP_LIMIT, "load did not finish within 0.5 s", timeout_s=SHORT_S
    ),
    "load-writes-to-the-channel": Bad(
        _load("os.write(CHANNEL, bytes(64))\n"), Cause.PROTOCOL, "wrote something else than the answer to load"
    ),
}
RAISES: Final = {
    "generate-raises": Bad(
        _generate("depth = len(requests)\nraise ValueError(f'bad {depth}')  # here it is\n"),
        Cause.COMPILATION,
        f"generate raised ValueError: bad 2 (solution.py line {FIRST_LINE + 1})",
        detail="# here it is",
    ),
    "another-library-raises": Bad(
        _generate("import torch\nreturn torch.zeros(2) @ torch.zeros(3)\n"),
        Cause.COMPILATION,
        f"(solution.py line {FIRST_LINE + 1})",
        detail="return torch.zeros(2) @ torch.zeros(3)",
    ),
    "an-iterator-raises": Bad(
        _generate("yield images(requests)[0]\nraise ValueError('half way')\n"),
        Cause.COMPILATION,
        f"generate raised ValueError: half way (solution.py line {FIRST_LINE + 1})",
    ),
    "lines-in-a-message": Bad(
        _generate("raise ValueError('first\\nsecond\\r\\nthird')\n"),
        Cause.COMPILATION,
        "generate raised ValueError: first second third (solution.py line ",
    ),
    "endless-recursion": Bad(
        _generate("def deeper():\n    return deeper() + 1\nreturn deeper()\n"),
        Cause.COMPILATION,
        f"generate raised RecursionError: maximum recursion depth exceeded (solution.py line {FIRST_LINE + 1})",
    ),
    "exits": Bad(_generate("raise SystemExit(0)\n"), Cause.COMPILATION, "generate raised SystemExit: 0"),
    "interrupts": Bad(_generate("raise KeyboardInterrupt\n"), Cause.COMPILATION, "generate raised KeyboardInterrupt"),
}
BREAKS_ITS_CONTRACT: Final = {
    "none": Bad(_generate("pass\n"), Cause.COMPILATION, "generate returned NoneType; expected a list of 2 images"),
    "text": Bad(_generate("return 'two images'\n"), Cause.COMPILATION, "generate returned str; expected a list of 2"),
    "tensor": Bad(
        _generate("import torch\nreturn torch.zeros(2, 3, 24, 16)\n"),
        Cause.COMPILATION,
        "generate returned torch.Tensor for an image; expected a PIL image or a uint8 array of shape (24, 16, 3)",
    ),
    "too-few": Bad(
        _generate("return images(requests)[:1]\n"), Cause.COMPILATION, "generate returned 1 images for 2 requests"
    ),
    "more-than-can-be-counted": Bad(
        _generate("""
        for taken in range(1000):
            if taken > 10:
                raise RuntimeError("an iterator was read far beyond what was asked for")
            yield images(requests)[0]
        """),
        Cause.COMPILATION,
        "images for 2 requests",
    ),
    "wrong-size": Bad(
        _generate("return [Image.new('RGB', (24, 16)) for r in requests]\n"),
        Cause.COMPILATION,
        "generate returned an image of shape (16, 24, 3); expected a PIL image or a uint8 array of shape (24, 16, 3)",
    ),
    "grayscale": Bad(
        _generate("return [image[:, :, 0] for image in images(requests)]\n"),
        Cause.COMPILATION,
        "generate returned an image of shape (24, 16); expected",
    ),
    "float": Bad(
        _generate("return [image.astype(np.float32) for image in images(requests)]\n"),
        Cause.COMPILATION,
        "generate returned an array of float32; expected",
    ),
    "float-with-nan": Bad(
        _generate("return [image * np.float32('nan') for image in images(requests)]\n"),
        Cause.COMPILATION,
        "generate returned an array of float32 with NaN or infinity; expected",
    ),
}
NEVER_ANSWERS: Final = {
    "sleeps": Bad(
        _generate("time.sleep(3600)\n"), Cause.TIMEOUT, "generate did not finish within 0.5 s", timeout_s=SHORT_S
    ),
    "ignores-signals": Bad(
        _generate("""
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        time.sleep(3600)
        """),
        Cause.TIMEOUT,
        "generate did not finish within 0.5 s",
        timeout_s=SHORT_S,
    ),
    "spins": Bad(
        _generate("while True: pass\n"), Cause.TIMEOUT, "generate did not finish within 0.5 s", timeout_s=SHORT_S
    ),
    "says-why-it-is-late": Bad(
        _generate("os.write(1, b'downloading the internet')\ntime.sleep(3600)\n"),
        Cause.TIMEOUT,
        "generate did not finish",
        detail="downloading the internet",
        timeout_s=SHORT_S,
    ),
}
DIES: Final = {
    "exits-at-once": Bad(_generate("os._exit(3)\n"), Cause.CRASH, "the process ended with exit code 3 (generate)"),
    "segmentation-fault": Bad(
        _generate("""
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.write(2, b'about to read address 0')
        ctypes.string_at(0)
        """),
        Cause.CRASH,
        "the process ended by SIGSEGV (generate)",
        detail="about to read address 0",
    ),
    "real-time-signal": Bad(_generate("os.kill(os.getpid(), signal.SIGRTMIN + 6)\n"), Cause.CRASH, "(generate)"),
}
ABUSES_THE_CHANNEL: Final = {
    "writes-before-its-answer": Bad(
        _generate("os.write(CHANNEL, b'junk' * 16)\nreturn images(requests)\n"),
        Cause.PROTOCOL,
        "the solution wrote something else than the answer to generate",
    ),
    "writes-less-than-a-header": Bad(
        _generate("os.write(CHANNEL, b'j')\nreturn images(requests)\n"), Cause.PROTOCOL, "something else than"
    ),
    "writes-after-its-answer": Bad(
        _generate("""
        send = socket.socket.sendmsg
        def send_and_more(channel, parts):
            sent = send(channel, parts)
            os.write(CHANNEL, b'junk')
            return sent
        socket.socket.sendmsg = send_and_more
        return images(requests)
        """),
        Cause.PROTOCOL,
        "the solution wrote to the channel unasked after its answer",
    ),
    "closes-the-channel": Bad(
        _generate("os.close(CHANNEL)\ntime.sleep(3600)\n"), Cause.PROTOCOL, "the solution closed its channel"
    ),
    "announces-an-endless-error": Bad(
        _generate("""
        nonce = sys._getframe(2).f_locals["nonce"]
        os.write(CHANNEL, nonce + b"er" + b"\\xff" * 4)
        time.sleep(3600)
        """),
        Cause.PROTOCOL,
        "the solution announced a longer error text than allowed",
    ),
}
TABLE: Final = {**CANNOT_LOAD, **RAISES, **BREAKS_ITS_CONTRACT, **NEVER_ANSWERS, **DIES, **ABUSES_THE_CHANNEL}


@pytest.mark.parametrize("name", TABLE)
def test_a_bad_solution_ends_in_one_line_that_says_why(sandbox: Sandbox, name: str) -> None:
    """Each ends with its cause, one printable line, the evidence behind it, and its process gone."""
    bad = TABLE[name]

    fault = (_fault_of_load if name in CANNOT_LOAD else _fault_of_generate)(sandbox, bad.source, bad.timeout_s)

    assert (fault.cause, fault.line.isprintable()) == (bad.cause, True)
    assert bad.line in fault.line
    assert bad.detail in fault.detail
    assert not Path(f"/proc/{sandbox.pid}").exists()


# -- error texts -------------------------------------------------------------------------------------------------------


def test_a_gigantic_error_text_is_cut(sandbox: Sandbox) -> None:
    """Of 10 MB the summary's beginning and the very end are kept, within the limit, and the line stays short."""
    source = _generate("raise ValueError('the beginning ' + 'x' * 10_000_000 + ' the end')\n")

    fault = _fault_of_generate(sandbox, source)

    assert fault.line.startswith("generate raised ValueError: the beginning xxx")
    assert fault.line.endswith(f"(solution.py line {FIRST_LINE})")
    assert len(fault.line) < 500
    assert fault.detail.endswith(" the end\n")
    assert len(fault.detail) <= wire.FAULT_LIMIT


def test_a_gigantic_name_makes_no_gigantic_line(sandbox: Sandbox) -> None:
    """What a solution calls its classes cannot flood a report's one line."""
    source = _generate("raise type('E' * 100_000, (Exception,), {})('an error')\n")

    fault = _fault_of_generate(sandbox, source)

    assert fault.line.startswith("generate raised EEE")
    assert len(fault.line) < 2000


def test_error_texts_are_safe_on_a_terminal(sandbox: Sandbox) -> None:
    """Escape sequences, control characters and text direction marks are gone from line and detail, words stay."""
    source = _generate(r"raise ValueError('\x1b[31mred\x1b[0m \x07\x00\x08 \u202eback\u202c \x9b2J grün')" + "\n")

    fault = _fault_of_generate(sandbox, source)

    assert all(word in fault.line for word in ("red", "back", "grün"))
    assert {unicodedata.category(c) for c in fault.line + fault.detail.replace("\n", "")} & {"Cc", "Cf"} == set()


def test_an_error_that_cannot_be_shown_is_still_the_solutions(sandbox: Sandbox) -> None:
    """An exception whose own text raises ends as a fault of the solution that names its class."""
    source = PREAMBLE + "class Sly(Exception):\n    def __str__(self): raise RuntimeError('no text')\n"
    source += LOAD + "    pass\n" + GENERATE + "    raise Sly\n"

    fault = _fault_of_generate(sandbox, source)

    assert fault.cause.failure_class is Cause.COMPILATION
    assert "Sly" in fault.line + fault.detail


# -- the channel, later ------------------------------------------------------------------------------------------------


def test_an_answer_that_nobody_asked_for_is_caught(sandbox: Sandbox) -> None:
    """What a solution writes between two requests ends it before the next one is sent."""
    source = _generate("""
    signal.signal(signal.SIGUSR1, lambda *_: os.write(CHANNEL, b"early"))
    return images(requests)
    """)
    sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)
    sandbox.generate(BATCH, timeout_s=TIMEOUT_S)
    os.kill(sandbox.pid, signal.SIGUSR1)
    assert select.select([sandbox._channel], [], [], 20)[0]

    with pytest.raises(SolutionFault, match="wrote to the channel unasked before a request") as caught:
        sandbox.generate(BATCH, timeout_s=TIMEOUT_S)

    assert caught.value.cause is Cause.PROTOCOL


def test_a_solution_that_dies_between_requests_has_crashed(sandbox: Sandbox) -> None:
    """The next request tells that the process ended, and how."""
    source = _generate("""
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(4))
    return images(requests)
    """)
    sandbox.load(source, model="", device="cpu", timeout_s=TIMEOUT_S)
    sandbox.generate(BATCH, timeout_s=TIMEOUT_S)
    os.kill(sandbox.pid, signal.SIGUSR1)

    with pytest.raises(SolutionFault, match="the process ended with exit code 4") as caught:
        sandbox.generate(BATCH, timeout_s=TIMEOUT_S)

    assert caught.value.cause is Cause.CRASH


# -- what a solution leaves behind -------------------------------------------------------------------------------------

NAP: Final = f"600.{secrets.randbelow(10**9):09}"
"""An argument that no other process has: ids inside are not those outside."""
GRANDCHILD: Final = f"""
subprocess.Popen(["sleep", "{NAP}"])
"""


def _left_running(wait_s: float = 20.0) -> bool:
    """Whether it still runs after a while; if so it is ended now."""
    deadline = time.monotonic() + wait_s
    while (found := _sleepers()) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(found)


def _sleepers() -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdecimal() and NAP.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def test_close_ends_what_a_solution_started(sandbox: Sandbox) -> None:
    """A process that a solution leaves running does not outlive it."""
    sandbox.load(_generate(GRANDCHILD + "return images(requests)"), model="", device="cpu", timeout_s=TIMEOUT_S)
    sandbox.generate(BATCH, timeout_s=TIMEOUT_S)
    assert _sleepers()

    sandbox.close()

    assert not _left_running()


def test_a_crash_ends_what_a_solution_started(sandbox: Sandbox) -> None:
    """Dying first does not save what a solution started: nothing runs on beside the next measurement."""
    fault = _fault_of_generate(sandbox, _generate(GRANDCHILD + "os._exit(3)"))
    sandbox.close()

    assert "exit code 3" in fault.line
    assert not _left_running()


def test_a_crash_is_seen_although_a_copy_holds_the_channel(sandbox: Sandbox) -> None:
    """A forked copy keeps the channel open; the death of the process itself is told, not waited out."""
    fork = f"""
    if os.fork():
        os._exit(3)
    os.execvp("sleep", ["sleep", "{NAP}"])
    """

    fault = _fault_of_generate(sandbox, _generate(fork), timeout_s=25)
    sandbox.close()

    assert not _left_running()
    assert (fault.cause, "exit code 3" in fault.line) == (Cause.CRASH, True)
