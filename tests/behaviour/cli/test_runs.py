"""The main job, as a person runs it: replies in one file, failures in the other, and the same command goes on."""

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
from tests.support.cli_world import ROOT, ROW_KEYS, Ended, Server, Shell, ask, asks

Run = Callable[..., Ended]
Serving = Callable[[SimulatorSettings], Server]

SLOW = replace(INSTANT, first_token_s=0.3)


# ---------------------------------------------------------------- the first command of all


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Ended]:
    """The README's first command, run once."""
    shell = Shell(tmp_path_factory.mktemp("sample"))
    (shell.folder / "sample.jsonl").write_bytes((ROOT / "jobs/sample.jsonl").read_bytes())
    return shell, shell("sample.jsonl", "--out", "demo.jsonl", "--simulate")


def test_the_sample_runs_on_the_simulator_without_a_key(sample: tuple[Shell, Ended]) -> None:
    shell, ended = sample
    jobs = [json.loads(line) for line in (shell.folder / "sample.jsonl").read_text().splitlines()]
    assert (ended.code, ended.out) == (0, "")
    assert ended.said("jobs") == f"sample.jsonl: {len(jobs)} jobs"
    assert ended.said("endpoint") == "built-in simulator: no data leaves this machine, nothing is billed"
    assert ended.said("done").startswith(f"{len(jobs)} of {len(jobs)} jobs in ")
    rows = shell.rows("demo.jsonl")
    assert sorted(row["line"] for row in rows) == list(range(1, len(jobs) + 1))
    assert not (shell.folder / "demo.errors.jsonl").exists()


def test_a_row_has_the_contracts_shape(sample: tuple[Shell, Ended]) -> None:
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


def test_metadata_stands_last_and_untouched(sample: tuple[Shell, Ended]) -> None:
    shell, _ = sample
    jobs = [json.loads(line) for line in (shell.folder / "sample.jsonl").read_text().splitlines()]
    carried = {job["custom_id"]: job["metadata"] for job in jobs if "metadata" in job}
    rows = {row["custom_id"]: row for row in shell.rows("demo.jsonl")}
    assert carried
    assert {name: rows[name]["metadata"] for name in carried} == carried
    assert all(list(rows[name])[-1] == "metadata" for name in carried)


@pytest.mark.process
def test_run_again_it_sends_nothing_and_changes_nothing(sample: tuple[Shell, Ended]) -> None:
    shell, _ = sample
    before = shell.files()
    ended = shell("run", "sample.jsonl", "--out", "demo.jsonl", "--simulate")
    assert ended.code == 0
    assert shell.files() == before
    assert ended.said("jobs").endswith("already done, nothing to do")
    assert "attempts" not in ended.err


# ---------------------------------------------------------------- where rows go


def test_without_out_replies_go_beside_the_name_of_the_jobs(shell: Shell, inside: Run, server: Server) -> None:
    shell.write("mine.jsonl", ask("a"))
    assert inside("mine.jsonl", "--quiet") == Ended(0, "", "")
    assert len(shell.rows("mine.results.jsonl")) == 1
    assert inside("mine.jsonl", "--simulate", "--quiet") == Ended(0, "", "")
    assert len(shell.rows("mine.simulated.jsonl")) == 1


@pytest.mark.process
def test_a_real_run_says_where_to_with_which_key_and_within_which_limits(shell: Shell, server: Server) -> None:
    shell.write("jobs.jsonl", *asks(3))
    ended = shell("jobs.jsonl", "--rpm", "6000", "--tpm", "600000", "--concurrency", "2")
    assert ended.code == 0
    assert ended.said("endpoint") == f"{server.base_url}, key from OPENAI_API_KEY"
    assert ended.said("limits") == "6,000 requests and 600,000 tokens a minute; at most 2 in flight"
    assert len(server.asked) == 3
    assert all("simulated" not in row for row in shell.rows("jobs.results.jsonl"))


