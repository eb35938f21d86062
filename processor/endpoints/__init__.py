"""The endpoints of a run, and the pool that picks one for each attempt."""
