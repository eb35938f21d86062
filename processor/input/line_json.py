"""Decodes the JSON of one line of a job file, and repairs what can be repaired without changing what is asked for.

``nan``: NaN or an infinity in the job's metadata is null. ``surrogate``: an escaped half of a pair is U+FFFD. NaN in
the request itself is an error, because no server could read it.
"""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

from processor.core.errors import InvalidJob
from processor.core.json_bytes import MAX_DEPTH, NotExact, is_nested_deeper
from processor.core.models import JSON
from processor.core.text import json_type
from processor.protocols.lenient_json import join_halves

ENVELOPE_FIELDS = frozenset({"custom_id", "id", "method", "url", "metadata"})
"""Keys about the job. Without a ``body`` key, all other keys are part of the request."""

_MAX_64_BITS = 2.0**63
_BYTE_ORDER_MARK = "\ufeff"


def decode_line(data: bytes) -> tuple[JSON, tuple[str, ...]]:
    """Return the object on a line, and what had to be changed of it. Raises InvalidJob.

    Integers beyond 64 bits are floats, as orjson reads them: see ``decode_exactly``.
    """
    try:
        entry = orjson.loads(data)
    except orjson.JSONDecodeError:
        return decode_exactly(data)
    if not isinstance(entry, dict):
        raise _not_an_object(entry)
    return entry, ()


def decode_exactly(data: bytes) -> tuple[JSON, tuple[str, ...]]:
    """Do the same as ``decode_line``, more slowly, with integers of any size."""
    try:
        entry = json.loads(data.decode().removeprefix(_BYTE_ORDER_MARK))
    except UnicodeDecodeError as error:
        at = error.start
        raise InvalidJob(f"not UTF-8: byte 0x{data[at]:02x} at column {at + 1}", code="not_utf8") from None
    except json.JSONDecodeError as error:
        message = f"broken JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
        raise InvalidJob(message, code="invalid_json") from None
    except ValueError:  # Python's limit, against quadratic work
        raise InvalidJob("broken JSON: a number has more than 4300 digits", code="invalid_json") from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(entry, dict):
        raise _not_an_object(entry)
    if is_nested_deeper(entry):
        raise _too_deep()
    altered: set[str] = set()
    entry = join_halves(entry, altered)
    if field := _non_finite_field(entry):
        raise InvalidJob(
            f"{field} is NaN or infinite, or too large for a number: write null, a number or a string",
            code="invalid_json",
        )
    if "metadata" in entry:
        entry["metadata"] = without_non_finite(entry["metadata"], altered)
    return entry, tuple(sorted(altered))


def custom_id_of(entry: JSON, is_exact: bool = True) -> str | None:
    """Return the id that a line gives its job, under either name; None where it gives none.

    Raises InvalidJob, and NotExact where an integer may have lost digits.
    """
    custom_id = entry.get("custom_id")
    if custom_id is None:
        custom_id = entry.get("id")
    if custom_id is None or (type(custom_id) is str and custom_id):
        return custom_id
    if type(custom_id) is int or (type(custom_id) is float and custom_id.is_integer()):
        if not is_exact and abs(custom_id) >= _MAX_64_BITS:
            raise NotExact
        return str(int(custom_id))
    raise InvalidJob(f"custom_id must be a non-empty string, not {json_type(custom_id)}")


def without_non_finite(value: Any, altered: set[str]) -> Any:
    """Return the value with null for NaN and infinities, which adds ``nan`` to ``altered``."""
    if isinstance(value, float) and not math.isfinite(value):
        altered.add("nan")
        return None
    if isinstance(value, dict):
        return {key: without_non_finite(item, altered) for key, item in value.items()}
    return [without_non_finite(item, altered) for item in value] if isinstance(value, list) else value


def _not_an_object(value: Any) -> InvalidJob:
    return InvalidJob(f"not a JSON object but {json_type(value)}", code="not_an_object")


def _too_deep() -> InvalidJob:
    return InvalidJob(f"is nested deeper than {MAX_DEPTH} levels")


def _non_finite_field(entry: JSON) -> str | None:
    """Return the name of a field of the request that is NaN or infinite, such as ``body.messages[0].weight``."""
    if "body" in entry:
        return _find_non_finite(entry["body"], "body")
    request = {key: value for key, value in entry.items() if key not in ENVELOPE_FIELDS}
    return _find_non_finite(request, "")


def _find_non_finite(value: Any, name: str) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else name
    if isinstance(value, dict):
        children = [(item, f"{name}.{key}" if name else key) for key, item in value.items()]
    elif isinstance(value, list):
        children = [(item, f"{name}[{index}]") for index, item in enumerate(value)]
    else:
        return None
    return next((found for item, path in children if (found := _find_non_finite(item, path))), None)
