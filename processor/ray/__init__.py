"""Asks for the replies to the rows of a Ray Dataset (the extra ``ray-data``).

    import processor
    import ray
    from processor.ray import Ask, start_session

    session = start_session(processor.Settings(model="gpt-4o-mini"), journal="/shared/results.jsonl")
    dataset = ray.data.read_parquet("s3://bucket/prompts").map_batches(
        Ask, fn_constructor_kwargs={"session": session}, batch_size=64, concurrency=2, num_cpus=0.1
    )
    dataset.write_parquet("s3://bucket/replies")

All actors of ``Ask`` hand their jobs to one session, an actor that begins and ends with the program: it has the limits,
the budget and the journal for all of them.
"""

from processor.ray.ask import Ask
from processor.ray.shared_session import SharedSession, start_session

__all__ = ["Ask", "SharedSession", "start_session"]
