"""The batch APIs that this program knows, by the name of their shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from processor.batch.anthropic_batches import AnthropicBatches
from processor.batch.mistral_batches import MistralBatches
from processor.batch.openai_batches import AzureDeploymentBatches, OpenAiBatches
from processor.batch.provider_batches import ProviderBatches
from processor.batch.together_batches import TogetherBatches
from processor.core.api_calls import ApiClient
from processor.protocols import RequestOptions

BATCH_APIS: Mapping[str, Callable[[ApiClient, RequestOptions], ProviderBatches]] = {
    "openai": OpenAiBatches,
    "azure-deployments": AzureDeploymentBatches,
    "anthropic": AnthropicBatches,
    "mistral": MistralBatches,
    "together": TogetherBatches,
}
"""A new one needs a name in ``config.batch_presets.BatchShape``, too."""
