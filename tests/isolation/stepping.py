"""Several connections at once, one statement at a time: who may go next is chosen, and nothing is left to chance.

Each actor runs the product's own functions on a connection of its own, which stops before its statements and commits. A
step lets one actor go on until it stops again, has ended, or waits in PostgreSQL for a lock that another actor holds:
which of these it is, PostgreSQL itself is asked.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import psycopg
from psycopg.rows import TupleRow
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from adapters.postgres.database import Database
from adapters.postgres.url import engine_url

SEED = "ISOLATION_SEED"
"""Sampled orders are made from this number; a failure names it."""

# Longer than the product's own bounds: an order is a matter of steps here, not of seconds.
_BOUNDS = {"options": "-c lock_timeout=120s -c statement_timeout=120s"}
_GLANCE_SECONDS = 0.003
_WAITS = "SELECT pg_blocking_pids(%s) && %s::int[]"

Deed = Callable[[Database], Awaitable[Any]]
"""What one actor does; what it returns or raises is its result."""
Gate = Callable[[str], bool]
"""Whether to stop before this statement."""
Choice = Callable[[Sequence[int]], int]
"""Which of the actors that stand ready goes next."""


def every_statement(_statement: str) -> bool:
    """Stop before everything."""
    return True


def locks_and_ledger(statement: str) -> bool:
    """Stop before what takes locks that others wait for, and before a commit: few enough to run every order."""
    return any(word in statement for word in ("FOR NO KEY UPDATE", "ledger_", "hold_balance", "COMMIT"))


class SteppedDatabase(Database):
    """The product's database on one connection, which stops before each statement until it is let go on."""

    @classmethod
    def open_stepped(cls, url: str, actor: "Actor") -> Self:
        """Connect lazily."""
        engine = create_async_engine(engine_url(url), pool_size=1, max_overflow=0, connect_args=_BOUNDS)

        def before(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
            _stop(connection, actor, statement)

        def commit(connection: Connection) -> None:
            _stop(connection, actor, "COMMIT")

        event.listen(engine.sync_engine, "before_cursor_execute", before)
        event.listen(engine.sync_engine, "commit", commit)
        return cls(engine)

    @asynccontextmanager
    async def call(self, **_wait: object) -> AsyncIterator[AsyncConnection]:
        """As there, but with the commit as a step of its own, which it is inside PostgreSQL too."""
        async with self._engine.begin() as connection:
            yield connection

    async def _wake(self, *channels: str) -> None:
        """Nobody listens here."""


def _stop(connection: Connection, actor: "Actor", statement: str) -> None:
    driver: Any = connection.connection.dbapi_connection
    driver.run_async(lambda raw: actor.stop(raw.info.backend_pid, statement))


@dataclass(slots=True)
class Actor:
    """One connection and what it does: it runs, stands before a statement, or waits for another's lock."""

    name: str
    gate: Gate
    pid: int = 0
    stands_before: str | None = None
    came: asyncio.Event = field(default_factory=asyncio.Event)
    """It stands, or has ended."""
    task: "asyncio.Task[Any] | None" = None
    database: SteppedDatabase | None = None
    _on: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self, deed: Deed) -> None:
        """Let it do something new."""
        assert self.database is not None
        self.pid, self.stands_before = 0, None
        self.came.clear()
        self.task = asyncio.create_task(_outcome(deed(self.database)))
        self.task.add_done_callback(lambda _: self.came.set())

    async def stop(self, pid: int, statement: str) -> None:
        """Stand before the statement until let go on."""
        self.pid = pid
        if not self.gate(statement):
            return
        self._on.clear()
        self.stands_before = statement
        self.came.set()
        await self._on.wait()

    def go_on(self) -> str:
        """Let it run its statement, and tell which it is."""
        statement, self.stands_before = self.stands_before or "", None
        self.came.clear()
        self._on.set()
        return statement

    async def leave(self) -> None:
        """Give up whatever it is at, and its connection."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        assert self.database is not None
        await self.database.close()

    @property
    def ended(self) -> bool:
        """Whether it has nothing left to do."""
        return self.task is not None and self.task.done()


@dataclass(slots=True)
class Stage:
    """Actors on one database, and an eye on PostgreSQL's locks."""

    actors: tuple[Actor, ...]
    watching: psycopg.AsyncConnection[TupleRow]

    async def play(self, deeds: Sequence[Deed], choose: Choice) -> tuple[list[Any], list[str]]:
        """Run one deed for each actor, in the order chosen; their results, and the order in words.

        Fails when nobody can go on: that is a deadlock.
        """
        acting = self.actors[: len(deeds)]
        for actor, deed in zip(acting, deeds, strict=True):
            actor.begin(deed)
        told: list[str] = []
        while True:
            await self._come_to_rest(acting)
            ready = [number for number, actor in enumerate(acting) if actor.stands_before is not None]
            if not ready:
                break
            actor = acting[choose(ready)]
            told.append(f"{actor.name}: {' '.join(actor.go_on().split())[:90]}")
        if not all(actor.ended for actor in acting):
            raise AssertionError("\n".join(["nobody can go on:", *told]))
        return [actor.task.result() for actor in acting if actor.task is not None], told

    async def _come_to_rest(self, acting: Sequence[Actor]) -> None:
        """Wait until each actor has ended, stands, or waits for a lock of another one that is at rest."""
        at_rest: list[bool] = []
        while at_rest != (came := [actor.came.is_set() for actor in acting]):
            at_rest = came
            for actor in acting:
                await self._come(actor, [other.pid for other in acting])

    async def _come(self, actor: Actor, pids: Sequence[int]) -> None:
        while not actor.came.is_set() and not await self._waits(actor, pids):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(actor.came.wait(), _GLANCE_SECONDS)

    async def _waits(self, actor: Actor, pids: Sequence[int]) -> bool:
        if not actor.pid:
            return False
        row = await (await self.watching.execute(_WAITS, (actor.pid, list(pids)))).fetchone()
        return row is not None and bool(row[0])


