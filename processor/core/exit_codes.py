"""What ``process`` says to scripts when it ends."""

COMPLETE = 0
"""Every job has its reply."""
INCOMPLETE = 1
"""Some have not: the errors file says why."""
NOTHING_SENT = 2
"""Wrong usage or settings, no key, no input, no output."""
STOPPED = 3
"""Early: quota, key, outage, disk. Run again to go on."""
INTERNAL_ERROR = 70
INTERRUPTED = 130
"""Run again to go on."""
