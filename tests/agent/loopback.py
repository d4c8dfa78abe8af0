"""A server on the loopback interface that speaks the OpenAI chat protocol and answers by a script: no language model.

Real HTTP, so that the real SDK with its real retries talks to it; what it says was written down by a test.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

KEY = "sk-a-key-that-nobody-may-see"
MODEL = "scripted"


@dataclass(frozen=True)
class Answer:
    """What is sent for one request."""

    text: str = ""
    finish_reason: str = "stop"
    refusal: str | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    dropped: bool = False
    """The connection is closed without a word."""
    body: object = None
    """Sent in place of a completion."""


class Loopback:
    """The server, for a `with`; `requests` is what it was asked."""

    def __init__(self, script: Sequence[Answer] | Callable[[Mapping[str, Any]], Answer]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.refused = 0
        """How often a key or a model was not known."""
        self._script = script if callable(script) else None
        self._answers = iter(()) if callable(script) else iter(script)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """For OPENAI_BASE_URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, asked: dict[str, Any]) -> Answer:
        with self._lock:
            self.requests.append(asked)
            if self._script is None:
                return next(self._answers)
        return self._script(asked)  # several at once: it may wait for another

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """One chat completion."""
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.headers["Authorization"] != f"Bearer {KEY}":
                    loopback.refused += 1
                    said = f"Incorrect API key provided: {self.headers['Authorization']}"
                    self._send(401, {"error": {"message": said}}, {})
                elif asked["model"] != MODEL:
                    loopback.refused += 1
                    self._send(404, {"error": {"message": f"The model {asked['model']} does not exist"}}, {})
                else:
                    self._play(loopback._answer(asked))

            def _play(self, answer: Answer) -> None:
                time.sleep(answer.after_s)
                if answer.dropped:
                    self.connection.close()
                elif answer.status != 200:
                    self._send(answer.status, {"error": {"message": answer.text}}, answer.headers)
                else:
                    self._send(200, answer.body or _completion(answer), answer.headers)

            def _send(self, status: int, body: object, headers: Mapping[str, str]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
                """Nothing on the terminal."""

        return Handler


def _completion(answer: Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }
