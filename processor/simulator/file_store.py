"""The files that a simulated provider holds."""

from __future__ import annotations

from hashlib import blake2b

from processor.core.models import JSON

_OF_MISTRAL = {"sample_type": "batch_request", "source": "upload"}
"""Fields that only Mistral's API has. Clients of the others ignore them."""


class FileStore:
    """Files by id, the oldest first."""

    def __init__(self, epoch_s: float) -> None:
        self._epoch_s = epoch_s
        self._added = 0
        self.contents: dict[str, bytes] = {}
        self.about: dict[str, JSON] = {}
        """What the provider says about each file."""

    def add(self, data: bytes, purpose: str, at: float, file_name: str = "") -> JSON:
        """Keep a file, and return what the provider says about it."""
        name = f"file-{self._added:04d}{hash_of(data)}"
        self._added += 1
        self.contents[name] = data
        created_at = int(self._epoch_s + at)
        self.about[name] = {
            "id": name,
            "object": "file",
            "bytes": len(data),
            "created_at": created_at,
            "filename": file_name,
            "purpose": purpose,
            **_OF_MISTRAL,
        }
        return self.about[name]

    def delete(self, name: str) -> None:
        del self.contents[name], self.about[name]


def hash_of(data: bytes) -> str:
    """Eight hex digits that stand for the data."""
    return blake2b(data, digest_size=4).hexdigest()
