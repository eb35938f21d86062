"""Turns a file of LLM requests into a file of replies."""
