"""A database whose clock runs ahead of every program's, or behind it, and jumps when told to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg import sql

from adapters.postgres.clock import tell_time
from adapters.postgres.database import Database
from tests.hands import owner_of

_BEGIN = """
CREATE SCHEMA elsewhen;
GRANT USAGE ON SCHEMA elsewhen TO PUBLIC;
CREATE FUNCTION elsewhen.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT pg_catalog.now()';
SET search_path = elsewhen, pg_catalog, public;
DO $$ DECLARE its record; BEGIN
    FOR its IN SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND column_default = 'pg_catalog.now()' OR column_default = 'now()'
    LOOP
        EXECUTE format('ALTER TABLE public.%I ALTER %I SET DEFAULT elsewhen.now()', its.table_name, its.column_name);
    END LOOP;
END $$;
"""
_JUMP = sql.SQL("CREATE OR REPLACE FUNCTION elsewhen.now() RETURNS timestamptz LANGUAGE sql STABLE AS {body}")


@dataclass(frozen=True, slots=True)
class Elsewhen:
    """The database, for programs whose own clocks say something else."""

    database: Database
    owner_url: str

    async def jump(self, ahead: timedelta) -> None:
        """Have the database's clock be so far ahead of the programs', from its next commit on."""
        body = f"SELECT pg_catalog.now() + interval '{ahead.total_seconds()} seconds'"
        async with await psycopg.AsyncConnection.connect(self.owner_url, autocommit=True) as connection:
            await connection.execute(_JUMP.format(body=sql.Literal(body)))

    async def now(self) -> datetime:
        """What the database's clock says."""
        return await tell_time(self.database)


@asynccontextmanager
async def open_elsewhen(url: str, *, ahead: timedelta) -> AsyncIterator[Elsewhen]:
    """The migrated database at this address, with a clock of its own that is so far ahead of the programs'."""
    database = Database.open(url, pool_size=5)
    owner_url = owner_of(database)
    async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as connection:
        await connection.execute(_BEGIN)
        path = sql.SQL("ALTER DATABASE {} SET search_path = elsewhen, pg_catalog, public")
        await connection.execute(path.format(sql.Identifier(connection.info.dbname)))
    elsewhen = Elsewhen(database, owner_url)
    await elsewhen.jump(ahead)
    yield elsewhen
    await database.close()
