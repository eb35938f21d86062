"""Responses of an HTTP server, mutated at random in their status, headers, bodies and framing. Seeded."""

from __future__ import annotations

import json
from random import Random
from typing import Any

STATUSES = (
    *(100, 103, 200, 200, 200, 200, 201, 202, 204, 206, 299, 300, 301, 302, 303, 304, 307, 308, 400, 400, 401, 402),
    *(403, 404, 405, 406, 408, 409, 410, 411, 413, 415, 418, 422, 423, 424, 425, 426, 429, 431, 451, 499, 500, 500),
    *(501, 502, 503, 504, 505, 507, 508, 511, 520, 522, 524, 529, 530, 599, 600, 799, 999),
)
NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 3, 429, 2**31, 2**53, 2**64, -(2**70), 10**30, 1.5, 1e308, -0.0, float("nan"), float("inf"), 1.8e12),
)
WORDS = (
    *("", " ", "stop", "length", "error", "null", "insufficient_quota", "stream_options is not supported", "per day"),
    *("stream must be false", "max_tokens is not supported", "try again in 999999999h", "try again in 0.01s"),
    *("1790000000000", "1e309", "NaN", "-1", "\x00", "\x1b[31m", "\ud800", "\N{GRINNING FACE}", "\u2028", "x" * 3000),
    *("Limit 1, Requested 2", "API key not valid", "Insufficient Balance", "context length exceeded"),
    *('{"error": {"message": "inner"}}', "<html><title>x</title>", "[DONE]", "data: ", "model `m` does not exist"),
)
_FIELDS = """error message code type param detail details errors base_resp status_code choices delta content tool_calls
    function arguments name index id finish_reason usage role prompt_tokens completion_tokens total_tokens logprobs
    metadata raw retryDelay x_groq object refusal reasoning audio retry_after status violations quotaId loc msg model
    text"""
_HEADERS = """Retry-After Retry-After-Ms X-RateLimit-Reset X-Should-Retry Date Location X-Request-Id Content-Type
    X-RateLimit-Limit-Requests X-RateLimit-Remaining-Requests X-RateLimit-Reset-Requests X-RateLimit-Limit-Tokens
    X-RateLimit-Remaining-Tokens X-RateLimit-Reset-Tokens Transfer-Encoding Connection Keep-Alive Set-Cookie Server
    Content-Encoding Content-Length Trailer Upgrade"""
_HEADER_WORDS = """0 0.01 1 -5 10 nan inf 1e308 1790000000 1790000000000 999999999999 true false soon gzip br identity
    chunked close keep-alive text/html 6m0s application/json timeout=0 20ms 100-continue /v1/x?hop=1 /x"""
FIELDS, HEADERS = tuple(_FIELDS.split()), tuple(_HEADERS.split())
HEADER_VALUES = (
    *_HEADER_WORDS.split(),
    *("Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "https://elsewhere.example/"),
    *("text/event-stream; charset=latin-1", "\xff\xfe", "x" * 9000),
)
INSERTED = (b"\n", b"\r", b"\n\n", b"data: ", b"event: error\n", b'"', b"{", b"]", b"\\u")
MESSAGE = {"role": "assistant", "content": "Hello world"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ERRORS: tuple[Any, ...] = (
    {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None}},
    {"error": "no"},
    {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]},
    {"message": {"detail": [{"loc": ["body", "stream"], "msg": "Extra inputs are not permitted"}]}},
    [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "0.01s"}]}}],
    {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}},
    {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": {"detail": "upstream"}}}},
    {"code": "invalid", "message": "no"},
)


