"""The names of operations and providers by OpenTelemetry's conventions for generative AI.

https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/
"""

from __future__ import annotations

from processor.protocols.completions import Completions
from processor.protocols.embeddings import Embeddings
from processor.protocols.moderations import Moderations
from processor.protocols.registry import PROTOCOLS

_OPERATIONS = {
    Completions.path: "text_completion",
    Embeddings.path: "embeddings",
    Moderations.path: "moderation",
}
"""By API path. What the others do is ``chat``."""

_PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""By preset, where the name is another one."""


def telemetry_labels(provider: str | None, address: str) -> dict[str, str]:
    """Return the labels of requests to a provider, by its preset, at an address. An unknown operation has none."""
    name = provider or "openai"
    labels = {"gen_ai_provider_name": _PROVIDERS.get(name, name)}
    for path in sorted(PROTOCOLS, key=len, reverse=True):
        if address.endswith(path.removeprefix("/v1")):
            return {"gen_ai_operation_name": _OPERATIONS.get(path, "chat"), **labels}
    return labels
