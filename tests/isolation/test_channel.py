"""The conversation with a side that lies, stalls, dribbles and hangs up: over real sockets, without a process."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from PIL import Image

from pytest_diffbench import wire
from pytest_diffbench.isolation import channel as module
from pytest_diffbench.isolation.channel import Broken, Channel, Faulted, Gone, Late, Violated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Step = Literal["load", "generate", "describe", "watch"]

NONCE: Final = bytes(range(1, wire.NONCE_BYTES + 1))
"""Every message's where a stream is written down beforehand: this enemy even guesses it."""
DRAWN: Final = [NONCE]
"""The nonce that is drawn next."""
REQUESTS: Final = [
    wire.Request("a fox", seed, height, width, 1) for seed, (height, width) in enumerate([(2, 3), (1, 1)])
]
ANSWERS: Final[dict[Step, tuple[bytes, int]]] = {
    "load": (wire.LOADED, 0),
    "generate": (wire.IMAGES, 2 * 3 * 3 + 3),
    "describe": (wire.RECORD, wire.Record.SIZE),
    "watch": (wire.RECORD, wire.Record.SIZE),
}
HANG_S: Final = 20.0
"""Long enough to tell a hang from a busy machine."""
SHORT_S: Final = 0.3
AT_ONCE_S: Final = 0.002
"""For what is known never to come."""


class _Line(socket.socket):
    """The parent's end of a real line; whatever stands in `answer` is written the moment a message has been sent."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        super().__init__(fileno=ours.detach())
        self.answer = b""
        self.carried: list[int] = []
        """Descriptors sent along."""
        self.hangs_up = False

    def send(self, data: object, flags: int = 0, /) -> int:
        sent = super().send(data, flags)  # type: ignore[arg-type]
        self.theirs.recv(65536)
        self.say(self.answer)
        return sent

    def say(self, data: bytes) -> None:
        if self.carried:
            assert socket.send_fds(self.theirs, [data], self.carried) == len(data)
        else:
            self.theirs.sendall(data)
        if self.hangs_up:
            self.theirs.close()

    def close(self) -> None:
        self.theirs.close()
        super().close()


@pytest.fixture
def line() -> Iterator[_Line]:
    """A line that nobody has spoken on."""
    with _Line() as line:
        yield line


@pytest.fixture(scope="module")
def foreseen() -> Iterator[None]:
    """Every nonce is `NONCE`, and no time goes by in waiting for a silence that is sure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "token_bytes", lambda _: DRAWN[0])
        patch.setattr(module, "SILENCE_S", 0)
        yield


def _do(channel: Channel, step: Step, timeout_s: float) -> bytes:
    """What the parent holds after the step, as the bytes that it believes to have been sent."""
    if step == "load":
        channel.load({"source": "", "model": "", "device": "cpu"}, timeout_s=timeout_s)
        return b""
    if step == "describe":
        return channel.describe(timeout_s=timeout_s).encode()
    if step == "watch":
        return channel.watch(REQUESTS, timeout_s=timeout_s)[0].encode()
    reply = channel.generate(REQUESTS, timeout_s=timeout_s)
    assert [image.shape for image in reply.images] == [(r.height, r.width, 3) for r in REQUESTS]
    return b"".join(image.tobytes() for image in reply.images)


def _must(step: Step, stream: bytes, *, hangs_up: bool, nonce: bytes = NONCE) -> type[Broken] | bytes:  # noqa: PLR0911 (a table)
    """How a step must end that is answered with this stream, told from the whole of it at once."""
    answer, size = ANSWERS[step]
    missing = Gone if hangs_up else Late
    said, rest = stream[: wire.NONCE_BYTES + 1], stream[wire.NONCE_BYTES + 1 :]
    if len(said) <= wire.NONCE_BYTES:
        return missing
    if said not in (nonce + answer, nonce + wire.FAULT):
        return Violated
    ends_as: type[Broken] | bytes = rest
    if said[-1:] == wire.FAULT:
        if rest[:1] not in (b"", wire.RAISED, wire.BROKE_CONTRACT):
            return Violated
        if len(rest) < 1 + wire.LENGTH.size:
            return missing
        size = 1 + wire.LENGTH.size + int.from_bytes(rest[1 : 1 + wire.LENGTH.size], "big")
        if size > 1 + wire.LENGTH.size + wire.FAULT_LIMIT:
            return Violated
        ends_as = Faulted
    if len(rest) > size:
        return Violated
    if len(rest) < size or hangs_up:
        return missing
    return wire.Record.decode(rest).encode() if answer == wire.RECORD and ends_as == rest else ends_as


