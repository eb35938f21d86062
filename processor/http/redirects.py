"""Follows the redirects of one request, where they lead to another path on the same server."""

from __future__ import annotations

from http import HTTPStatus

from yarl import URL

from processor.http.connection_state import Route

MAX_REDIRECTS = 5
_REPEATED_STATUSES = frozenset({HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT})
"""The redirects that keep the method and the body. https://www.rfc-editor.org/rfc/rfc9110#name-redirection-3xx"""


class Redirects:
    """``url`` is the address that the request is sent to, ``target`` the next one where the response refers to it."""

    __slots__ = ("_hops_left", "_route", "target", "url")

    def __init__(self, route: Route, url: URL) -> None:
        self._route = route
        self._hops_left = MAX_REDIRECTS
        self.url = url
        self.target: URL | None = None

    def should_follow(self, status: int, location: str | None) -> bool:
        """Whether the request is to be sent to ``target``. A redirect that is permanent, or that leads to another path
        only, holds for later requests as well. The key is sent to no other server."""
        if status not in _REPEATED_STATUSES or not self._hops_left:
            return False
        if self.target is None and (target := redirect_target(self.url, location or "")) is not None:
            self.target = target
            if status == HTTPStatus.PERMANENT_REDIRECT or target.query_string == self.url.query_string:
                self._route.url = target
        return self.target is not None

    def follow(self) -> URL:
        assert self.target is not None
        self.url, self.target = self.target, None
        self._hops_left -= 1
        return self.url


def redirect_target(url: URL, location: str) -> URL | None:
    """The address that a redirect from ``url`` leads to; None where it is on another server, or is none."""
    try:
        target = url.join(URL(location))
        is_same_server = target.origin() == url.origin()
    except ValueError:
        return None
    return target.with_fragment(None) if location and is_same_server and target.user is None else None
