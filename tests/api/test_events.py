"""The stream of events over a real socket: live, resumed without a gap, bounded, and ended when it has to be."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI
from httpx2 import AsyncClient, Response
from sqlalchemy import text

from activities.messages import Patience, SettleOrder
from adapters.postgres.database import Database, run_sql
from adapters.postgres.events import EventKind, Following, Position, drop_old_events
from adapters.postgres.keys import revoke_key
from adapters.postgres.top_ups import TopUpRecords
from api.events import EVENT_VIEWS
from api.scopes import Scope
from api.serving import Server
from api.streams import Streams
from tests.api.conftest import Caller, MakeCaller, build
from tests.hands import by_hand, waiting_for_a_lock
from tests.served import client_at
from topup.outcome import Reason, failed

Json = Any
PATIENCE_SECONDS = 60


@dataclass(slots=True)
class Told:
    """One message of a stream."""

    id: str = ""
    event: str = ""
    data: Json = None
    retry: str = ""
    comment: str = ""

    @classmethod
    def read(cls, block: str) -> "Told":
        """Read one block as the standard says."""
        told = cls()
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            match name:
                case "":
                    told.comment = value
                case "data":
                    told.data = json.loads(value)
                case "id" | "event" | "retry":
                    setattr(told, name, value)
                case _:
                    pytest.fail(f"{line!r} is no line of an event stream")
        return told


@dataclass(slots=True)
class Stream:
    """A stream that is open; what was read last is remembered as a browser would."""

    response: Response
    last_id: str = ""
    _blocks: AsyncIterator[str] | None = None
    _unread: list[str] = field(default_factory=list)

    async def next(self) -> Told | None:
        """The next message of any kind; None at the end."""
        self._blocks = self._blocks or self._read()
        async with asyncio.timeout(PATIENCE_SECONDS):
            block = await anext(self._blocks, None)
        if block is None:
            return None
        told = Told.read(block)
        self.last_id = told.id or self.last_id
        return told

    async def event(self) -> Told:
        """The next event, whatever comes before it."""
        while told := await self.next():
            if told.data is not None:
                return told
        pytest.fail("the stream ended")

    async def events(self, count: int) -> list[Told]:
        """The next events."""
        return [await self.event() for _ in range(count)]

    async def until_it_ends(self) -> list[Told]:
        """All that still comes."""
        rest = []
        while told := await self.next():
            rest.append(told)
        return rest

    async def _read(self) -> AsyncIterator[str]:
        kept = ""
        async for chunk in self.response.aiter_text():
            *blocks, kept = (kept + chunk).split("\n\n")
            for block in blocks:
                yield block


@dataclass(slots=True)
class Listening:
    """A served application, and how to listen to it."""

    app: FastAPI
    url: str
    server: uvicorn.Server

    @property
    def streams(self) -> Streams:
        """The application's streams."""
        streams: Streams = self.app.state.given.streams
        return streams

    async def all_closed(self) -> None:
        """Wait until the application has noticed that its readers are gone."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.streams._readers:  # noqa: ASYNC110 only its end tells
                await asyncio.sleep(0)

    @asynccontextmanager
    async def listen(self, caller: Caller, *, after: str = "", **params: str) -> AsyncIterator[Stream]:
        """An open stream."""
        headers = {"Authorization": caller.client.headers["Authorization"]}
        headers |= {"Last-Event-ID": after} if after else {}
        async with (
            client_at(self.url, headers=headers) as client,
            client.stream("GET", "/v1/events", params=params) as response,
        ):
            assert response.status_code == 200, await response.aread()
            yield Stream(response)


@asynccontextmanager
async def served(database: Database, url: str, **changed: Any) -> AsyncIterator[Listening]:
    """The application on a socket of its own, as `python -m api` serves it."""
    app = build(database, url=url, **changed)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none")
    server = Server(config, app.state.given.streams)
    serving = asyncio.create_task(server._serve(sockets=[listener]))
    try:
        yield Listening(app, f"http://127.0.0.1:{listener.getsockname()[1]}", server)
    finally:
        server.should_exit = True
        async with asyncio.timeout(PATIENCE_SECONDS):
            await serving
        listener.close()


@pytest_asyncio.fixture
async def listening(database: Database, database_url: str) -> AsyncIterator[Listening]:
    """The application, listening to the database's notifications; it polls too seldom to matter."""
    async with served(database, database_url, poll_interval=timedelta(minutes=1)) as listening:
        yield listening


