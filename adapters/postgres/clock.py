"""The one clock that decides anything: the database's, on which programs whose own clocks differ agree."""

from datetime import datetime

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import Database, run_sql

_NOW = text("SELECT now()")


async def read_clock(session: AsyncSession) -> datetime:
    """The moment at which the session's commit began: the same however often it is asked for."""
    now: datetime = (await run_sql(session, _NOW)).scalar_one()
    return now


async def tell_time(database: Database) -> datetime:
    """This moment. Raises DatabaseOutOfReach."""
    async with database.call() as connection:
        now: datetime = (await connection.execute(_NOW)).scalar_one()
        return now
