"""The running product as an outage meets it: its API, its programs, its database, and locks held from outside."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import LiteralString, TypeVar
from uuid import uuid4

import psycopg
from httpx2 import AsyncClient, Response
from psycopg.rows import TupleRow
from sqlalchemy import TextClause, text

from adapters.postgres.database import Database, run_sql
from adapters.postgres.tables import TopUpRow
from runtime.pids import identify, wait_until_gone
from runtime.stack import Stack
from tests.builders import Household, open_household
from topup.keys import draw_key

OUTAGE_SECONDS = 10.0

_PATIENCE_SECONDS = 90.0
_PAUSE_SECONDS = 0.05
_GONE_SECONDS = 10.0

_WAITERS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE :holder = ANY(pg_blocking_pids(pid)) AND query ILIKE :words"
)
_FAULT_TAKEN = text("SELECT count(*) FROM fault WHERE owner_id = :owner_id AND times = 0")
_TRANSFER = text("SELECT status FROM transfer WHERE id = :key")
_OPEN = text(
    "SELECT (SELECT count(*) FROM top_up WHERE state = 'in_progress') "
    "+ (SELECT count(*) FROM balance_event WHERE NOT judged) "
    "+ (SELECT count(*) FROM delivery WHERE status = 'pending')"
)

_Found = TypeVar("_Found")


async def until(fact: Callable[[], Awaitable[_Found]], *, within: float = _PATIENCE_SECONDS) -> _Found:
    """Wait until a fact is true, and give what was found; raises TimeoutError when it is not within these seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        found = await fact()
        if found:
            return found
        if loop.time() > deadline:
            message = f"not so within {within:.0f} seconds"
            raise TimeoutError(message)
        await asyncio.sleep(_PAUSE_SECONDS)


@dataclass(frozen=True, slots=True)
class Hold:
    """Rows locked by a commit of the test's own: whoever needs them waits inside PostgreSQL until they are released."""

    connection: psycopg.AsyncConnection[TupleRow]
    database: Database

    async def reached(self, words: str) -> None:
        """Wait until a statement with these words stands still at the lock."""
        holder = self.connection.info.backend_pid

        async def stands() -> bool:
            async with self.database.read() as session:
                found = await run_sql(session, _WAITERS, holder=holder, words=f"%{words}%")
                return bool(found.scalar_one())

        await until(stands)

    async def release(self) -> None:
        """Let everybody go on."""
        await self.connection.rollback()


@dataclass(frozen=True, slots=True)
class Product:
    """Everything that `make run` starts, and what a test does to it."""

    stack: Stack
    database: Database
    client: AsyncClient

    async def low_household(self, *, amount: str = "100", armed: bool = True) -> Household:
        """A wallet of 80 with a line at 50, and a rule over two sources: 60 USDT, then BTC worth 600."""
        home = await open_household(self.database, balance="80")
        await home.fund("60", "USDT")
        await home.fund("0.01", "BTC")
        await home.draw_up_rule(amount=amount, sources=("USDT", "BTC"), armed=armed)
        return home

    async def pay(self, home: Household, amount: str, *, key: str = "") -> Response:
        """Ask the API for a payment; the same key is the same payment."""
        body = {"wallet_id": home.wallet_id, "amount": amount}
        once = {"Idempotency-Key": key or str(uuid4())}
        return await self.client.post("/v1/ledger/payments", json=body, headers=once)

    async def spend(self, home: Household, amount: str = "45") -> None:
        """Pay, which has to work."""
        answer = await self.pay(home, amount)
        assert answer.status_code == 201, answer.text

    @asynccontextmanager
    async def hold(self, statement: LiteralString, *arguments: str) -> AsyncIterator[Hold]:
        """Lock what this statement names, until released or left."""
        connection = await psycopg.AsyncConnection.connect(self.stack.owner_url())
        try:
            cursor = await connection.execute(statement, arguments)
            assert cursor.rowcount
            yield Hold(connection, self.database)
        finally:
            await connection.close()

    def hold_source(self, home: Household) -> AbstractAsyncContextManager[Hold]:
        """Have draws from the first source stand still before they move anything."""
        return self.hold(
            "SELECT id FROM account WHERE owner_id = %s AND kind = 'funding' AND asset = 'USDT' FOR UPDATE",
            home.owner_id,
        )

    def hold_settling(self) -> AbstractAsyncContextManager[Hold]:
        """Have every top-up stand still in the middle of its settling."""
        return self.hold("LOCK TABLE draw IN SHARE MODE")

    def hold_rule(self, home: Household) -> AbstractAsyncContextManager[Hold]:
        """Have a watcher stand still in the middle of judging."""
        return self.hold("SELECT id FROM rule WHERE wallet_id = %s FOR NO KEY UPDATE", home.wallet_id)

    def hold_top_up(self, home: Household) -> AbstractAsyncContextManager[Hold]:
        """Have whoever writes to the only top-up stand still."""
        return self.hold("SELECT id FROM top_up WHERE wallet_id = %s FOR NO KEY UPDATE", home.wallet_id)

    async def claimed(self, home: Household) -> TopUpRow:
        """Wait until the household has a top-up, and give the first."""
        return (await until(home.top_ups))[0]

    async def ended(self, home: Household, *, count: int = 1) -> Sequence[TopUpRow]:
        """Wait until so many top-ups of the household have ended, and give all there are."""

        async def enough() -> Sequence[TopUpRow]:
            top_ups = await home.top_ups()
            return top_ups if [row.state for row in top_ups].count("ended") >= count else ()

        return await until(enough)

    async def fault_taken(self, home: Household) -> None:
        """Wait until a switched fault has met its draw."""
        await until(lambda: self._first(_FAULT_TAKEN, owner_id=home.owner_id))

    async def transfer(self, home: Household, rank: int = 1) -> str:
        """Wait until the key of the first top-up's draw is taken, and tell by what: moved, short, refused or void."""
        key = draw_key((await self.claimed(home)).id, rank)
        return str(await until(lambda: self._first(_TRANSFER, key=key)))

    async def quiet(self) -> None:
        """Wait until no top-up is in progress, every event is judged, and every owner is told."""

        async def nothing_open() -> bool:
            return await self._first(_OPEN) == 0

        await until(nothing_open)

    def pid(self, name: str) -> int:
        """The pid of a program that runs."""
        pid = self.stack.pid(name)
        assert pid is not None, f"{name} does not run"
        return pid

    def kill(self, name: str) -> None:
        """End a program by SIGKILL; it is gone when this returns, and the stack starts it again."""
        program = identify(self.pid(name))
        assert program is not None
        os.kill(program.pid, signal.SIGKILL)
        assert wait_until_gone(program, patience_seconds=_GONE_SECONDS)

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Stop a program by SIGSTOP, and let it go on unless it was killed meanwhile."""
        program = identify(self.pid(name))
        assert program is not None
        os.kill(program.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            if identify(program.pid) == program:
                os.kill(program.pid, signal.SIGCONT)

    @asynccontextmanager
    async def halted(self, name: str, *, kill: bool) -> AsyncIterator[None]:
        """Stop a program, by SIGKILL or as it is meant to be stopped, and start it again at the end."""
        await asyncio.to_thread(self.stack.halt, name, kill=kill)
        try:
            yield
        finally:
            await asyncio.to_thread(self.stack.resume, name)

    async def _first(self, statement: TextClause, **arguments: str) -> object:
        async with self.database.read() as session:
            return (await run_sql(session, statement, **arguments)).scalar()
