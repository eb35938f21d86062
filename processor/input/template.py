"""Makes a job of each row of a table: a job with names of columns in braces, in which the values of the row are put.

``{"model": "gpt-4o-mini", "prompt": "Translate: {text}"}``

``{name}`` in a string is the value of that column. A string that is nothing else takes the value itself, so that a
number stays one, but for the texts of a job. ``{{name}}`` is ``{name}``, and braces around what cannot be a name stay
as they are. The columns ``id`` (or ``custom_id``) and ``metadata`` are kept, where the template does not set them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from processor.core import json_bytes
from processor.core.errors import ConfigError, reason
from processor.core.lazy_pattern import LazyPattern
from processor.core.models import JSON

_PLACE = LazyPattern(r"\{\{([^{}\n]+)\}\}|\{([^{}\n]+)\}")
"""A name in two pairs of braces, or in one."""
_NAME = LazyPattern(r"[^\W\d][\w .-]*")
"""What looks like the name of a column."""
_TEXTS = frozenset({"id", "custom_id", "prompt", "system", "model"})
_IDS = ("id", "custom_id")
MAX_SHOWN_COLUMNS = 20


class Template:
    """A template as it stands in its file."""

    def __init__(self, path: str) -> None:
        """Read the file. Raises ConfigError."""
        self.path = path
        try:
            job = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise ConfigError(f"cannot read the template {path}: {reason(error)}") from None
        except ValueError as error:
            raise ConfigError(f"the template {path} is not JSON: {error}") from None
        if not isinstance(job, dict):
            raise ConfigError(f'the template {path} must be one JSON object, such as {{"prompt": "{{text}}"}}')
        self._job: JSON = job

    def check(self, columns: Collection[str], table: str) -> None:
        """Raises ConfigError where the template names a column that the table does not have."""
        for name in sorted(_names_in(self._job) - set(columns)):
            if _NAME.fullmatch(name):
                shown = ", ".join([*columns][:MAX_SHOWN_COLUMNS]) or "no columns"
                raise ConfigError(
                    f"the template {self.path} names the column {name!r}, and {table} has {shown}; "
                    f"write {{{{{name}}}}} for a text in braces"
                )

    def columns(self, table_columns: Collection[str]) -> list[str]:
        """The columns of a table that jobs are made of."""
        used = {*_names_in(self._job), *_IDS, "metadata"}
        return [name for name in table_columns if name in used]

    def line(self, row: Mapping[str, Any]) -> bytes:
        """Return the job of a row as a line of a job file. Values are texts, numbers and other JSON; None is empty."""
        job = {name: _filled(value, row, as_text=name in _TEXTS) for name, value in self._job.items()}
        if not any(name in job for name in _IDS):
            given = next((row[name] for name in _IDS if row.get(name) not in (None, "")), None)
            job = job if given is None else {"id": given, **job}
        if "metadata" not in job and row.get("metadata") not in (None, ""):
            job["metadata"] = _metadata(row["metadata"])
        return json_bytes.dumps(job) + b"\n"


def _names_in(value: Any) -> set[str]:
    if isinstance(value, str):
        return {match[2] for match in _PLACE.finditer(value) if match[2]}
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {name for child in children for name in _names_in(child)}


def _filled(value: Any, row: Mapping[str, Any], *, as_text: bool) -> Any:
    if isinstance(value, dict):
        # The texts of messages and their parts.
        return {name: _filled(child, row, as_text=name in ("content", "text")) for name, child in value.items()}
    if isinstance(value, list):
        return [_filled(child, row, as_text=as_text) for child in value]
    if not isinstance(value, str):
        return value
    whole = _PLACE.fullmatch(value)
    if whole and whole[2] in row and not as_text:
        return row[whole[2]]
    return _PLACE.sub(lambda match: _replacement(match, row), value)


def _replacement(match: re.Match[str], row: Mapping[str, Any]) -> str:
    if match[1] is not None:
        # Only what would otherwise be a column's place needs two pairs of braces.
        return f"{{{match[1]}}}" if _NAME.fullmatch(match[1]) else match[0]
    return _text(row[match[2]]) if match[2] in row else match[0]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json_bytes.dumps(value).decode()


def _metadata(value: Any) -> Any:
    """Return the value of a cell, which may be JSON as a text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
