"""Adds replies to a Ray Dataset: ``ray_dataset.py ask|http|auto BASE_URL JOBS ACTORS IN_FLIGHT``.

``ask``: ``processor.ray.Ask`` with IN_FLIGHT as its concurrency; ``auto``: without. ``http``: the stage of Ray Data.
"""

import sys
from collections.abc import Callable
from typing import Any

import ray
from ray.data.llm import HttpRequestProcessorConfig, build_processor

import processor
from processor.ray import Ask


def main() -> None:
    kind, base_url, jobs, actors, in_flight = sys.argv[1:]
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    dataset = ray.data.from_items([{"n": number} for number in range(int(jobs))], override_num_blocks=8)
    if kind == "http":
        add_replies = by_http(base_url, int(actors))
    else:
        add_replies = by_ask(base_url, int(actors), int(in_flight) if kind == "ask" else "auto")
    rows = add_replies(dataset).take_all()
    assert len(rows) == int(jobs)


def by_ask(base_url: str, actors: int, concurrency: Any) -> Callable[[Any], Any]:
    settings = processor.Settings(base_url=base_url, model="m", concurrency=concurrency)
    return lambda dataset: dataset.map_batches(
        Ask,
        fn_constructor_kwargs={
            "settings": settings,
            "job_of": lambda row: {"id": str(row["n"]), "prompt": f"Question {row['n']}?"},
        },
        batch_size=64,
        concurrency=actors,
        num_cpus=0.5,
    )


def by_http(base_url: str, actors: int) -> Callable[[Any], Any]:
    config = HttpRequestProcessorConfig(url=f"{base_url}/chat/completions", concurrency=actors, batch_size=64)
    stage: Callable[[Any], Any] = build_processor(
        config,
        preprocess=lambda row: {
            "payload": {"model": "m", "messages": [{"role": "user", "content": f"Question {row['n']}?"}]}
        },
        postprocess=lambda row: {"reply": row["http_response"]["choices"][0]["message"]["content"]},
    )
    return stage


main()
