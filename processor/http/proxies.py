"""The proxy that the environment names for an address.

aiohttp's own `trust_env` looks it up in a thread for every request, and takes passwords from `~/.netrc` for hosts
that already get a key.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from processor.core.errors import ConfigError


def proxy_for(url: str) -> str | None:
    """The proxy's URL, with user and password where it has them. None: go there directly.

    This machine is always reached directly. Raises ConfigError for a kind of proxy that is not spoken.
    """
    address = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if not proxy or _is_loopback(address) or proxy_bypass(address.netloc.rpartition("@")[2]):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    scheme = urlsplit(proxy).scheme
    if scheme not in ("http", "https"):
        raise ConfigError(f"the proxy in the environment is a {scheme} proxy; only http proxies are spoken")
    return proxy


def _is_loopback(address: SplitResult) -> bool:
    host = address.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
