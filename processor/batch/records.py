"""What is kept of each job in a batch until its result comes: enough to write its row without the job file. Pure."""

from __future__ import annotations

from typing import Any

from processor.core import json_bytes
from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON, Job, RequestSize, SourceFile

_MAX_VALUE_BYTES = 200
"""Larger values of a request are not kept: nothing that a reply is checked against is so large."""
_MAX_OWN_ID_CHARS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job of a batch. Its model and API path are those of the batch."""

    custom_id: str
    fingerprint: str
    line: int
    attempts: int
    """Requests sent for the job in all runs, with this submission."""
    submission: int
    """1 for the first submission in a batch; more where it expired, or nothing came back."""
    prompt_tokens: int
    prompt_estimated: tuple[str, ...]
    request: JSON
    """Its body without the prompt: see ``request_without_prompt``."""
    metadata: Any = None
    has_metadata: bool = False
    altered: tuple[str, ...] = ()
    source: SourceFile | None = None
    """Its job file, where the run has several."""
    worst_pico: int | None = None
    """The most that it can cost, in 1e-12 USD; None where the run has no budget."""

    def job(self, path: str, model: str) -> Job:
        """The job with what is left of its body."""
        return Job(
            line=self.line,
            custom_id=self.custom_id,
            fingerprint=self.fingerprint,
            path=path,
            model=model,
            body=self.request,
            metadata=self.metadata,
            has_metadata=self.has_metadata,
            altered=self.altered,
            source=self.source,
        )

    def as_json(self) -> JSON:
        fields: JSON = {
            "custom_id": self.custom_id,
            "fingerprint": self.fingerprint,
            "line": self.line,
            "attempts": self.attempts,
            "submission": self.submission,
            "prompt_tokens": self.prompt_tokens,
            "prompt_estimated": list(self.prompt_estimated),
            "request": self.request,
            "altered": list(self.altered),
        }
        if self.source is not None:
            fields["source"] = list(self.source)
        if self.worst_pico is not None:
            fields["worst_pico"] = self.worst_pico
        return {**fields, "metadata": self.metadata} if self.has_metadata else fields


def record_of(
    job: Job,
    size: RequestSize,
    *,
    attempts: int,
    submission: int,
    prompt_fields: tuple[str, ...],
    worst_pico: int | None,
) -> JobRecord:
    return JobRecord(
        custom_id=job.custom_id,
        fingerprint=job.fingerprint,
        line=job.line,
        attempts=attempts,
        submission=submission,
        prompt_tokens=size.prompt_tokens,
        prompt_estimated=size.prompt_estimated,
        request=request_without_prompt(job.body, prompt_fields),
        metadata=job.metadata,
        has_metadata=job.has_metadata,
        altered=job.altered,
        source=job.source,
        worst_pico=worst_pico,
    )


def record_from_json(fields: JSON) -> JobRecord:
    """Raises KeyError and TypeError where it is none."""
    return JobRecord(
        custom_id=fields["custom_id"],
        fingerprint=fields["fingerprint"],
        line=fields["line"],
        attempts=fields["attempts"],
        submission=fields["submission"],
        prompt_tokens=fields["prompt_tokens"],
        prompt_estimated=tuple(fields["prompt_estimated"]),
        request=fields["request"],
        metadata=fields.get("metadata"),
        has_metadata="metadata" in fields,
        altered=tuple(fields["altered"]),
        source=SourceFile(*fields["source"]) if "source" in fields else None,
        worst_pico=fields.get("worst_pico"),
    )


def request_without_prompt(body: JSON, prompt_fields: tuple[str, ...]) -> JSON:
    """The parameters of a request. Of several prompts or inputs their number stays, which the reply must have."""
    kept: JSON = {}
    for name, value in body.items():
        if name in prompt_fields:
            kept[name] = _emptied(value)
        elif not isinstance(value, str | list | dict) or len(json_bytes.dumps(value)) <= _MAX_VALUE_BYTES:
            kept[name] = value
    return kept


def _emptied(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        return ""
    if isinstance(value[0], dict):
        return [{}]  # messages or parts: one prompt
    return [0] if isinstance(value[0], int) else [""] * len(value)


def own_id(batch: str, index: int) -> str:
    """The id of a job within a batch, as it is sent to the provider: letters, digits and hyphens, at most 64."""
    name = f"{batch}-{index}"
    assert len(name) <= _MAX_OWN_ID_CHARS, "names of batches are short"
    return name


def index_of(batch: str, name: object, count: int) -> int | None:
    """The number of the job with this id in the batch; None where it is no id of the batch."""
    if not isinstance(name, str):
        return None
    prefix, _, digits = name.rpartition("-")
    if prefix != batch or not (digits.isascii() and digits.isdecimal()) or len(digits) > len(str(count)):
        return None
    index = int(digits)
    return index if index < count else None
