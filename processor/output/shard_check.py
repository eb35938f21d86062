"""Keeps the rows of different parts of the jobs in different outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from processor.core.errors import ConfigError
from processor.core.json_reading import fields_of, parsed
from processor.core.shards import Shard
from processor.core.text import setting_name
from processor.output.block_reader import read_lines
from processor.output.in_flight_log import InFlightLog
from processor.output.paths import OutputPaths
from processor.output.storage import Storage


def check_shard(storage: Storage, paths: OutputPaths, log: InFlightLog, shard: Shard | None) -> None:
    """Raise ConfigError where the output is for another part of the jobs; else record which one it is for.

    Where that is not recorded (the state file is new, or the rows are those of all jobs) the rows are read. Raises
    OSError.
    """
    if log.shard is not None and log.shard != shard:
        own = f"has no {setting_name('shard')}" if shard is None else f"has {setting_name('shard', shard)}"
        raise ConfigError(
            f"{paths.replies} is for {setting_name('shard', log.shard)}, and this run {own}: give that "
            f"{setting_name('shard')}, or another {setting_name('out')}"
        )
    if shard is None or log.shard is not None:
        return
    for path in (paths.replies, paths.failures):
        if any(not shard.holds(name) for name in _names(storage, path)):
            raise ConfigError(
                f"{path} has rows of jobs that are not in {setting_name('shard', shard)}: give another "
                f"{setting_name('out')}"
            )
    log.write_shard(shard)


def _names(storage: Storage, path: Path) -> Iterator[str]:
    """Yield what the shard of each row's job depends on: see ``Shard.holds``."""
    if not storage.exists(path):
        return
    with closing(storage.open(path, "read")) as file:
        for lines in read_lines(file, 0, file.size()):
            for row in map(fields_of, map(parsed, lines)):
                custom_id, fingerprint = row.get("custom_id"), row.get("id")
                if isinstance(custom_id, str) and not custom_id.startswith(f"{fingerprint}-"):
                    yield custom_id
                elif isinstance(fingerprint, str):
                    yield fingerprint
