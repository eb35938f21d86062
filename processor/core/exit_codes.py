"""Exit codes of ``process``, for scripts."""

COMPLETE = 0
"""Every job has its reply."""
INCOMPLETE = 1
"""Some jobs have no reply; the errors file has the reasons."""
NOTHING_SENT = 2
"""Wrong usage or settings, missing key, unusable input or output."""
STOPPED = 3
"""The run stopped early: quota, key, outage or disk. The same command continues it."""
INTERNAL_ERROR = 70
"""A programming error of this package."""
INTERRUPTED = 130
"""A signal stopped the run. The same command continues it."""
