"""Refusals of a key or an account are recognized under any status, with what they hold for and when that ends."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from processor.core.errors import AccessDenied, BadRequest, ModelNotFound, ServerError, StatusError, Throttled
from processor.protocols import error_from_response
from processor.protocols.inband_errors import error_in_value

NOW = 1_796_000_000.0


def mapped(status: int, body: Any, **headers: str) -> StatusError:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return error_from_response(status, names, data, now_wall=NOW)


def error(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


def google(message: str, *details: dict[str, Any], code: int = 429, status: str = "RESOURCE_EXHAUSTED") -> Any:
    return [{"error": {"code": code, "message": message, "status": status, "details": list(details)}}]


def quota_failure(*names: str) -> dict[str, Any]:
    return {"@type": "x/google.rpc.QuotaFailure", "violations": [{"quotaId": name} for name in names]}


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "38.5s"}
API_KEY_INVALID = {"@type": "x/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, error("no")),
        (401, b""),
        (400, google("API key not valid. Please pass a valid API key.", API_KEY_INVALID, code=400)),
        (400, google("API key expired. Please renew the API key.", code=400)),
        (400, google("Missing or invalid Authorization header.", code=400)),
        (403, google("Your API key was reported as leaked.", code=403, status="PERMISSION_DENIED")),
        (403, google("Consumer suspended", {"reason": "CONSUMER_SUSPENDED"}, code=403)),
        (400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***."}),
        (400, error("Invalid API-key provided.", code="InvalidApiKey")),
        (403, error("no", code="invalid_api_key")),
        (403, {"detail": "Invalid API key"}),
        (400, {"message": "No API key provided"}),
    ],
)
def test_wrong_key_stops_the_endpoint_under_any_status(status: int, body: Any) -> None:
    refused = mapped(status, body)
    assert isinstance(refused, AccessDenied)
    assert refused.scope == "endpoint"
    assert refused.status == status


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, error("x", code="insufficient_quota")),
        (403, error("pre-consume failed", type="one_api_error", code="insufficient_user_quota")),
        (403, error("用户额度不足, 剩余额度: 0", type="new_api_error", code="")),
        (403, error("x", code="pre_consume_token_quota_failed")),
        (429, {"type": "error", "error": {"type": "rate_limit_error", "message": "x",
               "details": {"error_code": "contract_spend_limit_reached"}}}),
        (403, {"type": "error", "error": {"type": "permission_error", "message": "x",
               "details": {"error_code": "organization_on_hold"}}}),
        (400, error("Your credit balance is too low to access the Anthropic API.", type="invalid_request_error")),
        (400, error("You have reached your specified API usage limits.", type="invalid_request_error")),
        (402, error("Insufficient Balance", type="unknown_error", code="invalid_request_error")),
        (402, error("Insufficient credits. Add more using the settings.", code=402)),
        (403, error("Key limit exceeded (total limit).", code=403)),
        (402, {"error": "You have exceeded your monthly included credits for Inference Providers."}),
        (402, error("Credit limit exceeded, please add credits.", type="credit_limit")),
        (429, {"code": "Some resource has been exhausted", "error": "Your team has used all available credits."}),
        (429, {"code": "Some resource has been exhausted", "error": "It reached its monthly spending limit."}),
        (403, {"code": "permission", "error": "Your newly created team does not have any credits or licenses yet."}),
        (429, error("Your account org-1 is suspended, please check your plan.", type="exceeded_current_quota_error")),
        (429, error("余额不足或无可用资源包,请充值。", code="1113")),
        (400, error("Access denied, please make sure your account is in good standing.", code="Arrearage")),
        (403, error("overdue", code="AccountOverdueError")),
        (400, error("Budget has been exceeded! Current cost: 1.2, Max budget: 1.0", type="budget_exceeded")),
        (403, {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None}),
        (403, {"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 2.12:30:20."}),
        (500, error("x", code="insufficient_user_quota")),
    ],
)  # fmt: skip
def test_spent_account_stops_the_endpoint(status: int, body: Any) -> None:
    refused = mapped(status, body)
    assert isinstance(refused, AccessDenied)
    assert refused.scope == "endpoint"


GROQ = "Rate limit reached for model `m` in organization `o` on {} per day ({}): Limit 1000, Used 1000, Requested 1."


@pytest.mark.parametrize(
    ("body", "wait_s"),
    [
        (google("You exceeded your current quota.", quota_failure("RequestsPerDayPerProjectPerModel-FreeTier")), None),
        (google("quota", quota_failure("TokensPerMinute", "RequestsPerDay"), RETRY_INFO), 38.5),
        (google("Quota exceeded for metric: requests, limit: 0, model: gemini-pro"), None),
        (error(GROQ.format("requests", "RPD") + " Please try again in 1m26.4s."), 86.4),
        (error(GROQ.format("tokens", "TPD") + " Please try again in 7h12m."), 25920),
        (error("Rate limit reached for gpt-4 on requests per day (RPD): Limit 200. Please try again in 7m12s."), 432),
        (error("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 requests per day.", code=429,
               metadata={"headers": {"X-RateLimit-Limit": "50", "X-RateLimit-Reset": str(int((NOW + 3600) * 1000))}}),
         3600),
        (error("Requests per day limit exceeded - too many requests sent.", code="request_quota_exceeded"), None),
        (error("Tokens per day limit exceeded", type="too_many_tokens_error", code="token_quota_exceeded"), None),
        (error("Rate limit of 150 per 86400s exceeded for UserByModelByDay. Please wait 4000 seconds before retrying."),
         4000),
        ({"message": "You are using a Trial key, which is limited to 1000 API calls / month."}, None),
        (error("you have used up your daily free allocation of 10,000 neurons"), None),
        ({"error_code": 17, "error_msg": "Open api daily request limit reached"}, None),
        (error("Monthly quota exceeded"), None),
    ],
)  # fmt: skip
def test_limit_of_a_day_or_more_stops_the_model_and_says_when_it_ends(body: Any, wait_s: float | None) -> None:
    refused = mapped(429, body)
    assert isinstance(refused, AccessDenied)
    assert refused.scope == "model"
    assert refused.retry_after_s == (wait_s if wait_s is None else pytest.approx(wait_s))


@pytest.mark.parametrize(
    "body",
    [
        error("Rate limit exceeded: free-models-per-min. Add 10 credits to unlock 1000 requests per day."),
        google("You exceeded your current quota.", quota_failure("GenerateRequestsPerMinutePerProject"), RETRY_INFO),
        error("Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000."),
        {"message": "limited to 40 API calls / minute. Upgrade for 1000 calls per day"},
        error("Rate limit of 10 per 60s exceeded for UserByModelByMinute."),
        {"type": "error", "error": {"type": "rate_limit_error", "details": {"error_code": "ramp_limit_exceeded"}}},
        error("Too many requests. Have a nice day!"),
    ],
)
def test_limit_of_a_minute_is_throttling(body: Any) -> None:
    assert type(mapped(429, body)) is Throttled


@pytest.mark.parametrize(
    ("status", "body", "cls"),
    [
        (402, error("This request requires more credits, or fewer max_tokens. You can only afford 12."), AccessDenied),
        (402, b"", AccessDenied),
        (403, error("Input flagged by moderation"), AccessDenied),
        (403, error("Country, region, or territory not supported", code="unsupported_country"), AccessDenied),
        (400, error("The day of the week in your api key schema is invalid"), BadRequest),
        (400, error("Invalid value for 'tools': per day"), BadRequest),
        (500, error("invalid api key"), ServerError),
        (503, error("daily maintenance"), ServerError),
    ],
)
def test_refusal_that_may_concern_one_job_has_no_scope(status: int, body: Any, cls: type[StatusError]) -> None:
    refused = mapped(status, body)
    assert type(refused) is cls
    assert getattr(refused, "scope", None) is None


@pytest.mark.parametrize(
    ("event", "cls", "scope"),
    [
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, AccessDenied, "endpoint"),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, AccessDenied, "endpoint"),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, Throttled, None),
        ({"error": {"code": 401, "message": "User not found."}}, AccessDenied, "endpoint"),
        ({"error": {"code": 402, "message": "Insufficient credits"}}, AccessDenied, "endpoint"),
        ({"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-day"}}, AccessDenied, "model"),
        ({"error": {"type": "authentication_error", "message": "no"}}, AccessDenied, "endpoint"),
        ({"error": {"message": "x", "code": "insufficient_user_quota"}}, AccessDenied, "endpoint"),
        ({"error": {"code": 403, "message": "flagged"}}, AccessDenied, None),
        ({"error": {"code": "invalid_api_key", "message": "no"}}, AccessDenied, "endpoint"),
        ({"error": {"status": "RESOURCE_EXHAUSTED", "message": "slow"}}, Throttled, None),
        ({"error": {"code": "rate_limit", "message": "slow"}}, Throttled, None),
        ({"error": {"code": "model_not_found", "message": "no"}}, ModelNotFound, None),
        ({"error": {"type": "not_found_error", "message": "model: x"}}, ModelNotFound, None),
        ({"error": {"code": "unsupported_value", "message": "no"}}, BadRequest, None),
        ({"detail": [{"loc": ["body", "n"], "msg": "bad"}]}, BadRequest, None),
        ({"error": {"message": "no words of a known kind"}}, ServerError, None),
    ],
)
def test_refusal_inside_a_stream_is_judged_like_its_status(
    event: dict[str, Any], cls: type[StatusError], scope: str | None
) -> None:
    refused = error_in_value(event)
    assert type(refused) is cls
    assert getattr(refused, "scope", None) == scope


@pytest.mark.parametrize(
    ("body", "headers", "wait_s"),
    [
        (google("slow", RETRY_INFO), {}, 38.5),
        (google("slow", {"retryDelay": {"seconds": 12, "nanos": 0}}), {}, 12),
        (error("slow", retry_after=3), {}, 3),
        (error("slow", metadata={"retry_after_seconds": 4.5}), {}, 4.5),
        ({"message": "slow", "retry_after_ms": 1500}, {}, 1.5),
        (error("slow"), {"x_ratelimit_reset": str(int(NOW + 90))}, 90),
        (error("slow"), {"x_ratelimit_reset": str(int((NOW + 90) * 1000))}, 90),
        (error("slow"), {"x_ratelimit_reset": str(int((NOW + 90) * 1e6))}, 90),
        (error("slow"), {"x_ratelimit_reset": "30"}, 30),
        (error("slow"), {"ratelimit_reset": "2m"}, 120),
        (error("slow"), {"x_ratelimit_reset": str(int(NOW - 5))}, 0),
        (error("slow"), {"retry_after": "1m30s"}, 90),
        (error("You will regain access on 2026-12-01 at 00:00 UTC."), {"date": "Mon, 30 Nov 2026 23:00:00 GMT"}, 3600),
        (error("Quota will be replenished in 2.12:30:20."), {}, 217820),
        (error("Quota will be replenished in 00:01:05."), {}, 65),
        (error("try again in 1 day 2 hours"), {}, 93600),
        # no plausible durations: as if they were not given
        (error("slow"), {"retry_after": "1790000000"}, None),
        (error("slow"), {"retry_after": "1790000000000"}, None),
        (error("slow"), {"retry_after": "1790000000000000"}, None),
        (error("slow"), {"retry_after": "1000000000000"}, None),
        (error("slow"), {"retry_after": "1e309"}, None),
        (error("slow"), {"retry_after": "nan"}, None),
        (error("slow"), {"retry_after": "9" * 5000}, None),
        (error("slow"), {"retry_after": "Fri, 31 Dec 9999 23:59:59 GMT"}, None),
        (error("slow"), {"retry_after_ms": "1790000000000", "retry_after": "2"}, 2),
        (error("slow"), {"x_ratelimit_reset": "1e308"}, None),
        (error("slow"), {"x_ratelimit_reset": "9" * 30}, None),
        (error("try again in 999999999h"), {}, None),
        (error("try again in 1000000000000s"), {}, None),
        (error("slow", retry_after=True), {}, None),
        (error("slow", retry_after=[1]), {}, None),
        (error("slow", retry_after=1e300), {}, None),
        (google("slow", {"retryDelay": "1e400s"}), {}, None),
    ],
)
def test_wait_is_read_wherever_it_is_and_ignored_where_it_is_none(
    body: Any, headers: dict[str, str], wait_s: float | None
) -> None:
    read_s = mapped(429, body, **headers).retry_after_s
    assert read_s == (wait_s if wait_s is None else pytest.approx(wait_s))