class TestAStream:
    async def test_tells_what_happens_as_it_happens(self, listening: Listening, caller: Caller) -> None:
        owner_id = await caller.register_owner()
        wallet_id = await caller.open_wallet(owner_id)
        async with listening.listen(caller, owner_id=owner_id) as stream:
            first = await stream.next()
            await caller.deposit(wallet_id=wallet_id, amount="60")
            added = await stream.event()
            rule = await caller.create_rule(wallet_id)
            changed = await stream.event()

        assert first is not None
        assert (first.data, first.retry) == (None, "2000")
        assert first.id
        assert added.event == added.data["type"] == "wallet.balance_changed"
        assert added.data["id"].startswith("evt_")
        assert added.data["data"] == {
            "wallet_id": wallet_id,
            "currency": "USDT",
            "balance": "60.00",
            "version": 1,
            "change": "added",
        }
        assert changed.data["data"]["rule_id"] == rule["id"]
        assert changed.data["timestamp"].endswith("Z")

    async def test_has_the_headers_that_keep_it_flowing(self, listening: Listening, caller: Caller) -> None:
        async with listening.listen(caller, owner_id=await caller.register_owner()) as stream:
            headers = stream.response.headers

        assert headers["Content-Type"].startswith("text/event-stream")
        assert "no-cache" in headers["Cache-Control"] or "no-store" in headers["Cache-Control"]
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["X-Request-Id"].startswith("req_")

    async def test_tells_top_ups_and_rules_exactly_as_the_api_shows_them(
        self, listening: Listening, caller: Caller
    ) -> None:
        owner_id = await caller.register_owner()
        wallet_id = await caller.open_wallet(owner_id, balance="60")
        async with listening.listen(caller, owner_id=owner_id) as stream:
            rule = await caller.create_rule(wallet_id)
            changed = await stream.event()
            await caller.judge()
            await caller.pay(wallet_id, "20")
            (top_up_id,) = await caller.judge()
            await caller.database.wake_followers()
            _, started = await stream.events(2)
            shown_running = (await caller.get(f"/v1/top-ups/{top_up_id}")).json()
            ending = failed(Reason.INSUFFICIENT_BALANCE, "USDT")
            await TopUpRecords(caller.database, Patience()).settle(
                SettleOrder(top_up_id=top_up_id, draws=(), ending=ending)
            )
            ended = await stream.event()
            shown_ended = (await caller.get(f"/v1/top-ups/{top_up_id}")).json()
            await caller.change("DELETE", f"/v1/rules/{rule['id']}", version=1)
            deleted = await stream.event()

        told = changed.data["data"]
        assert (told["change"], told["rule_id"]) == ("created", rule["id"])
        assert {name: rule[name] for name in told if name in rule} == {
            name: value for name, value in told.items() if name not in ("change", "rule_id")
        }
        assert started.data["data"] == shown_running
        assert ended.data["data"] == shown_ended
        assert (deleted.data["data"]["change"], deleted.data["data"]["state"]) == ("deleted", "off")
        for message in (changed, started, ended, deleted):
            view = EVENT_VIEWS[EventKind(message.event)]
            body = {name: message.data[name] for name in ("type", "timestamp", "data")}
            assert view.model_validate(body).model_dump(mode="json") == body

    async def test_goes_on_where_its_reader_left_off(self, listening: Listening, caller: Caller) -> None:
        owner_id = await caller.register_owner()
        wallet_id = await caller.open_wallet(owner_id)
        async with listening.listen(caller, owner_id=owner_id) as stream:
            await stream.next()
            begin = stream.last_id
            await caller.deposit(wallet_id=wallet_id, amount="1")
            await stream.event()
        for amount in ("2", "3"):
            await caller.deposit(wallet_id=wallet_id, amount=amount)
        async with listening.listen(caller, after=stream.last_id, owner_id=owner_id) as resumed:
            missed = await resumed.events(2)
        async with listening.listen(caller, after=begin, owner_id=owner_id) as resumed:
            everything = await resumed.events(3)

        assert [told.data["data"]["balance"] for told in missed] == ["3.00", "6.00"]
        assert [told.data["data"]["balance"] for told in everything] == ["1.00", "3.00", "6.00"]

    async def test_goes_on_behind_its_header_even_where_its_address_says_earlier(
        self, listening: Listening, caller: Caller
    ) -> None:
        owner_id = await caller.register_owner()
        wallet_id = await caller.open_wallet(owner_id)
        async with listening.listen(caller, owner_id=owner_id) as stream:
            await stream.next()
            begin = stream.last_id
            await caller.deposit(wallet_id=wallet_id, amount="1")
            await stream.event()
        await caller.deposit(wallet_id=wallet_id, amount="1")
        headers = {"owner_id": owner_id, "after": begin}
        async with client_at(listening.url, headers=caller.client.headers) as client:
            request = client.stream(
                "GET", "/v1/events", params=headers, headers={"Last-Event-ID": stream.last_id}
            )
            async with request as response:
                event = await Stream(response).event()

        assert event.data["data"]["balance"] == "2.00"

    async def test_skips_nothing_when_commits_end_in_another_order_than_they_began(
        self, database: Database, database_url: str, caller: Caller
    ) -> None:
        owner_id = await caller.register_owner()
        write = text(
            "INSERT INTO event (id, owner_id, type, payload) VALUES (:id, :owner, 'rule.changed', '{}')"
        )
        async with (
            served(database, database_url, poll_interval=timedelta(seconds=5)) as listening,
            listening.listen(caller, owner_id=owner_id) as stream,
        ):
            await stream.next()
            async with database.commit() as early:
                await run_sql(early, write, id="evt_early", owner=owner_id)
                async with database.commit() as late:
                    await run_sql(late, write, id="evt_late", owner=owner_id)
                await database.wake_followers()
            events = await stream.events(2)

        assert [event.data["id"] for event in events] == ["evt_early", "evt_late"]

    async def test_is_woken_by_the_poll_when_no_notification_comes(
        self, database: Database, caller: Caller
    ) -> None:
        owner_id = await caller.register_owner()
        wallet_id = await caller.open_wallet(owner_id)
        deaf = "postgresql://nobody@127.0.0.1:1/nothing"
        async with (
            served(database, deaf, poll_interval=timedelta(milliseconds=50)) as listening,
            listening.listen(caller, owner_id=owner_id) as stream,
        ):
            await stream.next()
            await caller.deposit(wallet_id=wallet_id, amount="1")
            event = await stream.event()

        assert event.event == "wallet.balance_changed"

    async def test_shows_a_sign_of_life_while_nothing_happens(
        self, listening: Listening, caller: Caller
    ) -> None:
        listening.streams.heartbeat = timedelta(milliseconds=20)
        async with listening.listen(caller, owner_id=await caller.register_owner()) as stream:
            await stream.next()
            signs = [await stream.next() for _ in range(3)]

        assert [sign and sign.comment for sign in signs] == ["still here"] * 3

    async def test_reads_a_long_past_in_pieces_and_in_order(
        self, listening: Listening, caller: Caller
    ) -> None:
        owner_id = await caller.register_owner()
        async with listening.listen(caller, owner_id=owner_id) as stream:
            await stream.next()
        async with caller.database.commit() as session:
            await run_sql(
                session,
                text(
                    "INSERT INTO event (id, owner_id, type, payload) SELECT 'evt_' || n, :owner, 'rule.changed', "
                    "jsonb_build_object('n', n) FROM generate_series(1, 350) AS n"
                ),
                owner=owner_id,
            )
        async with listening.listen(caller, after=stream.last_id, owner_id=owner_id) as resumed:
            events = await resumed.events(350)

        assert [event.data["data"]["n"] for event in events] == list(range(1, 351))


