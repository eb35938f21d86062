"""Where a request goes."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from processor.core.models import Target


def request_url(target: Target, path: str) -> str:
    """The address for a job's path, e.g. ``/v1/embeddings``.

    A base URL with a path of its own stands for `/v1`, as in OpenAI's SDK: `https://host/api/v1`, or Azure's
    `https://host/openai/deployments/name`. A bare host gets the job's path as it is. One that already names the
    endpoint is left alone.
    """
    base = urlsplit(target.base_url)
    prefix, path = base.path.rstrip("/"), "/" + path.lstrip("/")
    endpoint = path.removeprefix("/v1") if prefix else path
    whole = prefix if prefix.endswith(endpoint) else prefix + endpoint
    query = urlencode([*parse_qsl(base.query, keep_blank_values=True), *target.query])
    return urlunsplit((base.scheme, base.netloc, whole, query, ""))
