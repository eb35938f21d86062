"""Publishes the files of a run in an object store, in parts that never change.

A run with ``--out s3://bucket/results.jsonl`` works on results files of this machine, in a work folder. The rows that
they gain are copied to the folder ``s3://bucket/results.jsonl/``: replies to ``part-000001.jsonl`` and so on, failures
to ``errors-001-000001.jsonl`` and so on. Each part is created only where there is none of its name,
so that no program overwrites what another one has written. Of all replies with one id the last counts.

A *lease*, a small object that is renewed while a run is at work, keeps a second machine from starting. The *record*, a
file in the work folder, says up to which byte of the local files their rows stand in parts.

Whatever is killed at whichever step, the next run finds each row in a part or in the local files: a part is created
before the record says so, and local rows are dropped by compaction only after all of them were published. Where the
record is behind the parts, the rows of a part are compared with the local ones; at worst rows are published twice.
"""
