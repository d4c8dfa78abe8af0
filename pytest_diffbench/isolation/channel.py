"""The conversation with one candidate: one message at a time, every answer exactly as announced, every step in time.

It knows a connected socket and nothing of the process behind it. Whoever is on the other side is not trusted: the
first thing that is late or wrong ends the conversation with a `Broken`, and nothing said after that counts.
"""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_diffbench import wire
from pytest_diffbench.isolation.output import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

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

    def wait(self, ready: select.poll) -> None:
        """Return once the socket is ready; Late where it is too late, also for one that is always ready."""
        left_s = self.deadline - time.monotonic()
        if left_s <= 0 or not ready.poll(1000 * left_s):
            raise Late(self.doing, self.timeout_s)


class Channel:
    """The parent's end of a stream socket; each method is one step, done before its time limit or a `Broken`.

    Nothing is read but bytes, into memory of its own: descriptors sent along are dropped by the kernel.
    """

    def __init__(self, connected: socket.socket) -> None:
        """Take over the parent's end."""
        connected.setblocking(False)
        self._socket = connected
        self._over = False
        # select cannot see descriptors above 1023
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(connected, select.POLLIN)
        self._writable.register(connected, select.POLLOUT)

    def fileno(self) -> int:
        """The socket's descriptor, so that one can wait for it."""
        return self._socket.fileno()

    def wait_ready(self, *, timeout_s: float) -> None:
        """Return once the other side says that it is ready."""
        with self._step("starting", timeout_s) as step:
            if self._receive(len(wire.READY), step) != wire.READY:
                raise Violated("wrote something else than that it is ready")

    def load(self, body: Mapping[str, str], *, timeout_s: float) -> float:
        """Let the other side load a solution; seconds that it took."""
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        message = wire.encode_message(wire.LOAD, nonce, body)
        return self._exchange(nonce, message, wire.LOADED, 0, self._step("load", timeout_s))[1]

    def generate(self, requests: Sequence[wire.Request], *, timeout_s: float) -> Reply:
        """The images for these requests, and how long they took by the parent's clock."""
        # imported here: collecting tasks must not load it
        import numpy as np

        sizes = [request.height * request.width * 3 for request in requests]
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        message = wire.encode_requests(nonce, requests)
        pixels = np.empty(sum(sizes), np.uint8)
        pixels.fill(0xA5)  # touched beforehand, so that no page fault of ours is timed
        with self._step("generate", timeout_s) as step:
            self._expect_silence("before a request")
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

    def describe(self, requests: Sequence[wire.Request] = (), *, timeout_s: float) -> wire.Record:
        """What the running pipeline says of itself, and of one call with these requests; only usable against it."""
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        message = wire.encode_requests(nonce, requests, wire.DESCRIBE)
        data, _ = self._exchange(nonce, message, wire.RECORD, wire.Record.SIZE, self._step("describe", timeout_s))
        return wire.Record.decode(data)

    def watch(self, requests: Sequence[wire.Request], *, timeout_s: float) -> tuple[wire.Record, float]:
        """What can be seen of one call without slowing it down, and the seconds that it took by the parent's clock."""
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        message = wire.encode_requests(nonce, requests, wire.WATCH)
        step = self._step("watch", timeout_s)
        data, elapsed_s = self._exchange(nonce, message, wire.RECORD, wire.Record.SIZE, step)
        return wire.Record.decode(data), elapsed_s

    def hang_up(self) -> None:
        """Let every step end as `Gone` once all that was sent is read; OSError where it is closed already."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back; safe to call twice."""
        self._over = True
        self._socket.close()

    @contextlib.contextmanager
    def _step(self, doing: str, timeout_s: float) -> Iterator[_Step]:
        """One step; if it is not finished, for whatever reason, there is no other."""
        if self._over:
            raise Gone(doing)
        self._over = True
        yield _Step(doing, timeout_s, time.monotonic() + timeout_s)
        self._over = False

    def _exchange(
        self, nonce: bytes, message: bytes, answer: bytes, size: int, begun: AbstractContextManager[_Step]
    ) -> tuple[bytes, float]:
        """The answer's bytes, and the parent's own seconds from the message sent to the last of them."""
        with begun as step:
            self._expect_silence(f"before {step.doing}")
            began = time.perf_counter()
            self._send(message, step)
            self._receive_header(nonce, answer, step)
            data = self._receive(size, step)
            elapsed_s = time.perf_counter() - began
            self._expect_silence("after its answer", SILENCE_S)
        return data, elapsed_s

    def _send(self, message: bytes, step: _Step) -> None:
        view = memoryview(message)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                step.wait(self._writable)
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
            step.wait(self._readable)
            try:
                received = self._socket.recv_into(view)
            except OSError as error:
                raise Gone(step.doing) from error
            if received == 0:
                raise Gone(step.doing)
            view = view[received:]

    def _expect_silence(self, when: str, wait_s: float = 0) -> None:
        if not self._readable.poll(1000 * wait_s):
            return
        try:
            unasked = self._socket.recv(1, socket.MSG_PEEK)
        except OSError as error:
            raise Gone(when) from error
        if not unasked:
            raise Gone(when)
        raise Violated(f"wrote to the channel unasked {when}")

    def _fault(self, step: _Step) -> Faulted:
        """The solution's own words for what went wrong; of the rest of its bytes only their number is believed."""
        code = self._receive(1, step)
        if code not in (wire.RAISED, wire.BROKE_CONTRACT):
            raise Violated("announced a fault of an unknown kind")
        (length,) = wire.LENGTH.unpack(self._receive(wire.LENGTH.size, step))
        if length > wire.FAULT_LIMIT:
            raise Violated("announced a longer error text than allowed")
        summary, _, detail = clean(self._receive(length, step)).partition("\n")
        self._expect_silence("after its answer", SILENCE_S)
        summary = " ".join(summary.split())[:SUMMARY_LIMIT] or "an error without words"
        return Faulted(summary if code == wire.BROKE_CONTRACT else f"{step.doing} raised {summary}", detail)