def _check(channel: Channel, step: Step, must: type[Broken] | bytes) -> None:
    """The step ends as it must, and with nothing else than the channel's own exceptions."""
    if isinstance(must, bytes):
        assert _do(channel, step, HANG_S) == must
        return
    with pytest.raises(Broken) as caught:
        _do(channel, step, AT_ONCE_S if must is Late else HANG_S)
    assert type(caught.value) in ((must, Late) if must is Late else (must,))
    assert _is_safe(str(caught.value))
    if isinstance(caught.value, Faulted):
        assert _is_safe(caught.value.detail.replace("\n", "").replace("\t", ""))
        assert len(caught.value.line) <= module.SUMMARY_LIMIT + len(f"{step} raised ")
        assert len(caught.value.detail) <= wire.FAULT_LIMIT


def _is_safe(text: str) -> bool:
    return not {unicodedata.category(c) for c in text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


# -- streams -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Edit:
    """At this part of a stream, take so many bytes out and put these in."""

    where: float
    out: int
    into: bytes

    def __call__(self, stream: bytes) -> bytes:
        at = round(self.where * len(stream))
        return stream[:at] + self.into + stream[at + self.out :]


def _fault(code: bytes, announced: int, text: bytes) -> bytes:
    return NONCE + wire.FAULT + code + announced.to_bytes(4, "big") + text


TEXTS: Final = st.binary(max_size=40) | st.text(st.characters(), max_size=20).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)
CODES: Final = st.sampled_from([wire.RAISED, wire.BROKE_CONTRACT])
FAULTS: Final = (
    st.builds(lambda code, text: _fault(code, len(text), text), CODES, TEXTS)
    | st.builds(_fault, CODES, st.integers(0, 60) | st.integers(0, 2**32 - 1), TEXTS)
    | st.builds(_fault, st.binary(min_size=1, max_size=1), st.integers(0, 60), TEXTS)
)


def _honest(step: Step) -> st.SearchStrategy[bytes]:
    answer, size = ANSWERS[step]
    return st.binary(min_size=size, max_size=size).map(lambda data: NONCE + answer + data)


MEANT: Final = {step: _honest(step) for step in ANSWERS}
EDITS: Final = st.builds(_Edit, st.floats(0, 1), st.sampled_from([0, 0, 1, 2, 16, 200]), st.binary(max_size=20))


@dataclass(frozen=True)
class _Speech:
    """What is written in answer to a step, and whether the other side hangs up then."""

    step: Step
    stream: bytes
    hangs_up: bool


@st.composite
def _speeches(draw: st.DrawFn) -> _Speech:
    step: Step = draw(st.sampled_from(list(ANSWERS)))
    other = draw(st.sampled_from(list(ANSWERS)))
    stream = draw(st.one_of(MEANT[step], MEANT[step], MEANT[other], FAULTS, st.binary(max_size=200)))
    for edit in draw(st.just([]) | st.lists(EDITS, max_size=2)):
        stream = edit(stream)
    return _Speech(step, stream, draw(st.booleans()))


STREAMS_AT_ONCE: Final = 10


@given(st.lists(_speeches(), min_size=STREAMS_AT_ONCE, max_size=STREAMS_AT_ONCE))
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_stream_breaks_the_parent(foreseen: None, speeches: list[_Speech]) -> None:
    """Of 10,000 hostile streams each ends as its bytes say; what is accepted is byte-exact what was announced."""
    for speech in speeches:
        with _Line() as line:
            line.answer, line.hangs_up = speech.stream, speech.hangs_up
            _check(Channel(line), speech.step, _must(speech.step, speech.stream, hangs_up=speech.hangs_up))


# -- orders ------------------------------------------------------------------------------------------------------------

PIECES: Final = {
    "ready": wire.READY,
    "loaded": NONCE + wire.LOADED,
    "images": NONCE + wire.IMAGES + bytes(range(21)),
    "record": NONCE + wire.RECORD + wire.Record("A", "B", "C", 4).encode(),
    "fault": _fault(wire.RAISED, 4, b"oops"),
    "another's answer": bytes(wire.NONCE_BYTES) + wire.IMAGES + bytes(21),
    "too few": NONCE + wire.IMAGES + bytes(20),
    "junk": b"junk",
}
PIECE: Final = st.sampled_from(list(PIECES.values()))
ORDERS: Final = PIECE | st.lists(PIECE, max_size=3).map(b"".join)
IN_ORDER: Final[dict[Step, bytes]] = {
    "load": PIECES["loaded"],
    "generate": PIECES["images"],
    "describe": PIECES["record"],
    "watch": PIECES["record"],
}


