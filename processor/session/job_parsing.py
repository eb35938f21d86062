"""Makes jobs of the objects that a program hands over, by the rules for the lines of a job file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from processor.input.fingerprints import raw_fingerprint
from processor.input.job_file import InvalidLine, parse_line
from processor.input.job_formats import JobDefaults, ParsedJob
from processor.input.line_splitter import HEAD_BYTES, Line


def parse_object(job: object, number: int, defaults: JobDefaults, max_bytes: int) -> ParsedJob | InvalidLine:
    """Return the job, or why the object is none. ``number`` takes the place of the line's number.

    The object is written as JSON first, so that later changes of it change nothing, and so that it means what the same
    line in a job file means.
    """
    try:
        data = _to_json(job)
    except (TypeError, ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        return InvalidLine(
            line=number,
            fingerprint=raw_fingerprint(repr(type(job)).encode()),
            code="invalid_job",
            message=f"cannot be written as JSON: {reason}",
        )
    if len(data) <= max_bytes:
        line = Line(number, data)
    else:
        line = Line(number, None, digest=raw_fingerprint(data), size=len(data), head=data[:HEAD_BYTES])
    return parse_line(line, defaults, max_bytes)


def _to_json(job: object) -> bytes:
    """Not by orjson, which writes null for NaN: in a request that is an error."""
    text = json.dumps(job, default=_plain, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(job, default=_plain, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """Return what stands for a value in JSON: mappings, and the numbers and arrays of NumPy."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"it holds {type(value).__name__} {value!r:.80}")