class TestWhoMayListen:
    async def test_is_asked_for_an_owner_unless_the_key_has_one(
        self, listening: Listening, caller: Caller, caller_with: MakeCaller
    ) -> None:
        owner_id = await caller.register_owner()
        wallet_id = await caller.open_wallet(owner_id)
        bound = await caller_with(*Scope, owner_id=owner_id)
        refused = await caller.get("/v1/events")
        async with listening.listen(bound) as stream:
            await stream.next()
            await caller.deposit(wallet_id=wallet_id, amount="1")
            event = await stream.event()

        assert refused.status_code == 422
        assert [error["pointer"] for error in refused.json()["errors"]] == ["/query/owner_id"]
        assert event.data["data"]["wallet_id"] == wallet_id

    async def test_finds_no_other_owner(self, caller: Caller, caller_with: MakeCaller) -> None:
        own, other = await caller.register_owner(), await caller.register_owner()
        bound = await caller_with(*Scope, owner_id=own)

        for answer in (
            await bound.get("/v1/events", owner_id=other),
            await caller.get("/v1/events", owner_id="owner_nobody"),
        ):
            assert answer.status_code == 404
            assert answer.json()["code"] == "not_found"

    async def test_hears_nothing_of_any_other_owner(self, listening: Listening, caller: Caller) -> None:
        own, other = await caller.register_owner(), await caller.register_owner()
        own_wallet, other_wallet = await caller.open_wallet(own), await caller.open_wallet(other)
        async with listening.listen(caller, owner_id=own) as stream:
            await stream.next()
            await caller.deposit(wallet_id=other_wallet, amount="1")
            await caller.deposit(wallet_id=own_wallet, amount="2")
            event = await stream.event()

        assert event.data["data"]["wallet_id"] == own_wallet

    async def test_needs_the_scope_for_wallets(self, caller_with: MakeCaller) -> None:
        answer = await (await caller_with("rules:read")).get("/v1/events", owner_id="owner_1")

        assert answer.status_code == 403
        assert "wallets:read" in answer.json()["detail"]

    async def test_is_told_only_what_the_key_may_read(
        self, listening: Listening, caller: Caller, caller_with: MakeCaller
    ) -> None:
        owner_id = await caller.register_owner()
        wallet_id = await caller.open_wallet(owner_id)
        reader = await caller_with("wallets:read")
        async with listening.listen(reader, owner_id=owner_id) as stream:
            await stream.next()
            await caller.create_rule(wallet_id)
            await caller.deposit(wallet_id=wallet_id, amount="1")
            event = await stream.event()

        assert event.event == "wallet.balance_changed"


