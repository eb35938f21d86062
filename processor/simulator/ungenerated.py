"""Bodies of replies that hold no generated text: embeddings and moderations. Pure."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable
from random import Random
from typing import Any

from processor.core.models import JSON
from processor.simulator.request_parser import ApiKind, ParsedRequest
from processor.simulator.settings import SimulatorSettings

MakeBody = Callable[[ParsedRequest, SimulatorSettings, int], JSON]
"""Makes the body of the reply; the number is that of the prompt's tokens."""

_DIMENSIONS = 16
_CATEGORIES = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm"),
    *("self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic"),
)
_MAX_DIMENSIONS = 4096


def embeddings_body(request: ParsedRequest, settings: SimulatorSettings, prompt_tokens: int) -> JSON:
    """The same text has the same vector, as 32-bit floats."""
    dimensions = request.body.get("dimensions")
    count = dimensions if type(dimensions) is int and 0 < dimensions <= _MAX_DIMENSIONS else _DIMENSIONS
    as_base64 = request.body.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(request.prompts):
        rng = Random(f"{settings.seed}:{text}")
        packed = struct.pack(f"<{count}f", *(rng.uniform(-1, 1) for _ in range(count)))
        vector: Any = b64encode(packed).decode() if as_base64 else list(struct.unpack(f"<{count}f", packed))
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return {"object": "list", "data": data, "model": request.model, "usage": usage}


def moderations_body(request: ParsedRequest, settings: SimulatorSettings, prompt_tokens: int) -> JSON:
    """The same text has the same verdict; about one in ten is flagged. Replies of this API hold no usage."""
    results = []
    for text in request.prompts:
        rng = Random(f"{settings.seed}:{text}")
        scores = {name: round(rng.random() ** 32, 6) for name in _CATEGORIES}
        categories = {name: score > 0.7 for name, score in scores.items()}
        result = {"flagged": any(categories.values()), "categories": categories, "category_scores": scores}
        results.append({**result, "category_applied_input_types": {name: ["text"] for name in _CATEGORIES}})
    return {"id": f"modr-{request.identity.hex()[:24]}", "model": request.model, "results": results}


UNGENERATED: dict[ApiKind, MakeBody] = {"embeddings": embeddings_body, "moderations": moderations_body}
