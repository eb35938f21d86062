"""What an answer looks like on the wire, for every fault and quirk; decoded by hand, not by the project's decoder."""

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


def play(faults: str, seed: int = 0, *, text: str = "Hello", speed_tps: float = 100.0, **more: Any) -> ScriptedResponse:
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
def test_a_reply_that_breaks_off_lacks_its_end_and_is_never_called_whole(fault: str, ending: str) -> None:
    lengths = set()
    for seed in SEEDS:
        whole, broken = data(play("", seed, n=2)), play(f"{fault}=1", seed, n=2)
        assert whole.startswith(data(broken))
        assert finished(data(broken)) < finished(whole) == 2
        assert b"[DONE]" not in data(broken)
        assert (broken.ending, broken.identity) == (ending, None)
        lengths.add(len(data(broken)) // 1000)
    assert len(lengths) > 10


def test_even_the_shortest_reply_breaks_off_before_its_finish_reason() -> None:
    for fault in ("cut", "in_band_error", "reset_mid"):
        for seed in SEEDS:
            assert finished(data(play(f"{fault}=1", seed, max_tokens=1))) == 0


def test_some_replies_break_off_inside_an_event() -> None:
    ends = {data(play("cut=1", seed)).endswith(b"\n\n") for seed in SEEDS}
    assert ends == {True, False}


def test_an_error_in_the_stream_ends_it() -> None:
    streams = [data(play("in_band_error=1", seed)) for seed in SEEDS]
    assert all(b"error" in payloads(stream)[-2:][0] or b"error" in payloads(stream)[-1] for stream in streams)
    assert all(finished(stream) == 0 for stream in streams)
    assert {stream.endswith(b"[DONE]\n\n") for stream in streams} == {True, False}


def test_a_malformed_chunk_is_no_json_and_the_stream_goes_on() -> None:
    for seed in SEEDS:
        broken = payloads(data(play("malformed_chunk=1", seed)))
        whole = payloads(data(play("", seed)))
        assert len(broken) == len(whole)
        (odd,) = [number for number, payload in enumerate(broken) if payload != whole[number]]
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(broken[odd])


@pytest.mark.parametrize("fault", ["reset_mid", "stall_mid", "cut", "malformed_chunk"])
def test_an_unstreamed_reply_that_fails_is_no_json(fault: str) -> None:
    answer = play(f"{fault}=1", stream=False)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(data(answer))


def test_an_unstreamed_reply_can_be_an_error() -> None:
    answer = play("in_band_error=1", stream=False)
    assert answer.status == 200
    assert "message" in str(orjson.loads(data(answer)))


@pytest.mark.parametrize("quirk", ["crlf", "comments", "split_utf8", "no_done"])
def test_a_manner_of_framing_leaves_every_payload_as_it_was(quirk: str) -> None:
    odd = False
    for seed in SEEDS:
        plain, mannered = play("", seed), play(f"{quirk}=1", seed)
        expected = [payload for payload in payloads(data(plain)) if quirk != "no_done" or payload != b"[DONE]"]
        assert payloads(data(mannered)) == expected
        assert mannered.identity == plain.identity
        odd |= mannered.steps != plain.steps
    assert odd


def test_crlf_stands_at_the_end_of_every_line() -> None:
    stream = data(play("crlf=1"))
    assert stream.count(b"\n") == stream.count(b"\r\n") > 40


def test_comments_stand_between_the_events() -> None:
    assert b"\n\n: OPENROUTER PROCESSING\n\ndata: " in data(play("comments=1"))


def test_writes_end_inside_characters() -> None:
    def is_inside(step: bytes) -> bool:
        try:
            step.decode()
        except UnicodeDecodeError:
            return True
        return False

    for speed_tps in (100.0, inf):
        answer = play("split_utf8=1", speed_tps=speed_tps)
        assert sum(is_inside(step.data) for step in answer.steps) >= 3
        plain = play("", speed_tps=speed_tps)
        assert sum(step.delay_s for step in answer.steps) == pytest.approx(sum(step.delay_s for step in plain.steps))


def test_usage_can_stand_on_the_last_chunk_unasked() -> None:
    last = chunks(data(play("usage_on_last_chunk=1")))[-1]
    assert last["choices"][0]["finish_reason"]
    assert last["usage"]["total_tokens"] > 0


def test_usage_can_be_missing_though_asked_for() -> None:
    answer = play("no_usage=1,usage_on_last_chunk=1", stream_options={"include_usage": True})
    assert b'"usage"' not in data(answer)
    assert b'"usage"' not in data(play("no_usage=1", stream=False))


def test_the_role_can_be_missing_and_the_first_content_null() -> None:
    assert b"role" not in data(play("no_role=1"))
    assert chunks(data(play("content_null=1")))[0]["choices"][0]["delta"]["content"] is None


def test_a_tool_call_streams_its_name_whole_and_its_arguments_in_pieces() -> None:
    parameters = {"properties": {name: {"const": "x" * 40} for name in "ab"}, "required": ["a", "b"]}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    deltas = [
        delta
        for chunk in chunks(data(play("", tools=tools, tool_choice="required")))
        for delta in chunk["choices"][0]["delta"].get("tool_calls", ())
        if delta["index"] == 0
    ]
    assert (deltas[0]["type"], deltas[0]["function"]) == ("function", {"name": "f", "arguments": ""})
    assert len(deltas) > 8
    arguments = "".join(delta["function"]["arguments"] for delta in deltas)
    assert orjson.loads(arguments) == {"a": "x" * 40, "b": "x" * 40}


def test_the_choices_interleave() -> None:
    order = [choice["index"] for chunk in chunks(data(play("", n=3, max_tokens=9))) for choice in chunk["choices"]]
    assert order[:9] == [0, 1, 2] * 3


def test_completions_stream_their_text() -> None:
    provider = SimulatedProvider(replace(SimulatorSettings(), speed_tps=inf))
    sent = {"model": "m", "prompt": "Hello", "stream": True}
    stream = data(provider.handle("POST", "/v1/completions", {}, orjson.dumps(sent), 0.0))
    text = "".join(chunk["choices"][0]["text"] for chunk in chunks(stream))
    assert text == provider.expected_body("/v1/completions", sent)["choices"][0]["text"]
