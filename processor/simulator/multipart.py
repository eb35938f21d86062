"""Reads the parts of a form that carries a file. https://www.rfc-editor.org/rfc/rfc7578"""

from __future__ import annotations

import re

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')
_FILE_NAME = re.compile(rb'filename="([^"]*)"')
_NAME = re.compile(rb'[; ]name="([^"]*)"')


def form_fields(content_type: str, body: bytes) -> dict[str, bytes]:
    """Return the content of each field by its name, and ``filename``, that of the file; nothing where it is no form."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        return {}
    fields: dict[str, bytes] = {}
    for part in body.split(b"--" + found.group(1).encode())[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if name is not None:
            fields[name.group(1).decode()] = content.removesuffix(b"\r\n")
        if (file_name := _FILE_NAME.search(head)) is not None:
            fields["filename"] = file_name.group(1)
    return fields