class ResponseMutator:
    """Makes the bytes of one response after another.

    Each seed has few statuses, and a rate of good responses of its own: one that ends a run at once would hide others.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._statuses = self._random.sample(STATUSES, 4)
        self._good_rate = self._random.choice((0.1, 0.4, 0.7, 0.9))

    def response(self, *, streamed: bool) -> bytes:
        """A response to a request."""
        random = self._random
        if random.random() < self._good_rate:
            return self._framed(200, self._good_body(streamed), {})
        status = random.choice(self._statuses)
        body = self._good_body(streamed) if random.random() < 0.4 else self._error_body()
        if random.random() < 0.5:
            body = self._mutated_bytes(body)
        headers = {random.choice(HEADERS): random.choice(HEADER_VALUES) for _ in range(random.choice((0, 1, 1, 2, 4)))}
        if status == 429 or "Retry-After" in headers:
            headers.setdefault("Retry-After", "0.01")
        return self._framed(status, body, headers)

    def chunks(self, data: bytes) -> list[bytes]:
        """The response as it is written: whole, in pieces, or cut off."""
        random = self._random
        if random.random() < 0.1:
            data = data[: random.randrange(len(data) + 1)]
        if random.random() < 0.6 or not data:
            return [data]
        cuts = sorted(random.randrange(len(data)) for _ in range(random.randrange(1, 6)))
        return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    @property
    def closes(self) -> bool:
        """Whether the connection is closed after this response."""
        return self._random.random() < 0.3

    # ------------------------------------------------------------ bodies

    def _good_body(self, streamed: bool) -> bytes:
        if not streamed:
            choice = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
            return self._dumps({"id": "x", "choices": [choice], "usage": USAGE})
        events: list[Any] = [
            {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
            *({"id": "x", "choices": [{"index": 0, "delta": {"content": text}}]} for text in ("Hello ", "world")),
            {"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"id": "x", "choices": [], "usage": USAGE},
        ]
        if self._random.random() < 0.2:
            events[self._random.randrange(len(events))] = self._odd_value(3)
        return b"".join(b"data: " + self._dumps(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"

    def _error_body(self) -> bytes:
        random = self._random
        kind = random.random()
        if kind < 0.45:
            return self._dumps(self._mutated_value(random.choice(ERRORS), 4))
        if kind < 0.8:
            return self._dumps(self._odd_value(5))
        if kind < 0.9:
            depth = random.choice((10, 60, 300, 900, 3000))
            piece = random.choice(('{"error":', '{"detail":[', '{"choices":[{"delta":'))
            return (piece * depth).encode()
        return random.choice((b"", b"<html><head><title>502</title></head>", b"plain text", random.randbytes(50)))

    def _dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def _odd_value(self, depth: int) -> Any:
        random = self._random
        kind = random.random()
        if depth <= 0 or kind < 0.35:
            return random.choice((None, True, False, *NUMBERS, *WORDS))
        if kind < 0.55:
            return [self._odd_value(depth - 1) for _ in range(random.randrange(4))]
        return {random.choice(FIELDS): self._odd_value(depth - 1) for _ in range(random.randrange(5))}

    def _mutated_value(self, value: Any, depth: int) -> Any:
        """The value with some of its parts replaced."""
        if self._random.random() < 0.15:
            return self._odd_value(depth)
        if isinstance(value, dict):
            return {name: self._mutated_value(item, depth - 1) for name, item in value.items()}
        if isinstance(value, list):
            return [self._mutated_value(item, depth - 1) for item in value]
        return value

    def _mutated_bytes(self, data: bytes) -> bytes:
        random = self._random
        mutated = bytearray(data)
        for _ in range(random.randrange(1, 5)):
            at = random.randrange(len(mutated) + 1)
            kind = random.random()
            if kind < 0.4 and at < len(mutated):
                mutated[at] = random.randrange(256)
            elif kind < 0.7:
                mutated[at:at] = random.choice(
                    (b"\n", b"\r", b"\n\n", b"data: ", b"event: error\n", b'"', b"{", b"]", b"\\u")
                )
            else:
                del mutated[at : at + random.randrange(1, 30)]
        return bytes(mutated)

    # ------------------------------------------------------------ framing

    def _framed(self, status: int, body: bytes, headers: dict[str, str]) -> bytes:
        random = self._random
        lines = [f"HTTP/1.1 {status} Some Reason"] if random.random() < 0.97 else ["HTTP/1.0 200", "broken header"]
        kind = random.random()
        if "Transfer-Encoding" not in headers and "Content-Length" not in headers:
            if kind < 0.6:
                lines.append(f"Content-Length: {len(body)}")
            elif kind < 0.9:
                lines.append("Transfer-Encoding: chunked")
                body = self._chunked(body)
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

    def _chunked(self, body: bytes) -> bytes:
        size = self._random.choice((1, 7, 100, 10_000))
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return framed + (b"0\r\n\r\n" if self._random.random() < 0.95 else b"zz\r\n")
