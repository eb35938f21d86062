"""What the failed row of a line that is not a job keeps of it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.input.found_fields import FoundFields, found_fields
from processor.input.job_file import InvalidLine, JobFile
from processor.input.job_files import each_item
from processor.input.job_formats import JobDefaults
from processor.simulator.virtual_clock import run

REPLACED = "\N{REPLACEMENT CHARACTER}"
NOTHING = FoundFields()


def found(custom_id: str | None = None, metadata: Any = None, *altered: str) -> FoundFields:
    return FoundFields(custom_id=custom_id, metadata=metadata, has_metadata=metadata is not None, altered=altered)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"custom_id":"a","metadata":{"row":7},"body":5}', found("a", {"row": 7})),
        (b'{"id":"b","metadata":[8],"question":"x"}', found("b", [8])),
        (b'{"id":17}', found("17")),
        (b'{"id":340282366920938463463374607431768211455}', found("340282366920938463463374607431768211455")),
        (b'{"custom_id":null,"id":"b"}', found("b")),
        (b'{"custom_id":["a"],"metadata":1}', found(None, 1)),
        (b'{"custom_id":"","metadata":1}', found(None, 1)),
        (b'{"custom_id":NaN,"metadata":NaN}', FoundFields(has_metadata=True, altered=("nan",))),
        (b'{"custom_id":"a","metadata":null}', FoundFields(custom_id="a", has_metadata=True)),
        # Broken behind the fields, in them, and before them.
        (b'{"custom_id":"a","metadata":{"row":7},"body":{"model"', found("a", {"row": 7})),
        (b'{"custom_id" : "a" , "metadata" : {"row": 7} , "body": {,}}', found("a", {"row": 7})),
        (b'{"custom_id":"a","metadata":{"row":', found("a")),
        (b'{"custom_id":"a"', found("a")),
        (b'{"custom_id":"a","metadata":1,}', found("a", 1)),
        (b'{"custom_id":"a","metadata":1} {"custom_id":"b"}', found("a", 1)),
        (b'{"custom_id":"a","metadata":1}}', found("a", 1)),
        (b'\xef\xbb\xbf{"custom_id":"a","metadata":1', found("a", 1)),
        (b'{"body":{,},"custom_id":"a"}', NOTHING),
        (b'{"custom_id":"a', NOTHING),
        (b"{'custom_id':'a'}", NOTHING),
        (b'{"custom_id"', NOTHING),
        (b'{"custom_id":', NOTHING),
        (b'{5:"a"}', NOTHING),
        # What is no object, or is no JSON at all.
        (b'[{"custom_id":"a"}]', NOTHING),
        (b'"custom_id"', NOTHING),
        (b"nonsense", NOTHING),
        (b"", NOTHING),
        (b"[" * 100_000, NOTHING),
        (b'{"custom_id":"a","metadata":' + b"[" * 100_000, found("a")),
        (b'{"custom_id":"a","metadata":' + b"[" * 400 + b"]" * 400 + b"}", found("a")),
        # What has to be changed to be written.
        (b'{"custom_id":"a","metadata":[NaN,"\\ud83d"],"x"', found("a", [None, REPLACED], "nan", "surrogate")),
    ],
)
def test_fields_of_a_line_that_is_no_job_are_kept_as_far_as_they_are_found(line: bytes, expected: FoundFields) -> None:
    assert found_fields(line) == expected


def test_invalid_utf8_in_a_kept_field_is_replaced() -> None:
    assert found_fields(b'{"custom_id":"a\xff","metadata":["\xc3"],"prompt":"x"}') == found(
        f"a{REPLACED}", [REPLACED], "utf8"
    )
    assert found_fields(b'{"custom_id":"a","metadata":["x"],"prompt":"\xff"}') == found("a", ["x"])


@given(st.binary(max_size=40), st.integers(0, 60))
def test_finding_fields_never_fails(noise: bytes, place: int) -> None:
    line = json.dumps({"custom_id": "a", "metadata": {"k": [1, None]}, "prompt": "x" * 5}).encode()
    data = line[:place] + noise + line[place:]
    assert found_fields(data).custom_id in (None, "a") or noise


def test_row_of_a_line_that_is_too_long_keeps_what_its_beginning_says(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(' {"id": "a", "metadata": {"row": 7}, "prompt": "' + "x" * 200_000 + '"}\n{"id":"b",\n')

    async def lines() -> list[object]:
        with closing(JobFile(str(path), JobDefaults(), max_line_bytes=1000)) as file:
            return [line async for line in each_item(aiter(file))]

    too_long, broken = run(lines())
    assert isinstance(too_long, InvalidLine)
    assert isinstance(broken, InvalidLine)
    assert (too_long.code, too_long.found) == ("line_too_long", found("a", {"row": 7}))
    assert (broken.code, broken.found) == ("invalid_json", found("b"))
