"""What is sent for a job."""

from __future__ import annotations

import orjson

from processor.core.models import JSON, Job


def payload(job: Job, *, usage: bool = True, obfuscation: bool = True) -> bytes:
    """The request body as JSON, in the job's own order.

    A streamed job asks for its token usage; not so with ``usage=False``, for servers that do not know
    `stream_options`. ``obfuscation=False`` asks for no random padding: OpenAI's own servers only, others may refuse
    the option. What the job's own `stream_options` say stands.
    https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options
    """
    if not job.streamed:
        return orjson.dumps(job.body)
    body: JSON = {**job.body, "stream": True}
    given = body.pop("stream_options", None)
    if usage:
        options = {"include_usage": True} | ({} if obfuscation else {"include_obfuscation": False})
        body["stream_options"] = options | given if isinstance(given, dict) else options
    return orjson.dumps(body)