class _Orders(RuleBasedStateMachine):
    """A parent that asks in any order, and a child that answers, keeps quiet, talks unasked or leaves in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.line = _Line()
        self.channel = Channel(self.line)
        self.unread = b""
        self.gone = self.over = False

    def teardown(self) -> None:
        DRAWN[0] = NONCE
        self.channel.close()

    @rule(step=st.sampled_from(list(ANSWERS)), stale=st.booleans())
    def asks_and_is_answered(self, step: Step, stale: bool) -> None:  # noqa: FBT001
        self._asks(step, IN_ORDER[step], stale=stale)

    @rule(step=st.sampled_from(list(ANSWERS)), answer=ORDERS)
    def asks(self, step: Step, answer: bytes) -> None:
        self._asks(step, answer)

    def _asks(self, step: Step, answer: bytes, *, stale: bool = False) -> None:
        """A stale answer is the right one to the question before."""
        before, DRAWN[0] = DRAWN[0], os.urandom(wire.NONCE_BYTES)
        answer = answer.replace(NONCE, before if stale else DRAWN[0], 1)
        self.line.answer = b"" if self.gone else answer
        must = _must(step, answer, hangs_up=False, nonce=DRAWN[0])
        if self.over:
            must = Gone
        elif self.unread:
            must = Violated
        elif self.gone:
            must = Gone
        _check(self.channel, step, must)
        self.over = self.over or not isinstance(must, bytes)

    @rule()
    def waits_until_ready(self) -> None:
        if not self.over and self.unread[:1] == wire.READY:
            self.channel.wait_ready(timeout_s=HANG_S)
            self.unread = self.unread[1:]
            return
        must = Gone if self.over else Violated if self.unread else Gone if self.gone else Late
        with pytest.raises(must):
            self.channel.wait_ready(timeout_s=AT_ONCE_S if must is Late else HANG_S)
        self.over = True

    @precondition(lambda self: not self.gone)
    @rule(said=ORDERS)
    def is_told_unasked(self, said: bytes) -> None:
        self.line.theirs.sendall(said)
        self.unread += said

    @precondition(lambda self: not self.gone)
    @rule()
    def is_left(self) -> None:
        self.line.theirs.close()
        self.gone = True


def test_no_order_of_messages_breaks_the_parent(foreseen: None) -> None:
    """In 1,000 conversations no answer counts but the one to the last question, and none after the first fault."""
    run_state_machine_as_test(
        _Orders,
        settings=settings(
            max_examples=1000, stateful_step_count=6, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


# -- time --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """`act` goes on in a thread until it ends or its socket does."""

    def run() -> None:
        with contextlib.suppress(OSError):
            act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(HANG_S)
        assert not thread.is_alive()


def _dribble(theirs: socket.socket, answer: Callable[[bytes], bytes], pause_s: float) -> None:
    """Answer the next message a byte at a time."""
    message = theirs.recv(65536)
    for byte in answer(message[1 : 1 + wire.NONCE_BYTES]):
        theirs.sendall(bytes([byte]))
        time.sleep(pause_s)


DRIBBLED: Final[dict[str, tuple[Step, Callable[[bytes], bytes]]]] = {
    "header": ("load", lambda nonce: nonce + wire.LOADED),
    "images": ("generate", lambda nonce: nonce + wire.IMAGES + bytes(21)),
    "record": ("describe", lambda nonce: nonce + wire.RECORD + bytes(wire.Record.SIZE)),
    "fault": ("generate", lambda nonce: nonce + _fault(wire.RAISED, 9, b"too slow!")[wire.NONCE_BYTES :]),
}


@pytest.mark.parametrize("name", DRIBBLED)
def test_a_byte_at_a_time_gains_no_time(name: str) -> None:
    """The limit is for the whole step: one whose every byte comes soon is late all the same."""
    step, answer = DRIBBLED[name]
    ours, theirs = socket.socketpair()
    with (
        theirs,
        contextlib.closing(Channel(ours)) as channel,
        _meanwhile(lambda: _dribble(theirs, answer, SHORT_S / 5)),
    ):
        with pytest.raises(Late, match=rf"{step} did not finish within 0\.3 s"):
            _do(channel, step, SHORT_S)
        channel.close()


def test_a_byte_at_a_time_is_an_answer() -> None:
    """However an answer is cut on its way, in time it counts, byte for byte."""
    ours, theirs = socket.socketpair()
    pixels = bytes(range(21))

    def answer(nonce: bytes) -> bytes:
        return nonce + wire.IMAGES + pixels

    with theirs, contextlib.closing(Channel(ours)) as channel, _meanwhile(lambda: _dribble(theirs, answer, 0.001)):
        assert _do(channel, "generate", HANG_S) == pixels


def test_a_child_that_does_not_read_is_late() -> None:
    """Sending has the same limit: a request that does not fit the socket's buffer cannot hang the parent."""
    ours, theirs = socket.socketpair()
    request = wire.Request("a fox", 1, 8, 8, 1, image=Image.new("RGB", (2000, 2000)))
    with theirs, contextlib.closing(Channel(ours)) as channel, pytest.raises(Late, match="generate did not finish"):
        channel.generate([request], timeout_s=SHORT_S)


