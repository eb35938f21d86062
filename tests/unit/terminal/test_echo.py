"""The echo of replies for ``--echo``."""

from __future__ import annotations

import io
from typing import Any

from processor.core.events import Delta, FirstToken, Sent
from processor.core.models import Failure, Job, Reply, Result, Timing, Usage
from processor.terminal.echo import Echo
from tests.support.terminal import FakeTerminal, without_escape_codes

JOB = Job(line=1, custom_id="r-1", fingerprint="f", path="/v1/chat/completions", model="m", body={})


def result(body: dict[str, Any] | None = None, failure: Failure | None = None, **more: Any) -> Result:
    reply = Reply(status_code=200, request_id=None, body=body or {})
    return Result(fingerprint="f", custom_id="r-1", line=1, reply=reply, failure=failure, **more)


def echoed(*steps: Any, stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    echo = Echo(stream)
    echo.begin(JOB)
    for step in steps[:-1]:
        echo.on_event(step)
    echo.end(steps[-1])
    return stream.getvalue()


def test_reply_is_printed_as_it_streams_with_its_durations() -> None:
    timing = Timing(started_at="", queued_s=0.0, first_token_s=0.31, total_s=2.4)
    usage = Usage(prompt_tokens=9, completion_tokens=2)
    ended = result(timing=timing, usage=usage)
    text = echoed(Sent(0.0), FirstToken(0.3), Delta("Good "), Delta("night."), ended)
    assert text == "── r-1\nGood night.\n── 0.31 s to the first token · 2.4 s in total · 2 tokens\n\n"


def test_reply_that_ends_with_a_newline_gets_no_second_one() -> None:
    assert echoed(Delta("Good night.\n"), Delta(""), result()) == "── r-1\nGood night.\n── \n\n"


def test_interrupted_attempt_is_separated_from_the_next() -> None:
    text = echoed(Sent(0.0), Delta("Goo"), Sent(1.0), Delta("Good"), result())
    assert text == "── r-1\nGoo\nreply interrupted, sent again\nGood\n── \n\n"


def test_failed_job_is_printed_with_its_error() -> None:
    text = echoed(Sent(0.0), result(failure=Failure(code="timeout", message="no byte\nfor 600 s")))
    assert text == "── r-1\nfailed: timeout: no byte for 600 s\n\n"


def test_reply_that_was_not_streamed_is_printed_at_the_end() -> None:
    timing = Timing(started_at="", queued_s=0.0, first_token_s=None, total_s=2.4)
    text = echoed(Sent(0.0), result({"choices": [{"message": {"content": "Hi."}}]}, timing=timing))
    assert text == "── r-1\nHi.\n── 2.4 s in total\n\n"


def test_control_characters_of_a_reply_do_not_reach_the_terminal() -> None:
    terminal = FakeTerminal()
    text = echoed(Delta("\x1b[2J\x07ok"), result(), stream=terminal)
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert without_escape_codes(text) == "── r-1\n�[2J�ok\n── \n\n"
