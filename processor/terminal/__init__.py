"""What a run prints to stderr: banner, progress, echo, summary, errors."""
