"""Chat completions, streamed: https://platform.openai.com/docs/api-reference/chat-streaming"""

from __future__ import annotations

from processor.core.errors import ProtocolError
from processor.core.models import JSON
from processor.protocols.choices_accumulator import ChoicesAccumulator, choices_per_prompt
from processor.protocols.delta_merge import are_parts, join_text_parts

_INSTEAD_OF_CONTENT = frozenset({"tool_calls", "function_call", "refusal", "audio"})


class ChatAccumulator(ChoicesAccumulator):
    """`choices[].delta` add up to `choices[].message`."""

    object_name = "chat.completion"
    text_field = "content"

    def _delta_of(self, choice: JSON) -> JSON:
        delta = choice.get("delta")
        if delta is None:
            return {}
        if not isinstance(delta, dict):
            raise ProtocolError("a delta is no object")
        content = delta.get("content")
        if content == []:
            delta["content"] = None
        elif content is not None and not isinstance(content, str) and not are_parts(content):
            raise ProtocolError("a delta's content is neither text nor parts")
        return delta

    def _finalize(self, content: JSON) -> JSON:
        message = {"role": "assistant", "content": None} | content
        message["role"] = message["role"] or "assistant"
        message["content"] = join_text_parts(message["content"])
        if not message["content"]:
            said_otherwise = any(message[name] for name in _INSTEAD_OF_CONTENT & message.keys())
            message["content"] = None if said_otherwise else ""
        return {"message": message}


def open_chat(request: JSON) -> ChatAccumulator:
    return ChatAccumulator(choices_per_prompt(request))
