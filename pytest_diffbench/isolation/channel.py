"""The conversation with one candidate: one message at a time, every answer exactly as announced, every step in time.

It knows a connected socket and nothing of the process behind it. Whoever is on the other side is not trusted: the
first thing that is late or wrong ends the conversation with a `Broken`, and nothing said after that counts.
"""

from __future__ import annotations

import secrets
import select
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_diffbench import wire
from pytest_diffbench.isolation.output import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

SUMMARY_LIMIT: Final = 500
"""Characters of a fault's one line."""
SILENCE_S: Final = 0.005
"""How long the channel must stay silent after a reply."""


class Broken(Exception):
    """The conversation has ended for a reason that lies on the other side."""


class Late(Broken):
    """A step was not done in time."""

    def __init__(self, doing: str, timeout_s: float) -> None:
        super().__init__(f"{doing} did not finish within {timeout_s:g} s")
        self.doing = doing


class Gone(Broken):
    """The other side hung up."""

    def __init__(self, doing: str) -> None:
        super().__init__(f"hung up ({doing})")
        self.doing = doing


class Violated(Broken):
    """The other side said something that it was not asked, or not as it must be said; the message tells what."""


class Faulted(Broken):
    """The solution's own fault, in its own words, which are cleaned and capped."""

    def __init__(self, line: str, detail: str) -> None:
        super().__init__(line)
        self.line = line
        self.detail = detail


@dataclass(frozen=True)
class Reply:
    """Images as (height, width, 3) bytes each, and the parent's own seconds from request sent to last byte held."""

    images: tuple[NDArray[np.uint8], ...]
    elapsed_s: float


@dataclass(frozen=True)
class _Step:
    """One exchange, and when it is too late."""

    doing: str
    timeout_s: float
    deadline: float

    @staticmethod
    def of(doing: str, timeout_s: float) -> _Step:
        return _Step(doing, timeout_s, time.monotonic() + timeout_s)

    def left_s(self) -> float:
        """Seconds until it is too late; Late where it is."""
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise Late(self.doing, self.timeout_s)
        return left_s


class Channel:
    """The parent's end of a stream socket; each method is one step, done before its time limit or a `Broken`."""

    def __init__(self, connected: socket.socket) -> None:
        """Take over the parent's end."""
        self._socket = connected

    def fileno(self) -> int:
        """The socket's descriptor, so that one can wait for it."""
        return self._socket.fileno()

    def wait_ready(self, *, timeout_s: float) -> None:
        """Return once the other side says that it is ready."""
        self._receive(1, _Step.of("starting", timeout_s))

    def load(self, body: Mapping[str, str], *, timeout_s: float) -> float:
        """Let the other side load a solution; seconds that it took."""
        began = time.perf_counter()
        self._exchange(wire.LOAD, body, wire.LOADED, 0, _Step.of("load", timeout_s))
        return time.perf_counter() - began

    def generate(self, requests: Sequence[wire.Request], *, timeout_s: float) -> Reply:
        """The images for these requests, and how long they took by the parent's clock."""
        # imported here: collecting tasks must not load it
        import numpy as np

        sizes = [request.height * request.width * 3 for request in requests]
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        message = wire.encode_requests(nonce, requests)
        pixels = np.empty(sum(sizes), np.uint8)
        pixels.fill(0xA5)  # touched beforehand, so that no page fault of ours is timed
        self._expect_silence("before a request", 0)
        step = _Step.of("generate", timeout_s)
        began = time.perf_counter_ns()
        self._send(message, step)
        self._receive_header(nonce, wire.IMAGES, step)
        self._receive_into(pixels.data, step)
        elapsed_s = (time.perf_counter_ns() - began) / 1e9
        self._expect_silence("after its answer", SILENCE_S)
        ends = np.cumsum(sizes)[:-1]
        images = (
            part.reshape(request.height, request.width, 3)
            for part, request in zip(np.split(pixels, ends), requests, strict=True)
        )
        return Reply(tuple(images), elapsed_s)

    def describe(self, *, timeout_s: float) -> wire.Record:
        """What the running pipeline says of itself; may only be used against it."""
        data = self._exchange(wire.DESCRIBE, {}, wire.RECORD, wire.Record.SIZE, _Step.of("describe", timeout_s))
        return wire.Record.decode(data)

    def hang_up(self) -> None:
        """Let every step end as `Gone` once all that was sent is read; OSError where it is closed already."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back; safe to call twice."""
        self._socket.close()

    def _exchange(self, kind: bytes, body: object, answer: bytes, size: int, step: _Step) -> bytes:
        self._expect_silence(f"before {step.doing}", 0)
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        self._send(wire.encode_message(kind, nonce, body), step)
        self._receive_header(nonce, answer, step)
        return self._receive(size, step)

    def _send(self, message: bytes, step: _Step) -> None:
        self._socket.settimeout(step.left_s())
        try:
            self._socket.sendall(message)
        except TimeoutError as error:
            raise Late(step.doing, step.timeout_s) from error
        except OSError as error:
            raise Gone(step.doing) from error

    def _receive_header(self, nonce: bytes, answer: bytes, step: _Step) -> None:
        header = self._receive(wire.NONCE_BYTES + 1, step)
        kind = header[wire.NONCE_BYTES :]
        if header[: wire.NONCE_BYTES] != nonce or kind not in (answer, wire.FAULT):
            raise Violated(f"wrote something else than the answer to {step.doing}")
        if kind == wire.FAULT:
            raise self._fault(step)

    def _receive(self, count: int, step: _Step) -> bytes:
        data = bytearray(count)
        self._receive_into(memoryview(data), step)
        return bytes(data)

    def _receive_into(self, view: memoryview, step: _Step) -> None:
        while view:
            self._socket.settimeout(step.left_s())
            try:
                received = self._socket.recv_into(view)
            except TimeoutError as error:
                raise Late(step.doing, step.timeout_s) from error
            except OSError:
                received = 0
            if received == 0:
                raise Gone(step.doing)
            view = view[received:]

    def _expect_silence(self, when: str, wait_s: float) -> None:
        poll = select.poll()  # select cannot see descriptors above 1023
        poll.register(self._socket, select.POLLIN)
        if poll.poll(1000 * wait_s):
            if not self._socket.recv(1, socket.MSG_PEEK):
                raise Gone(when)
            raise Violated(f"wrote to the channel unasked {when}")

    def _fault(self, step: _Step) -> Faulted:
        code = self._receive(1, step)
        (length,) = wire.LENGTH.unpack(self._receive(wire.LENGTH.size, step))
        if length > wire.FAULT_LIMIT:
            raise Violated("announced a longer error text than allowed")
        summary, _, detail = clean(self._receive(length, step)).partition("\n")
        summary = summary[:SUMMARY_LIMIT]
        return Faulted(summary if code == wire.BROKE_CONTRACT else f"{step.doing} raised {summary}", detail)
