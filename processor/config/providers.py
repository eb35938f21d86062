"""Presets of known providers. Any other server with OpenAI's API needs only a base URL."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from processor.protocols.registry import DEFAULT_PATH
from processor.protocols.request_limits import UNKNOWN_LIMITS, RequestLimits
from processor.ratelimit.settings import TokenAccounting


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPreset:
    """Address, key and token accounting of a provider."""

    name: str
    base_url: str | None
    """Ends in ``/v1``, or in what the provider has in its place; None: the user must give one."""
    key_variable: str
    """The environment variable that holds the key."""
    auth_header: str = "Authorization"
    auth_scheme: str = "Bearer "
    charging: TokenAccounting = "sum"
    """How tokens are counted against the limit, see ``ratelimit.settings.TokenAccounting``."""
    endpoint: str = DEFAULT_PATH
    """API path of jobs without ``url``."""
    request_limits: RequestLimits = UNKNOWN_LIMITS
    """What the provider is known to refuse: such a job becomes a failed row, and is not sent."""


_OPENAI_LIMITS = RequestLimits(max_inputs=2048, accepts_empty_text=False)
"""https://platform.openai.com/docs/api-reference/embeddings/create"""

OPENAI = ProviderPreset(
    name="openai",
    base_url="https://api.openai.com/v1",
    key_variable="OPENAI_API_KEY",
    charging="larger",
    request_limits=_OPENAI_LIMITS,
)

_KNOWN = (
    OPENAI,
    ProviderPreset(
        name="azure",
        base_url=None,
        key_variable="AZURE_OPENAI_API_KEY",
        auth_header="api-key",
        auth_scheme="",
        request_limits=_OPENAI_LIMITS,
    ),
    ProviderPreset(
        name="anthropic",
        base_url="https://api.anthropic.com/v1",
        key_variable="ANTHROPIC_API_KEY",
        auth_header="x-api-key",
        auth_scheme="",
        charging="used",
        endpoint="/v1/messages",
    ),
    ProviderPreset(name="deepseek", base_url="https://api.deepseek.com/v1", key_variable="DEEPSEEK_API_KEY"),
    ProviderPreset(name="groq", base_url="https://api.groq.com/openai/v1", key_variable="GROQ_API_KEY"),
    ProviderPreset(name="mistral", base_url="https://api.mistral.ai/v1", key_variable="MISTRAL_API_KEY"),
    ProviderPreset(name="openrouter", base_url="https://openrouter.ai/api/v1", key_variable="OPENROUTER_API_KEY"),
    ProviderPreset(name="together", base_url="https://api.together.xyz/v1", key_variable="TOGETHER_API_KEY"),
)

PROVIDERS = {provider.name: provider for provider in _KNOWN}

KEY_VARIABLES = frozenset(provider.key_variable for provider in _KNOWN) | {
    *("AI21_API_KEY", "CEREBRAS_API_KEY", "COHERE_API_KEY", "DASHSCOPE_API_KEY"),
    *("FIREWORKS_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "HF_TOKEN", "LITELLM_API_KEY", "LLM_API_KEY"),
    *("MOONSHOT_API_KEY", "NVIDIA_API_KEY", "OLLAMA_API_KEY", "PERPLEXITY_API_KEY", "SAMBANOVA_API_KEY"),
    *("VLLM_API_KEY", "XAI_API_KEY", "ZAI_API_KEY"),
}
"""Variables that hold the key of some LLM server. A settings file that was found in the working folder may name these;
any other variable of the environment must be named by the user."""

GENERIC = ProviderPreset(name="any", base_url=None, key_variable="OPENAI_API_KEY")
"""Any other server with OpenAI's API. How it counts tokens is unknown, so the larger estimate (``sum``) is used."""


def provider_for(base_url: str) -> ProviderPreset:
    """The preset with the host of this URL, else ``GENERIC``."""
    host = urlsplit(base_url).hostname or ""
    if host.endswith(".openai.azure.com"):
        return PROVIDERS["azure"]
    hosts = {urlsplit(known.base_url).hostname: known for known in _KNOWN if known.base_url}
    return hosts.get(host, GENERIC)
