"""``--metrics-file``, ``--report`` and ``[hooks] notice``: what a run tells other programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli_world import ProgramResult, Shell

Run = Callable[..., ProgramResult]

RECORDER = """
import sys
line = sys.stdin.readline()
with open(sys.argv[1], "a") as file:
    file.write(line)
sys.exit(int(sys.argv[2]))
"""

SAMPLE = re.compile(r'^[a-z_]+(\{([a-z_]+="([^"\\]|\\.)*",?)+\})? [0-9.e+-]+$')


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    jobs = [{"id": f"job-{number}", "prompt": "Hi", "model": 'm"\\\n', "max_tokens": 5} for number in range(5)]
    lines = [json.dumps(job) for job in jobs]
    (tmp_path / "jobs.jsonl").write_text("\n".join([*lines, "no JSON", ""]))
    return Shell(tmp_path)


def hook_config(folder: Path, *, code: int = 0) -> list[str]:
    (folder / "recorder.py").write_text(RECORDER)
    args = [sys.executable, str(folder / "recorder.py"), str(folder / "events.jsonl"), str(code)]
    (folder / "hooks.toml").write_text(f"[hooks]\nnotice = {json.dumps(args)}\n")
    return ["--config", "hooks.toml"]


def events(folder: Path) -> list[dict[str, object]]:
    path = folder / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_metrics_are_valid_and_equal_the_summary(shell: Shell, run_inside: Run) -> None:
    args = ("jobs.jsonl", "--simulate", "--metrics-file", "run.prom", "--summary-json", "summary.json", "--quiet")
    assert run_inside(*args).code == 1
    text = (shell.folder / "run.prom").read_text()
    summary = json.loads((shell.folder / "summary.json").read_text())
    samples = [line for line in text.splitlines() if not line.startswith("# ")]
    assert [line for line in samples if not SAMPLE.match(line)] == []
    families = re.findall(r"^# TYPE ([a-z_]+) (?:counter|gauge|histogram)$", text, re.MULTILINE)
    assert len(families) == len(set(families)) > 8
    assert 'process_jobs{state="done"} 5' in samples
    assert 'process_jobs{state="failed"} 1' in samples
    assert 'process_failures_total{error_type="invalid_json"} 1' in samples
    assert f"process_requests_total {summary['attempts']}" in samples
    (count,) = [line for line in samples if line.startswith("gen_ai_client_operation_duration_seconds_count")]
    for label in ('gen_ai_operation_name="chat"', 'gen_ai_provider_name="simulator"', 'server_address="'):
        assert label in count
    assert count.endswith(" 5")
    tokens = [line for line in samples if line.startswith("gen_ai_client_token_usage_sum")]
    used = summary["tokens"]["used"]
    assert [float(line.rsplit(" ", 1)[1]) for line in tokens] == [used["prompt"], used["completion"]]
    assert sorted(path.name for path in shell.folder.iterdir() if "prom" in path.name) == ["run.prom"]


def test_metrics_file_keeps_its_mode(shell: Shell, run_inside: Run) -> None:
    path = shell.folder / "run.prom"
    path.touch(mode=0o600)
    run_inside("jobs.jsonl", "--simulate", "--metrics-file", "run.prom", "--quiet")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size


def test_metrics_that_cannot_be_written_stop_before_the_first_request(shell: Shell, run_inside: Run) -> None:
    result = run_inside("jobs.jsonl", "--simulate", "--metrics-file", "none/run.prom")
    assert (result.code, "none" in result.error) == (2, True)


@pytest.mark.usefixtures("without_charts")
def test_report_is_written_at_the_end_with_the_command_to_go_on(shell: Shell, run_inside: Run) -> None:
    assert run_inside("jobs.jsonl", "--simulate", "--report", "page.html", "--quiet").code == 1
    page = (shell.folder / "page.html").read_text()
    assert "83% of 6 rows" in page
    assert "process jobs.jsonl --simulate --report page.html --quiet" in page
    result = run_inside("jobs.jsonl", "--simulate", "--report", "page.html", "--out", "-")
    assert (result.code, "--report needs a results file" in result.error) == (2, True)


@pytest.mark.process
def test_hook_hears_that_the_run_is_done(shell: Shell, run_inside: Run) -> None:
    result = run_inside("jobs.jsonl", "--simulate", "--quiet", *hook_config(shell.folder))
    assert result.code == 1
    (done,) = events(shell.folder)
    assert (done["event"], done["exit_code"], done["replies"], done["failed"]) == ("done", 1, 5, 1)
    assert done["results"] == "jobs.simulated.jsonl"


@pytest.mark.process
def test_hook_that_fails_fails_no_run(shell: Shell, run_inside: Run) -> None:
    result = run_inside("jobs.jsonl", "--simulate", *hook_config(shell.folder, code=3))
    assert result.code == 1
    assert len(events(shell.folder)) == 1


def test_hook_in_the_working_folder_is_not_started(shell: Shell, run_inside: Run) -> None:
    hook_config(shell.folder)
    (shell.folder / "hooks.toml").rename(shell.folder / "config.toml")
    result = run_inside("jobs.jsonl", "--simulate")
    assert result.code == 1
    assert events(shell.folder) == []
    assert "hooks.notice in config.toml is ignored" in result.err
