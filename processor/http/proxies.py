"""The proxy that the environment names for a URL.

aiohttp's own `trust_env` looks it up in a thread for every request, and takes passwords from `~/.netrc` for hosts
that already get a key.
"""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from processor.core.errors import ConfigError
from processor.core.secrets import Secret
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
    parts = urlsplit(proxy)
    if parts.password:
        # Known from now on, and so masked, also as the proxy is sent it.
        credentials = f"{unquote(parts.username or '')}:{unquote(parts.password)}"
        Secret(unquote(parts.password)), Secret(b64encode(credentials.encode()).decode())
    if parts.scheme not in ("http", "https"):
        variable = f"{address.scheme}_proxy" if address.scheme in proxies else "all_proxy"
        raise ConfigError(
            f"the variable {variable} names a {parts.scheme} proxy, and only http proxies are supported: set it to an "
            f"http proxy, or reach {address.hostname} directly with no_proxy={address.hostname}"
        )
    return proxy
