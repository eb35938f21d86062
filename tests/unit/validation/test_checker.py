"""Checks of outputs against schemas: what is found, what is refused, and that no check takes long."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from processor.core import platform
from processor.validation import checking_process
from processor.validation.check_cost import count_parts
from processor.validation.checker import PreparedSchema, SchemaChecker, read_schema
from processor.validation.problem import MAX_PROBLEMS, InvalidSchema, Problem
from tests.support.threaded_server import in_thread

LABEL = {
    "type": "object",
    "properties": {"label": {"enum": ["good", "bad"]}, "a/b": {"type": "array", "items": {"type": "integer"}}},
    "required": ["label"],
}
CATASTROPHIC = {"type": "string", "pattern": r"^(?=a)(a|aa)+\1$"}
"""Takes a back-tracking engine exponential time on ``aaa…!``."""
LARGE = {
    "properties": {
        f"field_{at}": {
            "description": f"what {at} is for, " * 15,
            "type": "object",
            "properties": {"a": {"type": "string", "pattern": f"^x{at}[a-z]+$"}},
        }
        for at in range(3_000)
    }
}
"""More than 1 MB."""


def doubling(depth: int) -> dict[str, Any]:
    """A schema that looks at a value in two ways, each of which has two ways, and so on."""
    parts = {f"d{at}": {"anyOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(depth)}
    return {"$defs": {**parts, f"d{depth}": {"type": "string"}}, "$ref": "#/$defs/d0"}


@pytest.fixture
def checker() -> Iterator[SchemaChecker]:
    checker = SchemaChecker(asyncio.to_thread)
    yield checker
    checker.close()


def prepared(checker: SchemaChecker, schema: Any) -> PreparedSchema:
    return asyncio.run(checker.prepare(schema))


def problems(checker: SchemaChecker, schema: Any, text: str) -> tuple[Problem, ...]:
    return asyncio.run(checker.check(prepared(checker, schema), text))


def is_used_here(checker: SchemaChecker) -> bool:
    """Whether no other process was started."""
    return checker._process._process is None


# ------------------------------------------------------------ what is found


def test_valid_output_has_no_problems(checker: SchemaChecker) -> None:
    assert problems(checker, LABEL, ' {"label": "good", "a/b": [1, 2]}\n') == ()
    assert is_used_here(checker)


def test_problems_have_json_pointers_and_no_values(checker: SchemaChecker) -> None:
    found = problems(checker, LABEL, '{"label": "a secret", "a/b": [1, "x"]}')
    assert {problem.pointer for problem in found} == {"/label", "/a~1b/1"}
    assert "secret" not in "".join(map(str, found))
    assert "/label: this value is not one of" in "\n".join(map(str, found))


def test_at_most_five_problems_are_named(checker: SchemaChecker) -> None:
    found = problems(checker, {"items": {"type": "integer"}}, json.dumps(["x"] * 1000))
    assert [problem.pointer for problem in found] == [f"/{at}" for at in range(MAX_PROBLEMS)]


@pytest.mark.parametrize("text", ["", " \n", "{", "Here: {}", "```json\n{}\n```", "NaN", '"\\ud800"', "{} {}"])
def test_what_is_not_json_is_a_problem(checker: SchemaChecker, text: str) -> None:
    (problem,) = problems(checker, True, text)
    assert "not JSON" in problem.message
    assert not problem.is_undecided


@pytest.mark.parametrize("text", ["```json\n{}\n```", "```\n{}```", " ```JSON\n\n{}\n\n```\n", "{}"])
def test_code_fence_is_stripped_where_the_user_says_so(text: str) -> None:
    checker = SchemaChecker(asyncio.to_thread, strip_fences=True)
    assert problems(checker, {"type": "object"}, text) == ()


def test_fence_around_much_white_space_takes_no_time() -> None:
    checker = SchemaChecker(asyncio.to_thread, strip_fences=True)
    for text in (f"```\n{' ' * 2_000_000}x", f"```\n{' ' * 2_000_000}```"):
        assert problems(checker, True, text)


def test_words_around_a_fence_are_not_stripped() -> None:
    checker = SchemaChecker(asyncio.to_thread, strip_fences=True)
    assert problems(checker, True, "Here:\n```\n{}\n```")


# ------------------------------------------------------------ schemas that cannot be used


@pytest.mark.process
@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "objekt"}, "at /type"),
        ({"properties": {"a": {"minimum": "1"}}}, "at /properties/a/minimum"),
        ({"pattern": "("}, "regex"),
        ({"$ref": "#/$defs/none"}, "/$defs/none"),
        ([1], "must be an object"),
        ("{}", "must be an object"),
    ],
)
def test_invalid_schema_is_refused_with_a_reason(checker: SchemaChecker, schema: Any, reason: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidSchema) as caught:
            prepared(checker, schema)
        assert reason in str(caught.value)


def test_file_that_is_no_json_is_no_schema() -> None:
    with pytest.raises(InvalidSchema, match="not JSON"):
        read_schema(b'{"type": ')


@pytest.mark.process
def test_reference_to_another_document_is_refused_and_not_fetched(checker: SchemaChecker) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    with in_thread(server):
        address = f"http://127.0.0.1:{server.server_port}/schema.json"
        for schema in ({"$ref": address}, {"properties": {"a": {"$ref": f"{address}#/a"}}}, {"$schema": address}):
            with pytest.raises(InvalidSchema, match="not fetched") as caught:
                prepared(checker, schema)
            assert address in str(caught.value)
    with pytest.raises(InvalidSchema, match="not fetched"):
        prepared(checker, {"$ref": "file:///etc/hostname"})
    assert asked == []


# ------------------------------------------------------------ bounds


@pytest.mark.process
def test_catastrophic_pattern_is_given_up_soon(checker: SchemaChecker) -> None:
    schema = prepared(checker, CATASTROPHIC)
    asyncio.run(checker.check(schema, '"b"'))  # the process is started
    began = time.process_time(), time.monotonic()
    (problem,) = asyncio.run(checker.check(schema, json.dumps("a" * 40 + "!")))
    assert problem.is_undecided
    assert time.process_time() - began[0] < 0.5
    assert time.monotonic() - began[1] < checking_process.MAX_CHECK_S / 2


@pytest.mark.process
def test_schema_of_a_megabyte_is_made_ready_and_used_in_another_process(checker: SchemaChecker) -> None:
    schema = prepared(checker, LARGE)
    assert len(schema.canonical) > 1_000_000
    assert schema.compiled is None
    assert asyncio.run(checker.check(schema, '{"field_7": {"a": "x7b"}}')) == ()
    (problem,) = asyncio.run(checker.check(schema, '{"field_7": {"a": "x8b"}}'))
    assert problem.pointer == "/field_7/a"
    with pytest.raises(InvalidSchema, match="at /properties/more"):
        prepared(checker, {"properties": {**LARGE["properties"], "more": {"type": "strin"}}})


@pytest.mark.process
def test_check_that_takes_too_long_is_killed_and_the_next_one_works(
    checker: SchemaChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = prepared(checker, doubling(60))
    assert problems(checker, CATASTROPHIC, '"b"')  # the process is started
    process = checker._process._process
    assert process is not None
    monkeypatch.setattr(checking_process, "MAX_CHECK_S", 0.3)
    (problem,) = asyncio.run(checker.check(schema, "1"))
    assert problem.is_undecided
    assert "cannot be checked" in problem.message
    assert process.returncode is not None
    monkeypatch.setattr(checking_process, "MAX_CHECK_S", 30.0)
    assert asyncio.run(checker.check(schema, '"a"')) == ()


@pytest.mark.process
def test_long_check_leaves_the_event_loop_free(checker: SchemaChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = prepared(checker, doubling(60))
    monkeypatch.setattr(checking_process, "MAX_CHECK_S", 0.4)

    async def count_turns() -> int:
        check = asyncio.create_task(checker.check(schema, "1"))
        turns = 0
        while not check.done():
            await asyncio.sleep(0.01)
            turns += 1
        return turns

    assert asyncio.run(count_turns()) > 10


@pytest.mark.process
def test_process_that_dies_counts_as_a_check_that_was_given_up(checker: SchemaChecker) -> None:
    schema = prepared(checker, CATASTROPHIC)
    process = checker._process._process
    assert process is not None
    process.kill()
    process.wait()
    (problem,) = asyncio.run(checker.check(schema, '"aa"'))
    assert problem.is_undecided
    assert asyncio.run(checker.check(schema, '"aa"')) == ()


@pytest.mark.process
@pytest.mark.slow
def test_check_ends_also_where_the_run_has_died(checker: SchemaChecker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking_process, "MAX_CHECK_S", 1.0)
    assert checker._process._start()
    monkeypatch.setattr(checking_process, "MAX_CHECK_S", 30.0)
    schema = prepared(checker, doubling(60))
    assert asyncio.run(checker.check(schema, '"a"')) == ()
    process, connection = checker._process._process, checker._process._connection
    assert process is not None
    assert connection is not None
    connection.send((schema.digest, schema.canonical, b"1"))
    connection.close()
    assert process.wait(20) == -signal.SIGALRM
    checker._process._process = checker._process._connection = None


def test_work_is_done_here_where_no_process_can_be_started(
    checker: SchemaChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "can_inherit_files", lambda: False)
    assert problems(checker, CATASTROPHIC, '"aa"') == ()
    assert problems(checker, CATASTROPHIC, json.dumps("a" * 40 + "!"))
    with pytest.raises(InvalidSchema):
        prepared(checker, {"$ref": "#", "type": "x"})


@pytest.mark.process
def test_closing_ends_the_process(checker: SchemaChecker) -> None:
    prepared(checker, CATASTROPHIC)
    process = checker._process._process
    assert process is not None
    checker.close()
    assert process.returncode is not None


@pytest.mark.parametrize(
    ("schema", "parts"),
    [
        (True, 1),
        ({}, 1),
        ({"type": "string"}, 2),
        (LABEL, 13),
        ({"pattern": "^a+$"}, 2),
        (CATASTROPHIC, None),
        ({"patternProperties": {"(?!a)": {}}}, None),
        ({"pattern": "a{1,1000}"}, None),
        ({"$ref": "#"}, None),
        ({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, None),
        ({"$defs": {"a": {}}, "items": [{"$ref": "#/$defs/a"}] * 3}, 8),
        ({"$ref": "http://127.0.0.1/x"}, None),
        ({"$dynamicRef": "#a"}, None),
    ],
)
def test_parts_of_a_schema_are_counted_where_they_have_a_bound(schema: Any, parts: int | None) -> None:
    assert count_parts(schema) == parts


def test_parts_that_double_with_each_reference_are_counted_in_little_time() -> None:
    parts = count_parts(doubling(60))
    assert parts is not None
    assert parts > 2**60
