"""Lines whose JSON orjson changes or refuses: large integers, NaN, halves of pairs, deep nesting, invalid UTF-8."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import InvalidJob
from processor.core.json_bytes import MAX_DEPTH, dumps, has_large_float, is_nested_deeper, may_have_long_integer
from processor.core.models import Job, Reply, Result
from processor.input.job_formats import JobDefaults, ParsedJob, job_identity, parse_job
from processor.output.row_json import encode_row
from processor.protocols import RequestOptions, protocol_for

UUID_INTEGER = 340282366920938463463374607431768211455
REPLACED = "\N{REPLACEMENT CHARACTER}"


def parsed(line: str | bytes) -> ParsedJob:
    return parse_job(line.encode() if isinstance(line, str) else line, 1, JobDefaults(model="m"))


def identity(line: bytes) -> tuple[str | None, bytes]:
    custom_id, fingerprint, _ = job_identity(line, JobDefaults(model="m"))
    return custom_id, fingerprint


def job(line: str | bytes) -> Job:
    found = parsed(line)
    return found.with_id(found.custom_id or found.fingerprint)


def sent(line: str | bytes) -> bytes:
    found = job(line)
    return protocol_for(found.path).encode(found, RequestOptions())


def row_of(line: str | bytes) -> bytes:
    found = job(line)
    result = Result(
        fingerprint=found.fingerprint,
        custom_id=found.custom_id,
        line=1,
        reply=Reply(status_code=200, request_id=None, body={}),
        altered=found.altered,
        metadata=found.metadata,
        has_metadata=found.has_metadata,
    )
    return encode_row(result)


def error_of(line: str | bytes) -> tuple[str, str]:
    with pytest.raises(InvalidJob) as caught:
        parsed(line)
    return caught.value.code, str(caught.value)


def nested(depth: int, innermost: str = "") -> str:
    return "[" * depth + innermost + "]" * depth


# ---------------------------------------------------------------- fingerprints


GOLDEN = {
    r'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":'
    r'[{"role":"user","content":"Hi"}],"temperature":0.2}}': "8fcbdeaa2918ae1064443ce6e51d80b5",
    r'{"model":"m","messages":[{"role":"user","content":"Hi"}],"seed":18446744073709551615,'
    r'"low":-9223372036854775808}': "6fc6f57002270e713f3674741b4dc3c9",
    r'{"id":"b","model":"m","prompt":"Hi","temperature":-0.0,"top_p":1.0,"n":1}': "2925bc3bbc92d23be39793776cd88f58",
    r'{"id":"c","model":"m","prompt":"Hi","x":1e22,"y":1E2,'
    r'"z":0.30000000000000004}': "24675b2ed69230a3176c7bb6fd623d15",
    r'{"model":"m","prompt":"e+5 1e+22 C++","tiny":1e-7,"least":5e-324,'
    r'"most":1.7976931348623157e308}': "095355b4dcc20cc051dcad9a1c6dc773",
    r'{"model":"m","prompt":"Hi",'
    r'"metadata":{"row":7,"f":1e16,"s":"é\u2028\u0085"}}': "01733a956cc3fdaaf545156a3071c348",
    r'{"model":"m","prompt":"\u0000\u001f\u007f\"\\\/\ud83d\ude00","stream":false}': "bd32c1e7f0b0f9ca774ff2c9337b212c",
    r'{"url":"/v1/completions","model":"m","prompt":["a","b"],"stream":true,'
    r'"stream_options":{"include_usage":true}}': "a1627335c09da780f469670ce2e1c2f5",
    r'{"model":"a","model":"b","prompt":"x","prompt":"y"}': "e26c2996d9532ac2bc0e40fbdaf07b12",
    r'{"model":"m","prompt":"x","digits":"12345678901234567890123",'
    r'"f":0.1234567890123456789}': "1924dd1e0302702f035a6d7d08f2ecef",
}
"""Fingerprints as version 0.1.0 wrote them: they stand in results files."""


@pytest.mark.parametrize("line", GOLDEN)
def test_fingerprint_is_the_one_that_stands_in_older_results(line: str) -> None:
    assert parsed(line).fingerprint == GOLDEN[line]


NUMBERS = [
    *("0", "1", "1.0", "-1", "0.1", "0.30000000000000004", "-0.0", "0.0", "1e22", "1e16"),
    *("18446744073709551615", "18446744073709551616", "-9223372036854775808", "-9223372036854775809"),
    *("12345678901234567890123", "12345678901234567890124", "-12345678901234567890123", "12345678901234567890123.0"),
    *("10000000000000000000000", "10000000000000000", str(UUID_INTEGER), str(UUID_INTEGER - 1), "1" + "0" * 400),
]


def test_different_numbers_give_different_fingerprints() -> None:
    in_body = {parsed(f'{{"prompt":"Hi","seed":{number}}}').fingerprint for number in NUMBERS}
    in_metadata = {parsed(f'{{"prompt":"Hi","metadata":[{number}]}}').fingerprint for number in NUMBERS}
    assert len(in_body) == len(in_metadata) == len(NUMBERS)


@pytest.mark.parametrize(("one", "other"), [("1e2", "100.0"), ("-0", "0"), ("1E+2", "1e2"), ("1.50", "1.5")])
def test_spellings_of_a_number_give_one_fingerprint(one: str, other: str) -> None:
    lines = [f'{{"prompt":"Hi","seed":{number}}}' for number in (one, other)]
    assert parsed(lines[0]).fingerprint == parsed(lines[1]).fingerprint


def test_fingerprint_with_large_integers_ignores_the_order_of_keys() -> None:
    one = f'{{"prompt":"Hi","a":{{"x":{UUID_INTEGER},"b":1}},"stream":true}}'
    other = f'{{"a":{{"b":1,"x":{UUID_INTEGER}}},"prompt":"Hi"}}'
    assert parsed(one).fingerprint == parsed(other).fingerprint


# ---------------------------------------------------------------- numbers on the wire and in rows


INTEGERS = [number for number in NUMBERS if number.lstrip("-").isdigit()]


@pytest.mark.parametrize("number", INTEGERS)
def test_integer_is_sent_and_written_as_it_stands(number: str) -> None:
    line = f'{{"id":"a","prompt":"Hi","seed":{number},"metadata":{{"row":{number},"rows":[{number}]}}}}'
    assert f'"seed":{number},'.encode() in sent(line)
    assert f'"metadata":{{"row":{number},"rows":[{number}]}}'.encode() in row_of(line)
    assert b'"altered"' not in row_of(line)


@pytest.mark.parametrize("name", ["custom_id", "id"])
@pytest.mark.parametrize(
    ("value", "custom_id"),
    [
        (str(UUID_INTEGER), str(UUID_INTEGER)),
        ("-18446744073709551617", "-18446744073709551617"),
        ("1e22", "1" + "0" * 22),
    ],
)
def test_large_integer_as_id_is_its_decimal_string(name: str, value: str, custom_id: str) -> None:
    line = f'{{"{name}":{value},"prompt":"x"}}'
    assert parsed(line).custom_id == custom_id
    assert identity(line.encode())[0] == custom_id


@pytest.mark.parametrize(
    "metadata", [str(UUID_INTEGER), f'["e+5 C++",{UUID_INTEGER}]', f'{{"a":{{"b":{UUID_INTEGER}}}}}']
)
def test_large_integer_in_metadata_of_any_type_is_kept(metadata: str) -> None:
    assert f'"metadata":{metadata}}}\n'.encode() in row_of(f'{{"id":"a","prompt":"Hi","metadata":{metadata}}}')


def test_keys_keep_their_order_beside_a_large_integer() -> None:
    line = f'{{"id":"a","zeta":{UUID_INTEGER},"alpha":1,"prompt":"Hi","metadata":{{"z":{UUID_INTEGER},"b":1,"a":2}}}}'
    body = list(json.loads(sent(line)))
    assert body.index("zeta") < body.index("alpha")
    assert list(json.loads(row_of(line))["metadata"]) == ["z", "b", "a"]


def test_text_beside_a_large_integer_is_sent_unescaped() -> None:
    assert "é ☃".encode() in sent(f'{{"prompt":"é ☃","seed":{UUID_INTEGER}}}')


def test_number_with_more_digits_than_python_converts_is_invalid() -> None:
    assert error_of('{"id":"a","prompt":"x","seed":1' + "0" * 5000 + "}") == (
        "invalid_json",
        "broken JSON: a number has more than 4300 digits",
    )


# ---------------------------------------------------------------- NaN and infinities


NON_FINITE = ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"]


@pytest.mark.parametrize("number", NON_FINITE)
@pytest.mark.parametrize(
    ("metadata", "expected"), [("%s", None), ('{"a":[1.5,%s]}', {"a": [1.5, None]}), ('[["NaN"],%s]', [["NaN"], None])]
)
def test_nan_in_metadata_is_null_and_the_row_says_so(number: str, metadata: str, expected: Any) -> None:
    row = json.loads(row_of(f'{{"id":"a","prompt":"Hi","metadata":{metadata % number}}}'))
    assert (row["metadata"], row["altered"]) == (expected, ["nan"])


@pytest.mark.parametrize("number", NON_FINITE)
@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('{"prompt":"Hi","temperature":%s}', "temperature"),
        ('{"messages":[{"role":"user","content":"Hi"},{"weight":%s}]}', "messages[1].weight"),
        ('{"custom_id":"a","body":{"prompt":"x","a":{"b":[0,[%s]]}}}', "body.a.b[0]".replace("[0]", "[1][0]")),
        ('{"custom_id":"a","body":{"messages":[],"metadata":{"k":%s}}}', "body.metadata.k"),
        ('{"custom_id":"a","body":%s}', "body"),
    ],
)
def test_nan_in_a_request_is_an_error_that_names_the_field(number: str, line: str, field: str) -> None:
    code, message = error_of(line % number)
    assert code == "invalid_json"
    assert message.startswith(f"{field} is NaN or infinite, or too large for a number")


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e400"])
def test_text_that_reads_like_nan_is_text(text: str) -> None:
    found = parsed(f'{{"prompt":"{text}","metadata":"{text}"}}')
    assert (found.metadata, found.altered) == (text, ())


def test_nan_beside_a_body_is_not_part_of_the_request() -> None:
    assert parsed('{"custom_id":"a","body":{"messages":[{"role":"user","content":"x"}]},"score":NaN}').altered == ()


# ---------------------------------------------------------------- halves of surrogate pairs


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (r"cut \ud83d", f"cut {REPLACED}"),
        (r"\ude00 late", f"{REPLACED} late"),
        (r"\ud83d and \ude00", f"{REPLACED} and {REPLACED}"),
        (r"\ude00\ud83d", REPLACED * 2),
        (r"\uD83D\uD83D\uDE00", f"{REPLACED}\N{GRINNING FACE}"),
    ],
)
def test_half_of_a_pair_is_replaced_in_request_and_metadata(escaped: str, text: str) -> None:
    line = f'{{"id":"a","prompt":"{escaped}","metadata":{{"{escaped}":["{escaped}"]}}}}'
    assert json.loads(sent(line))["messages"][0]["content"] == text
    row = json.loads(row_of(line))
    assert (row["metadata"], row["altered"]) == ({text: [text]}, ["surrogate"])


def test_whole_pair_or_escaped_backslash_is_not_altered() -> None:
    assert parsed(r'{"prompt":"\ud83d\ude00 \\ud83d"}').altered == ()


def test_what_was_altered_is_named_once_and_in_order() -> None:
    line = r'{"id":"a\ud83d","prompt":"x\ude00","metadata":[NaN,"\ud800",NaN]}'
    found = parsed(line)
    assert found.altered == ("nan", "surrogate")
    assert found.custom_id == f"a{REPLACED}"
    assert identity(line.encode()) == (found.custom_id, bytes.fromhex(found.fingerprint))


# ---------------------------------------------------------------- nesting


@pytest.mark.parametrize(
    "line",
    ['{"prompt":"x","more":%s}', '{"id":"a","prompt":"x","metadata":%s}', '{"prompt":"x","metadata":%s}'],
)
def test_line_nested_deeper_than_the_limit_is_invalid(line: str) -> None:
    for depth in (MAX_DEPTH, 2 * MAX_DEPTH, 1020, 5000, 200_000):
        assert error_of(line % nested(depth)) == ("invalid_job", "is nested deeper than 300 levels")


@pytest.mark.parametrize("depth", [200, 253, 254, 255, MAX_DEPTH - 1])
def test_line_nested_up_to_the_limit_is_sent_and_written(depth: int) -> None:
    deep = nested(depth, f"{UUID_INTEGER}")
    line = f'{{"id":"a","prompt":"x","more":{deep},"metadata":{deep}}}'
    assert deep.encode() in sent(line)
    assert deep.encode() in row_of(line)


def test_nesting_is_measured_in_objects_and_arrays() -> None:
    assert not is_nested_deeper({"a": ["b", {"c": 1}]}, 3)
    assert is_nested_deeper({"a": ["b", {"c": 1}]}, 2)
    assert not is_nested_deeper("text", 0)


# ---------------------------------------------------------------- other oddities of lines


def test_byte_order_mark_before_any_line_is_skipped() -> None:
    line = '{"id":"a","prompt":"x"}'
    assert parsed(b"\xef\xbb\xbf" + line.encode()) == replace(parsed(line), raw=b"\xef\xbb\xbf" + line.encode())


def test_last_of_equal_keys_counts_at_the_place_of_the_first() -> None:
    line = '{"id":"a","custom_id":"x","custom_id":"b","model":"m","prompt":"x","model":"n","metadata":1,"metadata":2}'
    found = job(line)
    assert (found.custom_id, found.model, found.metadata) == ("b", "n", 2)
    assert sent(line).count(b'"model"') == 1


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt":"x",}',
        '{"prompt":"x"',
        '{"prompt":"x"}}',
        "{'prompt':'x'}",
        '{"prompt":"raw\ttab"}',
        '{"prompt":"raw\0nul"}',
        '{"prompt":"x","n":01}',
        '{"prompt":"x","n":+1}',
        '{"prompt":"x","n":.5}',
        '{"prompt":"x","n":0x1}',
        '{"prompt":"x","n":nan}',
        '{"prompt":"x","n":None}',
        '{"prompt":"x"} // why',
        '{"prompt":"\\x41"}',
        '{"prompt":"\\ud83d","n":}',
    ],
)
def test_broken_json_is_named_with_its_column(line: str) -> None:
    code, message = error_of(line)
    assert code == "invalid_json"
    assert message.startswith("broken JSON: ")
    assert " at column " in message
    assert " at at " not in message


# ---------------------------------------------------------------- properties


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(2**64 - 2, 2**64 + 2)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("e+\u2028\u2029\u0085é…è"), max_size=12)
)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(more=ANY_JSON, metadata=ANY_JSON, has_id=st.booleans(), ensure_ascii=st.booleans())
def test_job_line_survives_to_the_wire_and_to_the_row(
    more: Any, metadata: Any, has_id: bool, ensure_ascii: bool
) -> None:
    entry = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "more": more, "metadata": metadata}
    line = json.dumps(entry | ({"id": "a"} if has_id else {}), ensure_ascii=ensure_ascii).encode()
    found = job(line)
    body = json.loads(protocol_for(found.path).encode(found, RequestOptions()))
    assert same(body["more"], more)
    assert list(body)[:3] == ["model", "messages", "more"]
    raw = row_of(line)
    assert same(json.loads(raw)["metadata"], metadata)
    assert raw.decode().splitlines() == [raw.decode().removesuffix("\n")]
    assert identity(line) == (parsed(line).custom_id, bytes.fromhex(found.fingerprint))


def same(one: Any, other: Any) -> bool:
    """Whether both are the same JSON: types, digits and the order of keys included."""
    return json.dumps(one) == json.dumps(other)


@given(ANY_JSON)
def test_written_json_is_that_of_orjson_where_orjson_can_write_it(value: Any) -> None:
    try:
        expected = orjson.dumps(value)
    except TypeError:
        expected = b""
    written = dumps(value)
    assert same(json.loads(written), value)
    assert written == expected or not expected


@given(st.integers(2**64, 2**300), st.booleans(), st.text("e+ ab1", max_size=6))
def test_large_integer_is_noticed_when_read_and_when_written(value: int, is_negative: bool, text: str) -> None:
    data = json.dumps([text, -value if is_negative else value]).encode()
    assert may_have_long_integer(data)
    assert has_large_float(orjson.dumps(orjson.loads(data)))


@pytest.mark.parametrize(
    "data", [b"[0.1234567890123456789]", b'{"id": "12345678901234567890"}', b"[-1.5e+300]", b"[123]"]
)
def test_fractions_and_texts_of_many_digits_are_no_large_integers(data: bytes) -> None:
    assert not may_have_long_integer(data)


@pytest.mark.parametrize("data", [b"%d", b"-%d", b"[%d]", b"[ %d]", b"[1,%d]", b'{"a":%d}', b'{"a":\n-%d}', b"\t%d"])
def test_large_integer_is_noticed_wherever_a_number_may_stand(data: bytes) -> None:
    assert may_have_long_integer(data % 12345678901234567890123)


@pytest.mark.parametrize("before", range(12))
def test_integer_of_nineteen_digits_is_noticed_at_any_distance_from_the_beginning(before: int) -> None:
    assert may_have_long_integer(b'{"a":"%b","b":-9223372036854775809}' % (b"x" * before))