class TestAPlace:
    @pytest.mark.parametrize("token", ["nonsense", "1", "-", "0-0-0", "x" * 100])
    async def test_that_was_never_given_out_is_refused_naming_where_it_stands(
        self, caller: Caller, token: str
    ) -> None:
        owner_id = await caller.register_owner()
        in_query = await caller.get("/v1/events", owner_id=owner_id, after=token)
        in_header = await caller.client.get(
            "/v1/events", params={"owner_id": owner_id}, headers={"Last-Event-ID": token}
        )

        assert (in_query.status_code, in_header.status_code) == (422, 422)
        assert in_query.json()["errors"][0]["pointer"] == "/query/after"
        assert in_header.json()["errors"][0]["pointer"] == "/header/last-event-id"

    @pytest.mark.parametrize("token", ["nonsense", ""])
    async def test_that_was_never_given_out_is_refused_beside_one_that_was_too(
        self, listening: Listening, caller: Caller, token: str
    ) -> None:
        owner_id = await caller.register_owner()
        async with listening.listen(caller, owner_id=owner_id) as stream:
            await stream.next()

        answers = [
            await caller.client.get(
                "/v1/events",
                params={"owner_id": owner_id, "after": in_query},
                headers={"Last-Event-ID": in_header},
            )
            for in_query, in_header in ((token, stream.last_id), (stream.last_id, token), (token, token))
        ]

        named = [[error["pointer"] for error in answer.json()["errors"]] for answer in answers]
        assert [answer.status_code for answer in answers] == [422, 422, 422]
        assert named == [
            ["/query/after"],
            ["/header/last-event-id"],
            ["/header/last-event-id", "/query/after"],
        ]

    async def test_whose_events_are_no_longer_kept_is_refused_saying_what_to_do(
        self, listening: Listening, caller: Caller
    ) -> None:
        owner_id = await caller.register_owner()
        wallet_id = await caller.open_wallet(owner_id)
        async with listening.listen(caller, owner_id=owner_id) as stream:
            await stream.next()
        await caller.deposit(wallet_id=wallet_id, amount="1")
        late = datetime.now(UTC) + timedelta(days=31)
        await drop_old_events(caller.database, now=late, kept_for=timedelta(days=30))

        answer = await caller.get("/v1/events", owner_id=owner_id, after=stream.last_id)

        assert answer.status_code == 410
        assert answer.json()["code"] == "events_gone"
        assert "without an id" in answer.json()["detail"]

    async def test_unknown_parameters_are_refused(self, caller: Caller) -> None:
        answer = await caller.get("/v1/events", owner_id="owner_1", since="1")

        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/query/since"


