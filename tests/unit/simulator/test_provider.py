from __future__ import annotations

from math import inf
from typing import Any

import orjson
import pytest

from processor.core.models import JSON
from processor.simulator.faults import Faults
from processor.simulator.provider import SimulatedProvider
from processor.simulator.request_parser import identity
from processor.simulator.response_script import ScriptedResponse
from processor.simulator.settings import Outage, SimulatorSettings

CHAT = "/v1/chat/completions"


def body(text: str = "Hello", **more: Any) -> JSON:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def ask(
    provider: SimulatedProvider, text: str = "Hello", at: float = 0.0, key: str | None = None, **more: Any
) -> ScriptedResponse:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return provider.handle("POST", CHAT, headers, orjson.dumps(body(text, **more)), at)


def data(answer: ScriptedResponse) -> bytes:
    return b"".join(step.data for step in answer.steps)


def error(answer: ScriptedResponse) -> JSON:
    found = orjson.loads(data(answer))["error"]
    assert isinstance(found, dict)
    return found


def test_reply_streams_at_the_set_speed_after_the_first_token() -> None:
    provider = SimulatedProvider(SimulatorSettings(speed_tps=50, first_token_s=0.4, first_token_jitter=0.0))
    answer = ask(provider, stream=True, max_tokens=11)
    assert answer.start_delay_s == 0.4
    # The role and the first token at once; ten more tokens, and the finish reason.
    assert [step.delay_s for step in answer.steps] == [0.0] + [0.02] * 11
    assert data(answer).endswith(b"data: [DONE]\n\n")


def test_first_token_time_varies_by_the_jitter() -> None:
    provider = SimulatedProvider(SimulatorSettings(first_token_s=10, first_token_jitter=0.5))
    starts = [ask(provider, str(number), stream=True).start_delay_s for number in range(200)]
    assert 5 <= min(starts) < 6
    assert 14 < max(starts) <= 15


def test_non_streamed_reply_is_sent_after_its_generation_time() -> None:
    provider = SimulatedProvider(SimulatorSettings(speed_tps=50, first_token_s=0.4, first_token_jitter=0.0))
    answer = ask(provider, max_tokens=10)
    assert orjson.loads(data(answer)) == provider.expected_body(CHAT, body(max_tokens=10))
    assert answer.start_delay_s == pytest.approx(0.6)
    assert answer.headers["content-type"] == "application/json"


def test_headers_of_a_non_streamed_reply_may_come_with_its_first_token() -> None:
    settings = SimulatorSettings(speed_tps=50, first_token_s=0.4, first_token_jitter=0.0, headers_with_first_token=True)
    answer = ask(SimulatedProvider(settings), max_tokens=10)
    assert answer.start_delay_s == pytest.approx(0.4)
    assert [step.delay_s for step in answer.steps] == [pytest.approx(0.2)]


def test_writes_within_write_batch_s_are_merged() -> None:
    gathered = ask(SimulatedProvider(SimulatorSettings(speed_tps=100, write_batch_s=0.25)), stream=True, max_tokens=101)
    # The first at once, then what is due within a quarter of a second with the last of it.
    assert [round(step.delay_s, 6) for step in gathered.steps] == [0.0, 0.25, 0.25, 0.25, 0.25, 0.01]
    at_once = ask(SimulatedProvider(SimulatorSettings(speed_tps=inf)), stream=True)
    assert len(at_once.steps) == 1


def test_choices_stream_at_the_same_time() -> None:
    answer = ask(SimulatedProvider(SimulatorSettings(speed_tps=10)), stream=True, n=3, max_tokens=5)
    assert sum(step.delay_s for step in answer.steps) == pytest.approx(0.5)


def test_usage_is_on_the_last_chunk_if_requested() -> None:
    def chunks(**more: Any) -> list[JSON]:
        payloads = data(ask(SimulatedProvider(), stream=True, **more)).split(b"\n\n")[:-2]
        return [orjson.loads(payload.removeprefix(b"data: ")) for payload in payloads]

    asked = chunks(stream_options={"include_usage": True})
    assert (asked[-1]["choices"], asked[0]["usage"]) == ([], None)
    assert asked[-1]["usage"] == SimulatedProvider().expected_body(CHAT, body())["usage"]
    assert all("usage" not in chunk for chunk in chunks())


def test_replies_and_429s_carry_rate_limit_headers() -> None:
    provider = SimulatedProvider(SimulatorSettings(rpm=2, tpm=1000))
    assert ask(provider).headers["x-ratelimit-remaining-requests"] == "1"
    assert ask(provider).headers["x-ratelimit-remaining-requests"] == "0"
    refused = ask(provider, at=1.0)
    assert (refused.status, refused.headers["x-ratelimit-remaining-requests"]) == (429, "0")
    assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("59", "59000")
    assert error(refused) == {
        "message": "Rate limit reached for m in organization org-simulated on requests per min (RPM): "
        "Limit 2, Used 2, Requested 1. Please try again in 59s.",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }


