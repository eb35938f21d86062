"""Settings, provider presets, and the resolution of the endpoint."""

from processor.config.providers import GENERIC, OPENAI, PROVIDERS, ProviderPreset, provider_for

__all__ = ["GENERIC", "OPENAI", "PROVIDERS", "ProviderPreset", "provider_for"]
