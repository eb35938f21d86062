"""Settings of the transport over HTTP."""

from __future__ import annotations

from dataclasses import field

from processor.core.fast_dataclass import dataclass
from processor.core.models import Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_reply_bytes: int = 64 * 2**20
    """Of the decoded body."""
    ca_file: str | None = None
    """A PEM file of certificates to trust beside the system's."""
    trust_env: bool = True
    """Use the proxies of the environment (``https_proxy``, ``no_proxy``, ...)."""
    stream: bool = True
    """Ask for streams; False: every reply is asked for as one whole body."""
    echo: bool = False
    """Report the first choice's text as it comes, as Delta events."""
