"""Asks the operating system about processes of this machine."""

from __future__ import annotations

import os


def process_exists(process_id: int) -> bool | None:
    """Whether a process with this id runs now; None where the system cannot be asked."""
    if os.name != "posix":  # elsewhere os.kill would end it
        return None
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return None
    return True
