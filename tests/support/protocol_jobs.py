"""Jobs and accumulators for tests that are about the bytes of requests and replies."""

from __future__ import annotations

from typing import Any

from processor.core.models import Job
from processor.protocols import Accumulator, protocol_for

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def job_for(path: str = CHAT, **body: Any) -> Job:
    return Job(line=1, custom_id="a", fingerprint="0" * 32, path=path, model=body.get("model", "m"), body=body)


def accumulator_for(path: str, request: dict[str, Any]) -> Accumulator:
    return protocol_for(path).accumulator(job_for(path, **request))
