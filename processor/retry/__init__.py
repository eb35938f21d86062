"""Decides what follows from a failed attempt of a job. The only place that uses tenacity; no I/O."""
