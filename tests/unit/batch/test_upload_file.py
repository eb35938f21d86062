"""The file with the jobs of a batch, until it is uploaded."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from processor.batch.anthropic_batches import AnthropicBatches
from processor.batch.openai_batches import OpenAiBatches
from processor.batch.upload_file import UploadFile
from processor.output.storage import LocalStorage
from processor.protocols import RequestOptions
from processor.simulator.memory_api_client import MemoryApiClient
from processor.simulator.provider import SimulatedProvider

LINES = [b'{"n":%d}' % number + b" " * 50_000 for number in range(30)]
"""1.5 MB: more than is held before it is written."""


@pytest.mark.parametrize(
    ("api", "content"),
    [
        (OpenAiBatches, b"\n".join(LINES) + b"\n"),
        (AnthropicBatches, b'{"requests":[' + b",".join(LINES) + b"]}"),
    ],
)
def test_jobs_are_written_in_pieces_for_their_owner_and_removed(
    tmp_path: Path, api: type[OpenAiBatches] | type[AnthropicBatches], content: bytes
) -> None:
    path = tmp_path / "b.upload"
    file = UploadFile(LocalStorage(), path, api(MemoryApiClient(SimulatedProvider()), RequestOptions()))
    for line in LINES:
        file.add(line)
    assert path.stat().st_size > len(content) - 300_000, "most of it is written before the last line is there"
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    body = file.finish()
    assert (body.size, body.read(0, body.size)) == (len(content), content)
    file.remove()
    assert not path.exists()
