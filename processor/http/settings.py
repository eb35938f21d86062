"""What a person may set about waiting and connections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    connect_timeout_s: float = 30.0
    """For a new connection: name, TCP and TLS."""
    first_byte_timeout_s: float = 600.0
    """From sending to the first byte of the reply's body: a queue at the server may be long."""
    stall_timeout_s: float = 120.0
    """Silence after that. Keep-alive comments count as life."""
    request_timeout_s: float = 3600.0
    """From sending to the end of the reply."""
    max_reply_bytes: int = 64 * 2**20
    """Of the decoded body."""
    ca_file: str | None = None
    """Certificates to trust instead of the system's."""
    trust_env: bool = True
    """Use the proxies that the environment names."""
    echo: bool = False
    """Tell the first choice's text as it comes."""
