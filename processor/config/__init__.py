"""Settings, provider presets, and the resolution of the endpoint."""

from processor.config.presets import GENERIC, OPENAI, PROVIDERS, provider_for
from processor.config.providers import ProviderPreset

__all__ = ["GENERIC", "OPENAI", "PROVIDERS", "ProviderPreset", "provider_for"]