def test_a_child_that_never_gets_ready_is_late(line: _Line) -> None:
    """Starting has a limit too."""
    with pytest.raises(Late, match="starting did not finish"):
        Channel(line).wait_ready(timeout_s=AT_ONCE_S)


def test_ready_is_one_word(line: _Line) -> None:
    """Any other first byte than READY is a violation: nothing runs yet that could say it."""
    line.say(b"x")

    with pytest.raises(Violated, match="something else than that it is ready"):
        Channel(line).wait_ready(timeout_s=HANG_S)


def test_an_answer_that_comes_too_late_never_counts(foreseen: None, line: _Line) -> None:
    """After a step that was late there is no other, even if its answer is whole and right by then."""
    channel = Channel(line)
    with pytest.raises(Late):
        _do(channel, "generate", AT_ONCE_S)
    line.say(PIECES["images"])

    with pytest.raises(Gone):
        _do(channel, "generate", HANG_S)


# -- what else could come through --------------------------------------------------------------------------------------


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_descriptors_sent_along_are_dropped(foreseen: None, line: _Line) -> None:
    """An answer that carries file descriptors leaves none of them open in the parent, and is an answer."""
    channel, before = Channel(line), _open_descriptors()
    read_end, write_end = os.pipe()
    line.answer, line.carried = PIECES["images"], [write_end] * 100

    assert _do(channel, "generate", HANG_S) == PIECES["images"][-21:]

    os.close(write_end)
    os.close(read_end)
    assert _open_descriptors() == before


def test_hanging_up_on_a_message_is_no_error_of_ours() -> None:
    """A side that goes with bytes of ours unread resets the line: it is gone, at whichever step that is noticed."""
    ours, theirs = socket.socketpair()
    ours.sendall(b"never read")
    theirs.close()

    with contextlib.closing(Channel(ours)) as channel, pytest.raises(Gone):
        _do(channel, "load", HANG_S)


HOSTILE_TEXTS: Final = {
    "colours": b"\x1b[31mred\x1b[0m \x9b2J words",
    "title": b"\x1b]0;owned\x07 words",
    "bidi": "\u202ewords\u202c \u2066words\u2069".encode(),
    "surrogate": b"\xed\xa0\x80 words \xff\xfe",
    "separators": "words\u2028words\u2029words\x85words".encode(),
    "long": b"words " + b"A" * (wire.FAULT_LIMIT - 6),
    "carriage return": b"words\rwords",
}


@pytest.mark.parametrize("name", HOSTILE_TEXTS)
@pytest.mark.parametrize("before", [b"", b"ValueError\n"], ids=["in the line", "in the detail"])
def test_texts_are_safe_on_a_terminal(foreseen: None, line: _Line, before: bytes, name: str) -> None:
    """Whatever a child writes as its error is capped, cleaned and still words."""
    text = (before + HOSTILE_TEXTS[name])[: wire.FAULT_LIMIT]
    line.answer = _fault(wire.RAISED, len(text), text)

    with pytest.raises(Faulted) as caught:
        _do(Channel(line), "generate", HANG_S)

    assert "words" in caught.value.line + caught.value.detail
    assert _is_safe(caught.value.line + caught.value.detail.replace("\n", ""))
    assert len(caught.value.line) <= module.SUMMARY_LIMIT + len("generate raised ")
