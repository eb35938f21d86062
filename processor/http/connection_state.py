"""What all requests to one API path of one target share: address, headers, and what is known of the server."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields, replace
from functools import lru_cache
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp import ClientSession
from multidict import CIMultiDict
from yarl import URL

from processor.core.errors import ConfigError, OptionRefused, StatusError
from processor.core.models import Job, Target
from processor.core.urls import MODEL, endpoint_address, with_model
from processor.core.version import __version__
from processor.http.content_coding import accepted_codings
from processor.http.fast_connector import is_fast
from processor.http.prepared_post import PreparedPost, can_be_prepared
from processor.http.proxies import proxy_for
from processor.http.read_batching import ReplyTiming
from processor.protocols import Protocol, RequestOptions, options_without
from processor.protocols.registry import PROTOCOLS

_OPENAI = "api.openai.com"

_MIN_BACKOFF_REQUESTS = 16
_MAX_BACKOFF_REQUESTS = 4096
_SUCCESSES_TO_RESET = 50


class KeepAliveBreaker:
    """Decides whether an endpoint's connections are used again. After a loss it forbids that for some requests; the
    number doubles with each further loss.

    Some servers promise to keep a connection open and close it right after the reply. A request that is then sent on it
    is lost, and may have been billed.
    """

    def __init__(self) -> None:
        self._backoff_requests = _MIN_BACKOFF_REQUESTS
        self._left = 0
        """Requests for which reuse is still forbidden."""
        self._successes = 0
        """Reused connections that brought a reply since the last loss."""

    def allows(self) -> bool:
        """Whether the next request may use a connection again. Called once for each request."""
        if self._left:
            self._left -= 1
            return False
        return True

    def success(self) -> None:
        """A reused connection brought a reply."""
        self._successes += 1
        if self._successes == _SUCCESSES_TO_RESET:
            self._backoff_requests = _MIN_BACKOFF_REQUESTS

    def failure(self) -> None:
        """A reused connection was lost before the response."""
        self._successes = 0
        if not self._left:  # several may be lost at the same time
            self._left = self._backoff_requests
            self._backoff_requests = min(2 * self._backoff_requests, _MAX_BACKOFF_REQUESTS)


class Route:
    """One API path of one target. Raises ConfigError where nothing could ever be sent there."""

    __slots__ = (
        "_prepared",
        "headers",
        "host_port",
        "keep_alive",
        "proxy",
        "reply_timing",
        "request_options",
        "tls_unchecked",
        "url",
    )

    def __init__(self, target: Target, path: str, *, trust_env: bool, stream: bool = True) -> None:
        shown = "the base URL" if "@" in target.base_url else target.base_url
        try:
            url = request_url(target, path)
            proxy = proxy_for(url) if trust_env else None
            self.url = URL(url)
            self.proxy = None if proxy is None else URL(proxy)
            host = self.url.host or ""
            host.encode("idna")  # a connection would fail at this with an error of no useful type
        except ValueError as error:
            raise ConfigError(f"{shown} cannot be reached: {error}") from None
        if self.url.scheme not in ("http", "https") or not host:
            raise ConfigError(f"{shown} is not an address: it must begin with http:// or https://")
        if self.url.user is not None or self.url.password is not None:
            raise ConfigError(f"{shown} holds a user or password; give a key instead")
        self.host_port = f"{host}:{self.url.port}"
        """For messages."""
        self.tls_unchecked = self.url.scheme == "http" and self.proxy is None
        """No response has come yet to a request without TLS: the server may expect TLS."""
        self.headers = request_headers(target, path)
        self._prepared: dict[ClientSession, PreparedPost] = {}
        self.keep_alive = KeepAliveBreaker()
        self.reply_timing: dict[str, ReplyTiming] = defaultdict(ReplyTiming)
        """By model."""
        asked = RequestOptions(streamed=stream, disable_obfuscation=host == _OPENAI)
        defaults = options_without(asked, target.refuses)
        self.request_options: dict[str, RequestOptions] = defaultdict(lambda: defaults)
        """By model: the defaults, without what the server has refused."""

    def prepared_post(self, session: ClientSession, url: URL) -> PreparedPost | None:
        """What sends requests to this address in fewer steps than ``session.post``; None where nothing can.

        ``url``: that of the route, or where a redirect leads.
        """
        prepared = self._prepared.get(session)
        if prepared is not None and prepared.url is url and prepared.headers is self.headers:
            return prepared
        if self.proxy is not None or not is_fast(session) or not can_be_prepared(self.headers):
            return None
        prepared = self._prepared[session] = PreparedPost(session, url, self.headers)
        return prepared

    def adapt(self, model: str, sent: RequestOptions, adapted: RequestOptions) -> None:
        """Remember what a refusal has changed of the options that a request was sent with.

        Other requests may have been refused meanwhile for another option: only the differences are taken over.
        """
        changes = {
            field.name: value
            for field in fields(adapted)
            if (value := getattr(adapted, field.name)) != getattr(sent, field.name)
        }
        self.request_options[model] = replace(self.request_options[model], **changes)

    def refusal_of_option(
        self, error: StatusError, protocol: Protocol, job: Job, sent: RequestOptions
    ) -> OptionRefused | None:
        """The error to raise where the job can be sent in another way, which is then remembered; else None."""
        adapted = protocol.adapt(error, job, sent)
        if adapted is None:
            return None
        self.adapt(job.model, sent, adapted)
        return OptionRefused(str(error), status=error.status, body=error.body, error_code=error.error_code)


def target_for(target: Target, model: str) -> Target:
    """The target with the model in its address, where that has a place for it (Azure's deployments)."""
    return _target_of_model(target, model) if MODEL in target.base_url else target


@lru_cache(maxsize=256)
def _target_of_model(target: Target, model: str) -> Target:
    return replace(target, base_url=with_model(target.base_url, model))


def request_url(target: Target, path: str) -> str:
    """Return the URL for a job's API path: its address, and the query of the base URL and of the target."""
    query = urlencode([*parse_qsl(urlsplit(target.base_url).query, keep_blank_values=True), *target.query])
    address = endpoint_address(target.base_url, path)
    return f"{address}?{query}" if query else address


def request_headers(target: Target, path: str) -> CIMultiDict[str]:
    headers = CIMultiDict(
        {
            "Accept": "text/event-stream, application/json",
            "Accept-Encoding": accepted_codings(),
            "User-Agent": f"processor/{__version__}",
        }
    )
    headers.update(PROTOCOLS[path].headers if path in PROTOCOLS else ())
    headers.update(target.headers)
    if target.key is not None:
        headers[target.auth_header] = target.auth_scheme + target.key.value
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise ConfigError(f"the {name} header cannot be sent: it holds more than printable ASCII")
    return headers
