"""Questions about addresses."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether a host, as ``urlsplit`` gives it, certainly is this machine: ``localhost`` or a loopback address.

    Names below ``localhost`` do not count. RFC 6761 reserves them, but some resolvers ask the network for them, and a
    key must not be sent there unencrypted.
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
