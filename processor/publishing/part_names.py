"""The names of the objects in the folder of a published output."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from processor.core.fast_dataclass import dataclass

Kind = Literal["replies", "errors"]

FIRST_GENERATION = 1
"""Replies have no other. Errors get a further one when rows are dropped: then only its parts count."""

_REPLIES = re.compile(r"part-(\d{6,})\.jsonl")
_ERRORS = re.compile(r"errors-(\d{3,})-(\d{6,})\.jsonl")
_LEASE = re.compile(r"lease-(\d{6,})\.json")


def part_name(kind: Kind, generation: int, number: int) -> str:
    """Return the name of a part; both numbers count from 1."""
    return f"part-{number:06}.jsonl" if kind == "replies" else f"errors-{generation:03}-{number:06}.jsonl"


def lease_name(number: int) -> str:
    """Return the name of the lease with this number, which counts from 1."""
    return f"lease-{number:06}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderContents:
    """What stands in the folder of a published output. Objects with other names are ignored."""

    parts: Mapping[Kind, Mapping[int, tuple[int, ...]]]
    """The numbers of the parts, ascending, by generation. A generation that does not have its first part is not whole:
    it is left out here."""
    newest_generation: int
    """Of the errors, whether whole or not; 0 where there is none."""
    leases: tuple[int, ...]
    """The numbers of the leases, ascending."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no part."""
        return not any(self.parts.values())

    def counting_generation(self, kind: Kind) -> int:
        """Return the generation whose parts count; 0 where there is none."""
        return max(self.parts[kind], default=0)

    def numbers(self, kind: Kind, generation: int) -> tuple[int, ...]:
        """Return the numbers of the parts of a generation, ascending."""
        return self.parts[kind].get(generation, ())


def contents_of(names: Iterable[str]) -> FolderContents:
    """Read the names of the objects in a folder."""
    replies: set[int] = set()
    errors: dict[int, set[int]] = {}
    leases: set[int] = set()
    for name in names:
        if match := _REPLIES.fullmatch(name):
            replies.add(int(match[1]))
        elif match := _ERRORS.fullmatch(name):
            errors.setdefault(int(match[1]), set()).add(int(match[2]))
        elif match := _LEASE.fullmatch(name):
            leases.add(int(match[1]))
    return FolderContents(
        parts={
            "replies": {FIRST_GENERATION: tuple(sorted(replies))} if replies else {},
            "errors": {generation: tuple(sorted(numbers)) for generation, numbers in errors.items() if 1 in numbers},
        },
        newest_generation=max(errors, default=0),
        leases=tuple(sorted(leases)),
    )
