"""The demo: its stories from end to end, and that a story told wrongly is found out."""
