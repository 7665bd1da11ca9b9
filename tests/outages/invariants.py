"""What is true of the whole database at every moment, whatever was killed or stopped before."""

from adapters.postgres.audit import audit
from adapters.postgres.database import Database


async def assert_invariants(database: Database) -> None:
    """Assert all of it at one moment, naming what is not so and where."""
    found = {finding.invariant.sentence: finding.examples for finding in await audit(database)}
    assert {sentence: examples for sentence, examples in found.items() if examples} == {}
