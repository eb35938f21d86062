"""The bytes of scripted responses, for every fault and quirk, decoded without the project's own decoder."""

from __future__ import annotations

import re
from dataclasses import replace
from math import inf
from typing import Any

import orjson
import pytest

from processor.core.models import JSON
from processor.simulator.faults import Faults
from processor.simulator.provider import SimulatedProvider
from processor.simulator.response_script import ScriptedResponse
from processor.simulator.settings import SimulatorSettings

CHAT = "/v1/chat/completions"
SEEDS = range(25)


def respond(
    faults: str, seed: int = 0, *, text: str = "Hello", speed_tps: float = 100.0, **more: Any
) -> ScriptedResponse:
    settings = SimulatorSettings(seed=seed, faults=Faults.parse(faults), speed_tps=speed_tps)
    sent = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": True, **more}
    return SimulatedProvider(settings).handle("POST", CHAT, {}, orjson.dumps(sent), 0.0)


def data(answer: ScriptedResponse) -> bytes:
    return b"".join(step.data for step in answer.steps)


def payloads(stream: bytes) -> list[bytes]:
    return re.findall(rb"^data: (.*?)\r?\n\r?\n", stream, re.MULTILINE | re.DOTALL)


def chunks(stream: bytes) -> list[JSON]:
    return [orjson.loads(payload) for payload in payloads(stream) if payload != b"[DONE]"]


def finished(stream: bytes) -> int:
    return stream.count(b'"finish_reason":"')


@pytest.mark.parametrize(("fault", "ending"), [("reset_mid", "reset"), ("stall_mid", "stall"), ("cut", "clean")])
def test_broken_off_reply_lacks_its_end_and_has_no_identity(fault: str, ending: str) -> None:
    lengths = set()
    for seed in SEEDS:
        whole, broken = data(respond("", seed, n=2)), respond(f"{fault}=1", seed, n=2)
        assert whole.startswith(data(broken))
        assert finished(data(broken)) < finished(whole) == 2
        assert b"[DONE]" not in data(broken)
        assert (broken.ending, broken.identity) == (ending, None)
        lengths.add(len(data(broken)) // 1000)
    assert len(lengths) > 10


def test_shortest_reply_breaks_off_before_its_finish_reason() -> None:
    for fault in ("cut", "in_band_error", "reset_mid"):
        for seed in SEEDS:
            assert finished(data(respond(f"{fault}=1", seed, max_tokens=1))) == 0


def test_some_replies_break_off_inside_an_event() -> None:
    ends = {data(respond("cut=1", seed)).endswith(b"\n\n") for seed in SEEDS}
    assert ends == {True, False}


def test_in_band_error_ends_the_stream() -> None:
    streams = [data(respond("in_band_error=1", seed)) for seed in SEEDS]
    assert all(b"error" in payloads(stream)[-2:][0] or b"error" in payloads(stream)[-1] for stream in streams)
    assert all(finished(stream) == 0 for stream in streams)
    assert {stream.endswith(b"[DONE]\n\n") for stream in streams} == {True, False}


def test_malformed_chunk_is_not_json_and_the_stream_continues() -> None:
    for seed in SEEDS:
        broken = payloads(data(respond("malformed_chunk=1", seed)))
        whole = payloads(data(respond("", seed)))
        assert len(broken) == len(whole)
        (odd,) = [number for number, payload in enumerate(broken) if payload != whole[number]]
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(broken[odd])


@pytest.mark.parametrize("fault", ["reset_mid", "stall_mid", "cut", "malformed_chunk"])
def test_non_streamed_reply_with_a_failure_is_not_json(fault: str) -> None:
    answer = respond(f"{fault}=1", stream=False)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(data(answer))


def test_non_streamed_reply_can_be_an_in_band_error() -> None:
    answer = respond("in_band_error=1", stream=False)
    assert answer.status == 200
    assert "message" in str(orjson.loads(data(answer)))


@pytest.mark.parametrize("quirk", ["crlf", "comments", "split_utf8", "no_done"])
def test_framing_quirk_does_not_change_the_payloads(quirk: str) -> None:
    odd = False
    for seed in SEEDS:
        plain, changed = respond("", seed), respond(f"{quirk}=1", seed)
        expected = [payload for payload in payloads(data(plain)) if quirk != "no_done" or payload != b"[DONE]"]
        assert payloads(data(changed)) == expected
        assert changed.identity == plain.identity
        odd |= changed.steps != plain.steps
    assert odd


def test_crlf_ends_every_line() -> None:
    stream = data(respond("crlf=1"))
    assert stream.count(b"\n") == stream.count(b"\r\n") > 40


def test_comments_are_between_the_events() -> None:
    assert b"\n\n: OPENROUTER PROCESSING\n\ndata: " in data(respond("comments=1"))


def test_split_utf8_ends_writes_inside_characters() -> None:
    def is_inside(step: bytes) -> bool:
        try:
            step.decode()
        except UnicodeDecodeError:
            return True
        return False

    for speed_tps in (100.0, inf):
        answer = respond("split_utf8=1", speed_tps=speed_tps)
        assert sum(is_inside(step.data) for step in answer.steps) >= 3
        plain = respond("", speed_tps=speed_tps)
        assert sum(step.delay_s for step in answer.steps) == pytest.approx(sum(step.delay_s for step in plain.steps))


def test_usage_on_last_chunk_is_sent_without_request() -> None:
    last = chunks(data(respond("usage_on_last_chunk=1")))[-1]
    assert last["choices"][0]["finish_reason"]
    assert last["usage"]["total_tokens"] > 0


def test_no_usage_omits_requested_usage() -> None:
    answer = respond("no_usage=1,usage_on_last_chunk=1", stream_options={"include_usage": True})
    assert b'"usage"' not in data(answer)
    assert b'"usage"' not in data(respond("no_usage=1", stream=False))


def test_no_role_and_content_null_change_the_first_delta() -> None:
    assert b"role" not in data(respond("no_role=1"))
    assert chunks(data(respond("content_null=1")))[0]["choices"][0]["delta"]["content"] is None


def test_tool_call_streams_its_name_whole_and_its_arguments_in_pieces() -> None:
    parameters = {"properties": {name: {"const": "x" * 40} for name in "ab"}, "required": ["a", "b"]}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    deltas = [
        delta
        for chunk in chunks(data(respond("", tools=tools, tool_choice="required")))
        for delta in chunk["choices"][0]["delta"].get("tool_calls", ())
        if delta["index"] == 0
    ]
    assert (deltas[0]["type"], deltas[0]["function"]) == ("function", {"name": "f", "arguments": ""})
    assert len(deltas) > 8
    arguments = "".join(delta["function"]["arguments"] for delta in deltas)
    assert orjson.loads(arguments) == {"a": "x" * 40, "b": "x" * 40}


def test_choices_interleave() -> None:
    order = [choice["index"] for chunk in chunks(data(respond("", n=3, max_tokens=9))) for choice in chunk["choices"]]
    assert order[:9] == [0, 1, 2] * 3


def test_completions_api_streams_its_text() -> None:
    provider = SimulatedProvider(replace(SimulatorSettings(), speed_tps=inf))
    sent = {"model": "m", "prompt": "Hello", "stream": True}
    stream = data(provider.handle("POST", "/v1/completions", {}, orjson.dumps(sent), 0.0))
    text = "".join(chunk["choices"][0]["text"] for chunk in chunks(stream))
    assert text == provider.expected_body("/v1/completions", sent)["choices"][0]["text"]
