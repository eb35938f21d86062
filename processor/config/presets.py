"""The presets of known providers. Any other server with one of the APIs needs only a base URL.

What is known of each, and what it was tested against, stands in docs/providers.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from processor.config.batch_presets import BatchPreset
from processor.config.providers import ProviderPreset
from processor.protocols.request_limits import RequestLimits

_MESSAGES = "/v1/messages"
_OPENAI_LIMITS = RequestLimits(max_inputs=2048, accepts_empty_text=False)
"""https://platform.openai.com/docs/api-reference/embeddings/create"""

_OPENAI_BATCHES = BatchPreset(
    paths=frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/moderations"}),
    max_inputs=50_000,
    price_factor=0.5,
)
"""https://platform.openai.com/docs/guides/batch"""
_AZURE_BATCHES = BatchPreset(
    deployments_shape="azure-deployments",
    paths=frozenset({"/v1/chat/completions", "/v1/embeddings", "/v1/responses"}),
    max_jobs=100_000,
    price_factor=0.5,
)
_ANTHROPIC_BATCHES = BatchPreset(
    shape="anthropic", paths=frozenset({_MESSAGES}), max_jobs=100_000, max_bytes=256 * 10**6, price_factor=0.5
)
"""https://docs.anthropic.com/en/docs/build-with-claude/batch-processing"""
_GROQ_BATCHES = BatchPreset(max_bytes=100 * 10**6, price_factor=0.5)
"""https://console.groq.com/docs/batch"""
_MISTRAL_BATCHES = BatchPreset(
    shape="mistral",
    paths=frozenset({"/v1/chat/completions", "/v1/embeddings", "/v1/moderations"}),
    max_jobs=100_000,
    max_bytes=512 * 10**6,
    price_factor=0.5,
)
"""https://docs.mistral.ai/capabilities/batch"""
_TOGETHER_BATCHES = BatchPreset(shape="together", max_bytes=100 * 10**6)
"""https://docs.together.ai/docs/inference/batch/overview: only some models cost less in a batch."""

OPENAI = ProviderPreset(
    name="openai",
    base_url="https://api.openai.com/v1",
    key_variable="OPENAI_API_KEY",
    charging="larger",
    request_limits=_OPENAI_LIMITS,
    batch=_OPENAI_BATCHES,
)

_HOSTED = (
    OPENAI,
    ProviderPreset(
        name="azure",
        base_url="{AZURE_OPENAI_ENDPOINT}",
        key_variable="AZURE_OPENAI_API_KEY",
        auth="api-key",
        request_limits=_OPENAI_LIMITS,
        root_path="/openai/v1",
        root_path_with_api_version="/openai/deployments/{model}",
        counter_period_s=1.0,
        hosts=("*.openai.azure.com", "*.services.ai.azure.com", "*.cognitiveservices.azure.com"),
        batch=_AZURE_BATCHES,
        quirks="the model of a job names the deployment",
    ),
    ProviderPreset(
        name="anthropic",
        base_url="https://api.anthropic.com/v1",
        key_variable="ANTHROPIC_API_KEY",
        auth="x-api-key",
        endpoint=_MESSAGES,
        charging="used",
        batch=_ANTHROPIC_BATCHES,
        quirks="input and output tokens are limited apart",
    ),
    ProviderPreset(
        name="gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_variable="GEMINI_API_KEY",
        other_key_variables=("GOOGLE_API_KEY",),
        quirks="tells no limits; a 429 names the wait in its body",
    ),
    ProviderPreset(
        name="bedrock",
        base_url="https://bedrock-mantle.{AWS_REGION}.api.aws/openai/v1",
        key_variable="AWS_BEARER_TOKEN_BEDROCK",
        hosts=("bedrock-mantle.*.api.aws", "bedrock-runtime.*.amazonaws.com"),
        charging="used",
        quirks="reserves prompt + max_tokens, and corrects that afterwards",
    ),
    ProviderPreset(
        name="bedrock-anthropic",
        base_url="https://bedrock-mantle.{AWS_REGION}.api.aws/anthropic/v1",
        key_variable="AWS_BEARER_TOKEN_BEDROCK",
        endpoint=_MESSAGES,
        hosts=("bedrock-mantle.*.api.aws",),
        charging="used",
    ),
    ProviderPreset(
        name="vertex",
        base_url="https://{GOOGLE_CLOUD_LOCATION}-aiplatform.googleapis.com/v1/projects/{GOOGLE_CLOUD_PROJECT}"
        "/locations/{GOOGLE_CLOUD_LOCATION}/endpoints/openapi",
        key_variable="VERTEX_ACCESS_TOKEN",
        key_command=("gcloud", "auth", "print-access-token"),
        hosts=("*-aiplatform.googleapis.com", "aiplatform.googleapis.com"),
        quirks="a key lives for one hour; models are named publisher/model",
    ),
    ProviderPreset(
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        key_variable="OPENROUTER_API_KEY",
        quirks="keep-alive comments in streams; errors inside replies with status 200; 402 for spent credit",
    ),
    ProviderPreset(
        name="groq",
        base_url="https://api.groq.com/openai/v1",
        key_variable="GROQ_API_KEY",
        rate_limit_headers="requests-per-day",
        batch=_GROQ_BATCHES,
        quirks="the limit on requests that its headers tell is one of a day; usage may stand in x_groq",
    ),
    ProviderPreset(
        name="together",
        base_url="https://api.together.xyz/v1",
        key_variable="TOGETHER_API_KEY",
        hosts=("api.together.ai",),
        batch=_TOGETHER_BATCHES,
    ),
    ProviderPreset(
        name="deepseek",
        base_url="https://api.deepseek.com/v1",
        key_variable="DEEPSEEK_API_KEY",
        quirks="has no limits: under load it keeps connections open with blank lines",
    ),
    ProviderPreset(
        name="mistral",
        base_url="https://api.mistral.ai/v1",
        key_variable="MISTRAL_API_KEY",
        batch=_MISTRAL_BATCHES,
        refuses=frozenset({"stream_options", "max_completion_tokens"}),
        quirks="reports usage unasked; a message's content may be a list",
    ),
    ProviderPreset(name="xai", base_url="https://api.x.ai/v1", key_variable="XAI_API_KEY"),
    ProviderPreset(
        name="fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        key_variable="FIREWORKS_API_KEY",
    ),
    ProviderPreset(
        name="cerebras",
        base_url="https://api.cerebras.ai/v1",
        key_variable="CEREBRAS_API_KEY",
        rate_limit_headers="named-periods",
        quirks="the names of its headers end in the period of the limit",
    ),
    ProviderPreset(
        name="perplexity",
        base_url="https://api.perplexity.ai/.",
        key_variable="PERPLEXITY_API_KEY",
        other_key_variables=("PPLX_API_KEY",),
        refuses=frozenset({"stream_options"}),
        quirks="its address has no /v1; reports usage unasked",
    ),
)

