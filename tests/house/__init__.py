"""The building itself: its plan, its contracts, its words, its settings, its migrations and its compose file."""
