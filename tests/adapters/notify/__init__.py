"""The channels, against real servers."""
