"""What a provider preset says. ``presets`` is the table of those that are known."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import urlsplit

from processor.config.batch_presets import BatchPreset
from processor.core.fast_dataclass import dataclass
from processor.protocols.registry import DEFAULT_PATH
from processor.protocols.request_limits import UNKNOWN_LIMITS, RequestLimits
from processor.ratelimit.settings import HeaderDialect, TokenAccounting

Auth = Literal["bearer", "api-key", "x-api-key"]
"""How a key is sent: ``Authorization: Bearer KEY``, ``api-key: KEY`` or ``x-api-key: KEY``."""

AUTH_HEADERS: Mapping[Auth, tuple[str, str]] = {
    "bearer": ("Authorization", "Bearer "),
    "api-key": ("api-key", ""),
    "x-api-key": ("x-api-key", ""),
}
"""The header of each, and what stands in it before the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPreset:
    """What is known about a provider beside its API. Data only: ``presets`` is the table."""

    name: str
    base_url: str | None
    """Ends in ``/v1``, or in what the provider has in its place. ``{NAME}`` stands for an environment variable, see
    ``base_url``; ``{model}`` for the model of each job. None: the user must give one."""
    key_variable: str
    """The environment variable that holds the key."""
    other_key_variables: tuple[str, ...] = ()
    """Read in this order where that one is not set."""
    key_command: tuple[str, ...] = ()
    """The command that prints the key, where none of the variables is set."""
    needs_key: bool = True
    """False: the server is one of the user's own. A key is sent where there is one."""
    auth: Auth = "bearer"
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request."""
    endpoint: str = DEFAULT_PATH
    """The API path of jobs that name none."""
    rate_limit_headers: HeaderDialect = "minute"
    charging: TokenAccounting = "sum"
    """How tokens are counted against the limit, see ``ratelimit.settings.TokenAccounting``."""
    counter_period_s: float = 60.0
    """The time in which an empty bucket of its limits is full again, as it documents that. Forecasts assume it until a
    run has found out how the server counts."""
    refuses: frozenset[str] = frozenset()
    """Fields of a request that this program would add, and that the provider answers with an error: see
    ``protocols.known_refusals``."""
    request_limits: RequestLimits = UNKNOWN_LIMITS
    """What the provider is known to refuse: such a job becomes a failed row, and is not sent."""
    root_path: str = ""
    """Added to a base URL that has no path."""
    root_path_with_api_version: str = ""
    """The same where an ``api_version`` is set."""
    hosts: tuple[str, ...] = ()
    """Patterns of host names by which the provider is recognized, beside the host of ``base_url``."""
    batch: BatchPreset | None = None
    """Its batch API; None where it has none, or none that is known."""
    quirks: str = ""
    """What else differs from OpenAI's API. For the documentation."""

    def is_at(self, host: str) -> bool:
        """Whether this is the provider's host. A server of the user's own is not recognized by its address."""
        if not self.needs_key:
            return False
        own = urlsplit(self.base_url or "").hostname
        return host == own or any(fnmatchcase(host, pattern) for pattern in self.hosts)
