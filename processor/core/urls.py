"""Addresses: what a request is sent to, and whether it is this machine."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import quote, urlsplit, urlunsplit

MODEL = "{model}"
"""In a base URL: the model of the job."""


def is_loopback(host: str) -> bool:
    """Whether a host, as ``urlsplit`` gives it, certainly is this machine: ``localhost`` or a loopback address.

    Names below ``localhost`` do not count. RFC 6761 reserves them, but some resolvers ask the network for them, and a
    key must not be sent there unencrypted.
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def endpoint_address(base_url: str, path: str) -> str:
    """Return the address (scheme, host and path) that requests for an API path, e.g. ``/v1/embeddings``, are sent to.

    A base URL with a path of its own stands for `/v1`, as in OpenAI's SDK: `https://host/api/v1`, or Azure's
    `https://host/openai/deployments/name`. A bare host gets the whole API path; `https://host/.` is one whose API paths
    have no `/v1`. A base URL that already ends in the API path stays as it is. Raises ValueError where the base URL is
    none.
    """
    base = urlsplit(base_url)
    prefix, path = base.path.rstrip("/"), "/" + path.lstrip("/")
    suffix = path.removeprefix("/v1") if prefix else path
    prefix = "" if prefix == "/." else prefix
    whole = prefix if prefix.endswith(suffix) else prefix + suffix
    return urlunsplit((base.scheme, base.netloc, whole, "", ""))


def with_model(url: str, model: str) -> str:
    """The URL with the model where it has a place for that (Azure's deployments)."""
    return url.replace(MODEL, quote(model, safe="")) if MODEL in url else url
