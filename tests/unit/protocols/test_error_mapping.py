"""Error responses become the errors that decide what follows."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import (
    AccessDenied,
    BadRequest,
    ModelNotFound,
    Redirected,
    ServerError,
    StatusError,
    Throttled,
    UrlNotFound,
)
from processor.protocols import error_from_response, request_id


def mapped(status: int, body: Any = b"", **headers: str) -> StatusError:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return error_from_response(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, data, now_wall=1000.0
    )


def error(message: str = "no", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, BadRequest) for status in (400, 404, 405, 413, 422, 431)),
        *((status, Redirected) for status in (300, 301, 302, 303, 304, 307, 308)),
        *((status, AccessDenied) for status in (401, 402, 403)),
        *((status, ServerError) for status in (408, 409, 423, 424, 425, 499, 500, 502, 503, 504, 520, 529, 599)),
        (429, Throttled),
    ],
)
def test_the_status_decides_the_class_of_the_error(status: int, expected: type[StatusError]) -> None:
    raised = mapped(status, error())
    assert type(raised) is expected
    assert raised.status == status


NEVER_RETRIED = [
    error(code="insufficient_quota", type="insufficient_quota"),
    error(code="credit_balance_exhausted", type="insufficient_quota"),
    error(code="organization_spend_limit_exceeded"),
    error(code="project_spend_limit_exceeded"),
    error(code="organization_usage_limit_exceeded"),
    error(code=None, type="insufficient_quota"),
    {"type": "error", "error": {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}},
    {"type": "error", "error": {"type": "billing_error", "message": "pay"}},
]


@pytest.mark.parametrize("body", NEVER_RETRIED)
@pytest.mark.parametrize("status", [400, 402, 403, 429, 500, 503])
@pytest.mark.parametrize("should_retry", ["true", "false"])
def test_codes_for_exhausted_quota_or_credit_are_access_denied_with_any_status(
    body: Any, status: int, should_retry: str
) -> None:
    assert type(mapped(status, body, x_should_retry=should_retry)) is AccessDenied


@pytest.mark.parametrize(
    ("status", "should_retry", "expected"),
    [
        (400, "true", ServerError),
        (401, "true", ServerError),
        (429, "true", Throttled),
        (503, "true", ServerError),
        (400, "false", BadRequest),
        (401, "false", AccessDenied),
        (409, "false", BadRequest),
        (429, "false", BadRequest),
        (503, "false", BadRequest),
        (402, "true", AccessDenied),
        (503, "maybe", ServerError),
    ],
)
def test_the_x_should_retry_header_overrides_the_status(status: int, should_retry: str, expected: type) -> None:
    assert type(mapped(status, error(), x_should_retry=should_retry)) is expected


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, error("The model `x` does not exist or you do not have access to it.", code="model_not_found")),
        (400, error("The model `x` is retired", code="model_not_found", type="invalid_request_error")),
        (403, error("Project `p` does not have access to model `x`", code="model_not_found")),
        (404, error("The API deployment for this resource does not exist.", code="DeploymentNotFound")),
        (404, {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-9"}}),
        (404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}),
        (404, error("The model `x` does not exist.", type="NotFoundError", param="model", code=404)),
        (404, error('model "x" not found, try pulling it first', type="api_error", code=None)),
        (404, {"error": "model 'x' not found"}),
        (404, error("models/x is not found for API version v1main", code=404, status="NOT_FOUND")),
        (404, error("No endpoints found for some/model:free.", code=404)),
        (400, error("some/model is not a valid model ID", code=400)),
        (400, error("Model Not Exist", type="invalid_request_error", code="invalid_request_error")),
        (400, error("Invalid model name passed in model=x. Call `/v1/models` to view", code="400")),
        (400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"}),
    ],
)
def test_a_missing_model_is_recognized_in_the_words_of_each_server(status: int, body: Any) -> None:
    assert type(mapped(status, body)) is ModelNotFound


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"detail": "Not Found"}),
        (404, error("Invalid URL (POST /v1/v1/chat/completions)", type="invalid_request_error")),
        (404, error("File Not Found", type="not_found_error", code=404)),
        (404, error("Resource not found", code="404")),
        (404, b"404 page not found"),
        (404, b"<html><head><title>404 Not Found</title></head></html>"),
        (404, b""),
        (405, b"<html><head><title>405 Not Allowed</title></head></html>"),
        (501, b"<html><head><title>Error response</title></head></html>"),
    ],
)
def test_a_missing_url_is_recognized_in_the_words_of_each_server(status: int, body: Any) -> None:
    assert type(mapped(status, body)) is UrlNotFound


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, error("No endpoints found that support tool use.", code=404)),
        (404, error("No endpoints found matching your data policy.", code=404)),
        (404, error("Previous response with id 'resp_1' not found.", code="previous_response_not_found")),
        (400, error("This model does not support image input.", type="invalid_request_error")),
        (400, error("The tool `x` was not found in the model's tools", type="invalid_request_error")),
        (400, error("This model's maximum context length is 8192 tokens", code="context_length_exceeded")),
        (400, b"<html>bad request</html>"),
        (422, {"detail": "Not Found"}),
    ],
)
def test_other_reasons_to_refuse_a_job_are_plain_bad_requests(status: int, body: Any) -> None:
    assert type(mapped(status, body)) is BadRequest


def test_a_429_for_a_request_above_the_limit_of_a_minute_is_a_bad_request() -> None:
    words = "Request too large for gpt-4o on tokens per min (TPM): Limit {}, Requested {}. Visit us."
    assert type(mapped(429, error(words.format("30000", "45000"), code="rate_limit_exceeded"))) is BadRequest
    assert type(mapped(429, error(words.format("30,000", "45,000")))) is BadRequest
    assert type(mapped(429, error(words.format("45000", "30000")))) is Throttled
    full = "Rate limit reached: Limit 10000, Used 8782, Requested 8172. Please try again in 41.724s."
    assert type(mapped(429, error(full))) is Throttled
    assert type(mapped(429, error("Limit ,, Requested ,,"))) is Throttled


@pytest.mark.parametrize(
    ("headers", "message", "wait_s"),
    [
        ({"retry_after_ms": "250", "retry_after": "7"}, "", 0.25),
        ({"retry_after_ms": "soon", "retry_after": "7"}, "try again in 9s", 7.0),
        ({"retry_after": "1.5"}, "", 1.5),
        ({"retry_after": "-3"}, "", 0.0),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT", "date": "Wed, 21 Oct 2015 07:27:30 GMT"}, "", 30.0),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT", "date": "Wed, 21 Oct 2015 09:27:30 +0200"}, "", 30.0),
        ({"retry_after": "Thu, 01 Jan 1970 00:17:40 GMT"}, "", 60.0),
        ({"retry_after": "Thu, 01 Jan 1970 00:00:00 GMT"}, "", 0.0),
        ({"retry_after": "next Tuesday"}, "try again in 2s", 2.0),
        ({"retry_after": "nan"}, "", None),
        ({"retry_after": "inf"}, "", None),
        ({"retry_after": "Wed, 99 Oct 99999 99:99:99 GMT"}, "", None),
        ({}, "Please try again in 41.724s.", 41.724),
        ({}, "Please try again in 6m0s.", 360.0),
        ({}, "Please try again in 20ms.", 0.02),
        ({}, "please TRY AGAIN IN 1h2m3s", 3723.0),
        ({}, "Please retry after 26 seconds.", 26.0),
        ({}, "Please retry after 1 minute 30 seconds", 90.0),
        ({}, "Please try again in a while", None),
        ({}, "", None),
    ],
)
def test_the_wait_is_read_from_the_most_exact_source(
    headers: dict[str, str], message: str, wait_s: float | None
) -> None:
    retry_after_s = mapped(429, error(message), **headers).retry_after_s
    assert retry_after_s == (wait_s if wait_s is None else pytest.approx(wait_s))


PAGE = b"<!DOCTYPE html><html><head><title>502 Bad\n  Gateway</title></head><body>nginx</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "message", "error_code"),
    [
        (400, error("bad model", type="invalid_request_error", code="model_not_found"), "bad model", "model_not_found"),
        (400, error("bad", type="invalid_request_error", code=None), "bad", "invalid_request_error"),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, "busy", "overloaded_error"),
        (503, error("Loading model", type="unavailable_error", code=503), "Loading model", "unavailable_error"),
        (429, error("slow", type=None, param=None, code="429"), "slow", "429"),
        (404, {"error": "model 'x' not found"}, "model 'x' not found", None),
        (404, {"detail": "Not Found"}, "Not Found", None),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "too big"}, {"msg": "x"}, 1]}, "body.n: too big; x; 1", None),
        (
            400,
            {"object": "error", "message": "too long", "type": "BadRequestError", "code": 400},
            "too long",
            "BadRequestError",
        ),
        (400, [{"error": {"code": 400, "message": "API key not valid", "status": "X"}}], "API key not valid", "X"),
        (502, PAGE, "HTTP 502 Bad Gateway: 502 Bad Gateway", None),
        (502, b"<html><script>var x</script><p>Sorry &amp; bye", "HTTP 502 Bad Gateway: Sorry & bye", None),
        (503, b"upstream connect error\r\n", "HTTP 503 Service Unavailable: upstream connect error", None),
        (503, b"", "HTTP 503 Service Unavailable", None),
        (529, b"null", "HTTP 529", None),
        (500, b'"just text"', "HTTP 500 Internal Server Error: just text", None),
        (500, {"error": {}}, "HTTP 500 Internal Server Error", None),
        (500, {"error": {"message": 7, "code": 1.5}}, "HTTP 500 Internal Server Error", None),
        (400, error("two\nlines\x1b[31m\x00  here"), "two lines�[31m� here", None),
    ],
)
def test_the_message_of_the_error_is_that_of_the_server_on_one_line(
    status: int, body: Any, message: str, error_code: str | None
) -> None:
    raised = mapped(status, body)
    assert str(raised) == message
    assert raised.error_code == error_code
    assert raised.body == (body[0] if isinstance(body, list) else body if isinstance(body, dict) else None)


def test_a_long_message_is_cut_to_500_characters() -> None:
    assert len(str(mapped(400, error("word " * 1000)))) == 500


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://user:pass@other.host/v1?key=not-a-key#x", "https://other.host/v1"),
        ("/login?next=%2F", "/login"),
        ("//host/path", "//host/path"),
        ("", "nowhere"),
    ],
)
def test_a_redirect_names_its_location_without_user_query_and_fragment(location: str, shown: str) -> None:
    raised = mapped(302, b"<html>moved</html>", location=location)
    assert str(raised) == f"HTTP 302: redirected to {shown}; set --base-url to the address of the API itself"


def test_the_request_id_is_read_from_any_of_its_headers_or_the_body() -> None:
    assert request_id({"x-request-id": "a", "request-id": "b"}) == "a"
    assert request_id({"request-id": "b"}) == "b"
    assert request_id({"x-request-id": "", "apim-request-id": "c"}) == "c"
    assert request_id({}) is None
    assert mapped(400, {"error": {}, "request_id": "d"}).request_id == "d"
    assert mapped(400, {"error": {}, "request_id": 1}).request_id is None
    assert mapped(400, {"error": {}, "request_id": "d"}, x_request_id="a").request_id == "a"


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "type", "detail", "details", "loc", "msg", "error_code"]),
            inner,
        )
    ),
    max_leaves=10,
)


@given(
    st.integers(300, 599),
    st.binary(max_size=60) | JSONISH.map(orjson.dumps) | st.text("<>/titlescrp!-& ", max_size=60).map(str.encode),
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "date", "location", "x-should-retry"]), st.text()
    ),
)
def test_any_response_becomes_a_status_error_with_a_printable_message(
    status: int, body: bytes, headers: dict[str, str]
) -> None:
    raised = error_from_response(status, headers, body)
    assert isinstance(raised, StatusError)
    assert str(raised).isprintable()
    assert raised.retry_after_s is None or raised.retry_after_s >= 0


def test_a_hostile_body_is_parsed_quickly() -> None:
    assert error_from_response(502, {}, b"<script " * 8192)
    assert error_from_response(502, {}, b"<" * 65536)
    assert error_from_response(429, {}, orjson.dumps(error("limit 1 " * 8192)))
    assert error_from_response(429, {}, orjson.dumps(error("try again in " + "1s " * 20000)))
