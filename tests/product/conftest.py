"""How hypothesis looks for counterexamples: the same examples each time, so that a check is no lottery."""

from hypothesis import settings

settings.register_profile("tidemark", derandomize=True, deadline=None, max_examples=200)
settings.load_profile("tidemark")