_OWN = (
    ProviderPreset(
        name="ollama",
        base_url="http://localhost:11434/v1",
        key_variable="OLLAMA_API_KEY",
        needs_key=False,
        quirks="old versions send an empty finish_reason in each chunk",
    ),
    ProviderPreset(
        name="lmstudio", base_url="http://localhost:1234/v1", key_variable="LM_STUDIO_API_KEY", needs_key=False
    ),
    ProviderPreset(name="vllm", base_url="http://localhost:8000/v1", key_variable="VLLM_API_KEY", needs_key=False),
    ProviderPreset(name="sglang", base_url="http://localhost:30000/v1", key_variable="SGLANG_API_KEY", needs_key=False),
    ProviderPreset(
        name="llamacpp",
        base_url="http://localhost:8080/v1",
        key_variable="LLAMA_API_KEY",
        needs_key=False,
        quirks="says that a reply is complete which it has cut at the output limit (Responses)",
    ),
    ProviderPreset(
        name="litellm",
        base_url="http://localhost:4000/v1",
        key_variable="LITELLM_API_KEY",
        needs_key=False,
        quirks="the code of its errors is a string",
    ),
)

GENERIC = ProviderPreset(
    name="any",
    base_url=None,
    key_variable="OPENAI_API_KEY",
    batch=replace(_OPENAI_BATCHES, price_factor=None),
)
"""Any other server with OpenAI's API. How it counts tokens is unknown, so the larger estimate (``sum``) is used, and
whether it has a batch API shows when it is asked."""

PROVIDERS = {provider.name: provider for provider in (*_HOSTED, *_OWN)}

_KEYS_OF_A_CLOUD = frozenset({"AWS_BEARER_TOKEN_BEDROCK", "VERTEX_ACCESS_TOKEN"})

KEY_VARIABLES = frozenset(
    variable
    for provider in PROVIDERS.values()
    for variable in (provider.key_variable, *provider.other_key_variables)
    if variable not in _KEYS_OF_A_CLOUD
) | {
    *("AI21_API_KEY", "COHERE_API_KEY", "DASHSCOPE_API_KEY", "HF_TOKEN", "LLM_API_KEY", "MOONSHOT_API_KEY"),
    *("NVIDIA_API_KEY", "SAMBANOVA_API_KEY", "ZAI_API_KEY"),
}
"""Variables that hold the key of some LLM server. To an address that a file in the working folder has chosen only these
are sent; any other variable of the environment must be named by the user."""


def provider_for(base_url: str, providers: Mapping[str, ProviderPreset] = PROVIDERS) -> ProviderPreset:
    """The preset with the host of this URL, else ``GENERIC``."""
    parts = urlsplit(base_url)
    found = [provider for provider in providers.values() if provider.is_at(parts.hostname or "")]
    # One host may have several APIs, below paths of their own.
    below = (one for one in found if one.base_url and parts.path.startswith(urlsplit(one.base_url).path))
    return next(below, found[0] if found else providers.get(GENERIC.name, GENERIC))
