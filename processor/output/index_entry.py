"""The part of a row that a later run needs, in 24 bytes. Pure."""

from __future__ import annotations

import json
from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple

import orjson

from processor.core.fast_dataclass import dataclass
from processor.core.job_keys import CHECK_BYTES, KEY_BYTES, failure_check, job_key, request_check
from processor.core.models import Result
from processor.core.money import RowCosts
from processor.core.shards import Shard
from processor.core.urls import with_model

REPLIED, FAILED, PERMANENT, INVALID_LINE, SIMULATED = 1, 2, 4, 8, 16
"""Flags of an entry. PERMANENT comes with FAILED; INVALID_LINE marks the row of a line that is not a job."""

OTHER_ENDPOINT, OTHER_MODEL = 32, 64
"""Flags of an entry: the row names an address, or a model, that is not the one of ``RunTarget``."""

OTHER_SCHEMA = PERMANENT
"""Beside REPLIED, where PERMANENT has no meaning: the reply was not checked against the schema of ``RunTarget``."""

INVALID_LINE_CODES = frozenset(
    {"not_utf8", "line_too_long", "invalid_json", "not_an_object", "invalid_job", "duplicate_custom_id"}
)
"""Error codes of lines that are not jobs. Each run finds these lines again and rebuilds their rows."""

_UNKNOWN_CHECK = bytes(CHECK_BYTES)

MAX_ATTEMPTS = 0xFFFF
MAX_LINE = 0xFFFFFFFF
"""Larger numbers are stored as these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTarget:
    """Where this run sends its requests, to be compared with what the rows of earlier runs name."""

    addresses: frozenset[str] = frozenset()
    """The address of each endpoint and API path; empty: all count as the same. The model may have a place in it."""
    models: frozenset[str] = frozenset()
    """The model of jobs that name none, under each name that it has at an endpoint; empty: there are no such jobs."""
    schema: str | None = None
    """The digest of the schema that all output is checked against; None: there is none, or each job has its own."""
    shard: Shard | None = None
    """The part of the jobs that this run sends; None: all."""

    def flags(self, endpoint: object, model: object) -> int:
        """Return the flags of a row that names these. What a row does not name counts as unchanged."""
        flags = 0
        if endpoint is not None and self.addresses and not self._has_address(endpoint, model):
            flags |= OTHER_ENDPOINT
        if model is not None and self.models and model not in self.models:
            flags |= OTHER_MODEL
        return flags

    def flags_of_schema(self, flags: int, validation: object) -> int:
        """Return the flags of a row with what the schema changes. ``validation``: as it stands in the row.

        A failed row stands only for the schema that it failed.
        """
        if self.schema is None or (isinstance(validation, dict) and validation.get("schema") == self.schema):
            return flags
        if flags & REPLIED:
            return flags | OTHER_SCHEMA
        return flags & ~PERMANENT if validation else flags

    def _has_address(self, endpoint: object, model: object) -> bool:
        if endpoint in self.addresses:
            return True
        return isinstance(model, str) and any(endpoint == with_model(one, model) for one in self.addresses)


ANY_TARGET = RunTarget()


class IndexEntry(NamedTuple):
    key: bytes
    """Of the job's id; for an invalid line, of the whole row."""
    check: bytes
    """Of the request: it differs where the job has changed. In a PERMANENT entry it also says whether the request was
    streamed."""
    attempts: int
    flags: int
    line: int


PACKED_ENTRY = Struct(f"<{KEY_BYTES}s4sH4xBI")
"""An entry as bytes. But for the line, it has the layout of a ``CompactHashTable`` record; the 4 padding bytes are
that record's count."""
FLAGS_OFFSET = PACKED_ENTRY.size - 5


def unpack_entry(packed: bytes) -> IndexEntry:
    return IndexEntry._make(PACKED_ENTRY.unpack(packed))


def invalid_line_key(raw: bytes) -> bytes:
    """Return the key of the row of an invalid line; ``raw`` is the row without its line feed."""
    return blake2b(raw, digest_size=KEY_BYTES, person=b"line").digest()


