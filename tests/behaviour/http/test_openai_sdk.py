"""The official SDK reads the same bytes: what it returns whole, this program returns as well, with the same content.

Runs where the SDK is installed (the extra ``sdk``).
"""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from processor.protocols.finish_reasons import is_success
from tests.support.packages import package
from tests.support.reply_reading import ReplyReader
from tests.support.threaded_server import in_thread
from tests.support.transcripts import TRANSCRIPTS, Transcript

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.filterwarnings("ignore")]

NAMES = [name for name, transcript in TRANSCRIPTS.items() if not transcript.request]


class _Server(BaseHTTPRequestHandler):
    """Answers each path with the transcript of that number."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = TRANSCRIPTS[NAMES[int(self.path.split("/")[1])]].body
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    with in_thread(server):
        yield f"http://127.0.0.1:{server.server_port}"


def read_by_sdk(base_url: str) -> dict[str, Any] | None:
    """Text, finish reason, and the calls that are told apart by their index; None where the SDK raises an error."""
    openai = package("openai")
    client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
    text, reason = "", None
    calls: dict[int, list[str]] = {}
    try:
        messages: Any = [{"role": "user", "content": "hi"}]
        for chunk in client.chat.completions.create(model="m", messages=messages, stream=True):
            for choice in (chunk.choices if chunk is not None else None) or ():
                text += _text_of(choice)
                reason = choice.finish_reason or reason
                for call in (choice.delta.tool_calls if choice.delta else None) or ():
                    known = calls.setdefault(call.index, ["", ""])
                    known[0] += call.function.name or ""
                    known[1] += call.function.arguments or ""
    except (openai.OpenAIError, ValueError, TypeError, AttributeError):  # the last two for chunks that are none
        return None
    finally:
        client.close()
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return {"text": text, "reason": reason, "calls": [tuple(calls[index]) for index in sorted(calls)]}


def _text_of(choice: Any) -> str:
    """A whole message in place of the delta is among the fields that the SDK does not know."""
    message = (choice.model_extra or {}).get("message")
    content = choice.delta.content if choice.delta else message["content"] if message else None
    if isinstance(content, str) or content is None:
        return content or ""
    parts = content if isinstance(content, list) else [content]
    return "".join(part if isinstance(part, str) else part["text"] for part in parts)


def is_whole(read: dict[str, Any], transcript: Transcript) -> bool:
    """By promise: a finish reason that means success, and no error in the stream, which the SDK does not always see."""
    return isinstance(read["reason"], str) and is_success(read["reason"]) and transcript.error is None


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_reply_that_the_sdk_reads_whole_is_read_alike(number: int, url: str) -> None:
    transcript = TRANSCRIPTS[NAMES[number]]
    read = read_by_sdk(f"{url}/{number}/v1")
    if read is None or not is_whole(read, transcript):
        return  # nothing is promised; for how many at most, the next test says
    reply = ReplyReader(request=transcript.request).read(transcript.body)
    assert reply is not None
    choice = reply["choices"][0]
    functions = [call["function"] for call in choice["message"].get("tool_calls") or ()]
    ours = [(function["name"], function.get("arguments", "")) for function in functions]
    assert choice["finish_reason"] == read["reason"]
    assert (choice["message"]["content"] or "") == read["text"]
    # The SDK itself leaves it to the caller to tell calls under one index apart.
    assert "".join(map("".join, ours)) == "".join(map("".join, read["calls"])) or ours == list(transcript.calls)


def test_sdk_reads_most_transcripts_whole(url: str) -> None:
    found = [(read_by_sdk(f"{url}/{number}/v1"), TRANSCRIPTS[name]) for number, name in enumerate(NAMES)]
    assert sum(read is not None and is_whole(read, transcript) for read, transcript in found) >= 50
