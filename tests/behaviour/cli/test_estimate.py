"""``process estimate`` and ``process rehearse``: what they say before a run is what the run then does."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import ProgramResult, Server, Shell, chat_job, chat_jobs

Run = Callable[..., ProgramResult]
StartServer = Callable[[SimulatorSettings], Server]

LOCAL = ("--base-url", "http://127.0.0.1:9/v1")
"""An address at which nothing listens: neither command sends anything."""


def estimate(run_inside: Run, *args: str, code: int = 0) -> dict[str, Any]:
    result = run_inside("estimate", *args, "--json")
    assert (result.code, result.err) == (code, "")
    found: dict[str, Any] = json.loads(result.out)
    return found


def rehearse(run_inside: Run, *args: str, code: int = 0) -> dict[str, Any]:
    result = run_inside("rehearse", *args, "--json")
    assert (result.code, result.err) == (code, "")
    found: dict[str, Any] = json.loads(result.out)
    return found


# ---------------------------------------------------------------- estimate


def test_estimate_names_what_is_wrong_by_kind_with_line_numbers(run_inside: Run, shell: Shell) -> None:
    path = shell.folder / "jobs.jsonl"
    shell.write("jobs.jsonl", *chat_jobs(3), {"no": "job"}, chat_job("job-1"))
    path.write_bytes(path.read_bytes() + b"\nbroken\n")
    found = estimate(run_inside, "jobs.jsonl", *LOCAL, code=1)["jobs"]
    assert (found["lines"], found["to_send"]) == (6, 3)
    lines = {code: kind["lines"] for code, kind in found["invalid"].items()}
    assert lines == {"invalid_job": [4], "duplicate_custom_id": [5], "invalid_json": [7]}


def test_estimate_reads_a_file_in_parts_as_it_reads_it_whole(
    run_inside: Run, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.write("jobs.jsonl", *chat_jobs(40), "no object", *chat_jobs(2))
    whole = estimate(run_inside, "jobs.jsonl", *LOCAL, code=1)
    monkeypatch.setattr("processor.input.prescan.PART_BYTES", 300)
    assert estimate(run_inside, "jobs.jsonl", *LOCAL, code=1) == whole
    assert whole["jobs"]["invalid"]["duplicate_custom_id"]["lines"] == [42, 43]


def test_estimate_says_what_the_run_then_sends_and_skips(run_inside: Run, shell: Shell, server: Server) -> None:
    jobs = [chat_job(f"a{at}", prompt="Name a sight. " * at, model="gpt-4o" if at % 3 else "m") for at in range(1, 40)]
    shell.write("jobs.jsonl", *jobs)
    before = estimate(run_inside, "jobs.jsonl", "--out", "r.jsonl")
    assert not server.requests
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--quiet").code == 0
    rows = shell.rows("r.jsonl")
    assert before["all"]["prompt_tokens"] == sum(row["usage"]["prompt_tokens"] for row in rows)
    assert before["all"]["reply_tokens_at_most"] >= sum(row["usage"]["completion_tokens"] for row in rows)
    assert {model["model"]: model["jobs"] for model in before["models"]} == {"m": 13, "gpt-4o": 26}
    after = estimate(run_inside, "jobs.jsonl", "--out", "r.jsonl")
    assert (after["jobs"]["to_send"], after["jobs"]["skipped"]) == (0, {"done": 39})
    assert after["replies_known"] == 39


@pytest.mark.process  # it looks published prices up
def test_estimate_needs_no_key_and_changes_no_file(run_inside: Run, shell: Shell) -> None:
    shell.write("jobs.jsonl", *chat_jobs(3))
    files = shell.files()
    assert run_inside("estimate", "jobs.jsonl").code == 0
    assert run_inside("rehearse", "jobs.jsonl").code == 0
    assert shell.files() == files


def test_estimate_shows_the_command_that_starts_the_run(run_inside: Run, shell: Shell) -> None:
    shell.write("jobs.jsonl", *chat_jobs(3))
    page = run_inside("estimate", "jobs.jsonl", "--rpm", "60", "--until", "07:30", *LOCAL).out
    assert page.endswith(f"process jobs.jsonl --rpm 60 --until 07:30 {' '.join(LOCAL)}\n")
    assert "bound by requests" in page
    assert max(len(line) for line in page.splitlines()) <= 80


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["estimate", "absent.jsonl"], "cannot read absent.jsonl"),
        (["estimate", "-"], "estimate reads the jobs from a file only: save stdin"),
        (["rehearse", "-"], "rehearse reads the jobs from a file only: save stdin"),
        (["estimate", "-", "--out", "r.jsonl"], "save stdin"),
        (["rehearse", "-", "--out", "r.jsonl"], "save stdin"),
        (["estimate", "jobs.jsonl", "--like", "few.jsonl"], "few.jsonl has 0 replies: give results with at least 30"),
        (["estimate", "jobs.jsonl", "--until", "25:00"], "a time is written HH:MM"),
        (["estimate", "jobs.jsonl", "--until", "7:5"], "a time is written HH:MM"),
        (["estimate", "jobs.jsonl.gz", "--order", "longest"], "--order longest needs files of lines"),
        (["estimate", "jobs.jsonl", "--out", "-", "--max-cost", "1"], "--max-cost counts what the rows have cost"),
        (["rehearse", "jobs.jsonl", "--out", "-", "--max-cost", "1"], "--max-cost counts what the rows have cost"),
        (["rehearse", "jobs.jsonl", "--faults", "none=1"], "unknown fault"),
    ],
)
def test_what_cannot_be_estimated_is_one_line(run_inside: Run, shell: Shell, args: list[str], message: str) -> None:
    shell.write("jobs.jsonl", *chat_jobs(3))
    shell.write("few.jsonl")
    (shell.folder / "jobs.jsonl.gz").write_bytes(gzip.compress((shell.folder / "jobs.jsonl").read_bytes()))
    result = run_inside(*args)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert message in result.err


# ---------------------------------------------------------------- against a run on the virtual clock

SETTINGS = [
    ("--rpm", "20"),
    ("--rpm", "40"),
    ("--rpm", "20", "--tpm", "100000"),
    ("--tpm", "1000"),
    ("--tpm", "2000"),
    ("--rpm", "25", "--concurrency", "10"),
    ("--concurrency", "1"),
    ("--concurrency", "2"),
    ("--concurrency", "5"),
    ("--rpm", "30", "--concurrency", "1"),
]


@pytest.fixture
def sample(run_inside: Run, shell: Shell, start_server: StartServer) -> str:
    """Results that show how long replies are, and how long they take."""
    start_server(replace(INSTANT, first_token_s=0.2, speed_tps=100.0, canned=False, reply_tokens=(5, 60)))
    shell.write("sample.jsonl", *(chat_job(f"s{at}", max_tokens=200) for at in range(60)))
    assert run_inside("sample.jsonl", "--out", "like.jsonl", "--concurrency", "30", "--quiet").code == 0
    return "like.jsonl"


@pytest.mark.parametrize("settings", [SETTINGS[:2], pytest.param(SETTINGS[2:], marks=pytest.mark.slow)])
def test_estimated_time_is_that_of_the_run(
    run_inside: Run, shell: Shell, sample: str, settings: Sequence[tuple[str, ...]]
) -> None:
    shell.write("jobs.jsonl", *(chat_job(f"j{at}", max_tokens=200) for at in range(400)))
    for flags in settings:
        args = ("jobs.jsonl", "--like", sample, *flags)
        expected, run = estimate(run_inside, *args), rehearse(run_inside, *args)
        assert run["done"] == 400
        assert expected["time"]["seconds"] == pytest.approx(run["seconds"], rel=0.1), flags
        assert expected["all"]["prompt_tokens"] == pytest.approx(run["tokens"]["prompt"], rel=0.01)
        assert expected["all"]["reply_tokens_expected"] == pytest.approx(run["tokens"]["completion"], rel=0.1)


def test_limit_that_an_earlier_run_has_not_seen_announced_is_paced_evenly(
    run_inside: Run, shell: Shell, sample: str
) -> None:
    shell.write("jobs.jsonl", *(chat_job(f"j{at}", max_tokens=200) for at in range(90)))
    args = ("jobs.jsonl", "--rpm", "60", "--concurrency", "100")
    expected, run = (ask(run_inside, *args, "--like", sample) for ask in (estimate, rehearse))
    assert expected["time"]["seconds"] == pytest.approx(90, rel=0.03)
    assert run["seconds"] == pytest.approx(90, rel=0.03)
    of_unknown_server, its_run = (ask(run_inside, *args, *LOCAL) for ask in (estimate, rehearse))
    assert of_unknown_server["time"]["seconds"] == pytest.approx(30, rel=0.03), "a bucket or window of 60 at the start"
    assert its_run["seconds"] < 70


def write_history(shell: Shell, results: str, groups: dict[str, dict[str, Any]]) -> None:
    """The history of an earlier run to which the server has announced these limits."""
    limits = {name: {"rpm": None, "tpm": None, "source": "reported", **values} for name, values in groups.items()}
    minute = {"run": "0" * 16, "time": "2026-01-01T00:01:00+00:00", "done": 60, "limits": limits}
    shell.write(f"{results.removesuffix('.jsonl')}.history.jsonl", {"run": "0" * 16, "started_at": ""}, minute)


GROUP = "/v1/chat/completions gpt-4o-mini"


def counter(kind: str, period_s: float, *, is_announced: bool = True) -> dict[str, Any]:
    return {"kind": kind, "size": 2 * period_s, "period_s": period_s, "is_announced": is_announced}


FOUND = [
    ({}, 30, "counted in a bucket that is refilled evenly: assumed"),
    ({"requests": counter("window", 60)}, 60, "counted in a window of 1m 00s, as an earlier run has found"),
    (
        {"requests": counter("bucket", 60)},
        30,
        "counted in a bucket that is refilled evenly, as an earlier run has found",
    ),
    (
        {"requests": counter("bucket", 0.9)},
        90,
        "counted in a bucket of 0.90 s: sent evenly, as an earlier run has found",
    ),
    ({"requests": counter("bucket", 1.0, is_announced=False)}, 90, "counted in a bucket of 1.0 s: sent evenly"),
]
"""The counters in the history; when the last of 180 requests is sent, at 120 a minute; the text that is shown."""


def test_forecasts_count_as_the_server_did_in_an_earlier_run(run_inside: Run, shell: Shell, sample: str) -> None:
    shell.write("jobs.jsonl", *(chat_job(f"j{at}", max_tokens=200) for at in range(180)))
    args = ("jobs.jsonl", "--like", sample, "--concurrency", "100")
    for found, sending_s, text in FOUND:
        write_history(shell, sample, {GROUP: {"server_rpm": 120, "counters": found}})
        for flags in ((), ("--rpm", "120")):  # the limit given renames the limit group
            expected, run = (ask(run_inside, *args, *flags) for ask in (estimate, rehearse))
            (bound,) = (bound for bound in expected["time"]["bounds"] if bound["resource"] == "requests")
            assert (bound["limit"], bound["seconds"]) == (120, pytest.approx(sending_s, abs=1)), text
            assert bound["counter"]["assumed"] == (not found)
            (server,) = run["server"].values()
            assert (server["rpm"], server["tpm"], server["counter"]) == (120, None, bound["counter"])
            assert expected["time"]["seconds"] == pytest.approx(run["seconds"], rel=0.1), text
        assert text in run_inside("estimate", *args).out
        assert f"120 requests a minute, {text}" in run_inside("rehearse", *args).out


def test_jobs_that_fit_until_a_deadline_are_those_of_a_run(run_inside: Run, shell: Shell, sample: str) -> None:
    shell.write("jobs.jsonl", *(chat_job(f"j{at}", max_tokens=200) for at in range(800)))
    for minutes, *flags in ((5, "--concurrency", "1"), (20, "--rpm", "30", "--concurrency", "50")):
        at = datetime.now() + timedelta(minutes=minutes)
        args = ("jobs.jsonl", "--like", sample, *flags, "--until", f"{at:%H:%M}")
        expected, run = estimate(run_inside, *args), rehearse(run_inside, *args, code=1)
        assert run["exit_code"] == 3
        # Some seconds pass between the two on a busy machine.
        assert expected["fit_until"] == pytest.approx(run["done"], rel=0.1), flags
    page = run_inside("estimate", *args).out
    assert "stay for later" in page and "99 of 100 replies take less" in page


def test_nothing_fits_where_the_deadline_leaves_less_time_than_an_unknown_reply(run_inside: Run, shell: Shell) -> None:
    shell.write("jobs.jsonl", *chat_jobs(3))
    args = ("estimate", "jobs.jsonl", *LOCAL, "--until")
    soon, later = (f"{datetime.now() + timedelta(minutes=minutes):%H:%M}" for minutes in (5, 60))
    assert "about 0 jobs; 3 stay for later" in (page := run_inside(*args, soon).out)
    assert "nothing is sent in the last 10m 00s: no reply is known" in page
    assert "unknown how many jobs" in run_inside(*args, later).out
    assert "about 3 jobs; 0 stay" in run_inside(*args, later, "--rpm", "60").out


def test_forecasts_charge_what_replies_have_used_where_the_provider_does(
    run_inside: Run, shell: Shell, sample: str
) -> None:
    shell.write("jobs.jsonl", *(chat_job(f"j{at}", max_tokens=1000) for at in range(100)))
    args = ("jobs.jsonl", "--like", sample, "--tpm", "5000", "--concurrency", "100")
    write_history(shell, sample, {GROUP: {"server_rpm": None, "server_tpm": 5000, "counters": {}}})
    seconds = {}
    for charging in ("used", "sum"):
        (shell.folder / "config.toml").write_text(f'[limits]\ncharging = "{charging}"\n')
        expected, run = (ask(run_inside, *args) for ask in (estimate, rehearse))
        seconds[charging] = run["seconds"]
        # Where each reserves a thousand, four fit into the limit at once, and fewer when a part of it is used.
        assert run["seconds"] == pytest.approx(expected["time"]["seconds"], rel=0.1), charging
    assert seconds["used"] < 60 < 1000 < seconds["sum"]


def test_prompts_are_charged_as_they_are_counted(run_inside: Run, shell: Shell, sample: str) -> None:
    """A character of this prompt is nearly a token, of which a count of characters finds a quarter."""
    shell.write("jobs.jsonl", *(chat_job(f"j{at}", prompt="7%" * 40 + str(at), max_tokens=20) for at in range(150)))
    args = ("jobs.jsonl", "--like", sample, "--concurrency", "100")
    write_history(shell, sample, {GROUP: {"server_rpm": None, "server_tpm": 5000, "counters": {}}})
    expected, run = (ask(run_inside, *args) for ask in (estimate, rehearse))
    assert expected["time"]["seconds"] > 60
    assert run["seconds"] == pytest.approx(expected["time"]["seconds"], rel=0.1)


def test_models_without_replies_of_their_own_are_named(run_inside: Run, shell: Shell, sample: str) -> None:
    shell.write("jobs.jsonl", chat_job("a"), chat_job("b", model="gpt-4o"))
    for command in ("estimate", "rehearse"):
        page = run_inside(command, "jobs.jsonl", "--like", sample).out
        assert "fewer than 30 are of gpt-4o: all models' replies stand for it" in page
        assert "(60 replies)" in page
    assert "fewer than 30" not in run_inside("estimate", "sample.jsonl", "--like", sample).out


def test_estimate_of_a_run_that_sends_nothing_shows_no_command(run_inside: Run, shell: Shell) -> None:
    shell.write("jobs.jsonl")
    assert run_inside("estimate", "jobs.jsonl", *LOCAL).out.endswith("\nA run with these flags has nothing to send.\n")
    assert "bound by" not in run_inside("rehearse", "jobs.jsonl", *LOCAL).out


def test_models_with_limits_of_their_own_are_rehearsed_apart(run_inside: Run, shell: Shell, sample: str) -> None:
    counters = {"requests": counter("window", 60)}
    models = {"gpt-4o-mini": 60, "gpt-4o": 120}
    write_history(
        shell,
        sample,
        {f"/v1/chat/completions {model}": {"server_rpm": rpm, "counters": counters} for model, rpm in models.items()},
    )
    jobs = [chat_job(f"{model}-{at}", model=model, max_tokens=200) for at in range(150) for model in models]
    shell.write("jobs.jsonl", *jobs)
    args = ("jobs.jsonl", "--like", sample, "--concurrency", "100")
    expected, run = (ask(run_inside, *args) for ask in (estimate, rehearse))
    assert expected["time"]["seconds"] == pytest.approx(120, rel=0.1), "three windows of 60, and two of 120 meanwhile"
    assert run["seconds"] == pytest.approx(expected["time"]["seconds"], rel=0.1)
    assert run["refused"] == {}


def test_jobs_that_fit_into_a_budget_depend_on_their_order(run_inside: Run, shell: Shell, sample: str) -> None:
    (shell.folder / "config.toml").write_text('[prices."gpt-4o-mini"]\ninput = 1\noutput = 4\n')
    jobs = [chat_job(f"j{at}", prompt="word " * (1 + 37 * at % 400), max_tokens=40) for at in range(200)]
    shell.write("jobs.jsonl", *jobs)
    args = ("jobs.jsonl", "--like", sample, "--max-cost", "0.02", "--concurrency", "1")
    fitting = {}
    for order in ("file", "shortest", "longest"):
        budget = estimate(run_inside, *args, "--order", order)["budget"]
        run = rehearse(run_inside, *args, "--order", order, code=1)
        assert budget["fit_at_least"] <= run["done"], order
        assert budget["fit_expected"] == pytest.approx(run["done"], rel=0.05), order
        fitting[order] = budget["fit_expected"]
    assert fitting["shortest"] > 1.2 * fitting["file"] > 1.4 * fitting["longest"]
    page = run_inside("estimate", *args, "--order", "shortest").out
    assert "the shortest jobs first" in page
    assert page.endswith("--order shortest\n"), "the command that starts the run keeps the order"


def test_rehearsal_of_a_rough_night_shows_refusals_and_ends(run_inside: Run, shell: Shell) -> None:
    shell.write("jobs.jsonl", *chat_jobs(300))
    night = rehearse(run_inside, "jobs.jsonl", "--rpm", "3", "--faults", "rough-night", *LOCAL)
    assert (night["done"], night["failed"]) == (300, 0)
    assert night["bound_by"]["outage"] > 0
    assert sum(night["refused"].values()) > 0
    assert night["requests"] > 300
    assert night == rehearse(run_inside, "jobs.jsonl", "--rpm", "3", "--faults", "rough-night", *LOCAL)
