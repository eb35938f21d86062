"""Serves one canned reply to every request: ``python replay.py CHUNKS SECONDS [CAPACITY]``.

CHUNKS 0: one JSON body of 100 words instead of a stream.
SECONDS 0: the whole reply in one write. Otherwise one write per event, evenly over so many seconds, by absolute
times, so that a reply takes just as long as it should, however slow its reader is; no two streams in step, even if
they were asked for at once. With CAPACITY it announces no limits and answers so many requests at a time: further ones
wait. Prints its port, then serves until
its standard input is closed, and then prints what it cost. It parses nothing but the length of the request.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count

import orjson
import uvloop

HEAD = b"""HTTP/1.1 200 OK\r
Content-Type: text/event-stream; charset=utf-8\r
Transfer-Encoding: chunked\r
x-request-id: req_7c4d1f0a5b6e4d3c9a8b7c6d5e4f3a2b\r
openai-processing-ms: 212\r
x-ratelimit-limit-requests: 30000000\r
x-ratelimit-remaining-requests: 29999999\r
x-ratelimit-reset-requests: 2ms\r
x-ratelimit-limit-tokens: 15000000000\r
x-ratelimit-remaining-tokens: 14999999000\r
x-ratelimit-reset-tokens: 4ms\r
\r
"""
"""A server that names limits, so high that nothing waits for them: what it grants is not searched for."""
HEAD_WITHOUT_LIMITS = b"".join(line for line in HEAD.splitlines(keepends=True) if not line.startswith(b"x-ratelimit"))
END = b"0\r\n\r\n"
TEXT = "the answer to a question like this one is of course not quite what one would expect at first"
WORDS = TEXT.split()
PHASES = (n * 0.618034 % 1 for n in count())
"""Evenly spread, however many are taken."""


def chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, object]:
    """As large servers send them: about 280 bytes for a word."""
    return {
        "id": "chatcmpl-CbDyCtPVJkXrBzQGnlJVUpmrLmN7S",
        "object": "chat.completion.chunk",
        "created": 1763650000,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_560af6e559",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}],
        "usage": None,
    }


def chunks(words: int) -> Iterator[dict[str, object]]:
    yield chunk({"role": "assistant", "content": ""})
    for n in range(words):
        yield chunk({"content": " " + WORDS[n % len(WORDS)]})
    yield chunk({}, "stop")
    usage = {"prompt_tokens": 200, "completion_tokens": words, "total_tokens": 200 + words}
    yield {**chunk({}), "choices": [], "usage": usage}


def events(words: int, head: bytes = HEAD) -> list[bytes]:
    """Each as the HTTP chunk it is sent in; the first with the head before it, the last with the end after it."""
    lines = [b"data: %b\n\n" % orjson.dumps(data) for data in chunks(words)] + [b"data: [DONE]\n\n"]
    framed = [b"%x\r\n%b\r\n" % (len(line), line) for line in lines]
    return [head + framed[0], *framed[1:-1], framed[-1] + END]


def whole_body(words: int, head: bytes = HEAD) -> bytes:
    """The reply as one JSON body, head and all."""
    message = {
        "role": "assistant",
        "content": "".join(f" {WORDS[n % len(WORDS)]}" for n in range(words)),
        "refusal": None,
    }
    body = {
        **chunk({}),
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": words, "total_tokens": 200 + words},
    }
    data = orjson.dumps(body)
    head = head.replace(b"text/event-stream; charset=utf-8", b"application/json")
    return head.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(data)) + data


class ServerSlots:
    """The requests that are answered at a time; the others wait in their order."""

    def __init__(self, capacity: int | None) -> None:
        self._free = capacity
        self._waiting: deque[Callable[[], None]] = deque()

    def start(self, begin: Callable[[], None]) -> None:
        if self._free is None:
            begin()
        elif self._free:
            self._free -= 1
            begin()
        else:
            self._waiting.append(begin)

    def end(self) -> None:
        if self._waiting:
            self._waiting.popleft()()
        elif self._free is not None:
            self._free += 1


class Replay(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self, pieces: list[bytes], interval_s: float, slots: ServerSlots) -> None:
        self._pieces = pieces
        self._interval_s = interval_s
        self._slots = slots
        self._loop = asyncio.get_running_loop()
        self._request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._request += data
        head, found, body = self._request.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            self._request = b""
            self._slots.start(self._begin)

    def _begin(self) -> None:
        self._began = self._loop.time() + next(PHASES) * self._interval_s
        self._loop.call_at(self._began, self._write, 0)

    def _write(self, index: int) -> None:
        if self._transport.is_closing():
            self._slots.end()
            return
        self._transport.write(self._pieces[index])
        index += 1
        if index < len(self._pieces):
            self._loop.call_at(self._began + index * self._interval_s, self._write, index)
        else:
            self._slots.end()


async def serve(words: int, over_s: float, capacity: int | None) -> None:
    head = HEAD if capacity is None else HEAD_WITHOUT_LIMITS
    pieces = events(words, head) if words else [whole_body(100, head)]
    slots = ServerSlots(capacity)
    pieces = pieces if over_s else [b"".join(pieces)]
    interval_s = over_s / max(len(pieces) - 1, 1)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Replay(pieces, interval_s, slots), "127.0.0.1", 0, backlog=20_000)
    print(server.sockets[0].getsockname()[1], flush=True)
    began = time.perf_counter()
    await loop.run_in_executor(None, sys.stdin.read)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(used.ru_utime + used.ru_stime, time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None))
