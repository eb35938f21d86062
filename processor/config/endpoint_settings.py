"""The tables ``[[endpoints]]``: several endpoints in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal

from processor.core.errors import ConfigError
from processor.core.fast_dataclass import dataclass

RetryElsewhere = Literal["content_filter", "context_length"]
"""Why one endpoint may refuse a job that another one answers."""

ANY_MODEL = "*"
"""In ``models``: every model that is not named; as the name to send: the model's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """One table ``[[endpoints]]``. None: as for a run with one endpoint."""

    name: str = ""
    """Must be given. Names the endpoint in the log, the summary and messages."""
    base_url: str | None = None
    provider: str | None = None
    api_key_env: str | None = None
    api_key_command: tuple[str, ...] | None = None
    api_key_ttl_s: float | None = None
    api_version: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    """The models that it answers, and the name under which each is sent there; empty: all, under their own names."""
    weight: float = 1.0
    """Its share of the requests, against those of the others, while several have room."""
    rpm: float | None = None
    tpm: float | None = None
    concurrency: int | None = None
    limit_group: str | None = None
    """Endpoints with the same limit group share one set of limits."""

    def model_sent(self, model: str) -> str | None:
        """The name under which a job's model is sent; None where the endpoint does not answer it."""
        if not self.models:
            return model
        sent = self.models.get(model) or self.models.get(ANY_MODEL)
        return model if sent == ANY_MODEL else sent


def answered_models(endpoints: Sequence[EndpointSettings]) -> frozenset[str] | None:
    """The models that one of the endpoints answers; None: all."""
    if not endpoints or any(not endpoint.models or ANY_MODEL in endpoint.models for endpoint in endpoints):
        return None
    return frozenset(model for endpoint in endpoints for model in endpoint.models)


def check_endpoints(endpoints: Sequence[EndpointSettings]) -> None:
    """Checks what the types of single fields cannot express. Raises ConfigError."""
    limits_of_group: dict[str, tuple[float | None, float | None, int | None]] = {}
    names: set[str] = set()
    for at, endpoint in enumerate(endpoints, start=1):
        if not endpoint.name.strip():
            raise ConfigError(f"endpoints[{at}] must have a name: it stands in the log and in the summary")
        if endpoint.name in names:
            raise ConfigError(f"two endpoints have the name {endpoint.name!r}: give each its own")
        names.add(endpoint.name)
        if endpoint.base_url is None and endpoint.provider is None:
            raise ConfigError(f"the endpoint {endpoint.name!r} must have a base_url or a provider")
        if endpoint.api_key_env is not None and endpoint.api_key_command is not None:
            raise ConfigError(
                f"the endpoint {endpoint.name!r} must not have both api_key_env and api_key_command: remove one of them"
            )
        if endpoint.limit_group is not None:
            limits = (endpoint.rpm, endpoint.tpm, endpoint.concurrency)
            if limits_of_group.setdefault(endpoint.limit_group, limits) != limits:
                raise ConfigError(
                    f"the endpoints of the limit group {endpoint.limit_group!r} share one set of limits: give each of "
                    "them the same rpm, tpm and concurrency"
                )
