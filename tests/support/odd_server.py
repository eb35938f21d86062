"""A server on loopback whose answers a test computes from the requests. It runs in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from processor.core.models import JSON
from tests.support.threaded_server import in_thread


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response. ``body`` is sent as it is where it is bytes, else as JSON."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else orjson.dumps(self.body)


def refusal(status: int, message: str, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    return Answer(status=status, body={"error": {"message": message, **fields}}, headers=headers or {})


def reply_to(request: JSON, text: str = "Hello world") -> Answer:
    """A good reply: a stream where the request asks for one."""
    if request.get("stream"):
        events: list[Any] = [
            {"choices": [{"index": 0, "delta": {"content": text}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        ]
        data = b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events)
        return Answer(body=data + b"data: [DONE]\n\n", headers={"Content-Type": "text/event-stream"})
    message = {"role": "assistant", "content": text}
    return Answer(body={"choices": [{"index": 0, "message": message, "text": text, "finish_reason": "stop"}]})


class OddServer:
    """Answers each request with ``answer(request)``; ``requests`` are the bodies that came, in order.

    A request whose headers ``accepts`` does not take is answered with 401.
    """

    def __init__(
        self,
        answer: Callable[[JSON], Answer],
        *,
        accepts: Callable[[dict[str, str]], bool] = lambda headers: True,
    ) -> None:
        self.requests: list[JSON] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        """By name in small letters."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                request: JSON = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(request)
                server.paths.append(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.headers.append(headers)
                self._send(answer(request) if accepts(headers) else refusal(401, "the key has expired"))

            def _send(self, response: Answer) -> None:
                data = response.data()
                self.send_response(response.status)
                for name, value in {"Content-Length": str(len(data)), **response.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                """Write nothing."""

        served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        served.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{served.server_port}/v1"
        self._end = ExitStack()
        self._end.enter_context(in_thread(served))

    def close(self) -> None:
        self._end.close()