def test_a_key_may_come_from_a_dotenv_file(shell: Shell, inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", ask("a"))
    (shell.folder / ".env").write_text(f"MINE={shell.environ.pop('OPENAI_API_KEY')}\n")
    ended = inside("jobs.jsonl", "--api-key-env", "MINE")
    assert ended.code == 0
    assert ended.said("endpoint").endswith(", key from MINE")


@pytest.mark.process
def test_jobs_come_from_stdin_and_rows_go_to_stdout(shell: Shell, server: Server) -> None:
    shell.write("jobs.jsonl", *asks(2), {"id": "wrong"})
    jobs = (shell.folder / "jobs.jsonl").read_bytes()
    ended = shell("-", "--out", "-", stdin=jobs)
    assert ended.code == 1
    assert {json.loads(line)["custom_id"] for line in ended.out.splitlines()} == {"job-0", "job-1"}
    assert ended.said("results") == "stdout"
    assert "stdout, so a stopped run cannot be resumed" in ended.err
    (failed,) = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    assert (failed["custom_id"], failed["error"]["message"]) == (
        "wrong",
        "stdin, line 3: has neither body, messages nor prompt",
    )
    assert set(shell.files()) == {"jobs.jsonl"}


@pytest.mark.process
def test_a_reader_that_has_seen_enough_ends_the_run(shell: Shell, serving: Serving) -> None:
    serving(SLOW)
    shell.write("jobs.jsonl", *asks(40))
    process = shell.start("jobs.jsonl", "--out", "-", "--concurrency", "2")
    assert process.stdout
    assert json.loads(process.stdout.readline())["custom_id"].startswith("job-")
    process.stdout.close()
    process.stdout = None
    ended = shell.end(process)
    assert ended.code == 3
    assert "cannot write to standard output: Broken pipe" in ended.said("stopped")


@pytest.mark.process
def test_a_stderr_that_nobody_reads_is_no_reason_to_stop(shell: Shell, server: Server) -> None:
    shell.write("jobs.jsonl", *asks(3))
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


# ---------------------------------------------------------------- what fails


def test_lines_that_are_no_jobs_are_failed_rows_and_the_run_goes_on(shell: Shell, inside: Run, server: Server) -> None:
    (shell.folder / "jobs.jsonl").write_bytes(
        b"\xef\xbb\xbf"
        + json.dumps(ask("a")).encode()
        + b'\r\n\r\nbroken\r\n{"id": "a", "prompt": "again", "model": "m"}'
        b'\r\n[1]\r\n{"id": "b", "prompt": "\xff"}\r\n{"id": "c"}\r\n' + json.dumps(ask("d")).encode()
    )
    ended = inside("jobs.jsonl", "--out", "r.jsonl")
    assert ended.code == 1
    assert {row["custom_id"] for row in shell.rows("r.jsonl")} == {"a", "d"}
    errors = {row["line"]: row for row in shell.rows("r.errors.jsonl")}
    assert {line: (row["custom_id"], row["error"]["code"]) for line, row in errors.items()} == {
        3: (None, "invalid_json"),
        4: ("a", "duplicate_custom_id"),
        5: (None, "not_an_object"),
        6: (None, "not_utf8"),
        7: ("c", "invalid_job"),
    }
    for line, row in errors.items():
        assert list(row)[:10] == ROW_KEYS
        assert row["error"]["message"].startswith(f"jobs.jsonl, line {line}: ")
        assert (row["response"], row["timing"], row["usage"], row["attempts"]) == (None, None, None, 0)


def test_once_they_are_put_right_their_failures_are_gone(shell: Shell, inside: Run, server: Server) -> None:
    (shell.folder / "jobs.jsonl").write_text(json.dumps(ask("a")) + "\nbroken\n")
    assert inside("jobs.jsonl", "--out", "r.jsonl").code == 1
    shell.write("jobs.jsonl", ask("a"), ask("b"))
    assert inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    assert len(shell.rows("r.jsonl")) == 2
    assert not (shell.folder / "r.errors.jsonl").exists()


def test_a_job_that_is_rejected_is_not_sent_again_unless_asked_for(shell: Shell, inside: Run, serving: Serving) -> None:
    server = serving(replace(INSTANT, models=("gpt-4o-mini",)))
    shell.write("jobs.jsonl", ask("good"), ask("bad", model="gpt-5o"))
    ended = inside("jobs.jsonl", "--out", "r.jsonl")
    assert ended.code == 1
    (row,) = shell.rows("r.errors.jsonl")
    assert (row["custom_id"], row["error"]["code"], row["response"]["status_code"]) == ("bad", "rejected", 404)
    assert row["response"]["body"]["error"]["code"] == "model_not_found"
    assert ended.said("once fixed") == "process jobs.jsonl --out r.jsonl --retry-failed"
    assert len(server.asked) == 2

    again = inside("jobs.jsonl", "--out", "r.jsonl")
    assert (again.code, len(server.asked)) == (1, 2)
    forced = inside("jobs.jsonl", "--out", "r.jsonl", "--retry-failed")
    assert (forced.code, len(server.asked)) == (1, 3)
    (row,) = shell.rows("r.errors.jsonl")
    assert row["attempts"] == 2


def test_a_job_that_failed_by_bad_luck_is_tried_again(shell: Shell, inside: Run, serving: Serving) -> None:
    serving(replace(INSTANT, faults=Faults({"error_500": 1.0})))
    shell.write("jobs.jsonl", ask("a"))
    ended = inside("jobs.jsonl", "--out", "r.jsonl", "--max-attempts", "1")
    assert ended.code == 1
    assert [row["error"]["code"] for row in shell.rows("r.errors.jsonl")] == ["server_error"]
    serving(INSTANT)
    assert inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    assert [row["attempts"] for row in shell.rows("r.jsonl")] == [2]
    assert not (shell.folder / "r.errors.jsonl").exists()


# ---------------------------------------------------------------- which jobs


def test_limit_takes_the_first_jobs_of_the_file_only(shell: Shell, inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", *asks(9))
    ended = inside("jobs.jsonl", "--out", "r.jsonl", "--limit", "3")
    assert ended.code == 0
    assert {row["custom_id"] for row in shell.rows("r.jsonl")} == {"job-0", "job-1", "job-2"}
    assert ended.said("jobs") == "jobs.jsonl: 3 jobs"
    assert ended.said("done").startswith("3 of 3 jobs in ")
    assert inside("jobs.jsonl", "--out", "r.jsonl", "--limit", "5").said("done").startswith("5 of 5 jobs (2 in ")
    assert inside("jobs.jsonl", "--out", "r.jsonl").said("jobs") == "jobs.jsonl: 9 jobs, 5 already done, 4 to do"
    assert len(server.asked) == 9


def test_a_changed_job_keeps_its_reply_or_is_asked_anew(shell: Shell, inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", ask("a"), ask("b"))
    assert inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    shell.write("jobs.jsonl", ask("a", temperature=0), ask("b"))
    kept = inside("jobs.jsonl", "--out", "r.jsonl", "--changed", "keep")
    assert (kept.code, len(server.asked)) == (0, 2)
    assert (
        kept.said("changed") == "1 job edited since the reply came, reply kept: a (use --changed resend to send again)"
    )
    anew = inside("jobs.jsonl", "--out", "r.jsonl", "--changed", "resend")
    assert (anew.code, len(server.asked)) == (0, 3)
    assert sorted(row["custom_id"] for row in shell.rows("r.jsonl")) == ["a", "b"]
    assert inside("jobs.jsonl", "--out", "r.jsonl").said("done") == "2 of 2 jobs (none in this run, 2 in earlier runs)"


def test_equal_jobs_without_a_name_stay_two(shell: Shell, inside: Run, server: Server) -> None:
    job = {"model": "gpt-4o-mini", "prompt": "Say it."}
    shell.write("jobs.jsonl", job, job)
    assert inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    first, second = sorted(shell.rows("r.jsonl"), key=lambda row: row["line"])
    assert first["custom_id"] == first["id"] == second["id"]
    assert second["custom_id"] == f"{first['id']}-2"


@pytest.mark.process
def test_simulated_and_real_replies_are_never_mixed(shell: Shell, server: Server) -> None:
    shell.write("jobs.jsonl", ask("a"))
    remedy = "give another --out, or move it away"
    for first, second, said in (([], ["--simulate"], "real"), (["--simulate"], [], "simulated")):
        assert shell("jobs.jsonl", "--out", f"{said}.jsonl", "--quiet", *first).code == 0
        before = shell.files()[f"{said}.jsonl"]
        refused = shell("jobs.jsonl", "--out", f"{said}.jsonl", *second)
        assert refused.code == 2
        assert refused.error.startswith(f"{said}.jsonl holds {said} rows, and this run would add ")
        assert refused.error.endswith(remedy)
        assert shell.files()[f"{said}.jsonl"] == before
    assert len(server.asked) == 1


# ---------------------------------------------------------------- what is shown


def test_echo_prints_replies_as_they_stream(shell: Shell, inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", ask("first"), ask("second"))
    ended = inside("jobs.jsonl", "--out", "r.jsonl", "--echo")
    assert ended.code == 0
    said = {
        row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in shell.rows("r.jsonl")
    }
    place = 0
    for name in ("first", "second"):
        place = ended.err.index(f"── {name}\n{said[name]}\n── ", place)
    assert " to the first token · " in ended.err
    assert ended.said("limits").endswith("at most 1 in flight")


def test_quiet_says_nothing_but_errors(shell: Shell, inside: Run, serving: Serving) -> None:
    serving(replace(INSTANT, auth="refused"))
    shell.write("jobs.jsonl", ask("a"))
    assert inside("jobs.jsonl", "--out", "r.jsonl", "--quiet").error.startswith("the provider refused: ")


def test_no_progress_leaves_the_first_lines_and_the_summary(shell: Shell, inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", ask("a"))
    labels = [line.split(" ")[0] for line in inside("jobs.jsonl", "--no-progress").err.splitlines() if line]
    assert labels[:4] == ["jobs", "endpoint", "limits", "results"]
    assert "done" in labels
    assert not any(label.startswith("[") for label in labels)


def test_the_summary_can_be_had_as_json_and_the_attempts_as_a_log(shell: Shell, inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", *asks(3))
    ended = inside("jobs.jsonl", "--out", "r.jsonl", "--summary-json", "s.json", "--log-file", "log.jsonl", "--quiet")
    assert ended == Ended(0, "", "")
    summary: dict[str, Any] = json.loads((shell.folder / "s.json").read_text())
    assert (summary["jobs"], summary["done"], summary["attempts"], summary["failed"]) == (3, 3, 3, {})
    assert summary["results"] == "r.jsonl"
    log = shell.rows("log.jsonl")
    assert [entry["event"] for entry in log].count("attempt_started") == 3
    assert [entry.get("outcome") for entry in log].count("success") == 3
    assert {entry["custom_id"] for entry in log if "custom_id" in entry} == {"job-0", "job-1", "job-2"}
    assert all(datetime.fromisoformat(entry["time"]).tzinfo for entry in log)

    inside("jobs.jsonl", "--out", "r.jsonl", "--log-file", "log.jsonl", "--quiet")
    assert len(shell.rows("log.jsonl")) > len(log)


def test_a_summary_that_cannot_be_written_is_said_and_changes_nothing(
    shell: Shell, inside: Run, server: Server
) -> None:
    shell.write("jobs.jsonl", ask("a"))
    ended = inside("jobs.jsonl", "--summary-json", "/dev/full", "--quiet")
    assert (ended.code, ended.error) == (0, "cannot write /dev/full: no space left on device")


def test_a_log_in_the_way_of_a_device_is_fine(shell: Shell, inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", ask("a"))
    assert inside("jobs.jsonl", "--log-file", "/dev/null", "--summary-json", "/dev/null", "--quiet").code == 0


def test_a_job_may_ask_for_its_reply_in_one_piece(shell: Shell, inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", ask("streamed"), ask("whole", stream=False))
    assert inside("jobs.jsonl", "--out", "r.jsonl", "--quiet").code == 0
    bodies = {row["custom_id"]: row["response"]["body"] for row in shell.rows("r.jsonl")}
    assert bodies["whole"]["object"] == bodies["streamed"]["object"] == "chat.completion"
    assert bodies["whole"]["choices"] == bodies["streamed"]["choices"]


@pytest.mark.process
def test_another_run_on_the_same_output_is_refused_while_the_first_lasts(shell: Shell, serving: Serving) -> None:
    serving(replace(INSTANT, faults=Faults({"stall_mid": 1.0})))
    shell.write("jobs.jsonl", ask("a"))
    first = shell.start("jobs.jsonl", "--out", "r.jsonl", "--quiet", "--grace", "0")
    wait_for(shell.folder / "r.jsonl.state")
    second = shell("jobs.jsonl", "--out", "r.jsonl")
    assert second.code == 2
    assert second.error == "another run is writing to r.jsonl: wait for it, or give another --out"
    first.terminate()
    assert shell.end(first).code == 130
    serving(INSTANT)
    assert shell("jobs.jsonl", "--out", "r.jsonl").code == 0


def wait_for(path: Path) -> None:
    for _ in range(1000):
        if path.exists() and path.stat().st_size:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")
