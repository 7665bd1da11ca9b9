"""A hand in the tables, as no program of ours may have one: for what a test makes happen behind the product's back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import Database, run_sql
from runtime.embedded_postgres import SUPERUSER


def owner_of(database: Database) -> str:
    """The address of the same database, for who may do everything there."""
    url = database._engine.url.set(drivername="postgresql", username=SUPERUSER)
    return url.render_as_string(hide_password=False)


@asynccontextmanager
async def by_hand(database: Database) -> AsyncIterator[AsyncSession]:
    """A session that may do everything; its work is committed when the block ends."""
    owner = Database.open(owner_of(database), pool_size=1)
    try:
        async with owner.commit() as session:
            yield session
    finally:
        await owner.close()


async def waiting_for_a_lock(database: Database) -> None:
    """Return once some connection waits for another's commit."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    waiting = 0
    while not waiting:
        async with database.read() as session:
            waiting = (await run_sql(session, query)).scalar_one()