async def _outcome(deed: Awaitable[Any]) -> Any:
    """What the deed gives, or raises."""
    try:
        return await deed
    except Exception as raised:  # noqa: BLE001 - whatever it is, it is what came of the deed
        return raised


@asynccontextmanager
async def open_stage(url: str, watching_url: str, names: str, gate: Gate) -> AsyncIterator[Stage]:
    """A stage with an actor of each name."""
    actors = tuple(Actor(name, gate) for name in names.split())
    for actor in actors:
        actor.database = SteppedDatabase.open_stepped(url, actor)
    try:
        async with await psycopg.AsyncConnection.connect(watching_url, autocommit=True) as watching:
            yield Stage(actors, watching)
    finally:
        for actor in actors:
            await actor.leave()


@dataclass(slots=True)
class Orders:
    """One order after the other: all there are, or as many as asked for, each made from the seed."""

    sampled: int = 0
    """How many orders are tried; 0 is every one."""
    seed: int = field(default_factory=lambda: int(os.environ.get(SEED) or random.randrange(2**32)))
    tried: int = 0
    _chosen: list[tuple[int, int]] = field(default_factory=list)
    _prefix: list[int] = field(default_factory=list)

    def __iter__(self) -> Self:
        """Begin."""
        return self

    def __next__(self) -> Choice:
        """The choices of the next order."""
        if self.tried and not self._advance():
            raise StopIteration
        self.tried += 1
        self._chosen = []
        if not self.sampled:
            return self._next_in_turn
        dice = random.Random(f"{self.seed} {self.tried}")
        return dice.choice

    def _next_in_turn(self, ready: Sequence[int]) -> int:
        place = len(self._chosen)
        which = self._prefix[place] if place < len(self._prefix) else 0
        self._chosen.append((which, len(ready)))
        return ready[which]

    def _advance(self) -> bool:
        """Turn to the next order that has not been run: the last choice that had another, taken otherwise."""
        if self.sampled:
            return self.tried < self.sampled
        while self._chosen and self._chosen[-1][0] + 1 >= self._chosen[-1][1]:
            self._chosen.pop()
        if not self._chosen:
            return False
        which, _ = self._chosen[-1]
        self._prefix = [chosen for chosen, _ in self._chosen[:-1]] + [which + 1]
        return True

    def told(self, order: Sequence[str]) -> str:
        """Which order failed, and how it is run again."""
        again = f"{SEED}={self.seed} makes the same orders again\n" if self.sampled else ""
        return f"order {self.tried}:\n{again}" + "\n".join(order)
