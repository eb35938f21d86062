"""A transport is one callable: the scheduler works with any that reports its events and returns a reply or raises."""

from __future__ import annotations

import asyncio
from collections import Counter

from processor.core.errors import BadRequest, ConnectionLost, ServerError, Throttled
from processor.core.events import FirstToken, RequestListener, ResponseStarted, Sent, Transport
from processor.core.models import Job, Reply, Target
from tests.support.scheduler_world import KEY, World, short_job

FIRST_ATTEMPT_FAILS_WITH = {
    "job-1": Throttled("slow down", status=429, retry_after_s=5.0),
    "job-2": ServerError("oops", status=500),
    "job-3": ConnectionLost("gone", reused=True),
    "job-4": BadRequest("what?", status=400),
}


class ToyTransport:
    """Repeats the prompt after one second. The first attempt of some jobs fails."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()

    async def __call__(self, job: Job, target: Target, on_event: RequestListener) -> Reply:
        now = asyncio.get_running_loop().time
        self.attempts[job.custom_id] += 1
        on_event(Sent(now()))
        await asyncio.sleep(1.0)
        if self.attempts[job.custom_id] == 1 and job.custom_id in FIRST_ATTEMPT_FAILS_WITH:
            raise FIRST_ATTEMPT_FAILS_WITH[job.custom_id]
        on_event(ResponseStarted(200, {}, now()))
        on_event(FirstToken(now()))
        message = {"role": "assistant", "content": job.body["messages"][0]["content"]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return Reply(status_code=200, request_id=None, body={"object": "chat.completion", "choices": [choice]})


def test_jobs_sent_by_a_custom_transport_end_as_rows() -> None:
    world, toy = World(), ToyTransport()

    def use_toy(_: Transport) -> Transport:
        return toy

    ran = world.run([short_job(number) for number in range(10)], wrap_transport=use_toy)
    assert ran.exit_code == 1
    replies = {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in world.rows()}
    assert replies == {f"job-{number}": f"Question {number}?" for number in range(10) if number != 4}
    assert [(row["custom_id"], row["error"]["code"]) for row in world.failures()] == [("job-4", "rejected")]
    assert {name: count for name, count in toy.attempts.items() if count > 1} == {"job-1": 2, "job-2": 2, "job-3": 2}


def test_key_in_the_error_of_a_custom_transport_is_masked() -> None:
    world = World()

    async def refuse(job: Job, target: Target, on_event: RequestListener) -> Reply:
        on_event(Sent(asyncio.get_running_loop().time()))
        raise BadRequest(f"not with {KEY}", status=400, body={"key": KEY})

    run = world.run([short_job(1)], wrap_transport=lambda _: refuse)
    (row,) = world.failures()
    assert row["error"]["message"] == "not with •••"
    assert KEY not in str(row)
    assert not any(KEY in str(event) for event in run.events)
