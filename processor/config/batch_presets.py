"""What is known of a provider's batch API. Data only: ``presets`` says which provider has which."""

from __future__ import annotations

from typing import Literal

from processor.core.fast_dataclass import dataclass

BatchShape = Literal["openai", "azure-deployments", "anthropic", "mistral", "together"]
"""Whose API it is like. ``batch.registry`` has the code of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPreset:
    """The batch API of a provider."""

    shape: BatchShape = "openai"
    deployments_shape: BatchShape | None = None
    """The same at addresses that name a deployment (Azure's with an ``api_version``); None: there is none."""
    paths: frozenset[str] = frozenset({"/v1/chat/completions"})
    """The API paths whose jobs may be in a batch."""
    max_jobs: int = 50_000
    max_bytes: int = 200 * 10**6
    max_inputs: int | None = None
    """Of the jobs of one batch together, where they are embeddings."""
    price_factor: float | None = None
    """What a request costs in a batch, as a share of its price otherwise; None: not known."""
