"""Recognizes the address of a remote file, and what of it may be shown. Imports nothing slow."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from processor.core.errors import ConfigError
from processor.core.secrets import Secret

EXTRAS = {"s3": "s3", "gs": "gs", "az": "az", "hf": "hf", "https": "https"}
"""The schemes of addresses that are read, and the extra that installs what each needs."""
WRITABLE = {"s3", "gs", "az"}
"""Those that an export is written to, and results are published to."""


def scheme_of(path: str) -> str | None:
    """Return the scheme of a remote file that can be read; None for a file of this machine."""
    scheme, mark, _ = path.partition("://")
    return scheme.lower() if mark and scheme.lower() in EXTRAS else None


def is_writable(path: str) -> bool:
    """Whether an export can be written to this address, and results can be published there."""
    return scheme_of(path) in WRITABLE


def refuse_unknown_scheme(path: str) -> None:
    """Raises ConfigError for an address that no file of this machine is meant with."""
    scheme, mark, _ = path.partition("://")
    if mark and scheme.isalnum() and not Path(path).exists():
        known = ", ".join(f"{name}://" for name in EXTRAS)
        raise ConfigError(f"cannot read job files at {scheme}://: their addresses begin with {known}")


def shown_address(path: str) -> str:
    """Return an address without what may be a secret in it: a query, such as that of a signed address, and a password.

    From then on these are masked wherever they would be shown.
    """
    if scheme_of(path) is None:
        return path
    parts = urlsplit(path)
    host = parts.netloc.rpartition("@")[2]
    for secret in (parts.query, parts.password):
        if secret:
            Secret(secret)
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
