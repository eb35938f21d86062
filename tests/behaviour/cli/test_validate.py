"""``--validate``: what a user sees of it, and which jobs a later run sends again."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from processor.core import platform
from processor.input import job_file
from processor.simulator.faults import Faults
from processor.simulator.settings import SimulatorSettings
from tests.support.cli_world import ProgramResult, Server, Shell, chat_job, wait_until

Run = Callable[..., ProgramResult]

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
STRICTER = {**SCHEMA, "additionalProperties": False}
FILES = ("jobs.jsonl", "--out", "r.jsonl", "--concurrency", "20")


def with_schema(name: str, **more: Any) -> dict[str, Any]:
    """A chat job whose request asks for the schema. Its id decides the reply."""
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    return {**chat_job(name), "max_tokens": 500, "response_format": schema, **more}


@pytest.fixture
def server(start_server: Callable[[SimulatorSettings], Server]) -> Server:
    return start_server(
        SimulatorSettings(
            first_token_s=0.0,
            first_token_jitter=0.0,
            speed_tps=inf,
            seed=3,
            faults=Faults({"invalid_json": 0.5}),
        )
    )


@pytest.fixture
def schemas(shell: Shell) -> None:
    shell.write("schema.json", SCHEMA)
    shell.write("stricter.json", STRICTER)


def test_run_asks_again_and_its_summary_and_rows_say_so(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", *(with_schema(f"job-{at}") for at in range(30)))
    result = run_inside(*FILES, "--validate", "job", "--summary-json", "s.json", "--log-file", "log.jsonl")
    rows, failures = shell.rows("r.jsonl"), shell.rows("r.errors.jsonl")
    assert result.code == 1
    assert len(rows) + len(failures) == 30
    assert all(
        isinstance(json.loads(row["response"]["body"]["choices"][0]["message"]["content"]), dict) for row in rows
    )
    asked_again = len(server.requests) - 30
    assert asked_again > 8
    assert result.row("validation") == f"{len(rows)} valid; {asked_again} replies not valid, asked again"
    assert json.loads((shell.folder / "s.json").read_text())["validation"] == {
        "valid": len(rows),
        "asked_again": asked_again,
    }
    logged = [entry for entry in shell.rows("log.jsonl") if entry["event"] == "reply_invalid"]
    assert sum(entry["is_asked_again"] for entry in logged) == asked_again
    assert list(failures[0])[-2:] == ["validation", "own_fault"]
    assert list(failures[0]["validation"]) == ["asks", "schema", "billed_usage"]
    assert "--retry-failed" in result.row("once fixed")
    assert run_inside(*FILES, "--validate", "job").row("failed").endswith("use --retry-failed to send again")
    assert len(server.requests) == 30 + asked_again
    run_inside(*FILES, "--validate", "job", "--retry-failed")
    assert len(server.requests) > 30 + asked_again


@pytest.fixture(params=["read in one", "read in parts"])
def _both_readers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the job file as a small one and as a large one."""
    if request.param == "read in parts":
        monkeypatch.setattr(job_file, "MIN_SKIP_BYTES", 0)
        monkeypatch.setattr(platform, "available_cpus", lambda: 1)


@pytest.mark.usefixtures("_both_readers", "schemas")
def test_replies_checked_against_another_schema_or_none_are_kept_counted_and_sent_again_where_asked(
    shell: Shell, run_inside: Run, start_server: Callable[[SimulatorSettings], Server]
) -> None:
    server = start_server(SimulatorSettings(first_token_s=0.0, speed_tps=inf, seed=3))
    jobs = [with_schema(f"job-{at}") for at in range(8)]
    embedding = {"id": "e", "url": "/v1/embeddings", "model": "m", "input": "Hi"}
    shell.write("jobs.jsonl", *jobs[:3], embedding)
    assert run_inside(*FILES).code == 0
    shell.write("jobs.jsonl", *jobs, embedding)
    result = run_inside(*FILES, "--validate", "schema.json")
    assert (result.code, len(server.requests)) == (0, 9)
    assert result.row("changed").startswith("3 jobs checked against another schema, or none, reply kept: job-0, ")
    assert sum("validation" in row for row in shell.rows("r.jsonl")) == 5
    assert run_inside(*FILES, "--validate", "schema.json", "--changed", "resend").code == 0
    assert len(server.requests) == 12
    assert run_inside(*FILES, "--validate", "schema.json", "--changed", "resend").code == 0
    assert len(server.requests) == 12, "what was sent again is done, and embeddings are not checked"
    other = run_inside(*FILES, "--validate", "stricter.json", "--summary-json", "s.json")
    assert other.row("changed").startswith("8 jobs checked against another schema")
    assert json.loads((shell.folder / "s.json").read_text())["skipped"] == {"other_schema": 8, "done": 1}
    assert run_inside(*FILES).row("jobs") == "jobs.jsonl: 9 jobs, 9 already done, nothing to do"
    assert len({row["custom_id"] for row in shell.rows("r.jsonl")}) == len(shell.rows("r.jsonl")) == 9