def test_429_message_states_used_requested_and_wait() -> None:
    provider = SimulatedProvider(SimulatorSettings(tpm=10_000, kind="minute", count_throttled=False))
    assert ask(provider, max_tokens=8782).status == 200
    message = error(ask(provider, max_tokens=8172))["message"]
    assert message.endswith("Limit 10000, Used 8782, Requested 8172. Please try again in 41.724s.")


def test_request_above_the_limit_is_too_large_and_has_no_wait() -> None:
    refused = ask(SimulatedProvider(SimulatorSettings(tpm=1000)), max_tokens=1001)
    assert "Request too large for m" in error(refused)["message"]
    assert "Limit 1000, Requested 1001" in error(refused)["message"]
    assert "retry-after" not in refused.headers


def test_silent_provider_sends_429_without_rate_limit_headers() -> None:
    provider = SimulatedProvider(SimulatorSettings(rpm=1, kind="silent"))
    assert list(ask(provider).headers) == ["x-request-id", "content-type"]
    assert list(ask(provider).headers) == ["content-type"]


@pytest.mark.parametrize(
    ("charging", "more", "charged"),
    [
        ("larger", {}, 5),
        ("larger", {"max_tokens": 3}, 5),
        ("larger", {"max_tokens": 30}, 30),
        ("larger", {"max_tokens": 30, "n": 2}, 60),
        ("sum", {}, 5),
        ("sum", {"max_tokens": 30}, 35),
        ("sum", {"max_tokens": 30, "n": 2}, 70),
    ],
)
def test_token_cost_follows_the_charging_rule(charging: Any, more: JSON, charged: int) -> None:
    provider = SimulatedProvider(SimulatorSettings(tpm=1000, charging=charging))
    ask(provider, "x" * 20, **more)
    assert list(provider.rate_limiter.log.tokens) == [charged]


def test_auth_requires_or_refuses_a_key() -> None:
    required, refused = (SimulatedProvider(SimulatorSettings(auth=auth)) for auth in ("required", "refused"))
    assert ask(required).status == 401
    assert ask(required, key="not-a-key").status == 200
    answer = ask(refused, key="not-a-key")
    assert (answer.status, error(answer)["code"]) == (401, "invalid_api_key")
    assert b"not-a-key" not in data(answer)


def test_unknown_model_gets_404() -> None:
    answer = ask(SimulatedProvider(SimulatorSettings(models=("other",))))
    assert (answer.status, error(answer)["code"]) == (404, "model_not_found")


def test_models_path_lists_the_models() -> None:
    answer = SimulatedProvider(SimulatorSettings(models=("a", "b"))).handle("GET", "/v1/models", {}, b"", 0.0)
    assert [model["id"] for model in orjson.loads(data(answer))["data"]] == ["a", "b"]
    assert SimulatedProvider().handle("POST", "/v1/models", {}, b"", 0.0).status == 405


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("POST", "/v1/nothing", b"{}", 404),
        ("GET", CHAT, b"", 405),
        ("POST", CHAT, b"{", 400),
        ("POST", CHAT, b"[]", 400),
        ("POST", CHAT, b"{}", 400),
    ],
)
def test_invalid_http_request_gets_an_error_status(method: str, path: str, sent: bytes, status: int) -> None:
    answer = SimulatedProvider().handle(method, path, {}, sent, 0.0)
    assert answer.status == status
    assert error(answer)["type"] == "invalid_request_error"


def test_unsupported_stream_options_get_400() -> None:
    provider = SimulatedProvider(SimulatorSettings(supports_stream_options=False))
    assert ask(provider, stream=True, stream_options={"include_usage": True}).status == 400
    assert ask(provider, stream=True).status == 200


def test_quota_is_exceeded_after_the_set_number_of_admitted_requests() -> None:
    provider = SimulatedProvider(SimulatorSettings(quota=2, rpm=10))
    assert [ask(provider).status for _ in range(3)] == [200, 200, 429]
    assert error(ask(provider))["code"] == "insufficient_quota"
    assert provider.rate_limiter.log.admitted == 2


@pytest.mark.parametrize(("how", "status"), [("refuse", None), ("500", 500), ("503", 503), ("429", 429)])
def test_outage_fails_every_request_in_its_time_span(how: Any, status: int | None) -> None:
    provider = SimulatedProvider(SimulatorSettings(outages=(Outage(from_s=10, to_s=20, kind=how),)))
    assert [ask(provider, at=at).status for at in (9.9, 10, 19.9, 20)] == [200, status, status, 200]
    assert [provider.is_reachable(at) for at in (9.9, 10, 20)] == [True, how != "refuse", True]


def test_burst_429_throttles_all_requests_for_half_a_second() -> None:
    provider = SimulatedProvider(SimulatorSettings(faults=Faults({"burst_429": 1.0})))
    refused = ask(provider, at=5.0)
    assert (refused.status, refused.headers["retry-after-ms"]) == (429, "500")
    assert ask(provider, "other", at=5.25).headers["retry-after-ms"] == "250"
    assert provider.billing.faults["burst_429"] == 1
    ask(provider, "other", at=5.6)
    assert provider.billing.faults["burst_429"] == 2


