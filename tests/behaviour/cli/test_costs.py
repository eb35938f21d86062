"""The cost of each reply in its row and in the summary."""

from __future__ import annotations

import json
from collections.abc import Callable

from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import ProgramResult, Server, Shell, chat_job
from tests.support.odd_server import Answer, OddServer, reply_to

Run = Callable[..., ProgramResult]
StartServer = Callable[[SimulatorSettings], Server]

PRICES = '[prices."gpt-4o-mini"]\ninput = 0.2\noutput = 0.4\n'


def test_row_has_its_cost_by_the_prices_of_the_settings_file(
    shell: Shell, run_inside: Run, start_server: StartServer
) -> None:
    start_server(INSTANT)
    shell.write("jobs.jsonl", chat_job("known"), chat_job("unknown", model="another-model"))
    (shell.folder / "config.toml").write_text(PRICES)
    assert run_inside("jobs.jsonl", "--out", "r.jsonl", "--summary-json", "s.json").code == 0
    rows = {row["custom_id"]: row for row in shell.rows("r.jsonl")}
    usage = rows["known"]["response"]["body"]["usage"]
    pico_usd = usage["prompt_tokens"] * 200_000 + usage["completion_tokens"] * 400_000
    assert rows["known"]["cost_usd"] == pico_usd / 1e12
    assert rows["unknown"]["cost_usd"] is None
    assert json.loads((shell.folder / "s.json").read_text())["cost_usd"] == pico_usd / 1e12


def test_cost_that_the_server_reports_wins(shell: Shell, run_inside: Run) -> None:
    def answer(request: dict[str, object]) -> Answer:
        reply = reply_to({**request, "stream": False})
        reply.body["usage"] = {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.125}
        return reply

    server = OddServer(answer)
    try:
        shell.environ |= {"OPENAI_BASE_URL": server.base_url}
        shell.write("jobs.jsonl", chat_job("a"))
        (shell.folder / "config.toml").write_text(PRICES)
        assert run_inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    finally:
        server.close()
    assert shell.rows("r.jsonl")[0]["cost_usd"] == 0.125


def test_prices_that_lack_one_are_refused(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    (shell.folder / "config.toml").write_text('[prices."m"]\ninput = 0.2\n')
    result = run_inside("jobs.jsonl", "--out", "r.jsonl")
    assert (result.code, len(server.requests)) == (2, 0)
    assert '[prices."m"] needs output' in result.error
