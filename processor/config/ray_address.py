"""Checks the settings of a Ray cluster, before anything is started."""

from __future__ import annotations

from importlib.util import find_spec

from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.core.lazy_pattern import LazyPattern
from processor.core.text import setting_name

LOCAL = "local"
"""A cluster on this machine that begins and ends with the run."""
AUTO = "auto"
"""The cluster that this machine is part of."""

_HOST_AND_PORT = LazyPattern(r"(\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]]+):[0-9]{1,5}")


def check_ray(settings: Settings) -> None:
    """Raises ConfigError for an address that is none, and where something else excludes a cluster."""
    address = settings.ray.address
    if address is None:
        return
    if address.startswith("ray://"):
        raise ConfigError(
            f"{setting_name('ray.address', address)}: the Ray client would pass every call through a proxy: start "
            "the run on a node of the "
            f"cluster with {setting_name('ray.address', 'auto')}, or give HOST:PORT of the head node (6379 by default)"
        )
    if address not in (LOCAL, AUTO) and not _HOST_AND_PORT.fullmatch(address):
        raise ConfigError(f"{setting_name('ray.address')} must be local, auto or HOST:PORT, not {address!r}")
    if settings.local is not None:
        raise ConfigError(
            f"{setting_name('local')} serves the model on this machine, and needs no workers: leave out "
            f"{setting_name('ray.address')}"
        )


def check_ray_installed() -> None:
    """Raises ConfigError where the package is missing."""
    if find_spec("ray") is None:
        raise ConfigError(f"{setting_name('ray.address')} needs the extra `ray`: pip install 'processor[ray]'")
