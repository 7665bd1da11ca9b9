"""The HTTP API against a real database."""
