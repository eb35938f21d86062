"""What passes between the driver and a worker: frozen values, as groups in bytes.

Times are ages, in seconds before the group was made: the clocks of two machines have nothing to do with each other. An
age is reckoned back on arrival, so that the way makes an event later, never earlier: a limit that is counted from then
on is kept.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable
from dataclasses import asdict, field, replace
from hashlib import blake2b
from typing import Any, NamedTuple

from processor.core.errors import ProcessorError
from processor.core.events import Delta, FirstToken, RequestEvent, ResponseStarted, Sent
from processor.core.fast_dataclass import dataclass
from processor.core.models import Job, Reply, Target
from processor.core.secrets import Secret
from processor.core.text import Surface
from processor.http.settings import TransportSettings

# ---------------------------------------------------------------- before any request


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """What a worker tells of itself. Sent as JSON, which another version can read."""

    version: str
    """Of this program, for a person."""
    sources: str
    """The digest of the sources: see ``program_version``."""
    python: str
    """Major and minor."""
    node: str
    """The machine, for a person."""
    pid: int
    max_connections: int
    """The most requests that it can have in flight."""


def encode_info(info: WorkerInfo) -> bytes:
    return json.dumps(asdict(info)).encode()


def decode_info(data: bytes) -> WorkerInfo:
    """Return what a worker tells of itself, which may be of another version and tell more, or less."""
    told = json.loads(data)
    unknown: dict[str, Any] = dict.fromkeys(("version", "sources", "python", "node"), "unknown")
    unknown |= {"pid": 0, "max_connections": 0}
    return WorkerInfo(**{name: told.get(name, other) for name, other in unknown.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    transport: TransportSettings
    interval_s: float
    """The least time between two groups of messages."""
    surface: Surface = "command line"
    """How errors name settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedTarget:
    """A target, which requests name by its number. Its key is not in it."""

    number: int
    target: Target
    variable: str | None = None
    """The environment variable that may hold the key at the worker, too."""
    salt: bytes = b""
    digest: bytes = b""
    """Of the key, so that the worker knows whether the variable holds the same one. Empty: there is no key."""
    key: str | None = field(default=None, repr=False)
    """The key itself, only once the worker has said that it lacks it."""

    def matches(self, key: str) -> bool:
        return key_digest(key, self.salt) == self.digest


def numbered_target(number: int, target: Target, variable: str | None, salt: bytes) -> NumberedTarget:
    """Return the target as it may be passed on: a digest in place of the key."""
    digest = b"" if target.key is None else key_digest(target.key.value, salt)
    return NumberedTarget(number=number, target=replace(target, key=None), variable=variable, salt=salt, digest=digest)


def key_digest(key: str, salt: bytes) -> bytes:
    return blake2b(key.encode(), key=salt, digest_size=32).digest()


def target_with_key(numbered: NumberedTarget, key: str) -> Target:
    return replace(numbered.target, key=Secret(key))


# ---------------------------------------------------------------- from the driver to a worker


class SendRequest(NamedTuple):
    number: int
    """The attempt's, greater than all before it."""
    target: int
    job: Job
    """Without metadata, which is not sent."""


class CancelRequest(NamedTuple):
    number: int


ToWorker = SendRequest | CancelRequest

# ---------------------------------------------------------------- from a worker to the driver


class RequestReported(NamedTuple):
    """Something happened to a request. ``event.at`` is an age."""

    number: int
    event: RequestEvent


class RequestEnded(NamedTuple):
    number: int
    outcome: Reply | ProcessorError


class WorkerNotice(NamedTuple):
    """A message for the user."""

    text: str


FromWorker = RequestReported | RequestEnded | WorkerNotice


def with_time(event: RequestEvent, change: Any) -> RequestEvent:
    """Return the event with ``change`` applied to its time, if it has one."""
    match event:
        case Sent(at, streamed):
            return Sent(change(at), streamed)
        case ResponseStarted(status, headers, at):
            return ResponseStarted(status, dict(headers), change(at))
        case FirstToken(at):
            return FirstToken(change(at))
        case Delta():
            return event


# ---------------------------------------------------------------- bytes


def encode(value: object) -> bytes:
    """Return a value, or a list of messages, as bytes that ``decode`` reads in the same version of this program."""
    return pickle.dumps(value, protocol=5)


def decode(data: bytes) -> Any:
    """``data`` must come from a process that this run has started: it can make this one execute anything."""
    return pickle.loads(data)  # noqa: S301


def encode_aged(messages: Iterable[FromWorker], now: float) -> bytes:
    """Return messages whose events have times on this process's clock, with ages in their place."""
    return encode(
        [
            RequestReported(message.number, with_time(message.event, lambda at: max(now - at, 0.0)))
            if isinstance(message, RequestReported)
            else message
            for message in messages
        ]
    )
