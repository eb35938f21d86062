"""Parses one line of a job file. A file may mix three formats. The first of these keys in a line decides:

``body``      OpenAI Batch: ``{"custom_id", "method", "url", "body"}``
``messages``  a bare request body: ``{"model", "messages", ..., "metadata"?}``; or the field that its API requires
``prompt``    a short form: ``{"id"?, "prompt", "system"?, "metadata"?, ...request parameters}``
"""

from __future__ import annotations

from typing import Any

import orjson

from processor.core.errors import InvalidJob
from processor.core.fast_dataclass import constructor_of, dataclass
from processor.core.json_bytes import NotExact, has_large_float
from processor.core.models import JSON, Job, SourceFile, position_of
from processor.core.text import json_type, setting_name
from processor.input.fingerprints import exact_fingerprint, fast_fingerprint
from processor.input.job_urls import protocol_for_url
from processor.input.line_json import ENVELOPE_FIELDS, custom_id_of, decode_exactly, decode_line
from processor.protocols.base import Protocol
from processor.protocols.registry import DEFAULT_PATH
from processor.protocols.request_limits import UNKNOWN_LIMITS, RequestLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDefaults:
    """What a run adds to its jobs: the API path and the model of those that name none."""

    endpoint: str = DEFAULT_PATH
    model: str | None = None
    base_urls: tuple[str, ...] = ()
    """Of the run's endpoints: a job's url may be an address below one of them. Empty: any address may stand there."""
    request_limits: RequestLimits = UNKNOWN_LIMITS
    """What the provider of the run's endpoint is known to refuse."""
    answered_models: frozenset[str] | None = None
    """The models that the run's endpoints answer; None: all."""
    source: SourceFile | None = None
    """The file that the jobs are read from; None where the run has only one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedJob:
    """A job as its line gives it. ``custom_id`` is None where the line has none."""

    line: int
    custom_id: str | None
    fingerprint: str
    path: str
    model: str
    body: JSON
    metadata: Any
    has_metadata: bool
    altered: tuple[str, ...]
    """What had to be changed of the line: see ``line_json``."""
    raw: bytes
    source: SourceFile | None = None
    """Its file; None where the run has only one."""

    @property
    def position(self) -> int:
        return position_of(self.line, self.source)

    @property
    def names_model(self) -> bool:
        """Whether its line names the model. If not, ``--model`` decides, and the fingerprint does not depend on it."""
        return "model" in self.body

    def with_id(self, custom_id: str) -> Job:
        """Return the job with its id, and the model in its body."""
        return _new_job(
            line=self.line,
            custom_id=custom_id,
            fingerprint=self.fingerprint,
            path=self.path,
            model=self.model,
            body=self.body if "model" in self.body else {"model": self.model, **self.body},
            metadata=self.metadata,
            has_metadata=self.has_metadata,
            altered=self.altered,
            source=self.source,
        )


_new_job, _new_parsed_job = constructor_of(Job), constructor_of(ParsedJob)


def parse_job(data: bytes, line: int, defaults: JobDefaults) -> ParsedJob:
    """Parse a line without surrounding white space; ``line`` is its number. Raises InvalidJob."""
    entry, altered = decode_line(data)
    try:
        return _parse_entry(entry, altered, line, defaults, data)
    except NotExact:
        entry, altered = decode_exactly(data)
        return _parse_entry(entry, altered, line, defaults, data, is_exact=True)


def job_identity(data: bytes, defaults: JobDefaults, is_exact: bool = False) -> tuple[str | None, bytes, bool]:
    """Return the ``custom_id``, the fingerprint as bytes, and ``names_model`` of the job that ``parse_job`` returns.

    The contents of the request are not checked, so that a line that ``parse_job`` refuses may pass: if a request with
    its fingerprint has a reply, it was a job. Raises InvalidJob for other errors.
    """
    entry, _ = decode_exactly(data) if is_exact else decode_line(data)
    try:
        custom_id = custom_id_of(entry, is_exact)
        protocol = _protocol(entry, defaults)
        body = _body(entry, protocol)
        names_model = "model" in body
        if not names_model and not defaults.model:
            raise _no_model()
        return custom_id, _fingerprint(entry, custom_id, protocol.path, body, is_exact), names_model
    except NotExact:
        return job_identity(data, defaults, True)


def _no_model() -> InvalidJob:
    return InvalidJob(f"names no model: give it one, or set {setting_name('model')}")


def _parse_entry(
    entry: JSON, altered: tuple[str, ...], line: int, defaults: JobDefaults, raw: bytes, *, is_exact: bool = False
) -> ParsedJob:
    custom_id = custom_id_of(entry, is_exact)
    protocol = _protocol(entry, defaults)
    body = _body(entry, protocol)
    protocol.validate(body)
    protocol.check_limits(body, defaults.request_limits)
    model = body.get("model", defaults.model)
    if model is None:
        raise _no_model()
    if not isinstance(model, str) or not model:
        raise InvalidJob(f"model must be a non-empty string, not {json_type(model)}")
    if defaults.answered_models is not None and model not in defaults.answered_models:
        raise InvalidJob(f"no endpoint answers the model {model[:100]!r}: add it to the models of one")
    metadata = entry.get("metadata")
    if metadata is not None and custom_id is not None and not is_exact:
        _check_metadata(metadata)
    return _new_parsed_job(
        line=line,
        custom_id=custom_id,
        fingerprint=_fingerprint(entry, custom_id, protocol.path, body, is_exact).hex(),
        path=protocol.path,
        model=model,
        body=body,
        metadata=metadata,
        has_metadata="metadata" in entry,
        altered=altered,
        raw=raw,
        source=defaults.source,
    )


def _fingerprint(entry: JSON, custom_id: str | None, path: str, body: JSON, is_exact: bool) -> bytes:
    metadata = entry.get("metadata")
    more = (metadata,) if custom_id is None and metadata is not None else ()
    return exact_fingerprint(path, body, *more) if is_exact else fast_fingerprint(path, body, *more)


def _check_metadata(metadata: Any) -> None:
    """Raise NotExact for metadata that are not part of a fingerprint, which is checked in the same way."""
    try:
        written = orjson.dumps(metadata)
    except TypeError:
        raise NotExact from None
    if 0x2B in written and has_large_float(written):
        raise NotExact


def _protocol(entry: JSON, defaults: JobDefaults) -> Protocol:
    method = entry.get("method")
    if method not in (None, "POST") and not (isinstance(method, str) and method.upper() == "POST"):
        raise InvalidJob(f"method must be POST, not {_quoted(method)}")
    return protocol_for_url(entry.get("url"), defaults.endpoint, defaults.base_urls)


def _body(entry: JSON, protocol: Protocol) -> JSON:
    if "body" in entry:
        body = entry["body"]
        if not isinstance(body, dict):
            raise InvalidJob(f"body must be an object, not {json_type(body)}")
        return body
    fields = {key: value for key, value in entry.items() if key not in ENVELOPE_FIELDS}
    if protocol.input_field != "prompt" and protocol.input_field in entry:
        return protocol.from_bare(fields)
    if "prompt" in entry:
        return protocol.from_short(fields)
    if protocol.input_field == "prompt":
        raise InvalidJob("has no prompt")
    raise InvalidJob(f"has neither body, {protocol.input_field} nor prompt")


def _quoted(value: object) -> str:
    return f"{value[:100]!r}" if isinstance(value, str) else json_type(value)
