from __future__ import annotations

import pytest

from processor.core.errors import InvalidJob
from processor.core.urls import endpoint_address
from processor.input.job_urls import protocol_for_url
from processor.protocols.registry import PROTOCOLS

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
OPENAI = "https://api.openai.com/v1"
AZURE = "https://name.openai.azure.com/openai/deployments/d"


def path_of(url: object, base_url: str | None = OPENAI, default: str = CHAT) -> str:
    return protocol_for_url(url, default, () if base_url is None else (base_url,)).path


@pytest.mark.parametrize(
    ("url", "base_url", "path"),
    [
        ("https://api.openai.com/v1/chat/completions", OPENAI, CHAT),
        ("https://api.openai.com/v1/chat/completions/", OPENAI, CHAT),
        ("https://API.openai.com:443/v1/completions", OPENAI, COMPLETIONS),
        ("HTTPS://api.openai.com/v1/completions", "https://api.openai.com/v1/", COMPLETIONS),
        ("https://api.openai.com/v1/completions", "https://api.openai.com", COMPLETIONS),
        ("http://127.0.0.1:8000/v1/chat/completions", "http://127.0.0.1:8000/v1", CHAT),
        (f"{AZURE}/chat/completions", AZURE, CHAT),
        ("/openai/deployments/d/chat/completions", AZURE, CHAT),
        ("openai/deployments/d/completions/", AZURE, COMPLETIONS),
        ("/chat/completions", AZURE, CHAT),
        ("https://host/api/v1/chat/completions", "https://host/api/v1?version=1", CHAT),
        ("https://any.host/x/v1/chat/completions", None, CHAT),
        ("https://any.host/completions", None, COMPLETIONS),
        (" /v1/completions ", OPENAI, COMPLETIONS),
        (None, OPENAI, CHAT),
    ],
)
def test_url_means_the_api_of_its_address(url: object, base_url: str | None, path: str) -> None:
    assert path_of(url, base_url) == path


@pytest.mark.parametrize("base_url", [OPENAI, AZURE, "http://127.0.0.1:8000", "https://host/a/b/v1/"])
@pytest.mark.parametrize("path", PROTOCOLS)
def test_address_that_a_run_sends_to_is_a_url_of_its_jobs(base_url: str, path: str) -> None:
    assert path_of(endpoint_address(base_url, path), base_url) == path


@pytest.mark.parametrize(
    ("url", "base_url", "message"),
    [
        ("https://other.host/v1/chat/completions", OPENAI, "is no address of this run, which sends to https://api.op"),
        ("http://api.openai.com/v1/chat/completions", OPENAI, "is no address of this run"),
        ("https://api.openai.com:8443/v1/chat/completions", OPENAI, "is no address of this run"),
        ("https://name.openai.azure.com/openai/deployments/e/chat/completions", AZURE, "is no address of this run"),
        ("https://api.openai.com/v1/chat/completions?x=1", OPENAI, "url must have no query"),
        ("https://api.openai.com:x/v1/chat/completions", OPENAI, "url must be /v1/chat/completions, "),
        ("https://[/v1/chat/completions", OPENAI, "url must be /v1/chat/completions, "),
        ("https://any.host/v1/haikus", None, "url must be /v1/chat/completions, "),
        ("ftp://api.openai.com/v1/chat/completions", OPENAI, "url must be "),
        ("/openai/deployments/e/chat/completions", AZURE, "url must be "),
        ("", OPENAI, "url must be "),
        (["/v1/completions"], OPENAI, "not an array"),
    ],
)
def test_url_of_another_server_or_api_is_refused(url: object, base_url: str | None, message: str) -> None:
    with pytest.raises(InvalidJob, match=message.replace("[", r"\[")):
        path_of(url, base_url)
