"""The real thing beside the model: the application over a database of its own, and whoever works at it."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

import psycopg
from psycopg import sql
from sqlalchemy import text

from adapters.postgres.claims import Claims
from adapters.postgres.database import Database, run_sql
from api.scopes import Scope
from tests.api.conftest import Caller, Json, build, client_of, make_key
from tests.api.model import TopUp
from tests.api.story import Story, begin_story
from tests.conftest import address
from tests.hands import by_hand

AGE_WAITING = text(
    "UPDATE balance_event SET recorded_at = recorded_at - interval '1 minute' WHERE NOT judged"
)
_numbers = count(1)


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Server:
    """Where each example gets a database of its own."""

    url: str
    template: str

    @contextmanager
    def database(self) -> Iterator[str]:
        """The address of a fresh database, dropped afterwards."""
        names = {
            "name": sql.Identifier(f"stateful_{next(_numbers)}"),
            "template": sql.Identifier(self.template),
        }
        self._administer(sql.SQL("CREATE DATABASE {name} TEMPLATE {template}").format(**names))
        yield address(self.url, names["name"].as_string().strip('"'))
        self._administer(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**names))

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


@dataclass(slots=True)
class Town:
    """The real thing: the application over its database, one caller who may do everything, and one owner."""

    database: Database
    caller: Caller
    owner_id: str
    stories: dict[str, Story] = field(default_factory=dict)

    async def judge(self, at: datetime, *, events_max: int, watchers: int) -> tuple[str, ...]:
        """Let watchers judge all there is at this moment; the top-ups they claimed."""
        claims = Claims(self.database, events_max=events_max, clock=lambda: at)
        claimed: list[str] = []

        async def watch() -> None:
            while (judged := await claims.judge_waiting()).events:
                claimed.extend(judged.claimed)

        await asyncio.gather(*[watch() for _ in range(watchers)])
        return tuple(claimed)

    async def neglect_a_minute(self) -> None:
        """A minute passes in which nobody judges."""
        async with by_hand(self.database) as session:
            await run_sql(session, AGE_WAITING)

    async def story(self, top_up: TopUp) -> Story:
        if top_up.id not in self.stories:
            self.stories[top_up.id] = await begin_story(self.database, top_up.id)
        return self.stories[top_up.id]

    async def list_all(self, path: str, *, limit: int = 100) -> list[Json]:
        """Everything on all pages, newest first."""
        found: list[Json] = []
        page: Json = {"next_cursor": "", "has_more": True}
        while page["has_more"]:
            after = {"after": page["next_cursor"]} if found else {}
            page = (await self.caller.get(path, limit=limit, **after)).json()
            found += page["data"]
        return found


async def open_town(url: str, exits: AsyncExitStack) -> Town:
    """A town with one owner."""
    database = Database.open(url, pool_size=5)
    exits.push_async_callback(database.close)
    key = await make_key(database, [*Scope])
    client = await exits.enter_async_context(client_of(build(database), key))
    caller = Caller(client, database)
    return Town(database, caller, await caller.register_owner())
