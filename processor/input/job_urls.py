"""Finds the API that the ``url`` of a job means."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from processor.core.errors import InvalidJob
from processor.core.text import json_type, setting_name
from processor.core.urls import endpoint_address
from processor.protocols.base import Protocol
from processor.protocols.registry import PROTOCOLS, known_paths

_DEFAULT_PORTS = {"http": 80, "https": 443}


def protocol_for_url(url: object, default_path: str, base_urls: tuple[str, ...]) -> Protocol:
    """Return the protocol of a job's url; None stands for ``default_path``. Raises InvalidJob.

    A url may lack ``/v1`` (Azure's files) or the first slash, or have a last one. It may also be the path, or the whole
    address, to which a run with one of these base URLs sends its requests. They are empty where nothing is sent
    anywhere: the address may then be any.
    """
    if url is None:
        url = default_path
    if not isinstance(url, str):
        raise InvalidJob(f"url must be {known_paths()}, not {json_type(url)}")
    return PROTOCOLS.get(url) or PROTOCOLS[_path_of(url.strip(), base_urls)]


@lru_cache(maxsize=64)
def _path_of(url: str, base_urls: tuple[str, ...]) -> str:
    if not url.lower().startswith(("http://", "https://")):
        return _known_path(url) or _own_path(f"/{url.strip('/')}", base_urls) or _refuse(url)
    try:
        parts = urlsplit(url)
        origin = _origin(parts)
    except ValueError:
        return _refuse(url)
    if parts.query or parts.fragment:
        raise InvalidJob(f"url must have no query, not {url[:100]!r}: api_version is a setting")
    if not base_urls:
        return _path_by_end(parts.path) or _refuse(url)
    path = _own_path(parts.path, tuple(one for one in base_urls if origin == _origin(urlsplit(one))))
    if path is None:
        own = " and ".join(base_urls)
        raise InvalidJob(
            f"url {url[:100]!r} is no address of this run, which sends to {own}: set {setting_name('base_url')}"
        )
    return path


def _known_path(url: str) -> str | None:
    path = url.strip("/")
    path = f"/{path}" if path.startswith("v1/") else f"/v1/{path}"
    return path if path in PROTOCOLS else None


def _own_path(path: str, base_urls: tuple[str, ...]) -> str | None:
    """Return the API path whose requests go to this path of one of the endpoints."""
    own = {urlsplit(endpoint_address(one, known)).path: known for one in base_urls for known in PROTOCOLS}
    return own.get(path.rstrip("/"))


def _path_by_end(path: str) -> str | None:
    ends = sorted(PROTOCOLS, key=len, reverse=True)
    return next((known for known in ends if path.rstrip("/").endswith(known.removeprefix("/v1"))), None)


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port. Raises ValueError."""
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _refuse(url: str) -> str:
    raise InvalidJob(f"url must be {known_paths()}, not {url[:100]!r}")
