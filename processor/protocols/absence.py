"""Is what a request was addressed to not there at all? How servers say it of a model, and of an address.

OpenAI, Groq, Azure, Anthropic, Mistral, OpenRouter, LiteLLM, DeepSeek, Gemini, vLLM, SGLang, Ollama, llama.cpp.
A request may be turned away with much the same words for what it holds ("no endpoints found that support tools"):
where it is not certain, it is not said.
"""

from __future__ import annotations

import re

from processor.core.errors import ModelNotFound, NotFound, UrlNotFound
from processor.protocols.error_body import ErrorBody

_MODEL_KINDS = frozenset(
    {"model_not_found", "model_not_available", "invalid_model", "DeploymentNotFound", "deployment_not_found"}
)
_NO_MODEL_404 = re.compile(
    r"(?i)^model: \S+$"  # Anthropic
    r"|\bmodels?\b.{0,200}\b(?:does not exist|(?:is |was )?not found)\b"  # vLLM, SGLang, Ollama, Gemini, Groq
    r"|^no endpoints found for \S+$"  # OpenRouter
)
_NO_MODEL_400 = re.compile(
    r"(?i)\bis not a valid model id\b"  # OpenRouter
    r"|^model not exist$"  # DeepSeek
    r"|\binvalid model name passed in model="  # LiteLLM
    r"|\bthe model `[^`]{1,200}` does not exist\b"
)
_NO_ADDRESS = re.compile(
    r"(?i)^(?:not found|file not found|resource not found|404 page not found)\.?$"  # FastAPI, llama.cpp, Azure, Go
    r"|^invalid url \("  # OpenAI
)


def not_found_class(status: int, said: ErrorBody) -> type[NotFound] | None:
    """What is not there, where the server says so; else None."""
    if status in (400, 403, 404) and not _MODEL_KINDS.isdisjoint(said.kinds):
        return ModelNotFound
    if 300 <= status < 400:
        return UrlNotFound
    if status == 400 and _NO_MODEL_400.search(said.message):
        return ModelNotFound
    if status == 404 and _NO_MODEL_404.search(said.message):
        return ModelNotFound
    if status in (404, 405, 501) and (said.body is None or _NO_ADDRESS.search(said.message)):
        return UrlNotFound
    return None
