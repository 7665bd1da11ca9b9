"""A program killed between its write and its answer: the same request again, one effect and one answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import uuid4

import httpx2
import psycopg
import pytest
import pytest_asyncio
from httpx2 import Response
from sqlalchemy import text

from adapters.postgres.database import Database, run_sql
from api.scopes import Scope
from tests.api.conftest import TERMS, Caller, make_key
from tests.api.programs import Program, serving
from tests.hands import by_hand
from tests.served import client_at

REPLAYED = "Idempotency-Replayed"
PATIENCE_SECONDS = 180
PAUSE_SECONDS = 0.01

# The test's own switch at the very end of a commit: everything is written, and it waits to become true.
HOLD_COMMITS = """
CREATE FUNCTION hold_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(4711);
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER hold_commit AFTER UPDATE ON kept_answer
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold_commit();
"""
EFFECTS = text(
    "SELECT (SELECT count(*) FROM owner), (SELECT count(*) FROM wallet), (SELECT count(*) FROM rule), "
    "(SELECT count(*) FROM rule_revision), (SELECT count(*) FROM transfer), (SELECT count(*) FROM entry), "
    "(SELECT count(*) FROM balance_event), (SELECT count(*) FROM event), (SELECT count(*) FROM kept_answer), "
    "(SELECT count(*) FROM push_subscription), (SELECT sum(posted) FROM account WHERE kind = 'wallet')"
)
WAITS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid IN (SELECT pid FROM pg_locks WHERE NOT granted) AND query ILIKE %s"
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request with its Idempotency-Key, to be sent to whichever program lives."""

    path: str
    body: Any
    key: str
    once: str

    async def send(self, program: Program) -> Response:
        """Send it once."""
        async with client_at(program.url, timeout=PATIENCE_SECONDS) as client:
            headers = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": self.once}
            return await client.post(self.path, json=self.body, headers=headers)


@dataclass(frozen=True, slots=True)
class Watch:
    """What the test sees of the database while a program works, and the lock it holds."""

    connection: psycopg.AsyncConnection[Any]
    database: Database

    async def waiting(self, words: LiteralString, *, times: int = 1) -> None:
        """Wait until so many statements like these stand still at a lock."""
        async with await psycopg.AsyncConnection.connect(
            self.connection.info.dsn, password=self.connection.info.password, autocommit=True
        ) as other:

            async def stands() -> bool:
                row = await (await other.execute(WAITS, (words,))).fetchone()
                return row is not None and row[0] >= times

            await until(stands)

    async def effects(self) -> tuple[int, ...]:
        """What has been written, in numbers."""
        async with self.database.read() as session:
            return tuple((await run_sql(session, EFFECTS)).one())

    async def release(self) -> None:
        """Let go of the lock."""
        await self.connection.rollback()


