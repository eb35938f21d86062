"""What a report reads of one row. Rows may be of any version of the program, or damaged: nothing here raises."""

from __future__ import annotations

from typing import Any

from processor.core.fast_dataclass import dataclass
from processor.core.json_reading import fields_of, number_of, unix_time_of
from processor.core.models import Usage
from processor.protocols.reported_usage import usage_in


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFacts:
    """The numbers and names of one row."""

    fingerprint: str
    custom_id: str | None
    line: int
    file: str | None
    """The job file of the line; None where the run had only one."""
    model: str
    endpoint: str
    attempts: int
    started_at: float | None
    """Unix time of the last attempt."""
    queued_s: float | None
    first_token_s: float | None
    total_s: float | None
    used: Usage | None
    """As the server reported it, else as computed."""
    computed: Usage | None
    is_reported: bool
    cost_usd: float | None
    unconfirmed_cost_usd: float | None
    is_simulated: bool
    code: str | None
    """None for a reply."""
    message: str
    is_permanent: bool

    @property
    def ended_at(self) -> float | None:
        return None if self.started_at is None else self.started_at + (self.total_s or 0.0)

    @property
    def key(self) -> str:
        """What two rows of one job have in common: the custom id, else the line itself."""
        return self.custom_id if self.custom_id is not None else f"{self.fingerprint} {self.file or ''} {self.line}"


def facts_of(row: Any) -> RowFacts | None:
    """Return what is known of a row; None for JSON that is no row."""
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or "error" not in row:
        return None
    error = row["error"]
    body, timing = fields_of(fields_of(row.get("response")).get("body")), fields_of(row.get("timing"))
    computed = _usage(row.get("usage"))
    is_reported = row.get("usage_source") == "reported"
    return RowFacts(
        fingerprint=row["id"],
        custom_id=_name(row.get("custom_id")),
        line=line if type(line := row.get("line")) is int else 0,
        file=_name(row.get("file")),
        model=_name(row.get("asked_model")) or _name(body.get("model")) or "",
        endpoint=_name(row.get("endpoint")) or "",
        attempts=attempts if type(attempts := row.get("attempts")) is int else 0,
        started_at=unix_time_of(timing.get("started_at")),
        queued_s=number_of(timing.get("queued_s")),
        first_token_s=number_of(timing.get("first_token_s")),
        total_s=number_of(timing.get("total_s")),
        used=(usage_in(body) if is_reported else None) or computed,
        computed=computed,
        is_reported=is_reported,
        cost_usd=number_of(row.get("cost_usd")),
        unconfirmed_cost_usd=number_of(row.get("unconfirmed_cost_usd")),
        is_simulated=row.get("simulated") is True,
        code=None if error is None else str(error.get("code")) if isinstance(error, dict) else "unknown",
        message=str(error.get("message") or "") if isinstance(error, dict) else "",
        is_permanent=row.get("own_fault") is True,
    )


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    prompt, completion = value.get("prompt_tokens"), value.get("completion_tokens")
    if type(prompt) is not int or type(completion) is not int:
        return None
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) else None
