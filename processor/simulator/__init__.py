"""A provider that bills nobody: its core without I/O, an HTTP face, a face in memory, and a virtual clock."""
