"""The application over a fresh database, called in its own loop; and callers with one key each."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest
import pytest_asyncio
from fastapi import FastAPI
from httpx2 import AsyncClient, Response
from psycopg import sql

from adapters.postgres.claims import Claims
from adapters.postgres.database import Database
from adapters.postgres.keys import create_key
from api.app import build_app
from api.scopes import Scope
from runtime.settings import Settings
from tests.conftest import address

Json = Any
TERMS: dict[str, Json] = {
    "threshold": "50.00",
    "amount": "100.00",
    "account": "funding",
    "sources": ["USDT", "USDC"],
}


async def temporal_answers() -> None:
    """A Temporal that is well."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One API key and what is done with it, in a few words."""

    client: AsyncClient
    database: Database

    async def get(self, path: str, **params: str | int) -> Response:
        return await self.client.get(path, params=params)

    async def post(self, path: str, body: Json = None, *, key: str | None = None, **headers: str) -> Response:
        sent = {**headers, **({"Idempotency-Key": key} if key else {})}
        return await self.client.post(path, json=body, headers=sent)

    async def change(self, method: str, path: str, body: Json = None, *, version: object = None) -> Response:
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        return await self.client.request(method, path, json=body, headers=headers)

    async def register_owner(self, name: str = "Ada") -> str:
        answer = await self.post("/v1/owners", {"name": name, "email": "ada@example.com"})
        return str(answer.json()["id"])

    async def open_wallet(
        self, owner_id: str | None = None, *, currency: str = "USDT", balance: str = ""
    ) -> str:
        owner_id = owner_id or await self.register_owner()
        answer = await self.post("/v1/wallets", {"owner_id": owner_id, "currency": currency})
        wallet_id = str(answer.json()["id"])
        if balance:
            await self.deposit(wallet_id=wallet_id, amount=balance)
        return wallet_id

    async def deposit(self, **body: Json) -> Response:
        return await self.post("/v1/ledger/deposits", body, key=str(uuid4()))

    async def fund(self, owner_id: str, asset: str, amount: str, account: str = "funding") -> None:
        await self.deposit(owner_id=owner_id, account=account, asset=asset, amount=amount)

    async def pay(self, wallet_id: str, amount: Json, *, key: str | None = None) -> Response:
        body = {"wallet_id": wallet_id, "amount": amount}
        return await self.post("/v1/ledger/payments", body, key=key or str(uuid4()))

    async def balance(self, wallet_id: str) -> str:
        return str((await self.get(f"/v1/wallets/{wallet_id}")).json()["balance"])

    async def create_rule(self, wallet_id: str, **changed: Json) -> Json:
        answer = await self.post("/v1/rules", {"wallet_id": wallet_id, **TERMS, **changed})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def judge(self) -> tuple[str, ...]:
        """Let the watcher judge all there is; the ids of the top-ups it claimed."""
        claimed: list[str] = []
        while (judged := await Claims(self.database).judge_waiting()).events:
            claimed += judged.claimed
        return tuple(claimed)

    async def fire(self, **changed: Json) -> tuple[Json, str]:
        """A rule whose top-up is in progress: the rule as it was made, and the top-up's id."""
        owner_id = await self.register_owner()
        await self.fund(owner_id, "USDT", "1000")
        wallet_id = await self.open_wallet(owner_id, balance="60")
        rule = await self.create_rule(wallet_id, **changed)
        await self.judge()
        await self.pay(wallet_id, "20")
        (top_up_id,) = await self.judge()
        return rule, top_up_id


MakeCaller = Callable[..., Awaitable[Caller]]


UNLIMITED = {"rate_limit": "1000000/second", "rate_limit_unauthenticated": "1000000/second"}


def build(
    database: Database,
    *,
    environment: str = "development",
    url: str = "postgresql:///unused",
    **changed: object,
) -> FastAPI:
    """The application over this database, with a Temporal that is well; tests ask more often than callers may."""
    given = {"environment": environment, "database_url": url, **UNLIMITED, **changed}
    settings = Settings.model_validate(given)
    return build_app(settings, database=database, reach_temporal=temporal_answers)


def client_of(app: FastAPI, key: str | None = None) -> AsyncClient:
    """A client of the application; without a key, nobody in particular."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    transport = httpx2.ASGITransport(app=app)
    return AsyncClient(transport=transport, base_url="http://tidemark.test", headers=headers)


@pytest.fixture
def app(database: Database) -> FastAPI:
    """The application as it runs in development."""
    return build(database)


@pytest_asyncio.fixture
async def nobody(app: FastAPI) -> AsyncIterator[AsyncClient]:
    """A client without a key."""
    async with client_of(app) as client:
        yield client


@pytest_asyncio.fixture
async def caller_with(app: FastAPI, database: Database) -> AsyncIterator[MakeCaller]:
    """Makes callers, each with a key of its own."""
    async with AsyncExitStack() as clients:

        async def make(
            *scopes: str, owner_id: str | None = None, expires_at: datetime | None = None, name: str = "test"
        ) -> Caller:
            key = await make_key(database, scopes, owner_id=owner_id, expires_at=expires_at, name=name)
            return Caller(await clients.enter_async_context(client_of(app, key)), database)

        yield make


@pytest_asyncio.fixture
async def caller(caller_with: MakeCaller) -> Caller:
    """A caller who may do everything."""
    return await caller_with(*Scope)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def steady(postgres_url: str, template: str) -> AsyncIterator[Caller]:
    """A caller who may do everything, on a database that lasts: for tests of refusals, of which there are many."""
    async with lasting(postgres_url, template, "steady") as database:
        key = await make_key(database, [*Scope])
        async with client_of(build(database), key) as client:
            yield Caller(client, database)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lasting_database(
    request: pytest.FixtureRequest, postgres_url: str, template: str
) -> AsyncIterator[Database]:
    """A database for all tests of one file."""
    async with lasting(postgres_url, template, request.node.path.stem) as database:
        yield database


@asynccontextmanager
async def lasting(postgres_url: str, template: str, name: str) -> AsyncIterator[Database]:
    """A pool on a migrated database of this name, which lasts as long as the server does."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        connection.execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
    database = Database.open(address(postgres_url, name), pool_size=10)
    yield database
    await database.close()


async def make_key(
    database: Database,
    scopes: Sequence[str],
    *,
    owner_id: str | None = None,
    expires_at: datetime | None = None,
    name: str = "test",
) -> str:
    """A new API key."""
    async with database.commit() as session:
        _, key = await create_key(session, name=name, scopes=scopes, owner_id=owner_id, expires_at=expires_at)
    return key
