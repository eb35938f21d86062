"""An answer as data: what to write, when, and how it ends. Pure; a face (HTTP, memory) plays it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

import orjson

from processor.core.models import JSON
from processor.simulator.completion import Completion, unstreamed
from processor.simulator.faults import DrawnFaults
from processor.simulator.stream_chunks import chunks

Ending = Literal["clean", "reset", "stall"]

_FEWEST_FRAGMENTS = 8
_COMMENTS = (b": OPENROUTER PROCESSING\n\n", b": keep-alive\n\n", b"\n\n")
_IN_BAND: tuple[JSON, ...] = (
    {"error": {"message": "The server had an error processing your request.", "type": "server_error", "code": 500}},
    {"error": {"message": "Provider returned error", "code": 502}},
    {"object": "error", "message": "engine loop has died", "type": "InternalServerError", "code": 500},
)


class ResponseStep(NamedTuple):
    delay_s: float
    """Since the step before, or since the response began."""
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedResponse:
    """What happens to a request that has arrived."""

    status: int | None = 200
    """None: no response begins, the connection only ends."""
    headers: Mapping[str, str]
    """Names are lower case."""
    start_s: float = 0.0
    """From the request's arrival to the response's status line and headers."""
    steps: tuple[ResponseStep, ...] = ()
    ending: Ending = "clean"
    identity: bytes | None = None
    """The request's, where this is a reply with nothing missing."""


def reply(
    said: Completion, drawn: DrawnFaults, *, streamed: bool, include_usage: bool, token_s: float, gather_s: float
) -> tuple[tuple[ResponseStep, ...], Ending]:
    """The steps of a reply, as far as it gets."""
    if streamed:
        made = chunks(said, token_s, include_usage=include_usage, manners=drawn.manners)
        events = [(chunk.delay_s, orjson.dumps(chunk.data)) for chunk in made]
        # A failure comes before the last finish reason: after it, nothing would be missing.
        last_finish = len(events) - 1 - (not made[-1].data["choices"])
        frames, ending = _stream(events, last_finish, drawn)
    else:
        frames, ending = _whole(unstreamed(said), drawn)
    steps = _gathered(frames, gather_s)
    if "split_utf8" in drawn.manners:
        steps = _fragments(steps, drawn.rng)
    return tuple(steps), ending


Frame = tuple[float, bytes]


def _stream(events: list[Frame], last_finish: int, drawn: DrawnFaults) -> tuple[list[Frame], Ending]:
    if "no_done" not in drawn.manners:
        events.append((0.0, b"[DONE]"))
    frames = [(delay_s, b"data: %b\n\n" % payload) for delay_s, payload in events]
    ending: Ending = "clean"
    if drawn.failure:
        frames, ending = _broken(frames, drawn.rng.randint(0, last_finish), drawn)
    if "comments" in drawn.manners:
        frames = [frame for one in frames for frame in _commented(one, drawn.rng)]
    if "crlf" in drawn.manners:
        frames = [(delay_s, data.replace(b"\n", b"\r\n")) for delay_s, data in frames]
    return frames, ending


def _broken(frames: list[Frame], at: int, drawn: DrawnFaults) -> tuple[list[Frame], Ending]:
    """The frames before `at`, and then what goes wrong. Some stop inside a frame."""
    before, rest, rng = frames[:at], frames[at:], drawn.rng
    delay_s, data = rest[0]
    half = data[: len(data) // 2]
    if drawn.failure == "in_band_error":
        done = [(0.0, b"data: [DONE]\n\n")] if rng.random() < 0.5 else []
        return [*before, (delay_s, b"data: %b\n\n" % orjson.dumps(rng.choice(_IN_BAND))), *done], "clean"
    if drawn.failure == "malformed_chunk":
        return [*before, (delay_s, half + b"\n\n"), *rest[1:]], "clean"
    return [*before, (delay_s, half if rng.random() < 0.5 else b"")], _ENDINGS[drawn.failure or ""]


def _whole(body: JSON, drawn: DrawnFaults) -> tuple[list[Frame], Ending]:
    if "no_usage" in drawn.manners:
        del body["usage"]
    if drawn.failure == "in_band_error":
        body = drawn.rng.choice(_IN_BAND)
    data = orjson.dumps(body)
    if drawn.failure in _ENDINGS:
        return [(0.0, data[: len(data) // 2])], _ENDINGS[drawn.failure]
    return [(0.0, data[:-1] if drawn.failure == "malformed_chunk" else data)], "clean"


_ENDINGS: dict[str, Ending] = {"reset_mid": "reset", "stall_mid": "stall", "cut": "clean"}


def _commented(frame: Frame, rng: Random) -> Iterable[Frame]:
    delay_s, data = frame
    if rng.random() < 0.3:
        yield delay_s / 2, rng.choice(_COMMENTS)
        delay_s /= 2
    yield delay_s, data


def _gathered(frames: Sequence[Frame], gather_s: float) -> list[ResponseStep]:
    """What is due at one time is one write, and after the first write what is due within `gather_s`, too."""
    steps: list[ResponseStep] = []
    held: list[bytes] = []
    waited_s = 0.0
    for delay_s, data in frames:
        if held and delay_s > 0 and (not steps or waited_s >= gather_s):
            steps.append(ResponseStep(waited_s, b"".join(held)))
            held, waited_s = [], 0.0
        held.append(data)
        waited_s += delay_s
    return [*steps, ResponseStep(waited_s, b"".join(held))]


def _fragments(steps: Sequence[ResponseStep], rng: Random) -> list[ResponseStep]:
    """The same bytes at about the same times, cut elsewhere: where there are such, half the cuts inside a character."""
    data = b"".join(step.data for step in steps)
    inside = [place for place, byte in enumerate(data) if byte & 0xC0 == 0x80]
    cuts = max(0, min(max(len(steps), _FEWEST_FRAGMENTS), len(data)) - 1)
    places = set(rng.sample(inside, min(len(inside), cuts // 2)))
    while len(places) < cuts:
        places.add(rng.randrange(1, len(data)))
    ends = [*sorted(places), len(data)]
    delays = [step.delay_s for step in steps] + [0.0] * len(ends)
    return [ResponseStep(delay, data[start:end]) for delay, start, end in zip(delays, [0, *ends], ends, strict=False)]
