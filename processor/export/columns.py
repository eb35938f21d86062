"""The columns of an exported table, and their values in one row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from processor.core import json_bytes
from processor.core.fast_dataclass import dataclass
from processor.core.json_reading import fields_of
from processor.export.exported_row import ExportedRow, MissingValue
from processor.export.formats.base import Contents
from processor.protocols.reply_text import finish_reason_of_reply
from processor.protocols.reported_usage import usage_in

Kind = Literal["text", "integer", "number", "time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumn:
    name: str
    kind: Kind = "text"
    """``time``: a text in ISO 8601, in UTC."""
    value: Callable[[ExportedRow], Any]
    """Returns None where the row has no such value. Of a text it may return any JSON. May raise MissingValue."""


def _of_row(name: str, kind: Kind) -> TableColumn:
    return TableColumn(name=name, kind=kind, value=lambda exported: exported.row.get(name))


def _of_part(part: str, name: str, kind: Kind, shown: str | None = None) -> TableColumn:
    return TableColumn(
        name=shown or name, kind=kind, value=lambda exported: fields_of(exported.row.get(part)).get(name)
    )


def _model(exported: ExportedRow) -> Any:
    return exported.row.get("asked_model") or (exported.body or {}).get("model")


def _finish_reason(exported: ExportedRow) -> str | None:
    return None if exported.body is None else finish_reason_of_reply(exported.body)


def _tokens(name: str) -> Callable[[ExportedRow], int | None]:
    """As the server reported them, else as computed."""

    def value(exported: ExportedRow) -> int | None:
        is_reported = exported.row.get("usage_source") == "reported"
        if is_reported and exported.body is not None and (usage := usage_in(exported.body)) is not None:
            return int(getattr(usage, name))
        computed = fields_of(exported.row.get("usage")).get(name)
        return computed if type(computed) is int else None

    return value


def _input(exported: ExportedRow) -> str | None:
    return None if exported.input_json is None else exported.input_json.decode("utf-8", "replace")


COLUMNS = (
    _of_row("custom_id", "text"),
    TableColumn(name="text", value=lambda exported: exported.text),
    TableColumn(name="finish_reason", value=_finish_reason),
    TableColumn(name="model", value=_model),
    TableColumn(name="prompt_tokens", kind="integer", value=_tokens("prompt_tokens")),
    TableColumn(name="completion_tokens", kind="integer", value=_tokens("completion_tokens")),
    _of_row("cost_usd", "number"),
    _of_row("attempts", "integer"),
    _of_part("timing", "started_at", "time"),
    _of_part("timing", "queued_s", "number"),
    _of_part("timing", "first_token_s", "number"),
    _of_part("timing", "total_s", "number"),
    _of_row("endpoint", "text"),
    _of_row("file", "text"),
    _of_row("line", "integer"),
    _of_row("metadata", "text"),
)
ERROR_COLUMNS = (
    _of_part("error", "code", "text", "error_code"),
    _of_part("error", "message", "text", "error_message"),
)
INPUT_COLUMN = TableColumn(name="input", value=_input)


def json_column(path: str) -> TableColumn:
    """A field of a reply that is JSON; no value for a failed job."""
    return TableColumn(name=path, value=lambda exported: None if exported.body is None else exported.reply_field(path))


def columns_of(contents: Contents) -> Sequence[TableColumn]:
    return (
        *COLUMNS,
        *(ERROR_COLUMNS if contents.with_failed else ()),
        *map(json_column, contents.json_fields),
        *((INPUT_COLUMN,) if contents.with_input else ()),
    )


def table_row(columns: Sequence[TableColumn], exported: ExportedRow) -> tuple[list[Any], int]:
    """Return the values of the columns, texts as text, and how many a reply lacks."""
    values, missing = [], 0
    for column in columns:
        try:
            value = column.value(exported)
        except MissingValue:
            value, missing = None, missing + 1
        values.append(_fitting(value, column.kind))
    return values, missing


def _fitting(value: Any, kind: Kind) -> Any:
    """Return the value as its column holds it; None where a tool has made something else of it."""
    if value is None:
        return None
    if kind == "text":
        return value if isinstance(value, str) else json_bytes.dumps(value).decode()
    if kind == "time":
        return value if isinstance(value, str) else None
    is_number = type(value) is int or (kind == "number" and type(value) is float)
    return value if is_number else None
