"""The bytes between parent and child.

Parent to child: kind (1 byte), nonce (16), length (4, big-endian), JSON of that length, raw image bytes if the JSON
announces any. Child to parent: one READY byte when its imports are done; then, for each message, the nonce, a kind,
and exactly what that kind announces: LOADED nothing, IMAGES the raw pixels (n * height * width * 3 bytes, known to the
parent beforehand), RECORD `Record.SIZE` bytes, FAULT a code (1), a length (4, at most `FAULT_LIMIT`) and text.

Nothing here is ever unpickled, and the parent parses nothing that a child wrote but fixed-size fields.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from PIL import Image

READY: Final = b"R"
LOAD: Final = b"L"
GENERATE: Final = b"G"
DESCRIBE: Final = b"D"
WATCH: Final = b"W"
"""As DESCRIBE, but its FLOPs are not counted, which takes time: such a call takes as long as any."""

LOADED: Final = b"l"
IMAGES: Final = b"i"
RECORD: Final = b"d"
FAULT: Final = b"e"

RAISED: Final = b"r"
"""FAULT code: the solution raised."""
BROKE_CONTRACT: Final = b"c"
"""FAULT code: the solution returned something else than it promised."""

NONCE_BYTES: Final = 16
FAULT_LIMIT: Final = 16 * 1024
LENGTH: Final = struct.Struct("!I")
_HEADER: Final = struct.Struct(f"!c{NONCE_BYTES}sI")
_PARTS_AT_ONCE: Final = 1000
"""Linux takes at most 1024 in one call."""


@dataclass(frozen=True)
class Request:
    """One unit of work, its fields named as diffusers' own arguments; what does not apply is None."""

    prompt: str | None
    seed: int
    height: int
    width: int
    num_inference_steps: int
    """The baseline's."""
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    class_label: int | None = None
    strength: float | None = None
    image: Image.Image | None = None
    """The input image, PIL RGB."""


@dataclass(frozen=True)
class Record:
    """What a running pipeline says of itself, in a fixed number of bytes; empty or 0 where nothing can be observed."""

    pipeline_class: str = ""
    scheduler_class: str = ""
    dtype: str = ""
    num_inference_steps: int = 0

    denoiser_class: str = ""
    """From here on: of one call that was observed."""
    denoiser_calls: int = 0
    denoiser_evaluations: int = 0
    """Latents in all calls together: guidance and batches count."""
    denoiser_timesteps: int = 0
    """Different ones."""
    denoiser_batch: int = 0
    """Latents in the largest call."""
    latent_height: int = 0
    latent_width: int = 0
    """Of the largest latents; packed tokens are a column."""
    denoiser_parameters: int = 0
    flops: float = 0.0
    """Floating-point operations of the whole call, as torch counts them."""
    denoiser_flops: float = 0.0
    """The denoiser's share of them."""
    attention_tokens: int = 0
    """The most of the denoiser's that attend to each other at once."""

    LAYOUT: ClassVar = struct.Struct("!64s64s32sI64s6IQddI")
    SIZE: ClassVar = LAYOUT.size

    def encode(self) -> bytes:
        """The record in `SIZE` bytes, names cut to their fields, numbers kept in range."""
        values = (getattr(self, f.name) for f in fields(self))
        return self.LAYOUT.pack(*(_packable(value, f.name) for f, value in zip(fields(self), values, strict=True)))

    @classmethod
    def decode(cls, data: bytes) -> Record:
        """The record in `data`, whatever its bytes are: names keep printable ASCII, no number is NaN or negative."""
        return cls(*(_readable(value) for value in cls.LAYOUT.unpack(data)))


def _packable(value: str | float, name: str) -> bytes | float:
    if isinstance(value, str):
        return value.encode("ascii", "replace")
    if name.endswith("flops"):
        return _finite(float(value))
    return min(max(value, 0), (2**64 if name == "denoiser_parameters" else 2**32) - 1)


def _readable(value: bytes | float) -> Any:
    if isinstance(value, bytes):
        return _printable(value)
    return _finite(value) if isinstance(value, float) else value


def _finite(value: float) -> float:
    return value if math.isfinite(value) and value > 0 else 0.0


def _printable(name: bytes) -> str:
    return "".join(chr(byte) for byte in name if 32 < byte < 127)


def encode_message(kind: bytes, nonce: bytes, body: object, blobs: Sequence[bytes] = ()) -> bytes:
    """One message to a child."""
    text = json.dumps(body, allow_nan=False).encode()
    return b"".join([kind, nonce, LENGTH.pack(len(text)), text, *blobs])


def encode_requests(nonce: bytes, requests: Sequence[Request], kind: bytes = GENERATE) -> bytes:
    """A GENERATE message, or another with requests; input images travel behind the JSON as raw RGB bytes."""
    entries, blobs = [], []
    for request in requests:
        entry = {f.name: getattr(request, f.name) for f in fields(request)}
        if request.image is not None:
            rgb = request.image.convert("RGB")
            entry["image"] = list(rgb.size)
            blobs.append(rgb.tobytes())
        entries.append(entry)
    return encode_message(kind, nonce, entries, blobs)


def receive(channel: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes from a blocking socket; EOFError where the other side has gone."""
    data = bytearray(count)
    view = memoryview(data)
    while view:
        try:
            received = channel.recv_into(view)
        except ConnectionResetError:  # it went with bytes of ours unread
            received = 0
        if received == 0:
            raise EOFError("the other side of the channel has gone")
        view = view[received:]
    return bytes(data)


def send(channel: socket.socket, parts: Sequence[bytes | memoryview]) -> None:
    """Everything in `parts`, in order, over a blocking socket, with no more system calls than needed."""
    views = [memoryview(part) for part in parts]
    while views:
        sent = channel.sendmsg(views[:_PARTS_AT_ONCE])
        while views and sent >= len(views[0]):
            sent -= len(views.pop(0))
        if sent:
            views[0] = views[0][sent:]


def receive_message(channel: socket.socket) -> tuple[bytes, bytes, object]:
    """The child's side: kind, nonce and body of the next message."""
    kind, nonce, length = _HEADER.unpack(receive(channel, _HEADER.size))
    body = json.loads(receive(channel, length))
    return kind, nonce, body


def receive_requests(channel: socket.socket, body: object) -> list[Request]:
    """The child's side: the requests of a message, input images read from behind it."""
    if not isinstance(body, list):
        raise ValueError("a GENERATE, DESCRIBE or WATCH message holds a list of requests")  # noqa: TRY004 (a wrong value on the wire)
    requests = []
    for entry in body:
        if entry.get("image") is not None:
            # only where a task has input images
            from PIL import Image

            width, height = entry["image"]
            pixels = receive(channel, width * height * 3)
            entry["image"] = Image.frombytes("RGB", (width, height), pixels)
        requests.append(Request(**entry))
    return requests