@pytest.mark.usefixtures("schemas")
def test_failed_row_stands_only_for_the_schema_that_it_failed(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", chat_job("prose", max_tokens=5000))
    assert run_inside(*FILES, "--validate", "schema.json").code == 1
    assert len(server.requests) == 3
    assert run_inside(*FILES, "--validate", "schema.json").code == 1
    assert len(server.requests) == 3
    assert run_inside(*FILES, "--validate", "stricter.json").code == 1
    assert len(server.requests) == 6
    assert [row["attempts"] for row in shell.rows("r.errors.jsonl")] == [6]


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (("--validate", "none.json"), "cannot read the schema none.json: no such file or directory; "),
        (("--validate", "jobs.jsonl"), "jobs.jsonl cannot be both the schema and the job file"),
        (("--validate", "."), "cannot read the schema .: "),
        (("--validate", "text.json"), "the schema text.json cannot be used: it is not JSON"),
        (("--validate", "wrong.json"), "the schema wrong.json cannot be used: "),
        (("--validate", "remote.json"), "it refers to http://127.0.0.1:9/x, which is not fetched"),
        (("--strip-fences",), "strip_fences changes only what is checked: add --validate"),
    ],
)
@pytest.mark.process
def test_schema_that_cannot_be_used_is_exit_2_and_nothing_is_sent(
    shell: Shell, run_inside: Run, server: Server, flags: tuple[str, ...], error: str
) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    (shell.folder / "text.json").write_text("{")
    shell.write("wrong.json", {"type": "objekt"})
    shell.write("remote.json", {"$ref": "http://127.0.0.1:9/x"})
    result = run_inside(*FILES, *flags)
    assert result.code == 2
    assert error in result.error
    assert server.requests == []
    assert not (shell.folder / "r.jsonl").exists()


def test_missing_library_is_exit_2_with_the_remedy(
    shell: Shell, run_inside: Run, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "jsonschema_rs" else find_spec(name, *more)
    )
    shell.write("jobs.jsonl", chat_job("a"))
    result = run_inside(*FILES, "--validate", "job")
    assert result.code == 2
    assert "pip install 'processor[validate]'" in result.error
    assert server.requests == []


@pytest.mark.usefixtures("schemas")
def test_settings_file_has_the_same_settings(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", chat_job("prose", max_tokens=5000))
    (shell.folder / "config.toml").write_text('validate = "schema.json"\nmax_invalid = 0\n')
    assert run_inside(*FILES).code == 1
    assert len(server.requests) == 1
    assert "max_invalid must be a whole number of at least 0" in _error_of(shell, run_inside, "max_invalid = -1")


def _error_of(shell: Shell, run_inside: Run, setting: str) -> str:
    (shell.folder / "config.toml").write_text(f"{setting}\n")
    return run_inside(*FILES).error


def test_echo_says_what_was_not_valid(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", *(with_schema(f"job-{at}") for at in range(6)))
    result = run_inside(*FILES, "--validate", "job", "--echo")
    assert "not valid, asked again: " in result.err
    assert "reply interrupted" not in result.err


PRICES = '[prices."gpt-4o-mini"]\ninput = 1000.0\noutput = 2000.0\n'
"""In US dollars for a million tokens: a thousandth of a dollar is a token of a prompt."""


def test_cost_of_a_row_and_of_the_run_is_that_of_all_replies(shell: Shell, run_inside: Run, server: Server) -> None:
    (shell.folder / "config.toml").write_text(PRICES)
    shell.write("jobs.jsonl", *(with_schema(f"job-{at}") for at in range(20)))
    run_inside(*FILES, "--validate", "job", "--summary-json", "s.json")
    rows = [*shell.rows("r.jsonl"), *shell.rows("r.errors.jsonl")]
    assert len(rows) == 20
    for row in rows:
        billed = row["validation"]["billed_usage"]
        assert row["cost_usd"] == pytest.approx(billed["prompt_tokens"] / 1e3 + billed["completion_tokens"] / 500)
    assert any(row["validation"]["asks"] > 1 for row in rows)
    assert sum(row["validation"]["billed_usage"]["completion_tokens"] for row in rows) == (
        server.provider.billing.completion_tokens
    )
    in_all = json.loads((shell.folder / "s.json").read_text())["cost_usd"]
    assert in_all == pytest.approx(sum(row["cost_usd"] for row in rows))


def test_every_request_is_reserved_in_the_budget(shell: Shell, run_inside: Run, server: Server) -> None:
    (shell.folder / "config.toml").write_text(PRICES)
    shell.write("jobs.jsonl", *(with_schema(f"job-{at}", max_tokens=40) for at in range(20)))
    budget = ("--max-cost", "0.8")
    began = time.monotonic()
    for _ in range(2):
        assert run_inside(*FILES, "--validate", "job", *budget).code == 3
    assert time.monotonic() - began < 30, "no job waits to be asked again where the budget has no room for it"
    assert 0 < server.provider.billing.completion_tokens / 500 < 0.8
    assert 0 < sum(row["cost_usd"] for row in shell.rows("r.jsonl")) <= 0.8


@pytest.mark.process
@pytest.mark.slow
def test_killed_process_sends_again_only_the_jobs_that_were_in_flight(
    shell: Shell, start_server: Callable[[SimulatorSettings], Server]
) -> None:
    server = start_server(
        SimulatorSettings(
            first_token_s=0.05, speed_tps=inf, seed=3, faults=Faults({"invalid_json": 0.5}), track_identities=True
        )
    )
    shell.write("jobs.jsonl", *(with_schema(f"job-{at}") for at in range(80)))
    command = ("jobs.jsonl", "--out", "r.jsonl", "--concurrency", "8", "--validate", "job", "--no-progress")
    for _ in range(3):
        process = shell.start(*command)
        before = len(server.requests)
        wait_until(lambda reached=before + 20: len(server.requests) >= reached)  # type: ignore[misc]
        process.kill()
        shell.end(process)
    assert shell(*command).code == 1
    rows = [*shell.rows("r.jsonl"), *shell.rows("r.errors.jsonl")]
    assert sorted(row["custom_id"] for row in rows) == sorted(f"job-{at}" for at in range(80))
    sent = server.provider.billing.requests_by_identity
    again = sum(count - 1 for count in sent.values())
    assert again <= 3 * 8 * 3, "three kills, eight jobs in flight, each with at most three requests"
    assert sum(row["validation"]["asks"] for row in rows) == len(sent)
