"""One bounded pool of connections to the product's database, and the wake-up calls to who waits for news."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, cast

from sqlalchemy import CursorResult, TextClause, text
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.url import engine_url

if TYPE_CHECKING:
    from sqlalchemy.pool import QueuePool

WAKE_CHANNEL = "tidemark_balance"
EVENT_CHANNEL = "tidemark_event"
_NOTIFY = text("SELECT pg_notify(channel, '') FROM unnest(CAST(:channels AS text[])) AS channel")
CONNECTION_BOUNDS: Mapping[str, str | int] = MappingProxyType(
    {
        "options": "-c lock_timeout=5s -c statement_timeout=15s -c idle_in_transaction_session_timeout=30s",
        "connect_timeout": 5,
        # A network that was cut says nothing: what was sent and not acknowledged for so long, or no sign of life from
        # the other end, ends the connection, and with it the wait of whoever is in it. A socket in the file system has
        # no such settings and needs none.
        "tcp_user_timeout": 20_000,
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
)
"""What every connection of every program is opened with: nothing in it waits for ever."""
_RECONNECT_PAUSE_SECONDS = 0.25


class DatabaseOutOfReach(Exception):
    """No connection could be had in time: nothing was sent."""


OUTAGES = (OperationalError, InterfaceError, InternalError, PoolExhausted, DatabaseOutOfReach, OSError)
"""What a database raises that cannot serve for now: out of reach, too slow, read-only, full, or failing inside, as it
tells of a disk whose error it has no code for. A defect of ours raises something else."""


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How many connections are in use, and how many there may be."""

    in_use: int
    most: int


async def run_sql(session: AsyncSession, statement: TextClause, **arguments: Any) -> CursorResult[Any]:
    """Run a plain statement in the session's commit, after what the session still has to write."""
    await session.flush()
    return await (await session.connection()).execute(statement, arguments)


class Database:
    """Connections, each with bounds on waiting; a lost one is noticed before it is used."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Use `Database.open`."""
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._to_wake: set[str] = set()
        self._waking = False

    @classmethod
    def open(cls, database_url: str, *, pool_size: int) -> Self:
        """Connect lazily; at most `pool_size` connections at once, callers wait up to ten seconds for one."""
        engine = create_async_engine(
            engine_url(database_url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=10,
            pool_pre_ping=True,
            hide_parameters=True,  # An error's text goes into the logs; what callers sent does not belong there.
            connect_args=dict(CONNECTION_BOUNDS),
        )
        return cls(engine)

    def pool_use(self) -> PoolUse:
        """How much of the pool is in use at this moment."""
        pool = cast("QueuePool", self._engine.pool)
        return PoolUse(in_use=pool.checkedout(), most=pool.size())

    async def close(self) -> None:
        """Give all connections back."""
        await self._engine.dispose()

    @asynccontextmanager
    async def commit(self) -> AsyncIterator[AsyncSession]:
        """A session whose work is committed whole when the block ends, or not at all."""
        async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that sees one moment of the database and can change nothing."""
        async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
            _ = await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            await run_sql(session, text("SET TRANSACTION READ ONLY"))
            yield session

    @asynccontextmanager
    async def call(self, *, wait: timedelta = timedelta()) -> AsyncIterator[AsyncConnection]:
        """A connection on which each statement commits by itself: one round trip for one stored procedure.

        Waits that long for the database to come within reach, then raises DatabaseOutOfReach; nothing was sent then.
        """
        connection = await self._reach(wait)
        try:
            yield connection
        finally:
            await connection.close()

    async def wake_watchers(self) -> None:
        """Tell the watchers that there is something to judge, and followers that there are new events.

        Only ever called after a commit, and never fails. Calls made while one is under way share the next one.
        """
        await self._wake(WAKE_CHANNEL, EVENT_CHANNEL)

    async def wake_followers(self) -> None:
        """Tell those who follow the public events that there are new ones; after a commit, and without fail too."""
        await self._wake(EVENT_CHANNEL)

    async def _wake(self, *channels: str) -> None:
        self._to_wake.update(channels)
        if self._waking:
            return
        self._waking = True
        try:
            while self._to_wake:
                waking, self._to_wake = sorted(self._to_wake), set()
                async with self._autocommit.connect() as connection:
                    await connection.execute(_NOTIFY, {"channels": waking})
        except (DBAPIError, PoolExhausted):
            self._to_wake.clear()  # They all look by themselves as well.
        finally:
            self._waking = False

    async def _reach(self, wait: timedelta) -> AsyncConnection:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait.total_seconds()
        while True:
            try:
                return await self._autocommit.connect()
            except OUTAGES as unreachable:
                if loop.time() >= deadline:
                    message = "the database could not be reached; nothing was sent"
                    raise DatabaseOutOfReach(message) from unreachable
                await asyncio.sleep(_RECONNECT_PAUSE_SECONDS)
