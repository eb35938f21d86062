"""Opens the file system of an address, and gives its errors one type. fsspec is imported only here."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from processor.core.errors import ConfigError, reason
from processor.remote.addresses import EXTRAS, scheme_of, shown_address


def file_system(path: str, purpose: str = "read") -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path in it. Raises ConfigError where a package is missing."""
    scheme = scheme_of(path) or ""
    try:
        import fsspec

        with as_os_error():
            return fsspec.core.url_to_fs(path)  # type: ignore[no-any-return]
    except ImportError:
        remedy = f"pip install 'processor[{EXTRAS[scheme]}]'"
        raise ConfigError(f"cannot {purpose} {shown_address(path)}: {scheme}:// needs a package: {remedy}") from None
    except OSError as error:
        raise ConfigError(f"cannot {purpose} {shown_address(path)}: {reason(error)}") from None


@contextmanager
def as_os_error() -> Iterator[None]:
    """Raise what the libraries of the object stores raise, which has no common type, as an OSError."""
    try:
        yield
    except FileNotFoundError as error:
        why = f", or it cannot be reached: {error.__cause__}" if error.__cause__ else ""
        raise OSError(errno.ENOENT, f"there is no such file{why}") from None
    except (OSError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001
        text = str(error).strip() or type(error).__name__
        raise OSError(text.splitlines()[0].removesuffix(".")) from None
