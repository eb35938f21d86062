"""What a program reads: the names of its own arguments, and the numbers of its own jobs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import processor
from processor.config.price_settings import ModelPrices
from processor.core.errors import ConfigError
from processor.core.events import RequestListener, RunEvent
from processor.core.models import JSON, Job, Reply, Target
from tests.support.session_world import SETTINGS, Sessions, job, play

WORD_OF_THE_COMMAND_LINE = re.compile(r"--[a-z]|\bline \d")

PLAIN = replace(SETTINGS, model=None)
DEAR = replace(SETTINGS, prices={"m": ModelPrices(input=1.0, output=10_000.0)}, max_cost_usd=0.001)


def enter(settings: processor.Settings, journal: Path | None = None, environ: dict[str, str] | None = None) -> str:
    """The error of a session that cannot be entered."""

    async def main() -> str:
        with pytest.raises(ConfigError) as raised:
            await processor.Session(settings, journal=journal, environ=environ or {}).__aenter__()
        return str(raised.value)

    return play(main())


def test_session_that_cannot_be_entered_names_its_arguments(tmp_path: Path) -> None:
    assert enter(processor.Settings(provider="azure")).endswith("set base_url= or AZURE_OPENAI_ENDPOINT")
    assert enter(processor.Settings()).endswith("or name another variable with api_key_env=")
    (tmp_path / "diary.txt").write_text("dear diary\n")
    assert enter(SETTINGS, tmp_path / "diary.txt").endswith("give another journal=, or move it away")
    unencrypted = processor.Settings(base_url="http://host.example/v1", api_key_env="THE_KEY")
    assert enter(unencrypted, environ={"THE_KEY": "k" * 30}).endswith("allow it with allow_http=True")


def test_rows_and_events_of_a_session_name_its_arguments_and_its_jobs(tmp_path: Path) -> None:
    sessions = Sessions()

    async def main() -> list[JSON]:
        async with sessions.open(PLAIN) as session:
            rows = [await session.result({"prompt": "no model"})]
            rows.append(await session.result({"url": "https://elsewhere.example/v1/chat/completions", "body": {}}))
        async with sessions.open(DEAR, journal=tmp_path / "r.jsonl") as session:
            with pytest.raises(processor.RunStopped) as raised:
                await session.result(job(1, max_tokens=500))
        texts.append(str(raised.value))
        return rows

    texts: list[str] = []
    rows = play(main())
    errors = [row["error"]["message"] for row in rows]
    assert errors[0] == "names no model: give it one, or set model="
    assert errors[1].endswith("set base_url=")
    assert "does not suffice for the job in job 1" in texts[0]
    assert texts[0].endswith("run again with a larger max_cost_usd=")
    assert not [text for text in (*errors, *texts, repr(sessions.events)) if WORD_OF_THE_COMMAND_LINE.search(text)]


def test_run_of_a_plan_names_its_fields_and_the_lines_of_its_file(tmp_path: Path) -> None:
    async def refuse(job: Job, target: Target, on_event: RequestListener) -> Reply:
        raise AssertionError("nothing is sent")

    (tmp_path / "jobs.jsonl").write_text('{"prompt": "Hello", "max_tokens": 500}\n')

    def run(**more: Any) -> processor.Plan:
        out = str(tmp_path / "r.jsonl")
        return processor.Plan(jobs=str(tmp_path / "jobs.jsonl"), **{"out": out, "settings": SETTINGS, **more})

    events: list[RunEvent] = []
    with pytest.raises(ConfigError, match=r"^max_cost_usd= counts .*: give out=FILE rather than out='-'$"):
        processor.run(run(out="-", settings=DEAR), {}, transport=refuse)
    assert processor.run(run(settings=DEAR, quiet=True), {}, transport=refuse, listeners=[events.append]) == 3
    assert "job in line 1" in repr(events)
    assert "max_cost_usd=" in repr(events)
    assert "--" not in repr(events)
