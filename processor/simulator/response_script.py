"""Scripts of responses: what to write, when, and how the response ends. Pure.

The HTTP server and the memory transport play them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Literal, NamedTuple

import orjson

from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON
from processor.simulator.completion import Completion
from processor.simulator.faults import DrawnFaults
from processor.simulator.reply_bodies import non_streamed_body
from processor.simulator.stream_chunks import stream_chunks, stream_events

Ending = Literal["clean", "reset", "stall"]
Frame = tuple[float, bytes]
"""A delay in seconds, and what is written after it."""

_MIN_FRAGMENTS = 8
_COMMENTS = (b": OPENROUTER PROCESSING\n\n", b": keep-alive\n\n", b"\n\n")
_IN_BAND_ERRORS: tuple[JSON, ...] = (
    {"error": {"message": "The server had an error processing your request.", "type": "server_error", "code": 500}},
    {"error": {"message": "Provider returned error", "code": 502}},
    {"object": "error", "message": "engine loop has died", "type": "InternalServerError", "code": 500},
)


class ResponseStep(NamedTuple):
    """One write."""

    delay_s: float
    """Time since the step before, or since the start of the response."""
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedResponse:
    """What the provider does with a request that has arrived."""

    status: int | None = 200
    """None: the connection is closed without a response."""
    headers: Mapping[str, str]
    """Names are lower case."""
    start_delay_s: float = 0.0
    """Time from the arrival of the request to the status line and headers of the response."""
    steps: tuple[ResponseStep, ...] = ()
    ending: Ending = "clean"
    identity: bytes | None = None
    """The identity of the request, if this is a complete reply to it."""


def json_response(value: JSON, status: int = 200, headers: Mapping[str, str] | None = None) -> ScriptedResponse:
    """A response at once, with this value as its body."""
    return ScriptedResponse(
        status=status,
        headers={"content-type": "application/json", **(headers or {})},
        steps=(ResponseStep(0.0, orjson.dumps(value)),),
    )


def script_reply(
    completion: Completion,
    drawn: DrawnFaults,
    *,
    streamed: bool,
    include_usage: bool,
    token_s: float,
    write_batch_s: float,
) -> tuple[tuple[ResponseStep, ...], Ending]:
    """The steps of a reply, up to the point where a fault ends it, and how it ends."""
    if not streamed:
        return script_body(non_streamed_body(completion), drawn, write_batch_s)
    if completion.api_kind in ("chat", "completions"):
        chunks = stream_chunks(completion, token_s, include_usage=include_usage, quirks=drawn.quirks)
        frames = [(chunk.delay_s, b"data: %b\n\n" % orjson.dumps(chunk.data)) for chunk in chunks]
        last_finish = len(frames) - 1 - (not chunks[-1].data["choices"])
        if "no_done" not in drawn.quirks:
            frames.append((0.0, b"data: [DONE]\n\n"))
    else:
        chunks = stream_events(completion, token_s, drawn.quirks)
        frames = [(chunk.delay_s, _named_event(chunk.data)) for chunk in chunks]
        last_finish = len(frames) - 1 - sum(chunk.data["type"] == "message_stop" for chunk in chunks)
    # A failure comes before the last finish reason: after it the reply would be complete.
    frames, ending = _script_stream(frames, last_finish, drawn)
    return _as_steps(frames, drawn, write_batch_s), ending


def script_body(body: JSON, drawn: DrawnFaults, write_batch_s: float = 0.0) -> tuple[tuple[ResponseStep, ...], Ending]:
    """The steps of a reply that is one whole body, and how it ends."""
    frames, ending = _script_body(body, drawn)
    return _as_steps(frames, drawn, write_batch_s), ending


def _as_steps(frames: list[Frame], drawn: DrawnFaults, write_batch_s: float) -> tuple[ResponseStep, ...]:
    steps = _batch_writes(frames, write_batch_s)
    if "split_utf8" in drawn.quirks:
        steps = _fragment(steps, drawn.rng)
    return tuple(steps)


def _named_event(data: JSON) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), orjson.dumps(data))


def _script_stream(frames: list[Frame], last_finish: int, drawn: DrawnFaults) -> tuple[list[Frame], Ending]:
    ending: Ending = "clean"
    if drawn.failure:
        frames, ending = _break_off(frames, drawn.rng.randint(0, last_finish), drawn)
    if "comments" in drawn.quirks:
        frames = [frame for one in frames for frame in _add_comments(one, drawn.rng)]
    if "crlf" in drawn.quirks:
        frames = [(delay_s, data.replace(b"\n", b"\r\n")) for delay_s, data in frames]
    return frames, ending


def _break_off(frames: list[Frame], at: int, drawn: DrawnFaults) -> tuple[list[Frame], Ending]:
    """The frames before `at`, and then the fault. Some end inside a frame."""
    before, rest, rng = frames[:at], frames[at:], drawn.rng
    delay_s, data = rest[0]
    start = data.index(b"data: ")
    half = data[: (start + len(data)) // 2]
    if drawn.failure == "in_band_error":
        done = [(0.0, b"data: [DONE]\n\n")] if rng.random() < 0.5 else []
        return [*before, (delay_s, b"data: %b\n\n" % orjson.dumps(rng.choice(_IN_BAND_ERRORS))), *done], "clean"
    if drawn.failure == "malformed_chunk":
        return [*before, (delay_s, half + b"\n\n"), *rest[1:]], "clean"
    return [*before, (delay_s, half if rng.random() < 0.5 else b"")], _ENDINGS[drawn.failure or ""]


def _script_body(body: JSON, drawn: DrawnFaults) -> tuple[list[Frame], Ending]:
    if "no_usage" in drawn.quirks:
        body = {name: value for name, value in body.items() if name != "usage"}
    if drawn.failure == "in_band_error":
        body = drawn.rng.choice(_IN_BAND_ERRORS)
    data = orjson.dumps(body)
    if drawn.failure in _ENDINGS:
        return [(0.0, data[: len(data) // 2])], _ENDINGS[drawn.failure]
    return [(0.0, data[:-1] if drawn.failure == "malformed_chunk" else data)], "clean"


_ENDINGS: dict[str, Ending] = {"reset_mid": "reset", "stall_mid": "stall", "cut": "clean"}


def _add_comments(frame: Frame, rng: Random) -> Iterable[Frame]:
    delay_s, data = frame
    if rng.random() < 0.3:
        yield delay_s / 2, rng.choice(_COMMENTS)
        delay_s /= 2
    yield delay_s, data


def _batch_writes(frames: Sequence[Frame], write_batch_s: float) -> list[ResponseStep]:
    """Merge frames that are due at the same time and, after the first write, those due within `write_batch_s`."""
    steps: list[ResponseStep] = []
    pending: list[bytes] = []
    waited_s = 0.0
    for delay_s, data in frames:
        if pending and delay_s > 0 and (not steps or waited_s >= write_batch_s):
            steps.append(ResponseStep(waited_s, b"".join(pending)))
            pending, waited_s = [], 0.0
        pending.append(data)
        waited_s += delay_s
    return [*steps, ResponseStep(waited_s, b"".join(pending))]


def _fragment(steps: Sequence[ResponseStep], rng: Random) -> list[ResponseStep]:
    """The same bytes at about the same times, cut at other places: up to half of them inside a UTF-8 character."""
    data = b"".join(step.data for step in steps)
    inside = [place for place, byte in enumerate(data) if byte & 0xC0 == 0x80]
    cuts = max(0, min(max(len(steps), _MIN_FRAGMENTS), len(data)) - 1)
    places = set(rng.sample(inside, min(len(inside), cuts // 2)))
    while len(places) < cuts:
        places.add(rng.randrange(1, len(data)))
    ends = [*sorted(places), len(data)]
    delays = [step.delay_s for step in steps] + [0.0] * len(ends)
    return [ResponseStep(delay, data[start:end]) for delay, start, end in zip(delays, [0, *ends], ends, strict=False)]
