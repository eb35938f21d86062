"""What a person reads of the row of one job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from processor.core.fast_dataclass import dataclass
from processor.core.json_reading import fields_of
from processor.core.models import JSON
from processor.core.text import one_line
from processor.protocols.reply_text import text_of_reply
from processor.terminal.formatting import duration, plural
from processor.terminal.label_table import LabelRow


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetails:
    """Rows with labels, and the text of the reply."""

    rows: tuple[LabelRow, ...]
    text: str


def job_details(row: JSON, path: Path) -> JobDetails:
    """Return what the row of a results or errors file says. It may be of any version of the program."""
    entries = [
        ("job", f"{row.get('custom_id') or 'without an id'}, line {row.get('line')}{_file(row)}"),
        ("row", f"{path}{' (simulated)' if row.get('simulated') else ''}"),
        ("error", _error(row.get("error"))),
        ("model", _model(row)),
        ("attempts", plural(row["attempts"], "request") if isinstance(row.get("attempts"), int) else None),
        ("validation", _validation(fields_of(row.get("validation")))),
        ("timing", _timing(fields_of(row.get("timing")))),
        ("tokens", _tokens(fields_of(row.get("usage")), row.get("usage_source"))),
        ("cost", _cost(row)),
        ("metadata", one_line(str(row["metadata"])) if "metadata" in row else None),
    ]
    response = fields_of(row.get("response"))
    return JobDetails(
        rows=tuple(LabelRow(label, text) for label, text in entries if text),
        text=text_of_reply(response.get("body")),
    )


def _file(row: JSON) -> str:
    return f" of {row['file']}" if row.get("file") else ""


def _error(error: Any) -> str | None:
    return one_line(f"{error.get('code')}: {error.get('message')}") if isinstance(error, dict) else None


def _model(row: JSON) -> str | None:
    model, endpoint = row.get("asked_model"), row.get("endpoint")
    return f"{model} at {endpoint}" if model and endpoint else model or fields_of(_body(row)).get("model")


def _body(row: JSON) -> Any:
    return fields_of(row.get("response")).get("body")


def _validation(validation: JSON) -> str | None:
    asks, billed = validation.get("asks"), fields_of(validation.get("billed_usage"))
    if not isinstance(asks, int):
        return None
    tokens = f"{billed.get('prompt_tokens')} prompt and {billed.get('completion_tokens')} reply tokens in all"
    return f"{plural(asks, 'reply', 'replies')} checked, {tokens}"


_PHASES = (("queued_s", "queued"), ("first_token_s", "first token after"), ("total_s", "whole reply after"))


def _timing(timing: JSON) -> str | None:
    if not timing:
        return None
    parts = [f"started {timing.get('started_at')}"]
    for name, label in _PHASES:
        if isinstance(timing.get(name), int | float):
            parts.append(f"{label} {duration(timing[name])}")
    return ", ".join(parts)


def _tokens(usage: JSON, source: Any) -> str | None:
    if not usage:
        return None
    counted = f"{usage.get('prompt_tokens')} prompt, {usage.get('completion_tokens')} reply, as computed"
    return counted + ("; what the server reported stands in the reply: --json" if source == "reported" else "")


def _cost(row: JSON) -> str:
    if row.get("cost_usd") is not None:
        return f"{row['cost_usd']} USD"
    if row.get("simulated"):
        return "none: simulated"
    return "none: nothing was sent" if row.get("attempts") == 0 else "unknown"
