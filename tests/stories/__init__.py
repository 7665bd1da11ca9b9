"""Stories: whole top-ups on a real Temporal and a real PostgreSQL."""
