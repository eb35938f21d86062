"""Parses the body of a request. Pure."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Literal

import orjson

from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON

ApiKind = Literal["chat", "completions", "embeddings", "moderations", "responses", "messages"]

_KIND_BY_END: dict[str, ApiKind] = {
    "/chat/completions": "chat",
    "/completions": "completions",
    "/embeddings": "embeddings",
    "/moderations": "moderations",
    "/responses": "responses",
    "/messages": "messages",
}
"""The longer of two ends comes first."""
API_PATHS: dict[ApiKind, str] = {kind: f"/v1{end}" for end, kind in _KIND_BY_END.items()}

_MAX_CHOICES = 128
_MAX_PROMPTS = 2048
"""As OpenAI's API. With ``n`` each it is the number of choices that is bounded."""
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_STREAM_KEYS = ("stream", "stream_options")


class InvalidRequest(ValueError):
    """The request is invalid; `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """A request that is valid for its API."""

    api_kind: ApiKind
    model: str
    body: JSON
    prompts: tuple[str, ...]
    """The text of each prompt or input. Chat has one, with the text of all messages."""
    choices: int
    """Number of choices in all: `n` for each prompt."""
    max_tokens: int | None
    streamed: bool
    include_usage: bool
    identity: bytes
    """See `identity`."""


def api_kind_of(path: str) -> ApiKind | None:
    """The API that a path belongs to, by its end: prefixes of Azure deployments or proxies do not matter."""
    return next((kind for end, kind in _KIND_BY_END.items() if path.endswith(end)), None)


def identity(path: str, body: JSON) -> bytes:
    """16 bytes that identify a request, streamed or not: BLAKE2b over the sorted-key JSON of [path, body]."""
    body = {name: value for name, value in body.items() if name not in _STREAM_KEYS}
    return blake2b(orjson.dumps((path, body), option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def parse(path: str, api_kind: ApiKind, data: bytes) -> ParsedRequest:
    """Raises InvalidRequest."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise InvalidRequest("We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body of your request must be a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("you must provide a model parameter", "model")
    prompts = _READ_PROMPTS[api_kind](body)
    choices = (_positive_int(body, "n", _MAX_CHOICES) or 1) * len(prompts)
    if choices > _MAX_PROMPTS:
        raise InvalidRequest(f"At most {_MAX_PROMPTS} choices can be requested, not {choices}.", "prompt")
    streamed = _flag(body, "stream")
    return ParsedRequest(
        api_kind=api_kind,
        model=model,
        body=body,
        prompts=prompts,
        choices=choices,
        max_tokens=next(filter(None, (_positive_int(body, name) for name in _LIMITS)), None),
        streamed=streamed,
        include_usage=_include_usage(body, streamed),
        identity=identity(path, body),
    )


def _chat_text(body: JSON) -> tuple[str, ...]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("Missing required parameter: 'messages'.", "messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise InvalidRequest(f"Missing required parameter: 'messages[{index}].role'.", f"messages[{index}].role")
    return ("\n".join(_content_text(message.get("content")) for message in messages),)


def _messages_text(body: JSON) -> tuple[str, ...]:
    """One prompt, with the system text and that of all messages."""
    if body.get("max_tokens") is None:
        raise InvalidRequest("max_tokens: Field required", "max_tokens")
    return ("\n".join(filter(None, (_content_text(body.get("system")), *_chat_text(body)))),)


def _content_text(content: Any) -> str:
    """The text of a message, whose content is a string, null, or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def _prompts(body: JSON, name: str = "prompt") -> tuple[str, ...]:
    """The texts of one prompt (a string or token numbers) or of a list of prompts."""
    prompt = body.get(name)
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return tuple(_prompt_text(one, name) for one in prompt)
    return (_prompt_text(prompt, name),)


def _prompt_text(prompt: Any, name: str) -> str:
    if isinstance(prompt, str) and prompt:
        return prompt
    if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
        return "    " * len(prompt)
    raise InvalidRequest(f"Missing required parameter: '{name}'.", name)


def _inputs(body: JSON) -> tuple[str, ...]:
    return _prompts(body, "input")


def _moderated_texts(body: JSON) -> tuple[str, ...]:
    """A list of parts is one input."""
    inputs = body.get("input")
    if isinstance(inputs, list) and inputs and isinstance(inputs[0], dict):
        return (_content_text(inputs),)
    return _inputs(body)


def _response_text(body: JSON) -> tuple[str, ...]:
    """One prompt, with the instructions and the text of all messages."""
    given = body.get("input")
    if not isinstance(given, str | list) or not given:
        raise InvalidRequest("Missing required parameter: 'input'.", "input")
    items = [item for item in given if isinstance(item, dict)] if isinstance(given, list) else [{"content": given}]
    texts = [_content_text(body.get("instructions")), *(_content_text(item.get("content")) for item in items)]
    return ("\n".join(filter(None, texts)),)


_READ_PROMPTS: dict[ApiKind, Callable[[JSON], tuple[str, ...]]] = {
    "chat": _chat_text,
    "completions": _prompts,
    "embeddings": _inputs,
    "moderations": _moderated_texts,
    "responses": _response_text,
    "messages": _messages_text,
}
"""Each raises InvalidRequest."""


def _positive_int(body: JSON, name: str, maximum: int | None = None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequest(f"Invalid type for '{name}': expected an integer.", name)
    if value < 1 or (maximum is not None and value > maximum):
        raise InvalidRequest(f"Invalid value for '{name}': {value} is out of range.", name)
    return value


def _flag(body: JSON, name: str) -> bool:
    value = body.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InvalidRequest(f"Invalid type for '{name}': expected a boolean.", name)


def _include_usage(body: JSON, streamed: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not streamed:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise InvalidRequest(message, "stream_options")
    if not isinstance(options, dict):
        raise InvalidRequest("Invalid type for 'stream_options': expected an object.", "stream_options")
    return _flag(options, "include_usage")
