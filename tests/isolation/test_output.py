"""What a solution prints: never in its way, kept in part, safe to show, and limited."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING, Final

import pytest

from pytest_diffbench.errors import SolutionFault
from pytest_diffbench.isolation.limits import Limits
from pytest_diffbench.isolation.output import KEPT_BYTES, Output, clean
from pytest_diffbench.records import Cause
from pytest_diffbench.wire import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_diffbench.isolation import Sandbox

HANG_S: Final = 20.0
LIMIT_BYTES: Final = Limits.output_bytes


class _Pipe:
    """An `Output` at the reading end of a real pipe, and what it said."""

    def __init__(self) -> None:
        read_end, self.write_end = os.pipe()
        self.floods = 0
        self.output = Output(read_end, LIMIT_BYTES, self._flooded)

    def _flooded(self) -> None:
        self.floods += 1

    def print(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.write_end, view) :]

    def end(self) -> None:
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1
        self.output.join(HANG_S)


@pytest.fixture
def pipe() -> Iterator[_Pipe]:
    """A pipe that is printed into."""
    pipe = _Pipe()
    yield pipe
    pipe.end()


def test_the_tail_is_the_end_of_what_was_printed(pipe: _Pipe) -> None:
    """Of much text the last characters are given, as many as are asked for."""
    pipe.print(b"beginning\n" + b"." * 5000 + b"\nthe end")
    pipe.end()

    assert pipe.output.tail(10) == ".." + "\nthe end"
    assert "beginning" not in pipe.output.tail()


def test_a_writer_is_never_blocked(pipe: _Pipe) -> None:
    """Much more than a pipe holds can be printed while nobody asks for it."""
    pipe.print(b"x" * (4 * 1024 * 1024))
    pipe.end()

    assert pipe.output.printed_bytes == 4 * 1024 * 1024


def test_only_the_last_part_is_kept(pipe: _Pipe) -> None:
    """However much was printed, no more than the limit is held."""
    pipe.print(b"a" * KEPT_BYTES + b"b" * KEPT_BYTES)
    pipe.end()

    assert pipe.output.tail(2 * KEPT_BYTES) == "b" * KEPT_BYTES


def test_up_to_the_limit_nobody_is_told(pipe: _Pipe) -> None:
    """Exactly the limit is allowed."""
    pipe.print(bytes(LIMIT_BYTES))
    pipe.end()

    assert pipe.floods == 0


def test_beyond_the_limit_it_is_told_once(pipe: _Pipe) -> None:
    """One byte too many is a flood."""
    pipe.print(bytes(LIMIT_BYTES))
    pipe.print(b"!")
    pipe.end()

    assert pipe.floods == 1


def test_a_flood_closes_the_pipe(pipe: _Pipe) -> None:
    """A writer that nobody kills is told by a broken pipe, not fed for ever."""
    with pytest.raises(BrokenPipeError):
        pipe.print(bytes(2 * LIMIT_BYTES))

    assert pipe.floods == 1


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b"plain\tand\nlines", "plain\tand\nlines", id="plain"),
        pytest.param("größer 悪い 🙂".encode(), "größer 悪い 🙂", id="not-ascii"),
        pytest.param(b"10 %\r20 %\r\ndone\r", "10 %\n20 %\ndone\n", id="carriage-returns"),
        pytest.param(b"\x1b]0;title\x07\x00\x08\x7f", "]0;title", id="control-characters"),
        pytest.param("\x9b2J\u202egnp.\u200b".encode(), "2Jgnp.", id="unicode-controls"),
        pytest.param(b"caf\xc3", "caf\ufffd", id="cut-character"),
    ],
)
def test_clean_text_is_safe_on_a_terminal(data: bytes, text: str) -> None:
    """Nothing that moves a cursor, changes a colour or reverses text is left; what can be read is."""
    assert clean(data) == text


def test_a_gigabyte_ends_at_the_limit_and_costs_no_memory(sandbox: Sandbox) -> None:
    """A flood ends as OUTPUT_LIMIT, long before its end, and the parent holds only a little of it."""
    source = """
import os

def load(model, device):
    pass

def generate(pipeline, requests):
    for _ in range(1024):
        os.write(1, b"x" * 2**20)
    return []
"""
    sandbox.load(source, model="", device="cpu", timeout_s=60)
    request = Request(prompt="", seed=0, height=8, width=8, num_inference_steps=1)
    tracemalloc.start()
    try:
        with pytest.raises(SolutionFault) as caught:
            sandbox.generate([request], timeout_s=120)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert caught.value.cause is Cause.OUTPUT_LIMIT
    assert caught.value.line == "the solution printed more than 64 MiB"
    assert sandbox._output.printed_bytes < 2 * LIMIT_BYTES
    assert peak_bytes < 10 * 2**20


def test_the_last_words_of_a_process_are_in_its_fault(sandbox: Sandbox) -> None:
    """What was printed before a crash is the crash's detail, without a flush."""
    source = "import os\nprint('these are my last words')\nos._exit(3)\n"

    with pytest.raises(SolutionFault) as caught:
        sandbox.load(source, model="", device="cpu", timeout_s=60)

    assert "these are my last words" in caught.value.detail
