"""What another bulk tool takes: ``python deluge.py JOBS OUT BASE_URL CONCURRENCY``. lm-deluge, one JSON body each."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import lm_deluge
import orjson
from lm_deluge import Conversation, Message
from lm_deluge.models import register_model

MODEL = "benchmark"
KEY_VARIABLE = "BENCHMARK_KEY"
NO_LIMIT = 10**9


def conversation(line: bytes) -> Conversation:
    system, user = (message["content"] for message in orjson.loads(line)["body"]["messages"])
    return Conversation([Message.system(system), Message.user(user)])


async def main(jobs: str, out: str, base_url: str, concurrency: str) -> None:
    os.environ[KEY_VARIABLE] = "not-a-key"
    register_model(MODEL, "gpt-4o-mini", base_url, KEY_VARIABLE)
    client = lm_deluge.LLMClient(
        MODEL,
        max_requests_per_minute=NO_LIMIT,
        max_tokens_per_minute=NO_LIMIT,
        max_concurrent_requests=int(concurrency),
        progress="manual",
    )
    prompts = [conversation(line) for line in Path(jobs).read_bytes().splitlines()]
    replies = await client.process_prompts_async(prompts, show_progress=False)
    with open(out, "wb") as rows:
        for reply in replies:
            rows.write(orjson.dumps({"id": reply.id, "text": reply.completion}) + b"\n")
    assert not any(reply.is_error for reply in replies)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