class TestTheEndOfAStream:
    async def test_comes_when_its_key_is_revoked_and_nothing_is_told_after(
        self, listening: Listening, caller: Caller, caller_with: MakeCaller, database: Database
    ) -> None:
        owner_id = await caller.register_owner()
        wallet_id = await caller.open_wallet(owner_id)
        reader = await caller_with("wallets:read", name="to be revoked")
        async with listening.listen(reader, owner_id=owner_id) as stream:
            await stream.next()
            async with database.commit() as session:
                found = await run_sql(session, text("SELECT id FROM api_key WHERE name = 'to be revoked'"))
                await revoke_key(session, found.scalar_one(), at=datetime.now(UTC))
            await caller.deposit(wallet_id=wallet_id, amount="1")
            rest = await stream.until_it_ends()

        assert [told.data for told in rest if told.data] == []

    async def test_comes_by_itself_when_its_key_expires_and_nothing_happens(
        self, listening: Listening, caller: Caller, caller_with: MakeCaller
    ) -> None:
        listening.streams.heartbeat = timedelta(milliseconds=50)
        owner_id = await caller.register_owner()
        reader = await caller_with("wallets:read", expires_at=datetime.now(UTC) + timedelta(seconds=1))
        async with listening.listen(reader, owner_id=owner_id) as stream:
            rest = await stream.until_it_ends()

        assert [told.data for told in rest if told.data] == []
        assert (await reader.get("/v1/events", owner_id=owner_id)).status_code == 401

    async def test_comes_when_it_has_lasted_its_time(
        self, database: Database, database_url: str, caller: Caller
    ) -> None:
        owner_id = await caller.register_owner()
        async with (
            served(database, database_url, stream_lifetime=timedelta(milliseconds=100)) as listening,
            listening.listen(caller, owner_id=owner_id) as stream,
        ):
            rest = await stream.until_it_ends()

        assert rest[0].id

    async def test_comes_when_the_program_stops_without_keeping_it_waiting(
        self, database: Database, database_url: str, caller: Caller
    ) -> None:
        owner_id = await caller.register_owner()
        async with (
            served(database, database_url) as listening,
            listening.listen(caller, owner_id=owner_id) as stream,
        ):
            await stream.next()
            listening.server.should_exit = True
            await stream.until_it_ends()

    async def test_frees_its_place_when_its_reader_goes_away(
        self, database: Database, database_url: str, caller: Caller
    ) -> None:
        owner_id = await caller.register_owner()
        async with served(database, database_url, streams_per_key=1) as listening:
            for _ in range(3):
                async with listening.listen(caller, owner_id=owner_id) as stream:
                    await stream.next()
                await listening.all_closed()
            watching = listening.streams._watch

        assert watching is None


