"""A Python client, generated from the committed description, driving the real API."""
