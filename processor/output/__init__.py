"""The journal: what is on disk decides what is done."""
