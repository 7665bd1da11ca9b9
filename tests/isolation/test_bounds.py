"""Nothing waits without bound: every connection of every program is counted, and limits what it waits for."""

import ast
import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from sqlalchemy import text

from adapters.postgres.database import CONNECTION_BOUNDS, Database, DatabaseOutOfReach
from adapters.postgres.wakes import Wakes
from tests.house.building import shown, sources

BOUNDS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
PLACES = {
    ("adapters/postgres/database.py", "create_async_engine"),
    ("adapters/postgres/wakes.py", "psycopg.AsyncConnection.connect"),
    ("adapters/postgres/migrations/reach.py", "create_engine"),
}


async def bounds_of(database: Database) -> dict[str, str]:
    async with database.call() as connection:
        rows = await connection.execute(
            text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)"), {"names": list(BOUNDS)}
        )
        return {row.name: row.setting for row in rows}


class TestEveryConnection:
    async def test_limits_what_a_statement_a_lock_and_an_idle_commit_may_take(
        self, database: Database
    ) -> None:
        assert await bounds_of(database) == {
            "lock_timeout": "5000",
            "statement_timeout": "15000",
            "idle_in_transaction_session_timeout": "30000",
        }

    async def test_notices_a_network_that_was_cut(self) -> None:
        asked = {name: int(CONNECTION_BOUNDS[name]) for name in CONNECTION_BOUNDS if name != "options"}

        assert asked["tcp_user_timeout"] <= 20_000
        assert asked["keepalives"] == 1
        silence = asked["keepalives_idle"] + asked["keepalives_interval"] * asked["keepalives_count"]
        assert silence <= 30
        assert asked["connect_timeout"] <= 5

    async def test_hands_its_bounds_to_the_driver_also_by_a_socket_in_the_file_system(
        self, database: Database
    ) -> None:
        async with database.call() as connection:
            raw = await connection.get_raw_connection()
            given = raw.driver_connection
            assert isinstance(given, psycopg.AsyncConnection)
            asked = given.info.get_parameters()

        bounds = {name: str(value) for name, value in CONNECTION_BOUNDS.items()}
        assert {name: asked.get(name) for name in bounds} == bounds

    async def test_that_only_listens_has_them_too(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = []
        connect = psycopg.AsyncConnection.connect

        async def note(*arguments: object, **given: object) -> object:
            opened.append(given)
            return await connect(*arguments, **given)  # type: ignore[arg-type]

        monkeypatch.setattr(psycopg.AsyncConnection, "connect", note)
        wakes = Wakes(database_url, {"tidemark_balance": (asyncio.Event(),)})
        listening = asyncio.create_task(wakes.listen())
        async with asyncio.timeout(30):
            await wakes.connected.wait()
        listening.cancel()
        await asyncio.wait([listening])

        assert [CONNECTION_BOUNDS.items() <= given.items() for given in opened] == [True]

    def test_is_opened_in_a_place_that_is_known(self) -> None:
        found = set()
        for path in sources():
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    if called in ("create_async_engine", "create_engine") or (
                        "psycopg" in called and called.endswith(".connect")
                    ):
                        found.add((shown(path), called))

        assert found == PLACES


class TestAPool:
    async def test_never_grows_beyond_its_size(self, database_url: str) -> None:
        small = Database.open(database_url, pool_size=2)
        try:
            async with small.call(), small.call():
                use = small.pool_use()
                third = asyncio.create_task(small.call().__aenter__())
                done, _ = await asyncio.wait([third], timeout=0.2)
                assert not done
                third.cancel()
                await asyncio.wait([third])
        finally:
            await small.close()

        assert (use.in_use, use.most) == (2, 2)


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """A port where somebody takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


class TestAServerThatSaysNothing:
    async def test_is_not_waited_for_longer_than_a_few_seconds(self) -> None:
        async with silent() as port:
            database = Database.open(f"postgresql://tidemark@127.0.0.1:{port}/tidemark", pool_size=1)
            async with asyncio.timeout(60):
                with pytest.raises(DatabaseOutOfReach):
                    async with database.call():
                        pass
            await database.close()
