"""Reads job files lazily: lines, formats, fingerprints. At most one chunk of the file is in memory."""
