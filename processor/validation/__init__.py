"""Checks the output of a reply against a JSON Schema, in bounded time. The only place that imports jsonschema-rs."""