def test_server_errors_have_several_statuses_and_bodies() -> None:
    provider = SimulatedProvider(SimulatorSettings(faults=Faults({"error_500": 1.0})))
    answers = [ask(provider, str(number)) for number in range(40)]
    assert {answer.status for answer in answers} == {500, 502, 503}
    assert {data(answer)[:1] for answer in answers} == {b"{", b"<"}
    assert provider.billing.billed == 0


def test_billing_log_counts_by_identity() -> None:
    provider = SimulatedProvider(SimulatorSettings(track_identities=True, faults=Faults({"cut": 1.0})))
    whole = SimulatedProvider(SimulatorSettings(track_identities=True))
    for _ in range(2):
        cut = ask(provider)
        provider.record_delivered(cut)
        whole.record_delivered(ask(whole))
    this = identity(CHAT, body())
    assert (
        provider.billing.requests_by_identity[this],
        provider.billing.billed_by_identity[this],
        provider.billing.completed,
    ) == (2, 2, 0)
    assert (whole.billing.completed_by_identity[this], whole.billing.completed, whole.billing.statuses) == (
        2,
        2,
        {200: 2},
    )
    assert whole.billing.completion_tokens == 2 * whole.expected_body(CHAT, body())["usage"]["completion_tokens"]


def test_billing_log_keeps_only_totals_without_track_identities() -> None:
    provider = SimulatedProvider()
    provider.record_delivered(ask(provider))
    assert (provider.billing.requests, provider.billing.completed, len(provider.billing.requests_by_identity)) == (
        1,
        1,
        0,
    )


def test_request_reset_before_the_response_is_billed() -> None:
    provider = SimulatedProvider(SimulatorSettings(faults=Faults({"reset_before": 1.0})))
    answer = ask(provider)
    assert (answer.status, answer.ending, answer.steps) == (None, "reset", ())
    assert answer.start_delay_s > 0
    assert provider.billing.billed == 1


def test_on_request_is_called_once_for_every_request() -> None:
    entries: list[JSON] = []
    provider = SimulatedProvider(SimulatorSettings(rpm=1), on_request=entries.append)
    ask(provider, max_tokens=5)
    ask(provider, at=1.5)
    provider.handle("GET", "/v1/models", {}, b"", 2.0)
    assert [entry["status"] for entry in entries] == [200, 429, 200]
    assert entries[0] == {
        "at": 0.0,
        "method": "POST",
        "path": CHAT,
        "status": 200,
        "ending": "clean",
        "model": "m",
        "identity": identity(CHAT, body(max_tokens=5)).hex(),
        "charged_tokens": 5,
    }


def test_retried_request_draws_other_faults() -> None:
    provider = SimulatedProvider(SimulatorSettings(seed=5, faults=Faults.parse("all=0.1,burst_429=0")))
    outcomes = {(answer.status, answer.ending) for answer in (ask(provider, stream=True) for _ in range(30))}
    assert len(outcomes) > 3


def test_faults_do_not_depend_on_the_order_of_requests() -> None:
    def outcomes(order: list[int]) -> dict[int, list[tuple[int | None, str, bytes]]]:
        provider = SimulatedProvider(SimulatorSettings(seed=5, faults=Faults.parse("all=0.1,burst_429=0")))
        found: dict[int, list[tuple[int | None, str, bytes]]] = {}
        for number in order:
            answer = ask(provider, str(number), stream=True)
            found.setdefault(number, []).append((answer.status, answer.ending, data(answer)))
        return found

    assert outcomes([*range(30), *range(30)]) == outcomes([number // 2 for number in reversed(range(60))])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rpm": 0}, "a limit must be at least 1 per minute"),
        ({"tpm": -1}, "a limit must be at least 1 per minute"),
        ({"speed_tps": 0}, "the speed must be more than 0"),
        ({"first_token_s": -1}, "first_token_s must be >= 0"),
        ({"first_token_jitter": 1.1}, "jitter 0 to 1"),
        ({"reply_tokens": (0, 5)}, "reply_tokens must be at least 1"),
        ({"reply_tokens": (6, 5)}, "the shortest first"),
    ],
)
def test_settings_out_of_range_raise_value_error(wrong: JSON, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimulatorSettings(**wrong)


def test_number_of_choices_is_bounded() -> None:
    provider = SimulatedProvider(SimulatorSettings())
    request = orjson.dumps({"model": "m", "prompt": ["x"] * 100, "n": 100})
    answer = provider.handle("POST", "/v1/completions", {}, request, 0.0)
    assert (answer.status, error(answer)["message"]) == (400, "At most 2048 choices can be requested, not 10000.")


@pytest.mark.parametrize(
    "more", [{}, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}]
)
def test_reply_lengths_that_are_given_are_those_of_all_replies(more: dict[str, Any]) -> None:
    for length in (1, 10, 100):
        provider = SimulatedProvider(SimulatorSettings(reply_lengths=(length,)))
        lengths = {
            orjson.loads(data(ask(provider, str(number), **more)))["usage"]["completion_tokens"]
            for number in range(300)
        }
        assert lengths == {length}
