"""The report of one output as a self-contained HTML page: counted from its rows and its history, never from a run."""
