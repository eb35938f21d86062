"""Several endpoints over HTTP, as a user runs the program."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from processor.config.endpoint_resolution import resolve_endpoints
from processor.config.endpoint_settings import EndpointSettings
from processor.config.settings import Settings
from processor.config.settings_loading import load
from processor.core.errors import ConfigError
from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import KEY, ProgramResult, Server, Shell, chat_jobs

Run = Callable[..., ProgramResult]
StartServer = Callable[[SimulatorSettings], Server]


def configure(shell: Shell, *tables: str, first: str = "") -> None:
    text = first + "".join(f"[[endpoints]]\n{table}\n" for table in tables)
    (shell.folder / "config.toml").write_text(text, encoding="utf-8")


def test_jobs_are_shared_among_endpoints_that_are_named_in_banner_log_and_summary(
    shell: Shell, start_server: StartServer, run_inside: Run
) -> None:
    east, west = start_server(replace(INSTANT, rpm=60)), start_server(INSTANT)
    del shell.environ["OPENAI_BASE_URL"]
    configure(
        shell,
        f'name = "east"\nbase_url = "{east.base_url}"',
        f'name = "west"\nbase_url = "{west.base_url}"\nmodels = {{ "gpt-4o-mini" = "other" }}',
    )
    shell.write("jobs.jsonl", *chat_jobs(100))
    done = run_inside("jobs.jsonl", "--log-file", "log.jsonl", "--summary-json", "summary.json")
    assert done.code == 0, done.err
    rows = shell.rows("jobs.results.jsonl")
    assert len({row["custom_id"] for row in rows}) == 100
    models = {(row["endpoint"].startswith(east.base_url), row["asked_model"]) for row in rows}
    assert models == {(True, "gpt-4o-mini"), (False, "other")}
    assert f"east: {east.base_url}" in done.err and f"west: {west.base_url}" in done.err
    assert "east" in done.row("endpoints") and "west" in done.row("endpoints")
    assert {entry.get("endpoint") for entry in shell.rows("log.jsonl") if entry["event"] == "job_finished"} == {
        "east",
        "west",
    }
    summary = json.loads((shell.folder / "summary.json").read_text())
    assert sum(one["replies"] for one in summary["endpoints"].values()) == 100
    again = run_inside("jobs.jsonl")
    assert again.code == 0 and len(east.requests) + len(west.requests) == 100


def test_fallback_moves_on_from_an_endpoint_that_refuses_the_key(
    shell: Shell, start_server: StartServer, run_inside: Run
) -> None:
    east, west = start_server(replace(INSTANT, auth="refused")), start_server(INSTANT)
    del shell.environ["OPENAI_BASE_URL"]
    configure(shell, f'name = "east"\nbase_url = "{east.base_url}"', f'name = "west"\nbase_url = "{west.base_url}"')
    shell.write("jobs.jsonl", *chat_jobs(20))
    done = run_inside("jobs.jsonl", "--fallback")
    assert done.code == 0, done.err
    assert (len(east.requests), len(west.requests)) == (1, 20)


@pytest.mark.parametrize(
    ("tables", "flags", "message"),
    [
        (['name = "a"\nprovider = "openai"'], ["--base-url", "http://127.0.0.1:1/v1"], "--base-url or base_url cannot"),
        (['name = "a"\nprovider = "openai"'], ["--provider", "groq"], "--provider or provider cannot"),
        (['name = "a"\nprovider = "openai"', 'name = "a"\nprovider = "groq"'], [], "two endpoints have the name 'a'"),
        (['name = "a"'], [], "the endpoint 'a' must have a base_url or a provider"),
        (['provider = "openai"'], [], "endpoints[1] must have a name"),
        (['name = "a"\nprovider = "openai"\nrpn = 3'], [], "unknown setting endpoints[1].rpn; did you mean rpm?"),
        (['name = "a"\nprovider = "groq"'], [], "the endpoint 'a': no key: GROQ_API_KEY is not set"),
        ([], ["--fallback"], "--fallback needs several endpoints"),
        (
            [
                'name = "a"\nprovider = "openai"\nlimit_group = "g"\nrpm = 1',
                'name = "b"\nprovider = "openai"\nlimit_group = "g"',
            ],
            [],
            "the endpoints of the limit group 'g' share one set of limits",
        ),
    ],
)
def test_endpoints_that_cannot_be_used_are_refused_before_anything_is_sent(
    shell: Shell, run_inside: Run, tables: list[str], flags: list[str], message: str
) -> None:
    configure(shell, *tables)
    shell.environ["OPENAI_API_KEY"] = KEY
    shell.write("jobs.jsonl", *chat_jobs(1))
    done = run_inside("jobs.jsonl", *flags)
    assert done.code == 2
    assert message in done.error


def test_job_whose_model_no_endpoint_answers_is_no_job(
    shell: Shell, start_server: StartServer, run_inside: Run
) -> None:
    server = start_server(INSTANT)
    del shell.environ["OPENAI_BASE_URL"]
    configure(shell, f'name = "a"\nbase_url = "{server.base_url}"\nmodels = {{ "other" = "other" }}')
    shell.write("jobs.jsonl", *chat_jobs(1))
    assert run_inside("jobs.jsonl").code == 1
    (row,) = shell.rows("jobs.results.errors.jsonl")
    assert row["error"]["code"] == "invalid_job"
    assert "no endpoint answers the model 'gpt-4o-mini'" in row["error"]["message"]


def test_tables_of_one_file_override_the_single_endpoint_of_the_file_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own" / "processor"
    own.mkdir(parents=True)
    (own / "config.toml").write_text('provider = "groq"\n', encoding="utf-8")
    (tmp_path / "config.toml").write_text('[[endpoints]]\nname = "a"\nprovider = "openai"\n', encoding="utf-8")
    settings = load(None, {}, {"XDG_CONFIG_HOME": str(tmp_path / "own")})
    assert (settings.provider, [one.name for one in settings.endpoints]) == (None, ["a"])


def test_each_endpoint_gets_the_key_that_its_table_names() -> None:
    tables = (
        EndpointSettings(name="a", base_url="https://a.test/v1", api_key_env="KEY_A"),
        EndpointSettings(name="b", base_url="https://b.test/v1", api_key_env="KEY_B"),
    )
    environ = {"KEY_A": "a" * 20, "KEY_B": "b" * 20}
    keys = [access.target.key for access in resolve_endpoints(Settings(endpoints=tables), environ)]
    assert [key.value if key else None for key in keys] == ["a" * 20, "b" * 20]
    with pytest.raises(ConfigError, match="the endpoint 'b': no key"):
        resolve_endpoints(Settings(endpoints=tables), {"KEY_A": "a" * 20})


@pytest.mark.slow
@pytest.mark.process
def test_limits_of_each_endpoint_hold_over_http(shell: Shell, start_server: StartServer) -> None:
    """A window, a bucket, and two addresses of one account; how long it takes is measured by a benchmark."""
    servers = [start_server(replace(INSTANT, rpm=200, kind=kind)) for kind in ("sliding", "minute", "minute")]
    del shell.environ["OPENAI_BASE_URL"]
    account = [servers[2].base_url.replace("/v1", f"/{at}/v1") for at in range(2)]
    configure(
        shell,
        *(f'name = "e{at}"\nbase_url = "{server.base_url}"' for at, server in enumerate(servers[:2])),
        *(f'name = "a{at}"\nbase_url = "{url}"\nlimit_group = "account"' for at, url in enumerate(account)),
    )
    shell.write("jobs.jsonl", *chat_jobs(620))
    done = shell("jobs.jsonl", "--concurrency", "1000", "--quiet")
    assert done.code == 0, done.err
    assert len({row["custom_id"] for row in shell.rows("jobs.results.jsonl")}) == 620
    statuses = [Counter(entry["status"] for entry in server.requests) for server in servers]
    assert all(one[200] >= 190 for one in statuses), "each limit is used"
    assert sum(one[429] for one in statuses) <= 6, "one request in many may arrive late"
    assert {entry["path"].split("/")[1] for entry in servers[2].requests} == {"0", "1"}
