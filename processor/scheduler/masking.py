"""Removes secrets from what a request led to, once, before anything is made of it: rows, events, messages."""

from __future__ import annotations

from dataclasses import replace

from processor.core import json_bytes
from processor.core.errors import RequestError
from processor.core.models import Reply
from processor.core.secrets import has_secrets, holds_secret, mask_text, mask_values


def masked_reply(reply: Reply) -> Reply:
    """The reply without secrets; ``altered`` says ``key`` where there was one."""
    if not has_secrets():
        return reply
    request_id = reply.request_id and mask_text(reply.request_id)
    is_changed = request_id != reply.request_id
    if holds_secret(json_bytes.dumps(reply.body)):
        is_changed |= mask_values(reply.body)
    if not is_changed:
        return reply
    return replace(reply, request_id=request_id, altered=tuple(sorted({*reply.altered, "key"})))


def mask_error(error: RequestError) -> None:
    """Masks the secrets in an error: some servers repeat the key that they refuse."""
    error.__context__ = None  # the error of a decoder holds the bytes at which it failed
    error.args = tuple(mask_text(arg) if isinstance(arg, str) else arg for arg in error.args)
    mask_values(vars(error))
