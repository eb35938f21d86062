"""What the requests to one API path share: its URL, its headers, and whether connections are used again."""

from __future__ import annotations

import pytest

from processor.core.models import Target
from processor.core.version import __version__
from processor.http.connection_state import KeepAliveBreaker, Route, request_url

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://api.openai.com/v1", CHAT, "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1/", CHAT, "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com", CHAT, "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/", CHAT, "https://api.openai.com/v1/chat/completions"),
        ("https://host/api/v1", CHAT, "https://host/api/v1/chat/completions"),
        ("https://host/openai/v1//", CHAT, "https://host/openai/v1/chat/completions"),
        ("https://host/v1beta/openai", CHAT, "https://host/v1beta/openai/chat/completions"),
        ("http://127.0.0.1:8080/v1", "/v1/completions", "http://127.0.0.1:8080/v1/completions"),
        ("http://[::1]:8080", "v1/completions", "http://[::1]:8080/v1/completions"),
        ("https://host/v1", "/chat/completions", "https://host/v1/chat/completions"),
        ("https://host/v1/chat/completions", CHAT, "https://host/v1/chat/completions"),
        ("https://host/v1?a=1&b=", CHAT, "https://host/v1/chat/completions?a=1&b="),
    ],
)
def test_request_url_joins_base_url_and_api_path(base: str, path: str, url: str) -> None:
    assert request_url(Target(base_url=base), path) == url


def test_request_url_of_an_azure_deployment_has_the_api_version_in_its_query() -> None:
    base = "https://name.openai.azure.com/openai/deployments/gpt-4o"
    target = Target(base_url=base, query=(("api-version", "2024-10-21"), ("x", "a b&c")))
    assert request_url(target, CHAT) == f"{base}/chat/completions?api-version=2024-10-21&x=a+b%26c"


def test_obfuscation_is_disabled_only_for_openai() -> None:
    def disables_obfuscation(base_url: str) -> bool:
        return Route(Target(base_url=base_url), CHAT, trust_env=False).request_options["m"].disable_obfuscation

    assert disables_obfuscation("https://api.openai.com/v1")
    assert not disables_obfuscation("https://api.openai.com.example/v1")


def test_user_agent_names_the_version() -> None:
    headers = Route(Target(base_url="https://host/v1"), CHAT, trust_env=False).headers
    assert headers["User-Agent"] == f"processor/{__version__}"


def test_keep_alive_breaker_doubles_its_back_off_with_each_loss() -> None:
    breaker = KeepAliveBreaker()
    assert breaker.allows()
    for requests in (16, 32, 64, 128):
        breaker.failure()
        breaker.failure()  # lost at the same time
        assert [breaker.allows() for _ in range(requests + 1)] == [False] * requests + [True]


def test_keep_alive_breaker_resets_its_back_off_after_successes() -> None:
    breaker = KeepAliveBreaker()
    for _ in range(3):
        breaker.failure()
        while not breaker.allows():
            pass
    for _ in range(50):
        breaker.success()
    breaker.failure()
    assert [breaker.allows() for _ in range(17)] == [False] * 16 + [True]


def test_headers_of_an_api_are_sent_with_its_requests_unless_the_endpoint_sets_them() -> None:
    target = Target(base_url="https://host/v1")
    assert "anthropic-version" not in Route(target, CHAT, trust_env=False).headers
    assert Route(target, "/v1/messages", trust_env=False).headers["anthropic-version"] == "2023-06-01"
    own = Target(base_url="https://host/v1", headers=(("Anthropic-Version", "2030-01-01"),))
    assert Route(own, "/v1/messages", trust_env=False).headers.getall("anthropic-version") == ["2030-01-01"]
