"""What a later run needs of a row, in 24 bytes. Pure."""

from __future__ import annotations

import json
from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple

import orjson

from processor.core.job_keys import KEY_BYTES, job_key, request_check
from processor.core.models import Result

REPLIED, FAILED, PERMANENT, LINE, SIMULATED = 1, 2, 4, 8, 16
"""Flags. LINE: the row of a line that is no job."""

LINE_CODES = frozenset(
    {"not_utf8", "line_too_long", "invalid_json", "not_an_object", "invalid_job", "duplicate_custom_id"}
)
"""What is wrong with a line that is no job. Such rows are found anew in each run."""

MAX_ATTEMPTS = 0xFFFF
MAX_LINE = 0xFFFFFFFF


class IndexEntry(NamedTuple):
    key: bytes
    """Of the job's id; of the whole row, where it is of a line that is no job."""
    check: bytes
    """Tells whether the request is still the same."""
    attempts: int
    flags: int
    line: int


PACKED = Struct(f"<{KEY_BYTES}s4sH4xBI")
"""An entry. All but the line stands as in a ``Table``, where the 4 bytes left out here are of use."""
FLAGS_AT = PACKED.size - 5


def unpacked(packed: bytes) -> IndexEntry:
    return IndexEntry._make(PACKED.unpack(packed))


def line_key(raw: bytes) -> bytes:
    """``raw``: the row without its line feed."""
    return blake2b(raw, digest_size=KEY_BYTES, person=b"line").digest()


def entry_of(result: Result, raw: bytes) -> IndexEntry:
    """The same that ``read_entry`` gives for the result's row."""
    failure = result.failure
    flags = _failed(failure.code, failure.permanent, result.timing) if failure else REPLIED
    if result.simulated:
        flags |= SIMULATED
    key = line_key(raw) if flags & LINE else job_key(result.custom_id or "")
    return IndexEntry(
        key, request_check(result.fingerprint), min(result.attempts, MAX_ATTEMPTS), flags, min(result.line, MAX_LINE)
    )


def read_entry(raw: bytes) -> IndexEntry:
    """As ``read_packed``."""
    return unpacked(read_packed(raw))


def read_packed(raw: bytes) -> bytes:
    """``raw``: with or without its line feed. Raises ValueError where it is no row of ours.

    The whole line is parsed, and most of the time a resume takes is this. Nothing cheaper was found that is as strict:
    even to have rows only checked by orjson, and not built, takes three quarters as long.
    """
    try:
        row = orjson.loads(raw)
    except ValueError:
        row = _loads_what_orjson_refuses(raw)
    try:
        error = row["error"]
        if error is None:
            flags = REPLIED
            row["response"]["body"]
        else:
            flags = _failed(error["code"], row.get("own_fault"), row["timing"])
        if "simulated" in row:
            flags |= SIMULATED
        key = line_key(raw.removesuffix(b"\n")) if flags & LINE else job_key(row["custom_id"])
        attempts, line = row["attempts"], row["line"]
        if not (type(attempts) is type(line) is int and attempts >= 0 <= line):
            raise TypeError
        if attempts > MAX_ATTEMPTS or line > MAX_LINE:
            attempts, line = min(attempts, MAX_ATTEMPTS), min(line, MAX_LINE)
        return PACKED.pack(key, request_check(row["id"]), attempts, flags, line)
    except (AttributeError, KeyError, TypeError) as wrong:
        raise ValueError("no row of results") from wrong


def _failed(code: Any, permanent: Any, timing: object) -> int:
    if timing is None and code in LINE_CODES:
        return LINE
    return FAILED | PERMANENT if permanent is True else FAILED


def _loads_what_orjson_refuses(raw: bytes) -> Any:
    """Halves of surrogate pairs, which ``rows.encode`` may have to write. Raises ValueError."""
    try:
        return json.loads(raw)
    except RecursionError as wrong:
        raise ValueError("nested too deeply") from wrong
