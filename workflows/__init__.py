"""The story of a top-up as Temporal workflows, and the names and policies it is told with."""
