"""jobs.jsonl → Job: lines, formats, fingerprints. Lazy: nothing here holds more than one chunk of the file."""
