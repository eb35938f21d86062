"""Where the batch API of a run's endpoint is, and what is known of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

from processor.config.batch_presets import BatchPreset
from processor.config.endpoint_resolution import EndpointAccess, named_provider
from processor.config.settings import Settings
from processor.core.models import Target

_DEPLOYMENTS = "/deployments/"
"""In the path of a base URL: the name of a model follows (Azure with an ``api_version``)."""
_SWITCHES = frozenset({"--allow-http"})
_CONNECTION_FLAGS = _SWITCHES | {"--config", "--base-url", "--provider", "--api-key-env", "--ca-file"}
_SIMULATED_TOGETHER = "/together/v1"


def batch_preset(settings: Settings, accesses: Sequence[EndpointAccess]) -> BatchPreset | None:
    """What is known of the batch API; without an access, of the one that the simulator is to be like.

    None where the provider has none, or none that is known.
    """
    provider = accesses[0].provider if accesses else named_provider(settings)
    preset = provider.batch
    if preset is None or not accesses or _DEPLOYMENTS not in urlsplit(accesses[0].target.base_url).path:
        return preset
    return None if preset.deployments_shape is None else replace(preset, shape=preset.deployments_shape)


def batch_accesses(accesses: Sequence[EndpointAccess]) -> tuple[EndpointAccess, ...]:
    """The accesses with the addresses of their batch APIs: those of deployments are above the name of the model."""
    return tuple(replace(access, target=_above_deployments(access.target)) for access in accesses)


def simulated_target(target: Target, preset: BatchPreset) -> Target:
    """The simulator's address for a batch API of this shape."""
    if preset.shape != "together":
        return target
    return replace(target, base_url=target.base_url.removesuffix("/v1") + _SIMULATED_TOGETHER)


def connection_flags(command: Sequence[str]) -> str:
    """Those flags of a run's command line that ``process batch cancel`` needs, too, with a space before each word."""
    words: list[str] = []
    for word, following in zip(command, (*command[1:], ""), strict=True):
        name, equals, _ = word.partition("=")
        if name in _CONNECTION_FLAGS:
            words += [word] if equals or name in _SWITCHES else [word, following]
    return "".join(f" {shlex.quote(word)}" for word in words)


def _above_deployments(target: Target) -> Target:
    parts = urlsplit(target.base_url)
    above, found, _ = parts.path.partition(_DEPLOYMENTS)
    return replace(target, base_url=urlunsplit(parts._replace(path=above))) if found else target
