"""Two ways to bring pixels from one process to another, without anything else around them: what a channel cannot beat.

Run it as `python benchmarks/channel_copies.py` (half a minute on two cores). Both end the clock once the bytes can no
longer change: a stream socket when the last one is held; a memory file, which the child writes, when the parent has
sealed it against writing (a file that is mapped for writing cannot be sealed, so nothing can change it afterwards).
"""

from __future__ import annotations

import fcntl
import os
import socket
import statistics
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SIDES_PX: Final = (64, 512, 1024)
CALLS: Final = 60
ROUNDS: Final = 5
BUFFER_BYTES: Final = 4 * 2**20
CORES: Final = sorted(os.sched_getaffinity(0))
PAUSE_S: Final = 0.01
"""Between calls, as when a candidate computes: both sides have gone to sleep by then."""
REQUEST: Final = b"x" * 80


def _serve(channel: socket.socket, size: int) -> None:
    pixels = memoryview(bytes(size))
    while True:
        message, files, _, _ = socket.recv_fds(channel, len(REQUEST), 1)
        if not message:
            os._exit(0)
        if files:
            written = 0
            while written < size:
                written += os.pwrite(files[0], pixels[written:], written)
            os.close(files[0])
            channel.sendall(b"i")
        else:
            channel.sendall(b"i")
            channel.sendall(pixels)


def by_socket(channel: socket.socket, view: memoryview) -> float:
    """Seconds until all bytes are held."""
    began = time.perf_counter()
    channel.sendall(REQUEST)
    channel.recv(1)
    while view:
        view = view[channel.recv_into(view) :]
    return time.perf_counter() - began


def by_sealed_file(channel: socket.socket, view: memoryview) -> float:
    """Seconds until no byte can change; they are read afterwards."""
    file = os.memfd_create("pixels", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.posix_fallocate(file, 0, len(view))
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    began = time.perf_counter()
    socket.send_fds(channel, [REQUEST], [file])
    channel.recv(1)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
    elapsed_s = time.perf_counter() - began
    os.preadv(file, [view], 0)
    os.close(file)
    return elapsed_s


def median_ms(way: Callable[[socket.socket, memoryview], float], size: int) -> float:
    """Milliseconds of a call in a pair of processes of its own, each on its core where there are two."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    if (child := os.fork()) == 0:
        ours.close()
        os.sched_setaffinity(0, {CORES[-1]})
        _serve(theirs, size)
    theirs.close()
    view, times_s = memoryview(bytearray(b"\xa5" * size)), []
    for _ in range(CALLS):
        time.sleep(PAUSE_S)
        times_s.append(way(ours, view))
    ours.close()
    os.waitpid(child, 0)
    return 1000 * statistics.median(times_s)


def main() -> None:
    """Print a line for each size."""
    os.sched_setaffinity(0, {CORES[0]})
    for side_px in SIDES_PX:
        size = side_px * side_px * 3
        stream = min(median_ms(by_socket, size) for _ in range(ROUNDS))
        sealed = min(median_ms(by_sealed_file, size) for _ in range(ROUNDS))
        print(f"{side_px} x {side_px}: socket {stream:.3f} ms, sealed memory file {sealed:.3f} ms (best of {ROUNDS})")


if __name__ == "__main__":
    main()
