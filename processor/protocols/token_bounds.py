"""The most tokens that a request can be billed for. Pure but for what ``TokenRatios`` learns from replies.

Where tiktoken counts a prompt exactly, that is its bound. Else a text has at most one token for each byte of UTF-8, as
no tokenizer makes more; when enough replies of a model are known, also the largest ratio of tokens reported to tokens
computed that was seen, and a tenth more, bounds its prompts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from processor.core.models import JSON, Job, RequestSize, Usage
from processor.core.token_bounds import TokenBounds
from processor.protocols.base import Protocol
from processor.tokens.rules import UNKNOWN_MODEL, ModelCounter

MIN_REPLIES = 100
"""Replies of a model after which their token ratio bounds its prompts."""
RATIO_MARGIN = 1.1
HIDDEN_TOKENS = 64
"""What a server may add to a prompt that is not counted exactly, such as a system message of its chat template."""
HIDDEN_TOOL_TOKENS = 640
"""What it may add to one with tools."""

_UNBOUNDED = {
    "images": "the tokens of an image are not known",
    "audio": "audio is priced apart",
    "files": "the tokens of a file are not known",
    "video": "the tokens of a video are not known",
    "reasoning": "the prompt holds encrypted reasoning",
}
"""Reasons of an estimate that leave a prompt without a bound."""
_AT_THE_SERVER = (
    *("previous_response_id", "conversation", "container", "mcp_servers", "plugins", "web_search_options", "models"),
    *("prediction", "audio"),
)
"""Fields of a request by which the server adds to it, generates more, or charges otherwise."""
_OWN_TOOLS = (None, "function", "custom")
"""Types of tools that the client runs. All others may be run by the provider."""
_OTHER_TIERS = ("flex", "priority", "fast", "scale")
_REMOTE_KEYS = frozenset({"file_id", "file_url", "file_data", "container_id"})
_REMOTE_TYPES = frozenset({"item_reference", "container_upload"})


@dataclass(slots=True)
class _Ratio:
    replies: int = 0
    largest: float = 0.0


class TokenRatios:
    """The largest ratio of reported to computed prompt tokens, by model."""

    def __init__(self) -> None:
        self._by_model: dict[str, _Ratio] = {}

    def learn(self, model: str, reported: Usage | None, computed_prompt: int) -> None:
        """Take the tokens of one reply. ``reported``: by the server; None where it says nothing."""
        if reported is None or not reported.is_plausible or not computed_prompt:
            return
        ratio = self._by_model.setdefault(model, _Ratio())
        ratio.replies += 1
        ratio.largest = max(ratio.largest, reported.prompt_tokens / computed_prompt)

    def bound(self, model: str, computed_prompt: int) -> int | None:
        """Return the most tokens of a prompt, by its computed ones; None until enough replies are known."""
        ratio = self._by_model.get(model)
        if ratio is None or ratio.replies < MIN_REPLIES:
            return None
        return ceil(computed_prompt * ratio.largest * RATIO_MARGIN)

    def correction(self, model: str) -> float:
        """Return what counts that are taken for exact must be multiplied with."""
        ratio = self._by_model.get(model)
        return 1.0 if ratio is None or ratio.largest <= 1.0 else ratio.largest * RATIO_MARGIN


def with_bounds(
    size: RequestSize, job: Job, protocol: Protocol, counter: ModelCounter, ratios: TokenRatios
) -> RequestSize:
    """Return the size of the job's request with its bounds."""
    return replace(size, bounds=token_bounds(size, job, protocol, counter, ratios))


def token_bounds(
    size: RequestSize, job: Job, protocol: Protocol, counter: ModelCounter, ratios: TokenRatios
) -> TokenBounds:
    prompt, unknown = _prompt_bound(size, job, protocol, counter, ratios)
    return TokenBounds(
        prompt_tokens=prompt,
        output_tokens=size.max_tokens,
        choices=size.choices,
        unknown=_unknown_part(job.body) or unknown,
    )


def _prompt_bound(
    size: RequestSize, job: Job, protocol: Protocol, counter: ModelCounter, ratios: TokenRatios
) -> tuple[int, str | None]:
    """Return the most tokens of the prompt, and what of it has no bound."""
    if not size.prompt_estimated:
        return ceil(size.prompt_tokens * ratios.correction(job.model)), None
    by_bytes = replace(counter, count_text=_utf8_bytes, is_loaded=True, is_known=True)
    counted = protocol.count_prompt(job.body, by_bytes)
    reasons = set(counted.estimate_reasons)
    unknown = next((text for reason, text in _UNBOUNDED.items() if reason in reasons), None)
    has_hidden = bool(reasons) or UNKNOWN_MODEL in size.prompt_estimated
    most = counted.tokens + HIDDEN_TOKENS * has_hidden + HIDDEN_TOOL_TOKENS * ("tools" in reasons)
    by_ratio = ratios.bound(job.model, size.prompt_tokens)
    return most if by_ratio is None else min(most, by_ratio), unknown


def _utf8_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _unknown_part(body: JSON) -> str | None:
    for name in _AT_THE_SERVER:
        if body.get(name):
            return f"{name} leaves open what the server adds or charges"
    if isinstance(body.get("prompt"), dict):
        return "the prompt is a template at the server"
    if body.get("service_tier") in _OTHER_TIERS:
        return f"the prices of the service tier {body['service_tier']} are not known"
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and tool.get("type") not in _OWN_TOOLS:
            return f"the tool {tool.get('type')!r:.40} may be run by the provider"
    return "it refers to a file or an item at the server" if _refers_to_server(body) else None


def _refers_to_server(body: JSON) -> bool:
    pending: list[Any] = [body.get(name) for name in ("messages", "input", "system")]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, dict):
            if not _REMOTE_KEYS.isdisjoint(value) or value.get("type") in _REMOTE_TYPES:
                return True
            pending.extend(value.values())
    return False
