"""The official SDKs read the same streams to the same reply, and every body that is written is one of their types.

Runs where the SDKs are installed (the extra ``sdk``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest

from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import SimulatorSettings
from tests.support.event_transcripts import MESSAGE_BODY, MESSAGE_EVENTS, RESPONSE_BODY, RESPONSE_EVENTS, as_stream
from tests.support.packages import package
from tests.support.threaded_server import in_thread
from tests.support.typed_streams import assembled

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.filterwarnings("ignore")]

RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
PROVIDER = SimulatedProvider(SimulatorSettings(seed=5))
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}

Body = dict[str, Any]


def simulated(path: str, **request: Any) -> tuple[bytes, Body]:
    """A streamed reply of the simulator, and the body of the same reply unstreamed."""
    data = orjson.dumps({**request, "stream": True})
    response = PROVIDER.handle("POST", path, {}, data, 0.0)
    return b"".join(step.data for step in response.steps), PROVIDER.expected_body(path, request)


def responses_requests() -> Iterator[Body]:
    for number in range(30):
        model = "simulated-reasoner" if number % 3 == 0 else "m"
        yield {"model": model, "input": f"Question {number}?"}
        yield {"model": model, "input": f"Question {number}?", "max_output_tokens": 1 + number}
        yield {
            "model": model,
            "input": f"Call {number}",
            "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
        }


def messages_requests() -> Iterator[Body]:
    for number in range(30):
        model = "simulated-reasoner" if number % 3 == 0 else "m"
        asked = {"model": model, "messages": [{"role": "user", "content": f"Question {number}?"}]}
        yield {**asked, "max_tokens": 4000}
        yield {**asked, "max_tokens": 1 + number}
        yield {**asked, "max_tokens": 4000, "tools": [{"name": "f", "input_schema": SCHEMA}]}


STREAMS: dict[str, list[tuple[bytes, Body]]] = {
    RESPONSES: [
        (as_stream(RESPONSE_EVENTS), RESPONSE_BODY),
        *(simulated(RESPONSES, **r) for r in responses_requests()),
    ],
    MESSAGES: [(as_stream(MESSAGE_EVENTS), MESSAGE_BODY), *(simulated(MESSAGES, **r) for r in messages_requests())],
}


class _Server(BaseHTTPRequestHandler):
    """Answers `/NUMBER/v1/responses` and `/NUMBER/v1/messages` with the stream of that number, or its body."""

    def do_POST(self) -> None:
        asked = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number, path = self.path.removeprefix("/").split("/", 1)
        stream, body = STREAMS["/" + path][int(number)]
        data = stream if asked.get("stream") else orjson.dumps(body)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if asked.get("stream") else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    with in_thread(server):
        yield f"http://127.0.0.1:{server.server_port}"


def said(value: Any) -> Any:
    """Without what says nothing: nulls and empty lists, which the types of the SDKs have as defaults."""
    if isinstance(value, dict):
        return {name: said(item) for name, item in value.items() if item is not None and item != []}
    return [said(item) for item in value] if isinstance(value, list) else value


def read(model: Any) -> Any:
    return said(model.model_dump(mode="json", by_alias=True, warnings=False))


def openai_final(base: str, stream: bool) -> Any:
    openai = package("openai")
    with openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client:
        if not stream:
            return client.responses.create(model="m", input="x")
        (*_, last) = client.responses.create(model="m", input="x", stream=True)
        return last.response


def anthropic_final(base: str, stream: bool) -> Any:
    anthropic = package("anthropic")
    with anthropic.Anthropic(base_url=base, api_key="none", max_retries=0) as client:
        asked: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
        if not stream:
            return client.messages.create(**asked)
        with client.messages.stream(**asked) as events:
            return events.get_final_message()


@pytest.mark.parametrize(("path", "final"), [(RESPONSES, openai_final), (MESSAGES, anthropic_final)])
def test_sdk_reads_each_stream_to_the_body_that_is_written(
    url: str, path: str, final: Callable[[str, bool], Any]
) -> None:
    for number, (stream, body) in enumerate(STREAMS[path]):
        written = assembled(path, [stream])
        assert said(written) == said(body)
        assert read(final(f"{url}/{number}", True)) == read(final(f"{url}/{number}", False)) == said(written)


def test_written_bodies_are_of_the_types_of_the_sdks() -> None:
    openai, anthropic = package("openai"), package("anthropic")
    for body in (body for _, body in STREAMS[RESPONSES]):
        openai.types.responses.Response.model_validate(body)
    for body in (body for _, body in STREAMS[MESSAGES]):
        anthropic.types.Message.model_validate(body)


@pytest.mark.parametrize(
    ("path", "request_body"),
    [
        ("/v1/embeddings", {"model": "m", "input": ["a", "b"]}),
        ("/v1/moderations", {"model": "m", "input": ["a", "b"]}),
    ],
)
def test_unstreamed_bodies_are_of_the_types_of_the_sdk(path: str, request_body: Body) -> None:
    openai = package("openai")
    body = PROVIDER.expected_body(path, request_body)
    kind = openai.types.CreateEmbeddingResponse if "embed" in path else openai.types.ModerationCreateResponse
    assert read(kind.model_validate(body)) == said(body)
