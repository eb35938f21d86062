"""``process run`` as a user runs it: replies in one file, failures in the other, and resuming by the same command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from processor.simulator.faults import Faults
from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import ROOT, ROW_KEYS, ProgramResult, Server, Shell, chat_job, chat_jobs

Run = Callable[..., ProgramResult]
StartServer = Callable[[SimulatorSettings], Server]

SLOW = replace(INSTANT, first_token_s=0.3)


# ---------------------------------------------------------------- the sample of the README


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, ProgramResult]:
    """The first command of the README, run once for the tests of this module."""
    shell = Shell(tmp_path_factory.mktemp("sample"))
    (shell.folder / "sample.jsonl").write_bytes((ROOT / "jobs/sample.jsonl").read_bytes())
    return shell, shell("sample.jsonl", "--out", "demo.jsonl", "--simulate")


def test_sample_runs_on_the_simulator_without_a_key(sample: tuple[Shell, ProgramResult]) -> None:
    shell, result = sample
    jobs = [json.loads(line) for line in (shell.folder / "sample.jsonl").read_text().splitlines()]
    assert (result.code, result.out) == (0, "")
    assert result.row("jobs") == f"sample.jsonl: {len(jobs)} jobs"
    assert result.row("endpoint") == "built-in simulator: no data leaves this machine, nothing is billed"
    assert result.row("done").startswith(f"{len(jobs)} of {len(jobs)} jobs in ")
    rows = shell.rows("demo.jsonl")
    assert sorted(row["line"] for row in rows) == list(range(1, len(jobs) + 1))
    assert not (shell.folder / "demo.errors.jsonl").exists()


def test_one_blank_line_separates_banner_and_summary(sample: tuple[Shell, ProgramResult]) -> None:
    _, result = sample
    lines = result.err.splitlines()
    assert [lines[at + 1].split()[0] for at, line in enumerate(lines) if not line] == ["done"]


def test_row_has_the_documented_shape(sample: tuple[Shell, ProgramResult]) -> None:
    shell, _ = sample
    for row in shell.rows("demo.jsonl"):
        assert list(row)[:10] == ROW_KEYS
        assert list(row)[10] == "simulated"
        assert len(row["id"]) == 32
        assert list(row["response"]) == ["status_code", "request_id", "body"]
        assert row["response"]["status_code"] == 200
        assert list(row["usage"]) == ["prompt_tokens", "completion_tokens", "total_tokens"]
        assert list(row["timing"]) == ["started_at", "queued_s", "first_token_s", "total_s"]
        assert datetime.fromisoformat(row["timing"]["started_at"]).tzinfo
        assert 0 < row["timing"]["first_token_s"] <= row["timing"]["total_s"]
        assert (row["error"], row["attempts"], row["cost_usd"], row["simulated"]) == (None, 1, None, True)
        assert (row["usage_source"], row.get("usage_estimated", [])) == ("reported", [])
        assert row["response"]["body"]["usage"]["total_tokens"] > 0


def test_metadata_is_the_last_key_of_a_row_and_unchanged(sample: tuple[Shell, ProgramResult]) -> None:
    shell, _ = sample
    jobs = [json.loads(line) for line in (shell.folder / "sample.jsonl").read_text().splitlines()]
    carried = {job["custom_id"]: job["metadata"] for job in jobs if "metadata" in job}
    rows = {row["custom_id"]: row for row in shell.rows("demo.jsonl")}
    assert carried
    assert {name: rows[name]["metadata"] for name in carried} == carried
    assert all(list(rows[name])[-1] == "metadata" for name in carried)


@pytest.mark.process
def test_second_run_sends_nothing_and_changes_no_file(sample: tuple[Shell, ProgramResult]) -> None:
    shell, _ = sample
    before = shell.files()
    result = shell("run", "sample.jsonl", "--out", "demo.jsonl", "--simulate")
    assert result.code == 0
    assert shell.files() == before
    assert result.row("jobs").endswith("already done, nothing to do")
    assert "attempts" not in result.err


# ---------------------------------------------------------------- inputs and outputs


def test_default_results_file_is_named_after_the_job_file(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("mine.jsonl", chat_job("a"))
    assert run_inside("mine.jsonl", "--quiet") == ProgramResult(0, "", "")
    assert len(shell.rows("mine.results.jsonl")) == 1
    assert run_inside("mine.jsonl", "--simulate", "--quiet") == ProgramResult(0, "", "")
    assert len(shell.rows("mine.simulated.jsonl")) == 1


def test_banner_names_endpoint_key_variable_and_limits(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", *chat_jobs(3))
    result = run_inside("jobs.jsonl", "--rpm", "6000", "--tpm", "600000", "--concurrency", "2")
    assert result.code == 0
    assert result.row("endpoint") == f"{server.base_url}, key from OPENAI_API_KEY"
    assert result.row("limits") == "6,000 requests and 600,000 tokens a minute; at most 2 in flight"
    assert len(server.requests) == 3
    assert all("simulated" not in row for row in shell.rows("jobs.results.jsonl"))


def test_key_is_read_from_a_dotenv_file(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    (shell.folder / ".env").write_text(f"MINE={shell.environ.pop('OPENAI_API_KEY')}\n")
    result = run_inside("jobs.jsonl", "--api-key-env", "MINE")
    assert result.code == 0
    assert result.row("endpoint").endswith(", key from MINE")


def test_jobs_from_stdin_and_rows_to_stdout(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", *chat_jobs(2), {"id": "wrong"})
    jobs = (shell.folder / "jobs.jsonl").read_bytes()
    result = run_inside("-", "--out", "-", stdin=jobs)
    assert result.code == 1
    assert {json.loads(line)["custom_id"] for line in result.out.splitlines()} == {"job-0", "job-1"}
    assert result.row("results") == "stdout"
    assert "stdout, so a stopped run cannot be resumed" in result.err
    (failed,) = [json.loads(line) for line in result.err.splitlines() if line.startswith("{")]
    assert (failed["custom_id"], failed["error"]["message"]) == (
        "wrong",
        "stdin, line 3: has neither body, messages nor prompt",
    )
    assert set(shell.files()) == {"jobs.jsonl"}


@pytest.mark.process
def test_closed_stdout_stops_the_run(shell: Shell, start_server: StartServer) -> None:
    start_server(SLOW)
    shell.write("jobs.jsonl", *chat_jobs(40))
    process = shell.start("jobs.jsonl", "--out", "-", "--concurrency", "2")
    assert process.stdout
    assert json.loads(process.stdout.readline())["custom_id"].startswith("job-")
    process.stdout.close()
    process.stdout = None
    result = shell.end(process)
    assert result.code == 3
    assert "cannot write to standard output: broken pipe" in result.row("stopped")


@pytest.mark.process
def test_closed_stderr_does_not_stop_the_run(shell: Shell, server: Server) -> None:
    shell.write("jobs.jsonl", *chat_jobs(3))
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "processor", "jobs.jsonl"],
        cwd=shell.folder,
        env=shell.environ,
        stderr=writer,
        check=False,
    )
    os.close(writer)
    assert process.returncode == 0
    assert len(shell.rows("jobs.results.jsonl")) == 3


# ---------------------------------------------------------------- failures


def test_invalid_lines_become_failed_rows_and_the_run_goes_on(shell: Shell, run_inside: Run, server: Server) -> None:
    (shell.folder / "jobs.jsonl").write_bytes(
        b"\xef\xbb\xbf"
        + json.dumps(chat_job("a")).encode()
        + b'\r\n\r\nbroken\r\n{"id": "a", "prompt": "again", "model": "m", "metadata": 4}'
        b'\r\n[1]\r\n{"id": "b", "metadata": {"row": 7}, "prompt": "\xff"}\r\n{"id": "c"}\r\n'
        + json.dumps(chat_job("d")).encode()
    )
    result = run_inside("jobs.jsonl", "--out", "r.jsonl")
    assert result.code == 1
    assert {row["custom_id"] for row in shell.rows("r.jsonl")} == {"a", "d"}
    errors = {row["line"]: row for row in shell.rows("r.errors.jsonl")}
    assert {line: (row["custom_id"], row["error"]["code"]) for line, row in errors.items()} == {
        3: (None, "invalid_json"),
        4: ("a", "duplicate_custom_id"),
        5: (None, "not_an_object"),
        6: ("b", "not_utf8"),
        7: ("c", "invalid_job"),
    }
    assert {line: row["metadata"] for line, row in errors.items() if "metadata" in row} == {4: 4, 6: {"row": 7}}
    for line, row in errors.items():
        assert list(row)[:10] == ROW_KEYS
        assert row["error"]["message"].startswith(f"jobs.jsonl, line {line}: ")
        assert (row["response"], row["timing"], row["usage"], row["attempts"]) == (None, None, None, 0)


def test_corrected_lines_remove_their_failed_rows(shell: Shell, run_inside: Run, server: Server) -> None:
    (shell.folder / "jobs.jsonl").write_text(json.dumps(chat_job("a")) + "\nbroken\n")
    assert run_inside("jobs.jsonl", "--out", "r.jsonl").code == 1
    shell.write("jobs.jsonl", chat_job("a"), chat_job("b"))
    assert run_inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    assert len(shell.rows("r.jsonl")) == 2
    assert not (shell.folder / "r.errors.jsonl").exists()


def test_rejected_job_is_sent_again_only_with_retry_failed(
    shell: Shell, run_inside: Run, start_server: StartServer
) -> None:
    server = start_server(INSTANT)
    shell.write("jobs.jsonl", chat_job("good"), chat_job("bad", n="many"))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl")
    assert result.code == 1
    (row,) = shell.rows("r.errors.jsonl")
    assert (row["custom_id"], row["error"]["code"], row["response"]["status_code"]) == ("bad", "rejected", 400)
    assert row["response"]["body"]["error"]["param"] == "n"
    assert result.row("once fixed") == "process jobs.jsonl --out r.jsonl --retry-failed"
    assert len(server.requests) == 2

    again = run_inside("jobs.jsonl", "--out", "r.jsonl")
    assert (again.code, len(server.requests)) == (1, 2)
    forced = run_inside("jobs.jsonl", "--out", "r.jsonl", "--retry-failed")
    assert (forced.code, len(server.requests)) == (1, 3)
    (row,) = shell.rows("r.errors.jsonl")
    assert row["attempts"] == 2


def test_job_that_failed_temporarily_is_sent_again_by_the_next_run(
    shell: Shell, run_inside: Run, start_server: StartServer
) -> None:
    start_server(replace(INSTANT, faults=Faults({"error_500": 1.0})))
    shell.write("jobs.jsonl", chat_job("a"))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--max-attempts", "1")
    assert result.code == 1
    assert [row["error"]["code"] for row in shell.rows("r.errors.jsonl")] == ["server_error"]
    start_server(INSTANT)
    assert run_inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    assert [row["attempts"] for row in shell.rows("r.jsonl")] == [2]
    assert not (shell.folder / "r.errors.jsonl").exists()


# ---------------------------------------------------------------- selection of jobs


def test_limit_takes_only_the_first_jobs_of_the_file(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", *chat_jobs(9))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--limit", "3")
    assert result.code == 0
    assert {row["custom_id"] for row in shell.rows("r.jsonl")} == {"job-0", "job-1", "job-2"}
    assert result.row("jobs") == "jobs.jsonl: 3 jobs"
    assert result.row("done").startswith("3 of 3 jobs in ")
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--limit", "5").row("done").startswith("5 of 5 jobs (2 in ")
    assert run_inside("jobs.jsonl", "--out", "r.jsonl").row("jobs") == "jobs.jsonl: 9 jobs, 5 already done, 4 to do"
    assert len(server.requests) == 9


def test_changed_job_keeps_its_reply_or_is_sent_again(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", chat_job("a"), chat_job("b"))
    assert run_inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    shell.write("jobs.jsonl", chat_job("a", temperature=0), chat_job("b"))
    kept = run_inside("jobs.jsonl", "--out", "r.jsonl", "--changed", "keep")
    assert (kept.code, len(server.requests)) == (0, 2)
    assert (
        kept.row("changed") == "1 job edited since the reply came, reply kept: a (use --changed resend to send again)"
    )
    resent = run_inside("jobs.jsonl", "--out", "r.jsonl", "--changed", "resend")
    assert (resent.code, len(server.requests)) == (0, 3)
    assert sorted(row["custom_id"] for row in shell.rows("r.jsonl")) == ["a", "b"]
    assert (
        run_inside("jobs.jsonl", "--out", "r.jsonl").row("done") == "2 of 2 jobs (none in this run, 2 in earlier runs)"
    )


def test_equal_jobs_without_id_get_two_rows(shell: Shell, run_inside: Run, server: Server) -> None:
    job = {"model": "gpt-4o-mini", "prompt": "Say it."}
    shell.write("jobs.jsonl", job, job)
    assert run_inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    first, second = sorted(shell.rows("r.jsonl"), key=lambda row: row["line"])
    assert first["custom_id"] == first["id"] == second["id"]
    assert second["custom_id"] == f"{first['id']}-2"


@pytest.mark.process
@pytest.mark.slow
def test_simulated_and_real_replies_are_never_mixed(shell: Shell, server: Server) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    remedy = "give another --out, or move it away"
    for first, second, kind in (([], ["--simulate"], "real"), (["--simulate"], [], "simulated")):
        assert shell("jobs.jsonl", "--out", f"{kind}.jsonl", "--quiet", *first).code == 0
        before = shell.files()[f"{kind}.jsonl"]
        refused = shell("jobs.jsonl", "--out", f"{kind}.jsonl", *second)
        assert refused.code == 2
        assert refused.error.startswith(f"{kind}.jsonl holds {kind} rows, and this run would add ")
        assert refused.error.endswith(remedy)
        assert shell.files()[f"{kind}.jsonl"] == before
    assert len(server.requests) == 1


# ---------------------------------------------------------------- display


def test_echo_prints_replies_as_they_stream(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", chat_job("first"), chat_job("second"))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--echo")
    assert result.code == 0
    replies = {
        row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in shell.rows("r.jsonl")
    }
    place = 0
    for name in ("first", "second"):
        place = result.err.index(f"── {name}\n{replies[name]}\n── ", place)
    assert " to the first token · " in result.err
    assert result.row("limits").endswith("at most 1 in flight")


def test_quiet_prints_errors_only(shell: Shell, run_inside: Run, start_server: StartServer) -> None:
    start_server(replace(INSTANT, auth="refused"))
    shell.write("jobs.jsonl", chat_job("a"))
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--quiet").error.startswith("the provider refused: ")


def test_no_progress_leaves_banner_and_summary(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    labels = [line.split(" ")[0] for line in run_inside("jobs.jsonl", "--no-progress").err.splitlines() if line]
    assert labels[:4] == ["jobs", "endpoint", "limits", "results"]
    assert "done" in labels
    assert not any(label.startswith("[") for label in labels)


def test_summary_is_written_as_json_and_events_as_a_log(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", *chat_jobs(3))
    result = run_inside(
        "jobs.jsonl", "--out", "r.jsonl", "--summary-json", "s.json", "--log-file", "log.jsonl", "--quiet"
    )
    assert result == ProgramResult(0, "", "")
    summary: dict[str, Any] = json.loads((shell.folder / "s.json").read_text())
    assert (summary["jobs"], summary["done"], summary["attempts"], summary["failed"]) == (3, 3, 3, {})
    assert summary["results"] == "r.jsonl"
    log = shell.rows("log.jsonl")
    assert [entry["event"] for entry in log].count("attempt_started") == 3
    assert [entry.get("outcome") for entry in log].count("success") == 3
    assert {entry["custom_id"] for entry in log if "custom_id" in entry} == {"job-0", "job-1", "job-2"}
    assert all(datetime.fromisoformat(entry["time"]).tzinfo for entry in log)

    run_inside("jobs.jsonl", "--out", "r.jsonl", "--log-file", "log.jsonl", "--quiet")
    assert len(shell.rows("log.jsonl")) > len(log)


def test_summary_that_cannot_be_written_is_reported_and_keeps_the_exit_code(
    shell: Shell, run_inside: Run, server: Server
) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    result = run_inside("jobs.jsonl", "--summary-json", "/dev/full", "--quiet")
    assert (result.code, result.error) == (0, "cannot write the summary /dev/full: no space left on device")


def test_log_and_summary_may_be_the_same_device(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    assert run_inside("jobs.jsonl", "--log-file", "/dev/null", "--summary-json", "/dev/null", "--quiet").code == 0


def test_job_may_ask_for_an_unstreamed_reply(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", chat_job("streamed"), chat_job("whole", stream=False))
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--quiet").code == 0
    bodies = {row["custom_id"]: row["response"]["body"] for row in shell.rows("r.jsonl")}
    assert bodies["whole"]["object"] == bodies["streamed"]["object"] == "chat.completion"
    assert bodies["whole"]["choices"] == bodies["streamed"]["choices"]


@pytest.mark.process
@pytest.mark.slow
def test_second_run_on_the_same_output_is_refused_while_the_first_is_working(
    shell: Shell, start_server: StartServer
) -> None:
    start_server(replace(INSTANT, faults=Faults({"stall_mid": 1.0})))
    shell.write("jobs.jsonl", chat_job("a"))
    first = shell.start("jobs.jsonl", "--out", "r.jsonl", "--quiet", "--grace", "0")
    wait_for(shell.folder / "r.jsonl.state")
    second = shell("jobs.jsonl", "--out", "r.jsonl")
    assert second.code == 2
    assert second.error == "another run is writing to r.jsonl: wait for it, or give another --out"
    first.terminate()
    assert shell.end(first).code == 130
    start_server(INSTANT)
    assert shell("jobs.jsonl", "--out", "r.jsonl").code == 0


def wait_for(path: Path) -> None:
    for _ in range(1000):
        if path.exists() and path.stat().st_size:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


# ---------------------------------------------------------------- the history


def test_history_says_what_the_rows_say(run_inside: Run, shell: Shell, server: Server) -> None:
    shell.write("jobs.jsonl", *chat_jobs(3), {"not": "a job"})
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--rpm", "600", "--quiet").code == 1
    first, *minutes = shell.rows("r.history.jsonl")
    assert first["command"] == "process jobs.jsonl --out r.jsonl --rpm 600 --quiet"
    assert first["limits"]["rpm"] == 600
    assert [(line["done"], line["failed"], line["requests"]) for line in minutes] == [(3, 1, 3)]
    usages = [row["response"]["body"]["usage"] for row in shell.rows("r.jsonl")]
    assert minutes[0]["tokens"]["completion"] == sum(usage["completion_tokens"] for usage in usages)
