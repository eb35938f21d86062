"""Whether an endpoint's connections are worth using again.

Some servers promise to keep a connection and close it right behind the reply. A request sent on it then is lost,
and may have been billed; sent on a new connection it is not.
"""

from __future__ import annotations

_FIRST_SPAN = 16
_LAST_SPAN = 4096
_TRUSTED_AFTER = 50
"""Reused connections in a row that served."""


class KeepAliveBreaker:
    """After a loss the next requests go on connections of their own: the more, the sooner the next loss comes."""

    def __init__(self) -> None:
        self._span = _FIRST_SPAN
        self._fresh_left = 0
        self._served = 0

    def allowed(self) -> bool:
        """Asked once for every request."""
        if self._fresh_left:
            self._fresh_left -= 1
            return False
        return True

    def served(self) -> None:
        self._served += 1
        if self._served == _TRUSTED_AFTER:
            self._span = _FIRST_SPAN

    def lost(self) -> None:
        self._served = 0
        if not self._fresh_left:  # else several were lost at once
            self._fresh_left = self._span
            self._span = min(2 * self._span, _LAST_SPAN)
