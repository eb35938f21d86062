"""Random job files, and what the contract says of each of their lines. Knows nothing but the contract."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Any

JSON = dict[str, Any]

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MAX_LINE_BYTES = 4000
UNKNOWN_MODEL = "no-such-model"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"properties": {"at": {}}, "required": ["at"]}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """One line of a job file. A job has a body; what is no job has a code."""

    number: int
    raw: bytes
    custom_id: str | None
    """For a job: the name it goes by."""
    path: str = CHAT
    body: JSON | None = None
    fingerprint: str = ""
    metadata: Any = None
    has_metadata: bool = False
    code: str | None = None

    @property
    def is_rejected(self) -> bool:
        """The provider refuses it, whenever it is asked."""
        return self.body is not None and (self.body["model"] == UNKNOWN_MODEL or self.body.get("max_tokens") == 0)


@dataclass(frozen=True, slots=True)
class JobFile:
    lines: tuple[JobLine, ...]

    @property
    def data(self) -> bytes:
        return b"".join(line.raw + b"\n" for line in self.lines)

    @property
    def jobs(self) -> list[JobLine]:
        return [line for line in self.lines if line.body is not None]

    @property
    def broken(self) -> list[JobLine]:
        return [line for line in self.lines if line.code is not None]


@dataclass(slots=True)
class DraftJob:
    """A line before it has its place: edits of a file are edits of its drafts."""

    entry: JSON | None
    """What is written, where it is JSON."""
    raw: bytes = b""
    custom_id: str | None = None
    path: str = CHAT
    body: JSON | None = None
    code: str | None = None


def draw(rng: Random, number: int) -> DraftJob:
    """A line of any kind: jobs in each shape, sometimes nonsense."""
    kind = rng.random()
    if kind < 0.05:
        return _invalid_line(rng)
    if kind < 0.08:
        return DraftJob(entry=None, raw=rng.choice((b"", b"  ", b"\r")))
    named = f"job-{number}" if rng.random() < 0.75 else None
    text = f"Question {number}?" if named or rng.random() < 0.4 else "Say anything."
    return shaped(rng, named, text)


def shaped(rng: Random, custom_id: str | None, text: str) -> DraftJob:
    """A job in one of the three shapes."""
    model = UNKNOWN_MODEL if rng.random() < 0.03 else "m"
    more = _parameters(rng) if rng.random() < 0.3 else {}
    about: JSON = {"metadata": {"said": text}} if rng.random() < 0.2 else {}
    messages = [{"role": "user", "content": text}]
    shape = rng.choice(("batch", "bare", "short", "completion"))
    if shape == "batch":
        body = {"model": model, "messages": messages, **more}
        name = {"custom_id": custom_id} if custom_id else {}
        return DraftJob({**name, "method": "POST", "url": CHAT, "body": body, **about}, custom_id=custom_id, body=body)
    name = {"id": custom_id} if custom_id else {}
    if shape == "bare":
        body = {"model": model, "messages": messages, **more}
        return DraftJob({**body, **name, **about}, custom_id=custom_id, body=body)
    if shape == "short":
        entry = {**name, "model": model, "prompt": text, "system": "Be brief.", **more, **about}
        body = {"model": model, **more, "messages": [{"role": "system", "content": "Be brief."}, *messages]}
        return DraftJob(entry, custom_id=custom_id, body=body)
    more.pop("tools", None)
    body = {"model": model, "prompt": text, **more}
    return DraftJob({**name, "url": COMPLETIONS, **body, **about}, custom_id=custom_id, path=COMPLETIONS, body=body)


def _parameters(rng: Random) -> JSON:
    return rng.choice(
        ({"n": 2}, {"max_tokens": 5}, {"stream": False}, {"stream": True}, {"tools": [TOOL]}, {"max_tokens": 0})
    ).copy()


def _invalid_line(rng: Random) -> DraftJob:
    code, raw = rng.choice(
        (
            ("invalid_json", b'{"prompt": '),
            ("not_an_object", b"[1, 2]"),
            ("invalid_job", b'{"id": "nobody", "model": "m"}'),
            ("not_utf8", b'{"prompt": "\xff\xfe"}'),
            ("line_too_long", b"%d" % rng.randrange(10) * (MAX_LINE_BYTES + 1)),
        )
    )
    return DraftJob(entry=None, raw=raw, code=code)


def job_file(drafts: list[DraftJob]) -> JobFile:
    """Names the unnamed, and finds the names that are taken."""
    taken: set[str] = set()
    twins: Counter[str] = Counter()
    return JobFile(tuple(_placed(number, draft, taken, twins) for number, draft in enumerate(drafts, 1)))


def _placed(number: int, draft: DraftJob, taken: set[str], twins: Counter[str]) -> JobLine:
    if draft.entry is None or draft.body is None:
        found = "nobody" if draft.code == "invalid_job" else None
        return JobLine(number=number, raw=draft.raw, custom_id=found, code=draft.code)
    raw = json.dumps(draft.entry).encode()
    metadata = draft.entry.get("metadata")
    mark = fingerprint(draft.path, draft.body, *([metadata] if draft.custom_id is None and metadata else []))
    name = draft.custom_id
    if name is None:
        twins[mark] += 1
        name = mark if twins[mark] == 1 else f"{mark}-{twins[mark]}"
    elif name in taken:
        return JobLine(number=number, raw=raw, custom_id=name, code="duplicate_custom_id")
    taken.add(name)
    return JobLine(
        number=number,
        raw=raw,
        custom_id=name,
        path=draft.path,
        body=draft.body,
        fingerprint=mark,
        metadata=metadata,
        has_metadata="metadata" in draft.entry,
    )


def fingerprint(*parts: Any) -> str:
    """As the contract has it: path, body without its stream flags, and what else is part of it."""
    path, body, *more = parts
    body = {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
    data = json.dumps([path, body, *more], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return blake2b(data.encode(), digest_size=16).hexdigest()


def edited(rng: Random, drafts: list[DraftJob]) -> list[DraftJob]:
    """Reordered, shortened, extended, with jobs that ask something else: what people do to a job file."""
    made = list(drafts)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(made)) if made else 0
        match rng.randrange(5):
            case 0 if len(made) > 2:
                del made[place]
            case 1:
                made.insert(place, draw(rng, rng.randrange(1000, 2000)))
            case 2:
                rng.shuffle(made)
            case 3 if made:
                made.append(made[place])
            case 4 if made and made[place].custom_id:
                made[place] = shaped(rng, made[place].custom_id, f"Edited {rng.randrange(100)}?")
    return made
