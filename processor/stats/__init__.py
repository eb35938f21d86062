"""Statistics of a run, collected from its events. Nothing here prints."""
