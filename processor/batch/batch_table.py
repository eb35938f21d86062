"""What the lines of the journal of batches mean: which batches are open, and which jobs are to be submitted again."""

from __future__ import annotations

from collections.abc import Callable

from processor.batch.open_batch import OpenBatch
from processor.batch.records import record_from_json
from processor.batch.sizes import BatchSize
from processor.core.job_keys import job_key
from processor.core.json_reading import fields_of, parsed
from processor.core.models import JSON


class BatchTable:
    """The state after the lines that it has been given."""

    def __init__(self) -> None:
        self.batches: dict[str, OpenBatch] = {}
        """By name: all that are open, or collected with files left at the provider."""
        self.again: dict[bytes, int] = {}
        """Keys of the jobs that are to be submitted again, and how often they have been submitted."""
        self.has_garbage = False
        """Whether lines are no longer needed."""

    def apply(self, line: JSON, at: int) -> None:
        """Take in a line that begins at this position. Raises KeyError, TypeError and ValueError where it is none."""
        kind = next(iter(line), "")
        _APPLY[kind](self, line[kind], line, at)

    def _on_begin(self, name: str, line: JSON, at: int) -> None:
        self.batches[name] = OpenBatch(name=name, path=line["path"], model=line["model"], address=line["address"])

    def _on_job(self, name: str, line: JSON, at: int) -> None:
        self.batches[name].offsets.append(at)
        if self.again and (key := job_key(record_from_json(line).custom_id)) in self.again:
            self.batches[name].keys_again.append(key)

    def _on_intend(self, name: str, line: JSON, at: int) -> None:
        batch = self.batches[name]
        batch.size = BatchSize(jobs=line["jobs"], bytes=line["bytes"], tokens=line["tokens"], inputs=line["inputs"])
        batch.intended_at, batch.state, batch.worst_pico = line["at"], "intended", line.get("worst_pico")
        for key in batch.keys_again:
            self.again.pop(key, None)
        batch.keys_again = []

    def _on_upload(self, name: str, line: JSON, at: int) -> None:
        self.batches[name].file_id, self.batches[name].state = line["file"], "uploaded"

    def _on_submit(self, name: str, line: JSON, at: int) -> None:
        batch = self.batches[name]
        batch.batch_id, batch.submitted_at, batch.state = line["batch"], line["at"], "submitted"
        batch.is_uncertain = batch.is_lost = False

    def _on_drop(self, name: str, line: JSON, at: int) -> None:
        del self.batches[name]
        self._on_again(name, {"jobs": line["again"]}, at)
        self.has_garbage = True

    def _on_collect(self, name: str, line: JSON, at: int) -> None:
        batch = self.batches[name]
        batch.state, batch.remote_files = "collected", tuple(line["files"])
        batch.offsets = batch.offsets[:0]
        self._on_again(name, {"jobs": line["again"]}, at)
        self.has_garbage = True

    def _on_remove(self, name: str, line: JSON, at: int) -> None:
        del self.batches[name]
        self.has_garbage = True

    def _on_again(self, name: str, line: JSON, at: int) -> None:
        self.again.update((bytes.fromhex(key), count) for key, count in line["jobs"])


_APPLY: dict[str, Callable[[BatchTable, str, JSON, int], None]] = {
    "begin": BatchTable._on_begin,
    "job": BatchTable._on_job,
    "intend": BatchTable._on_intend,
    "upload": BatchTable._on_upload,
    "submit": BatchTable._on_submit,
    "drop": BatchTable._on_drop,
    "collect": BatchTable._on_collect,
    "remove": BatchTable._on_remove,
    "again": BatchTable._on_again,
}
"""By the first key of a line."""


def is_step(raw: bytes) -> bool:
    """Whether a line is one that was synced, with all before it. Behind damage there is none after a loss of power."""
    kind = next(iter(fields_of(parsed(raw))), None)
    return kind in _APPLY and kind != "job"
