"""``--batch`` and ``process batch``, as a user has them: real processes, a simulated provider on a port, real kills."""

from __future__ import annotations

import json
import shlex
import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from processor.simulator.batch_settings import BatchSettings
from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import ProgramResult, Server, Shell, chat_job, chat_jobs, wait_until
from tests.support.packages import package

Run = Callable[..., ProgramResult]
StartServer = Callable[[SimulatorSettings], Server]


def settings(**batches: Any) -> SimulatorSettings:
    return replace(INSTANT, batches=BatchSettings(**batches), track_identities=True)


@pytest.fixture
def quick(shell: Shell) -> None:
    """Ask for the state of the batches often."""
    (shell.folder / "config.toml").write_text("[batch]\npoll_min_s = 0.02\npoll_max_s = 0.05\n")
    shell.write("jobs.jsonl", *chat_jobs(30))


def assert_each_once(shell: Shell, server: Server, count: int = 30) -> None:
    assert sorted(row["custom_id"] for row in shell.rows("r.jsonl")) == sorted(f"job-{at}" for at in range(count))
    billed = server.provider.billing.billed_by_identity
    assert len(billed) == count
    assert set(billed.values()) == {1}
    left = {path.name for path in shell.folder.iterdir()}
    assert not [name for name in left if "upload" in name or "batches" in name]


@pytest.mark.usefixtures("quick")
def test_jobs_go_through_a_batch_and_the_rows_say_so(run_inside: Run, start_server: StartServer, shell: Shell) -> None:
    server = start_server(settings(duration_s=0.05))
    run = run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch")
    assert run.code == 0
    assert "30 of 30 jobs" in run.row("done")
    assert {row["served_by"] for row in shell.rows("r.jsonl")} == {"batch"}
    assert_each_once(shell, server)
    assert server.provider.batch_api.files.about == {}
    assert stat.S_IMODE((shell.folder / "r.jsonl").stat().st_mode) == 0o600


@pytest.mark.usefixtures("quick")
def test_detached_run_is_gone_on_with_and_no_other_run_touches_its_jobs(
    run_inside: Run, start_server: StartServer, shell: Shell
) -> None:
    server = start_server(settings(duration_s=60.0))
    detached = run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch", "--detach")
    assert detached.code == 3
    assert "1 batch is with the provider" in detached.err
    assert "process batch cancel r.jsonl" in detached.err
    assert stat.S_IMODE((shell.folder / "r.batches.jsonl").stat().st_mode) == 0o600
    assert "1 batch with 30 jobs: see process batch list" in run_inside("status", "r.jsonl").out
    told = json.loads(run_inside("status", "r.jsonl", "--json").out)
    assert (told["open_batches"], told["jobs_in_batches"]) == (1, 30)
    refused = run_inside("jobs.jsonl", "--out", "r.jsonl", "--retry-failed")
    assert refused.code == 2
    assert refused.error.startswith("1 batch is with the provider, with 30 jobs of r.jsonl: go on with --batch")
    listed = json.loads(run_inside("batch", "list", "r.jsonl", "--json").out)
    assert [(one["state"], one["jobs"], one["model"]) for one in listed] == [("submitted", 30, "gpt-4o-mini")]
    assert listed[0]["batch"] in run_inside("batch", "list", "r.jsonl").out
    server.hurry()
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch").code == 0
    assert_each_once(shell, server)
    assert run_inside("batch", "list", "r.jsonl").out == "no batch is open\n"


@pytest.mark.usefixtures("quick")
def test_cancelled_batch_keeps_what_is_done(run_inside: Run, start_server: StartServer, shell: Shell) -> None:
    server = start_server(settings(duration_s=60.0))
    run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch", "--detach")
    (name,) = (one["id"] for one in json.loads(run_inside("batch", "list", "r.jsonl", "--json").out))
    cancelled = run_inside("batch", "cancel", "r.jsonl")
    assert (cancelled.code, cancelled.out) == (
        0,
        f"batch {name} is cancelled: the next run with --batch collects what is done\n",
    )
    assert run_inside("batch", "cancel", "r.jsonl", "other").code == 1
    assert "cannot be cancelled" in run_inside("batch", "cancel", "r.jsonl", name).out
    server.hurry()
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch").code == 0
    assert_each_once(shell, server)


