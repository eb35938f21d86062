"""One value per provider: where it is, which variable holds its key, how it charges and what its headers are like."""

from processor.config.providers import GENERIC, OPENAI, PROVIDERS, ProviderPreset, provider_for

__all__ = ["GENERIC", "OPENAI", "PROVIDERS", "ProviderPreset", "provider_for"]