async def until(fact: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a fact is true."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if await fact():
                return
            await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def locked(
    database: Database, database_url: str, statement: LiteralString, *arguments: str
) -> AsyncIterator[Watch]:
    """Hold what this statement locks until released or left."""
    connection = await psycopg.AsyncConnection.connect(database_url)
    try:
        await connection.execute(statement, arguments)
        yield Watch(connection, database)
    finally:
        await connection.close()


@pytest_asyncio.fixture
async def programs(database_url: str) -> AsyncIterator[tuple[Program, Program]]:
    """Two API programs on one database."""
    async with AsyncExitStack() as stack:
        first, second = await asyncio.gather(
            *(stack.enter_async_context(serving(database_url)) for _ in range(2))
        )
        yield first, second


@pytest_asyncio.fixture
async def requests(database: Database, caller: Caller) -> dict[str, Request]:
    """One request of each kind that writes, ready to be sent."""
    key = await make_key(database, [*Scope])
    owner_id = await caller.register_owner()
    wallet_id = await caller.open_wallet(owner_id, balance="100")
    elsewhere = {"owner_id": owner_id, "currency": "USDT", "kept": "elsewhere"}
    kept_elsewhere = (await caller.post("/v1/wallets", elsewhere)).json()["id"]
    report = {
        "balance": "9",
        "version": 1,
        "occurred_at": "2026-11-21T00:00:00Z",
        "wallet_id": kept_elsewhere,
    }
    bodies: dict[str, tuple[str, Any]] = {
        "payment": ("/v1/ledger/payments", {"wallet_id": wallet_id, "amount": "1"}),
        "refused payment": ("/v1/ledger/payments", {"wallet_id": wallet_id, "amount": "1000"}),
        "deposit": ("/v1/ledger/deposits", {"wallet_id": wallet_id, "amount": "1"}),
        "rule": ("/v1/rules", {"wallet_id": wallet_id, **TERMS}),
        "owner": ("/v1/owners", {"name": "Bo", "email": "bo@example.com"}),
        "balance events": (
            "/v1/balance-events",
            {"events": [{**report, "event_id": "a"}, {**report, "event_id": "b", "version": 2}]},
        ),
    }
    return {name: Request(path, body, key, once=str(uuid4())) for name, (path, body) in bodies.items()}


def lock_of_wallet(request: Request) -> tuple[LiteralString, str]:
    return "SELECT 1 FROM account WHERE wallet_id = %s FOR UPDATE", request.body["wallet_id"]


class TestAProgramKilled:
    @pytest.mark.parametrize("kind", ["payment", "refused payment", "rule", "balance events", "owner"])
    async def test_between_its_write_and_its_answer_leaves_both_to_the_next_one(
        self,
        database: Database,
        database_url: str,
        programs: tuple[Program, Program],
        requests: dict[str, Request],
        kind: str,
    ) -> None:
        first, second = programs
        request = requests[kind]
        async with by_hand(database) as session:
            await run_sql(session, text(HOLD_COMMITS))
        async with locked(database, database_url, "SELECT pg_advisory_xact_lock(4711)") as watch:
            before = await watch.effects()
            lost = asyncio.create_task(request.send(first))
            await watch.waiting("COMMIT%")
            first.stop()
            await watch.release()

            async def written() -> bool:
                return await watch.effects() != before

            await until(written)
            after = await watch.effects()
            await first.kill()
            with pytest.raises(httpx2.TransportError):
                await lost

            answers = [await request.send(second) for _ in range(3)]
            assert await watch.effects() == after
        assert {answer.headers.get(REPLAYED) for answer in answers} == {"true"}
        assert len({(answer.status_code, answer.content) for answer in answers}) == 1
        assert answers[0].status_code == {"refused payment": 409, "balance events": 202}.get(kind, 201)

    async def test_before_its_write_was_whole_leaves_nothing_of_it(
        self,
        database: Database,
        database_url: str,
        programs: tuple[Program, Program],
        requests: dict[str, Request],
    ) -> None:
        first, second = programs
        request = requests["payment"]
        async with locked(database, database_url, *lock_of_wallet(request)) as watch:
            before = await watch.effects()
            lost = asyncio.create_task(request.send(first))
            await watch.waiting("%ledger_cross%")
            await first.kill()
            with pytest.raises(httpx2.TransportError):
                await lost
            await watch.release()
            answer = await request.send(second)
            again = await request.send(second)

            after = await watch.effects()
        assert (answer.status_code, answer.headers.get(REPLAYED)) == (201, None)
        assert answer.json()["balance"] == "99.00"
        assert again.headers[REPLAYED] == "true"
        assert [new - old for old, new in zip(before, after, strict=True)] == [
            0, 0, 0, 0, 1, 2, 1, 1, 1, 0, -1_000_000,
        ]  # fmt: skip

    async def test_in_the_middle_of_its_commit_has_its_twin_wait_for_what_becomes_of_it(
        self,
        database: Database,
        database_url: str,
        programs: tuple[Program, Program],
        requests: dict[str, Request],
    ) -> None:
        first, second = programs
        request = requests["payment"]
        async with by_hand(database) as session:
            await run_sql(session, text(HOLD_COMMITS))
        async with locked(database, database_url, "SELECT pg_advisory_xact_lock(4711)") as watch:
            lost = asyncio.create_task(request.send(first))
            await watch.waiting("COMMIT%")
            await first.kill()
            twin = asyncio.create_task(request.send(second))
            await watch.waiting("%INSERT INTO kept_answer%")
            await watch.release()
            with pytest.raises(httpx2.TransportError):
                await lost

            answer = await twin
            repeated = await request.send(second)
        assert (answer.status_code, answer.headers.get(REPLAYED)) == (201, "true")
        assert answer.json()["balance"] == "99.00"
        assert repeated.content == answer.content


class TestTwinsAtTwoPrograms:
    async def test_have_one_effect_and_one_answer(
        self, caller: Caller, programs: tuple[Program, Program], requests: dict[str, Request]
    ) -> None:
        for request in requests.values():
            answers = await asyncio.gather(*(request.send(program) for program in programs * 10))

            assert len({(answer.status_code, answer.content) for answer in answers}) == 1
            assert [answer.headers.get(REPLAYED) for answer in answers].count(None) == 1
        wallet_id = requests["payment"].body["wallet_id"]
        assert await caller.balance(wallet_id) == "100.00"
        assert len((await caller.get("/v1/rules")).json()["data"]) == 1