@pytest.mark.usefixtures("quick")
def test_batch_of_which_nothing_is_certain_is_adopted_or_given_up(
    run_inside: Run, start_server: StartServer, shell: Shell
) -> None:
    server = start_server(settings(duration_s=0.05))
    run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch", "--detach")
    journal = shell.folder / "r.batches.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    name, their_id = json.loads(lines[-1])["submit"], json.loads(lines[-1])["batch"]
    journal.write_text("".join(lines[:-1]))  # as a run leaves it that is killed before the answer comes
    adopted = run_inside("batch", "adopt", "r.jsonl", f"{name}={their_id}")
    assert adopted.out == f"batch {name} is {their_id}: the next run with --batch collects it\n"
    assert run_inside("batch", "assume-lost", "r.jsonl", "other").code == 1
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch").code == 0
    assert_each_once(shell, server)
    (shell.folder / "r.jsonl").unlink()
    journal.write_text("".join(lines))
    lost = run_inside("batch", "assume-lost", "r.jsonl", name)
    assert lost.out == f"batch {name} is given up: the next run sends its 30 jobs again\n"
    assert not journal.exists()


@pytest.mark.usefixtures("quick")
def test_replies_of_a_batch_are_checked_and_invalid_ones_can_be_sent_again(
    run_inside: Run, start_server: StartServer, shell: Shell
) -> None:
    package("jsonschema_rs")
    server = start_server(SimulatorSettings(batches=BatchSettings(duration_s=0.05)))
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    asked = {"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}}
    (shell.folder / "schema.json").write_text(json.dumps(schema))
    shell.write("jobs.jsonl", chat_job("prose"), chat_job("json", max_tokens=500, **asked))
    flags = ("jobs.jsonl", "--out", "r.jsonl", "--validate", "schema.json")
    run = run_inside(*flags, "--batch")
    assert run.code == 1, run.err
    (row,) = shell.rows("r.jsonl")
    assert (row["custom_id"], row["served_by"], row["validation"]["asks"]) == ("json", "batch", 1)
    (failure,) = shell.rows("r.errors.jsonl")
    assert (failure["custom_id"], failure["error"]["code"]) == ("prose", "invalid_output")
    assert failure["response"]["body"]["choices"], "the reply is kept"
    assert len(server.provider.batch_api.batches) == 1, "it is not submitted again by itself"
    assert run_inside(*flags, "--batch").code == 1
    assert len(server.provider.batch_api.batches) == 1
    run_inside(*flags, "--batch", "--retry-failed")
    assert len(server.provider.batch_api.batches) == 2


@pytest.mark.usefixtures("quick")
def test_what_is_left_is_streamed(run_inside: Run, start_server: StartServer, shell: Shell) -> None:
    server = start_server(settings(duration_s=0.05))
    short = [{"id": "own", "model": "m", "url": "/v1/messages", "prompt": "Hi", "max_tokens": 5}]
    shell.write("jobs.jsonl", *chat_jobs(3), *short)
    refused = run_inside("jobs.jsonl", "--out", "q.jsonl", "--batch")
    assert refused.code == 1
    (failure,) = shell.rows("q.errors.jsonl")
    assert (failure["custom_id"], failure["error"]["code"]) == ("own", "not_in_batch")
    run = run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch", "--stream-after", "00:00")
    assert run.code == 0
    served = {row["custom_id"]: row.get("served_by") for row in shell.rows("r.jsonl")}
    assert served == {"job-0": "batch", "job-1": "batch", "job-2": "batch", "own": None}
    assert len(server.provider.batch_api.batches) == 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--detach"], "--detach needs --batch: add it"),
        (["--stream-after", "07:00"], "--stream-after needs --batch: add it"),
        (["--batch", "--detach", "--stream-after", "07:00"], "--detach ends the run before the time of --stream-after"),
        (["--batch", "--detach", "--until", "07:00"], "--detach ends the run before the time of --until"),
        (["--batch", "--detach", "--simulate"], "--detach leaves the batches to the provider"),
        (["--batch", "--echo"], "--echo and --batch cannot be used together"),
        (["--batch", "--validate", "job"], "--validate job and --batch cannot be used together: name a file with"),
        (["--batch", "--order", "longest"], "--order has no effect with --batch: the provider chooses the order"),
        (["--batch", "--stream-after", "7"], "a time is written HH:MM"),
        (["--batch", "--provider", "ollama"], "no batch API is known at ollama"),
        (["--batch", "--out", "-"], "give --out FILE rather than --out -"),
    ],
)
def test_flags_that_cannot_be_used_together(
    run_inside: Run, start_server: StartServer, flags: list[str], message: str
) -> None:
    server = start_server(settings())
    out = [] if "--out" in flags else ["--out", "r.jsonl"]
    run = run_inside("jobs.jsonl", *out, *flags)
    assert run.code == 2
    assert message in run.error
    assert server.requests == []


