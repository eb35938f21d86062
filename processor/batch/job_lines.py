"""What is uploaded of a job: its request, unstreamed. Pure."""

from __future__ import annotations

from dataclasses import replace

import orjson

from processor.core.models import Job
from processor.protocols import RequestOptions, protocol_for
from processor.protocols.base import STREAM_FIELDS

_UNSTREAMED = b',"stream":false}'


def job_line(own_id: str, job: Job, options: RequestOptions, *, field: str = "body", **more: str) -> bytes:
    """A line with the id, what is given in ``more``, and the request in the field with this name."""
    head = orjson.dumps({"custom_id": own_id, **more})
    return head[:-1] + b"," + orjson.dumps(field) + b":" + unstreamed_body(job, options) + b"}"


def unstreamed_body(job: Job, options: RequestOptions) -> bytes:
    """The request body of a job as it is sent unstreamed, whatever the job asks for."""
    body = {name: value for name, value in job.body.items() if name not in STREAM_FIELDS}
    data = protocol_for(job.path).encode(replace(job, body=body), replace(options, streamed=False))
    # Protocols add it at the end. Not all batch APIs know the field.
    return data[: -len(_UNSTREAMED)] + b"}" if data.endswith(_UNSTREAMED) else data
