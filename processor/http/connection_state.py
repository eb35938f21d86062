"""What is the same for all requests to one endpoint, made once."""

from __future__ import annotations

from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version

from multidict import CIMultiDict
from yarl import URL

from processor.core.errors import ConfigError
from processor.core.models import Target
from processor.http.proxies import proxy_for
from processor.http.reuse import KeepAliveBreaker
from processor.http.rhythm import ReplyTiming
from processor.http.urls import request_url
from processor.protocols import RequestOptions

_OPENAI = "api.openai.com"


class Route:
    """One endpoint of one target. Raises ConfigError where nothing could ever be sent there."""

    __slots__ = (
        "headers",
        "key",
        "proxy",
        "request_options",
        "reuse",
        "rhythms",
        "url",
        "where",
    )

    def __init__(self, target: Target, path: str, *, trust_env: bool) -> None:
        shown = "the base URL" if "@" in target.base_url else target.base_url
        try:
            url = request_url(target, path)
            proxy = proxy_for(url) if trust_env else None
            self.url = URL(url)
            self.proxy = None if proxy is None else URL(proxy)
            host = self.url.host or ""
            host.encode("idna")  # which a connection would fail at with an error of no kind
        except ValueError as error:
            raise ConfigError(f"{shown} cannot be reached: {error}") from None
        if self.url.scheme not in ("http", "https") or not host:
            raise ConfigError(f"{shown} is no http address")
        if self.url.user is not None or self.url.password is not None:
            raise ConfigError(f"{shown} holds a user or password; give a key instead")
        self.where = f"{host}:{self.url.port}"
        """For messages."""
        self.key = target.key.value if target.key else None
        self.headers = _headers(target)
        self.reuse = KeepAliveBreaker()
        self.rhythms: dict[str, ReplyTiming] = defaultdict(ReplyTiming)
        """How the replies of each model come."""
        defaults = RequestOptions(disable_obfuscation=host == _OPENAI)
        self.request_options: dict[str, RequestOptions] = defaultdict(lambda: defaults)
        """By model: what the server's responses have shown of its options so far."""


def _headers(target: Target) -> CIMultiDict[str]:
    headers = CIMultiDict({"Accept": "text/event-stream, application/json", "User-Agent": _user_agent()})
    headers.update(target.headers)
    if target.key is not None:
        headers[target.auth_header] = target.auth_scheme + target.key.value
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(f"the {name} header cannot be sent: it holds more than printable ASCII")
    return headers


def _user_agent() -> str:
    try:
        return f"processor/{version('processor')}"
    except PackageNotFoundError:
        return "processor"  # run from its sources