PRESETS = {
    "openai": ("", ()),
    "groq": ("/openai/v1", ()),
    "together": ("/together/v1", ()),
    "mistral": ("/v1", ()),
    "anthropic": ("/v1", ()),
    "azure": ("/openai/v1", ()),
    "azure with deployments": ("/openai/deployments/{model}", ("2024-10-21",)),
    "azure with one deployment": ("/openai/deployments/gpt-4o-mini", ("2024-10-21",)),
}
"""The path of the base URL of each provider, and the version of its API."""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", PRESETS)
def test_batches_of_each_provider(run_inside: Run, start_server: StartServer, shell: Shell, name: str) -> None:
    path, versions = PRESETS[name]
    server = start_server(settings(duration_s=60.0))
    (shell.folder / "config.toml").write_text(
        "".join(f'api_version = "{version}"\n' for version in versions)
        + "[batch]\npoll_min_s = 0.02\npoll_max_s = 0.05\n"
    )
    url = "/v1/messages" if name == "anthropic" else "/v1/chat/completions"
    shell.write("jobs.jsonl", *({**job, "url": url} for job in chat_jobs(5)))
    flags = ("--provider", name.split()[0], "--base-url", server.base_url.removesuffix("/v1") + path)
    left = run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch", "--detach", *flags)
    assert left.code == 3
    assert f"`process batch cancel r.jsonl {shlex.join(flags)}` cancels" in left.err
    assert "is cancelled" in run_inside("batch", "cancel", "r.jsonl", *flags).out
    server.hurry()
    done = run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch", *flags)
    assert done.code == 0, done.err
    assert_each_once(shell, server, count=5)
    assert {row["served_by"] for row in shell.rows("r.jsonl")} == {"batch"}
    assert server.provider.batch_api.files.about == {}
    if versions:
        assert all(one["path"].startswith(("/openai/files", "/openai/batches")) for one in server.requests)
        (endpoint,) = {row["endpoint"] for row in shell.rows("r.jsonl")}
        assert endpoint.endswith("/openai/chat/completions")


@pytest.mark.usefixtures("quick")
def test_stdin_is_refused(run_inside: Run, start_server: StartServer) -> None:
    start_server(settings())
    assert "save the jobs to a file" in run_inside("-", "--out", "r.jsonl", "--batch").error


@pytest.mark.usefixtures("quick")
def test_server_without_a_batch_api_is_exit_2(run_inside: Run, start_server: StartServer, shell: Shell) -> None:
    server = start_server(settings())
    server.provider.batch_api.serves = lambda path: False  # type: ignore[method-assign]
    run = run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch")
    assert run.code == 2
    assert "has no batch API" in run.err
    assert {path.name for path in shell.folder.iterdir()} == {"config.toml", "jobs.jsonl"}


@pytest.mark.usefixtures("quick")
def test_refused_key_is_exit_3_and_leaves_no_batch(run_inside: Run, start_server: StartServer) -> None:
    start_server(replace(settings(), auth="refused"))
    run = run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch")
    assert run.code == 3
    assert "Incorrect API key" in run.err
    assert run_inside("batch", "list", "r.jsonl").out == "no batch is open\n"


@pytest.mark.usefixtures("quick")
def test_batches_at_another_address_are_not_touched(run_inside: Run, start_server: StartServer) -> None:
    start_server(settings(duration_s=30.0))
    run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch", "--detach")
    other = start_server(settings())
    assert "has batches at http://127.0.0.1" in run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch").error
    assert "the batches are not at" in run_inside("batch", "cancel", "r.jsonl").error
    assert other.requests == []


