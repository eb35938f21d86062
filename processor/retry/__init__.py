"""What follows from a failed attempt: again, a failed row, or the end of the run. Pure; the only tenacity."""