def entry_from_result(result: Result, raw: bytes) -> IndexEntry:
    """Return the entry that ``parse_entry`` returns for the result's row ``raw``, given with its line feed."""
    failure = result.failure
    flags = _failure_flags(failure.code, failure.permanent, result.timing) if failure else REPLIED
    if result.simulated:
        flags |= SIMULATED
    key = invalid_line_key(raw.removesuffix(b"\n")) if flags & INVALID_LINE else job_key(result.custom_id or "")
    check = _check(flags, result.fingerprint, result.streamed)
    return IndexEntry(key, check, min(result.attempts, MAX_ATTEMPTS), flags, min(result.line, MAX_LINE))


def parse_entry(raw: bytes, target: RunTarget = ANY_TARGET) -> IndexEntry:
    """Do the same as ``parse_packed_entry``, unpacked."""
    return unpack_entry(parse_packed_entry(raw, target))


def parse_packed_entry(raw: bytes, target: RunTarget = ANY_TARGET, costs: RowCosts | None = None) -> bytes:
    """Return the packed entry of a row, given with or without its line feed, and add its cost to ``costs``. Raises
    ValueError where it is not a row.

    Only the ``custom_id`` and the reply, or the error's code, must be there: a tool may have removed other fields, or
    have added them with null. A row without ``id`` is that of a changed job.

    The line is parsed completely, and this is most of the time that a resume takes. No cheaper way was found that is
    as strict: orjson needs three quarters of the time even to check a row without building it.
    """
    try:
        row = orjson.loads(raw)
    except ValueError:
        row = _parse_leniently(raw)
    try:
        error = row.get("error")
        if error is None:
            flags = REPLIED
            response = row["response"]
            if type(response["body"]) is not dict or _is_refusal(response.get("status_code")):
                raise TypeError
        else:
            flags = _failure_flags(error["code"], row.get("own_fault"), row.get("timing"))
        if row.get("simulated"):
            flags |= SIMULATED
        if "endpoint" in row:
            flags |= target.flags(row["endpoint"], row.get("asked_model"))
        if target.schema is not None:
            flags = target.flags_of_schema(flags, row.get("validation"))
        key = invalid_line_key(raw.removesuffix(b"\n")) if flags & INVALID_LINE else _key_of(row["custom_id"])
        attempts, line = row.get("attempts"), row.get("line")
        if not (type(attempts) is type(line) is int and 0 <= attempts <= MAX_ATTEMPTS and 0 <= line <= MAX_LINE):
            attempts, line = _bounded(attempts, MAX_ATTEMPTS, missing=1), _bounded(line, MAX_LINE, missing=0)
        check = _check(flags, row.get("id"), row.get("streamed"))
        if costs is not None:
            costs.add(row.get("cost_usd"), is_reply=bool(flags & REPLIED))
        return PACKED_ENTRY.pack(key, check, attempts, flags, line)
    except (AttributeError, KeyError, TypeError) as cause:
        raise ValueError("not a row of results") from cause


def _check(flags: int, fingerprint: str | None, streamed: object) -> bytes:
    if fingerprint is None:
        return _UNKNOWN_CHECK
    is_permanent = flags & PERMANENT and not flags & REPLIED
    return failure_check(fingerprint, streamed) if is_permanent else request_check(fingerprint)


def _is_refusal(status: object) -> bool:
    return isinstance(status, int) and status >= 400


def _key_of(custom_id: Any) -> bytes:
    """Return the key of a job's id; a tool may have made a number of it. Raises AttributeError."""
    return job_key(str(custom_id) if type(custom_id) is int else custom_id)


def _bounded(number: Any, most: int, *, missing: int) -> int:
    """Return a count that a tool may have removed, or have written as a float."""
    if (type(number) is int and number >= 0) or (type(number) is float and number >= 0 and number.is_integer()):
        return min(int(number), most)
    return missing


def _failure_flags(code: Any, permanent: Any, timing: object) -> int:
    if timing is None and code in INVALID_LINE_CODES:
        return INVALID_LINE
    return FAILED | PERMANENT if permanent is True else FAILED


def _parse_leniently(raw: bytes) -> Any:
    """Parse what orjson refuses: unpaired surrogates, which ``encode_row`` may have to write. Raises ValueError."""
    try:
        return json.loads(raw)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