def test_mistakes_of_the_command(run_inside: Run, shell: Shell) -> None:
    assert "process batch needs one of list, cancel, adopt, assume-lost" in run_inside("batch", "lst", "r.jsonl").error
    assert "there is no results file r.jsonl" in run_inside("batch", "list", "r.jsonl").error
    shell.write("r.jsonl")
    assert "needs a BATCH" in run_inside("batch", "assume-lost", "r.jsonl").error
    for arguments in (["cancel", "r.jsonl"], ["adopt", "r.jsonl", "other=1"], ["assume-lost", "r.jsonl", "other"]):
        unknown = run_inside("batch", *arguments)
        assert (unknown.code, unknown.error) == (1, "there is no such open batch: see process batch list r.jsonl")


@pytest.mark.usefixtures("quick")
def test_address_where_nothing_answers_stops_the_run(run_inside: Run) -> None:
    unused = "http://127.0.0.1:9/v1"
    stopped = run_inside("jobs.jsonl", "--out", "r.jsonl", "--batch", "--base-url", unused)
    assert stopped.code == 3
    assert "Connection refused; is --base-url right, and the server up?" in stopped.err
    assert "with the provider" not in stopped.err


@pytest.mark.process
@pytest.mark.usefixtures("quick")
def test_killed_run_is_gone_on_with(start_server: StartServer, shell: Shell) -> None:
    server = start_server(settings(duration_s=1.0))
    for _ in range(2):
        process = shell.start("jobs.jsonl", "--out", "r.jsonl", "--batch")
        wait_until(lambda: server.provider.batch_api.batches)
        process.kill()
        shell.end(process)
    assert shell("jobs.jsonl", "--out", "r.jsonl", "--batch").code == 0
    assert_each_once(shell, server)


def test_simulated_batches_need_no_key(shell: Shell, run_inside: Run) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    run = run_inside("jobs.jsonl", "--simulate", "--batch", "--quiet")
    assert (run.code, run.err) == (0, "")
    (row,) = shell.rows("jobs.simulated.jsonl")
    assert (row["simulated"], row["served_by"]) == (True, "batch")


@pytest.mark.parametrize("provider", ["anthropic", "together", "mistral"])
def test_simulated_batches_are_like_those_of_the_named_provider(run_inside: Run, shell: Shell, provider: str) -> None:
    (shell.folder / "jobs.jsonl").write_text('{"id": "a", "model": "m", "prompt": "Hi", "max_tokens": 5}\n')
    run = run_inside("jobs.jsonl", "--simulate", "--batch", "--provider", provider)
    assert run.code == 0, run.err
    (row,) = shell.rows("jobs.simulated.jsonl")
    assert row["served_by"] == "batch"
    assert row["endpoint"].endswith("/messages" if provider == "anthropic" else "/chat/completions")


def test_simulation_of_a_provider_without_batches_is_refused(run_inside: Run, shell: Shell) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    run = run_inside("jobs.jsonl", "--simulate", "--batch", "--provider", "deepseek")
    assert (run.code, run.error) == (
        2,
        "no batch API is known at deepseek: leave out --batch, or give another --base-url",
    )


@pytest.mark.process  # it looks published prices up
def test_estimate_shows_both_prices_and_what_a_batch_does_not_take(run_inside: Run, shell: Shell) -> None:
    (shell.folder / "config.toml").write_text('[prices."gpt-4o-mini"]\ninput = 1.0\noutput = 1000.0\n')
    other = {"id": "own", "model": "gpt-4o-mini", "url": "/v1/messages", "prompt": "Hi", "max_tokens": 20}
    shell.write("jobs.jsonl", *chat_jobs(10), other)
    args = ("estimate", "jobs.jsonl", "--base-url", "https://api.openai.com/v1")
    found = json.loads(run_inside(*args, "--json").out)
    assert found["batch"]["price_factor"] == 0.5
    assert (found["batch"]["jobs"], found["batch"]["jobs_not_taken"]) == (10, 1)
    streamed, in_batches = found["models"][0]["cost_usd"]["at_most"], found["batch"]["cost_usd"]["at_most"]
    assert in_batches == pytest.approx(streamed / 2)
    text = run_inside(*args).out
    assert "50% of the price, within 24 hours: --batch" in text
    assert "without 1 job of API paths that a batch does not take" in text
    elsewhere = run_inside("estimate", "jobs.jsonl", "--provider", "deepseek")
    assert "in batches" not in elsewhere.out
