"""The formats of an export, and how one is chosen."""
