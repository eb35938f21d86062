"""Which proxy the environment names for a URL."""

from __future__ import annotations

import pytest

from processor.core.errors import ConfigError
from processor.core.models import Target
from processor.http.connection_state import Route
from processor.http.proxies import proxy_for


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://host/v1", {}, None),
        ("https://host/v1", {"https_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://host/v1", {"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ("https://host/v1", {"http_proxy": "http://proxy:3128"}, None),
        ("https://host/v1", {"all_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://host/v1", {"https_proxy": "http://proxy:3128", "no_proxy": "host"}, None),
        ("https://a.host:8443/v1", {"https_proxy": "http://proxy:3128", "no_proxy": ".host"}, None),
        ("https://host:8443/v1", {"https_proxy": "http://proxy:3128", "no_proxy": "host:8443"}, None),
        ("http://127.0.0.1:80/v1", {"http_proxy": "http://proxy:3128"}, None),
        ("http://[::1]/v1", {"http_proxy": "http://proxy:3128"}, None),
        ("http://localhost/v1", {"http_proxy": "http://proxy:3128"}, None),
        ("http://llm.localhost/v1", {"http_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ("http://llm.localhost/v1", {"http_proxy": "http://proxy:3128", "no_proxy": ".localhost"}, None),
    ],
)
def test_proxy_for_url_follows_the_environment_and_skips_loopback(
    url: str, environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


def test_unsupported_kind_of_proxy_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "socks5://user:pass@proxy:1080")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(ConfigError) as raised:
        proxy_for("https://host/v1")
    assert "socks5" in str(raised.value)
    assert "pass" not in str(raised.value)
    Route(Target(base_url="https://host/v1"), "/v1/chat/completions", trust_env=False)