class TestTooManyStreams:
    async def test_of_one_key_are_refused_and_of_another_are_not(
        self, database: Database, database_url: str, caller: Caller, caller_with: MakeCaller
    ) -> None:
        owner_id = await caller.register_owner()
        other = await caller_with(*Scope)
        async with (
            served(database, database_url, streams_per_key=2) as listening,
            listening.listen(caller, owner_id=owner_id) as first,
            listening.listen(caller, owner_id=owner_id) as second,
            client_at(listening.url, headers=caller.client.headers) as client,
        ):
            await first.next()
            await second.next()
            refused = await client.get("/v1/events", params={"owner_id": owner_id})
            async with listening.listen(other, owner_id=owner_id) as third:
                opened = await third.next()

        assert refused.status_code == 429
        assert refused.json()["code"] == "too_many_streams"
        assert int(refused.headers["Retry-After"]) > 0
        assert opened is not None


class TestADatabaseOutOfReach:
    async def test_is_waited_for_by_streams_that_are_open(
        self, listening: Listening, caller: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        owner_id = await caller.register_owner()
        wallet_id = await caller.open_wallet(owner_id)
        listening.streams.heartbeat = timedelta(milliseconds=20)
        broken = Database.open("postgresql://nobody@127.0.0.1:1/nothing", pool_size=1)
        whole = listening.streams.database
        async with listening.listen(caller, owner_id=owner_id) as stream:
            await stream.next()
            monkeypatch.setattr(listening.streams, "database", broken)
            signs = [await stream.next() for _ in range(2)]
            monkeypatch.setattr(listening.streams, "database", whole)
            await caller.deposit(wallet_id=wallet_id, amount="1")
            event = await stream.event()
        await broken.close()

        assert [sign and sign.comment for sign in signs] == ["still here"] * 2
        assert event.event == "wallet.balance_changed"

    async def test_is_told_as_unavailable_before_a_stream_begins(self, caller: Caller) -> None:
        broken = Database.open("postgresql://nobody@127.0.0.1:1/nothing", pool_size=1)
        transport = httpx2.ASGITransport(app=build(broken))
        async with AsyncClient(
            transport=transport, base_url="http://tidemark.test", headers=caller.client.headers
        ) as client:
            answer = await client.get("/v1/events", params={"owner_id": "owner_1"})
        await broken.close()

        assert answer.status_code == 503


class TestTheWatch:
    async def test_has_given_its_connection_back_when_its_last_reader_has_left(
        self, database: Database, database_url: str
    ) -> None:
        watched = Database.open(database_url, pool_size=2)
        second = timedelta(seconds=1)
        streams = Streams(watched, database_url, per_key=1, lifetime=second, poll_interval=second)
        async with by_hand(database) as session:
            await run_sql(session, text("LOCK TABLE event_mark"))
            async with streams.open(Following("owner_01", (), "key_01"), Position(0, 0)):
                await waiting_for_a_lock(database)
                before = watched.pool_use().in_use
            after = watched.pool_use().in_use
        await watched.close()

        assert (before, after) == (1, 0)
