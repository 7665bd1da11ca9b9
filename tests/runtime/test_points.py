"""Stop points: a program stands at one until it is let go, goes on where nobody watches, and has none in production."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text

from adapters.postgres.database import Database, run_sql
from runtime.points import StopPoints, points_of, stop_at
from runtime.settings import Settings

FENCE = text("SELECT id FROM ledger_fence(:keys)")
IS_FENCED = text("SELECT EXISTS (SELECT FROM transfer WHERE id = 'topup_1:1')")


@dataclass
class Watch:
    """Whoever watches: what was heard, and where nobody may go on yet."""

    stop: str = ""
    heard: list[str] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    may_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let go at once, but at the stop only when it may."""
        self.heard.append((await reader.readline()).decode().strip())
        if self.heard[-1] == self.stop:
            self.reached.set()
            await self.may_go.wait()
        writer.write(b"go\n")
        writer.close()

    async def stands(self) -> None:
        """Wait until somebody stands at the stop."""
        async with asyncio.timeout(30):
            await self.reached.wait()


class Till:
    """A port with one deed that counts."""

    def __init__(self) -> None:
        self.taken = 0

    async def take(self, amount: int) -> int:
        """Take it."""
        self.taken += amount
        return self.taken


@pytest_asyncio.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    """Somebody who watches at `points`."""
    watch = Watch()
    server = await asyncio.start_unix_server(watch.hear, str(tmp_path / "points"))
    yield watch
    watch.may_go.set()
    server.close()


def name_take(amount: int) -> tuple[str, str]:
    return "take", str(amount)


class TestWithoutPoints:
    def test_a_port_is_itself(self) -> None:
        till = Till()

        points = points_of(Settings(database_url="postgresql:///"))

        assert stop_at(points, till, {"take": name_take}) is till


class TestAPoint:
    async def test_holds_the_program_before_the_deed_until_it_is_let_go(
        self, watch: Watch, tmp_path: Path
    ) -> None:
        till = Till()
        stopped = stop_at(StopPoints(tmp_path / "points"), till, {"take": name_take})

        watch.stop = "take:before 5"
        taking = asyncio.ensure_future(stopped.take(5))
        await watch.stands()
        before = till.taken
        watch.may_go.set()

        assert (before, await taking, till.taken) == (0, 5, 5)
        assert watch.heard == ["take:before 5", "take:after 5"]

    async def test_lets_the_program_go_on_where_nobody_watches(self, tmp_path: Path) -> None:
        stopped = stop_at(StopPoints(tmp_path / "nobody"), Till(), {"take": name_take})

        assert await stopped.take(5) == 5

    @pytest.mark.parametrize("what", ["a commit", "a statement that commits by itself"])
    async def test_stands_in_the_middle_of_what_nobody_else_sees_yet(
        self, watch: Watch, tmp_path: Path, database: Database, what: str
    ) -> None:
        points = points_of(
            Settings(
                environment="development", database_url="postgresql:///", stop_points=tmp_path / "points"
            )
        )
        assert points is not None
        watch.stop = "fence:during me"

        fencing = asyncio.ensure_future(
            points.around("fence", "me", lambda: fence(database, alone=what != "a commit"))
        )
        await watch.stands()
        seen_meanwhile = await is_fenced(database)
        watch.may_go.set()
        await fencing

        assert (seen_meanwhile, await is_fenced(database)) == (False, True)


async def fence(database: Database, *, alone: bool) -> None:
    """Take a draw's key, in a commit or by a statement that commits by itself."""
    arguments = {"keys": ["topup_1:1"]}
    if alone:
        async with database.call() as connection:
            await connection.execute(FENCE, arguments)
    else:
        async with database.commit() as session:
            await run_sql(session, FENCE, **arguments)


async def is_fenced(database: Database) -> bool:
    """Whether others see that the key is taken."""
    async with database.read() as session:
        return bool((await run_sql(session, IS_FENCED)).scalar_one())
