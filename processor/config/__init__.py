"""One value per provider: where it is, which variable holds its key, how it charges and what its headers are like."""

from processor.config.providers import ANY, OPENAI, PROVIDERS, Provider, provider_for

__all__ = ["ANY", "OPENAI", "PROVIDERS", "Provider", "provider_for"]
