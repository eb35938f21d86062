"""One value per provider: where it is, which variable holds its key, how it charges and what its headers are like."""

from processor.providers.catalogue import PROVIDERS, Provider, provider_for

__all__ = ["PROVIDERS", "Provider", "provider_for"]
