"""The proxy that the environment names for a URL.

aiohttp's own `trust_env` looks it up in a thread for every request, and takes passwords from `~/.netrc` for hosts
that already get a key.
"""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from processor.core.errors import ConfigError
from processor.core.urls import is_loopback


def proxy_for(url: str) -> str | None:
    """The proxy's URL, with user and password where it has them. None: connect directly.

    This machine is always reached directly. Raises ConfigError for a kind of proxy that is not supported.
    """
    address = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if not proxy or is_loopback(address.hostname or "") or proxy_bypass(address.netloc.rpartition("@")[2]):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    scheme = urlsplit(proxy).scheme
    if scheme not in ("http", "https"):
        raise ConfigError(f"the proxy in the environment is a {scheme} proxy; only http proxies are supported")
    return proxy
