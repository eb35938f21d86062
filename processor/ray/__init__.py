"""Asks for the replies to the rows of a Ray Dataset (the extra ``ray-data``).

    import processor
    import ray
    from processor.ray import Ask

    dataset = ray.data.read_parquet("s3://bucket/prompts").map_batches(
        Ask,
        fn_constructor_kwargs={"settings": processor.Settings(model="gpt-4o-mini"), "journal": "/shared/replies"},
        batch_size=64,
        concurrency=4,
        num_cpus=0.5,
    )
    dataset.write_parquet("s3://bucket/replies")

Each actor of ``Ask`` sends requests by itself. They share the limits of a key, with those of other programs of the
cluster, too, and the budget: an actor that all of them ask grants each request.
"""

from processor.ray.ask import Ask

__all__ = ["Ask"]
