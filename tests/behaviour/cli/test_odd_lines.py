"""Job files whose lines are not quite JSON, from the file to the wire and to the rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.support.cli_world import ProgramResult, Server, Shell

Run = Callable[..., ProgramResult]

LARGE = 340282366920938463463374607431768211455
REPLACED = "\N{REPLACEMENT CHARACTER}"
LINES = [
    f'{{"id":{LARGE},"model":"m","prompt":"big","metadata":{{"z":{LARGE},"a":1}}}}',
    f'{{"model":"m","prompt":"big","metadata":{LARGE}}}',
    f'{{"model":"m","prompt":"big","metadata":{LARGE - 1}}}',
    r'{"id":"half","model":"m","prompt":"cut \ud83d","metadata":[NaN,"\ude00"]}',
    '{"id":"nan","model":"m","prompt":"x","top_p":NaN,"metadata":{"row":5,"score":-Infinity}}',
    '{"id":"deep","model":"m","prompt":"x","metadata":' + "[" * 300 + "]" * 300 + "}",
    '\ufeff{"id":"mark","model":"m","prompt":"x\u2028y","metadata":"\u0085"}',
    '{"id":"torn","metadata":{"row":8},"prompt":"x',
]


def rows_of(shell: Shell, name: str) -> dict[int, dict[str, Any]]:
    return {row["line"]: row for row in map(json.loads, (shell.folder / name).read_bytes().decode().splitlines())}


def test_odd_lines_are_sent_or_fail_with_what_was_found_of_them(shell: Shell, run_inside: Run, server: Server) -> None:
    (shell.folder / "jobs.jsonl").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    assert run_inside("jobs.jsonl", "--out", "r.jsonl").code == 1

    rows = rows_of(shell, "r.jsonl")
    assert rows.keys() == {1, 2, 3, 4, 7}
    assert (rows[1]["custom_id"], list(rows[1]["metadata"].items())) == (str(LARGE), [("z", LARGE), ("a", 1)])
    assert (rows[2]["metadata"], rows[3]["metadata"]) == (LARGE, LARGE - 1)
    assert rows[2]["custom_id"] != rows[3]["custom_id"]
    assert (rows[4]["metadata"], rows[4]["altered"]) == ([None, REPLACED], ["nan", "surrogate"])
    assert (rows[7]["custom_id"], rows[7]["metadata"], "altered" in rows[7]) == ("mark", "\u0085", False)

    errors = rows_of(shell, "r.errors.jsonl")
    found = {line: (row["custom_id"], row["error"]["code"], row.get("metadata")) for line, row in errors.items()}
    assert found == {
        5: ("nan", "invalid_json", {"row": 5, "score": None}),
        6: ("deep", "invalid_job", None),
        8: ("torn", "invalid_json", {"row": 8}),
    }
    assert errors[5]["altered"] == ["nan"]
    assert "top_p is NaN" in errors[5]["error"]["message"]


def test_second_run_sends_none_of_the_odd_lines_again(shell: Shell, run_inside: Run, server: Server) -> None:
    (shell.folder / "jobs.jsonl").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    run_inside("jobs.jsonl", "--out", "r.jsonl")
    before = (shell.folder / "r.jsonl").read_bytes(), (shell.folder / "r.errors.jsonl").read_bytes()
    sent = len(server.requests)
    assert run_inside("jobs.jsonl", "--out", "r.jsonl").code == 1
    assert len(server.requests) == sent
    assert ((shell.folder / "r.jsonl").read_bytes(), (shell.folder / "r.errors.jsonl").read_bytes()) == before
