"""The bytes between parent and child, over a real socket: what goes in comes out, and nothing breaks the reader."""

from __future__ import annotations

import math
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pytest_diffbench import wire
from pytest_diffbench.wire import Record, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

NONCE = bytes(range(wire.NONCE_BYTES))
NONCES = st.binary(min_size=wire.NONCE_BYTES, max_size=wire.NONCE_BYTES)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(), max_size=60)  # every code point, half characters too


@st.composite
def _images(draw: st.DrawFn) -> Image.Image:
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    pixels = draw(st.binary(min_size=3 * width * height, max_size=3 * width * height))
    return Image.frombytes("RGB", (width, height), pixels)


REQUESTS = st.builds(
    Request,
    prompt=st.none() | TEXTS,
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 4096),
    width=st.integers(1, 4096),
    num_inference_steps=st.integers(1, 1000),
    guidance_scale=st.none() | FINITE,
    negative_prompt=st.none() | TEXTS,
    class_label=st.none() | st.integers(0, 999),
    strength=st.none() | FINITE,
    image=st.none() | _images(),
)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a channel."""
    parent, child = socket.socketpair()
    with parent, child:
        yield parent, child


@given(st.lists(REQUESTS, max_size=4), NONCES, st.sampled_from([wire.GENERATE, wire.DESCRIBE]))
@settings(deadline=None)
def test_requests_arrive_as_they_were_sent(requests: list[Request], nonce: bytes, wanted: bytes) -> None:
    """Any prompt in any script, every None, every float and every pixel survive; not a byte is left over."""
    parent, child = socket.socketpair()
    with parent, child:
        parent.sendall(wire.encode_requests(nonce, requests, wanted))
        kind, heard, body = wire.receive_message(child)
        received = wire.receive_requests(child, body)
        parent.close()

        assert (kind, heard, received) == (wanted, nonce, requests)
        assert child.recv(1) == b""


def _nested(parts: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(parts, max_size=3) | st.dictionaries(TEXTS, parts, max_size=3)


@given(st.recursive(st.none() | st.booleans() | FINITE | TEXTS, _nested, max_leaves=6))
@settings(deadline=None, max_examples=50)
def test_a_message_arrives_as_it_was_sent(body: object) -> None:
    """Whatever strict JSON can hold travels as a body, with its kind and nonce; a second message follows intact."""
    parent, child = socket.socketpair()
    with parent, child:
        parent.sendall(wire.encode_message(wire.LOAD, NONCE, body) + wire.encode_message(wire.DESCRIBE, NONCE, {}))

        assert wire.receive_message(child) == (wire.LOAD, NONCE, body)
        assert wire.receive_message(child) == (wire.DESCRIBE, NONCE, {})


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
def test_what_json_does_not_know_is_never_sent(value: float) -> None:
    """NaN and infinity are refused where they are written, not where they are read."""
    with pytest.raises(ValueError, match="JSON"):
        wire.encode_requests(NONCE, [Request("a fox", 1, 64, 64, 50, guidance_scale=value)])


def test_an_image_of_another_kind_arrives_in_rgb(ends: tuple[socket.socket, socket.socket]) -> None:
    """A grey or transparent input image is sent as RGB, so that the child knows how many bytes to expect."""
    parent, child = ends
    grey = Image.new("L", (3, 2), 77)

    parent.sendall(wire.encode_requests(NONCE, [Request("a fox", 1, 64, 64, 50, image=grey)]))
    _, _, body = wire.receive_message(child)
    (request,) = wire.receive_requests(child, body)

    assert request.image == Image.new("RGB", (3, 2), (77, 77, 77))


def test_a_generate_message_without_a_list_is_refused(ends: tuple[socket.socket, socket.socket]) -> None:
    """A body that is no list of requests is a ValueError that says what it should be."""
    with pytest.raises(ValueError, match="list of requests"):
        wire.receive_requests(ends[1], {"prompt": "a fox"})


def test_bytes_that_arrive_in_pieces_are_put_together(ends: tuple[socket.socket, socket.socket]) -> None:
    """A reader gets exactly what it asked for, however the bytes were cut on their way."""
    parent, child = ends
    sent = bytes(range(256)) * 4000  # more than a socket holds

    def send() -> None:
        for start in range(0, len(sent), 77_777):
            parent.sendall(sent[start : start + 77_777])

    sender = threading.Thread(target=send)
    sender.start()
    received = wire.receive(child, len(sent) - 1), wire.receive(child, 1), wire.receive(child, 0)
    sender.join()

    assert received == (sent[:-1], sent[-1:], b"")


def test_parts_are_sent_whole_and_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    """More parts than the system takes at once, empty ones and one larger than a socket holds arrive as one stream."""
    parent, child = ends
    parts: list[bytes | memoryview] = [bytes([i % 256]) * (i % 3) for i in range(3000)]
    parts.insert(1500, memoryview(bytes(range(256)) * 40_000))
    sender = threading.Thread(target=wire.send, args=(child, parts))
    sender.start()

    received = wire.receive(parent, sum(len(part) for part in parts))
    sender.join()

    assert received == b"".join(parts)


@pytest.mark.parametrize("sent", [b"", b"G", b"G" + NONCE, wire.encode_message(b"G", NONCE, [1, 2])[:-1]])
def test_a_closed_channel_is_an_end_of_file(sent: bytes, ends: tuple[socket.socket, socket.socket]) -> None:
    """A message that breaks off, wherever it does, is an EOFError: the other side has gone."""
    parent, child = ends
    parent.sendall(sent)
    parent.close()

    with pytest.raises(EOFError, match="has gone"):
        wire.receive_message(child)


def test_an_image_that_breaks_off_is_an_end_of_file(ends: tuple[socket.socket, socket.socket]) -> None:
    """Pixels that were announced and never came are an EOFError too."""
    parent, child = ends
    request = Request("a fox", 1, 64, 64, 50, image=Image.new("RGB", (4, 4)))
    parent.sendall(wire.encode_requests(NONCE, [request])[:-1])
    parent.close()
    _, _, body = wire.receive_message(child)

    with pytest.raises(EOFError, match="has gone"):
        wire.receive_requests(child, body)


_CLASS_NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=64)
_DTYPES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=32)


_COUNTS = st.integers(0, 2**32 - 1)
_FLOPS = st.floats(0, allow_nan=False, allow_infinity=False).map(abs)  # no negative zero
RECORDS = st.builds(
    Record,
    *(_CLASS_NAMES, _CLASS_NAMES, _DTYPES, _COUNTS, _CLASS_NAMES),
    *[_COUNTS] * 6,
    st.integers(0, 2**64 - 1),
    _FLOPS,
)
ODD_RECORDS = st.builds(
    Record,
    *(TEXTS.map(lambda text: text * 3), TEXTS, TEXTS, st.integers(), TEXTS),
    *[st.integers()] * 7,
    st.floats(),
)


@given(RECORDS)
@settings(deadline=None)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    """Names that fit their fields, any count and any FLOPs survive."""
    assert Record.decode(record.encode()) == record


@given(ODD_RECORDS)
@settings(deadline=None)
def test_a_record_is_always_of_its_size(record: Record) -> None:
    """Whatever a pipeline calls itself or counts, the record is as long as the parent expects, and can be read."""
    assert len(record.encode()) == Record.SIZE
    assert Record.decode(record.encode()).flops >= 0


@given(st.binary(min_size=Record.SIZE, max_size=Record.SIZE))
@settings(deadline=None)
def test_any_bytes_are_a_harmless_record(data: bytes) -> None:
    """A hostile child's record is read without error: printable names without blanks, numbers to count with."""
    record = Record.decode(data)

    shown = record.pipeline_class + record.scheduler_class + record.dtype + record.denoiser_class
    assert all("!" <= character <= "~" for character in shown)
    assert 0 <= record.num_inference_steps < 2**32
    assert 0 <= record.flops < math.inf


def test_names_and_counts_are_cut_to_their_fields() -> None:
    """Too long a name loses its end, a letter beyond ASCII becomes '?', a count is kept in range."""
    record = Record("P" * 70, "Schedülér", "d" * 40, -1)

    assert Record.decode(record.encode()) == Record("P" * 64, "Sched?l?r", "d" * 32, 0)


def test_a_body_travels(ends: tuple[socket.socket, socket.socket]) -> None:
    """As JSON, by its names."""
    parent, child = ends

    parent.sendall(wire.encode_message(wire.LOAD, NONCE, {"source": "pass", "model": "sd15"}))

    assert wire.receive_message(child)[2] == {"source": "pass", "model": "sd15"}
