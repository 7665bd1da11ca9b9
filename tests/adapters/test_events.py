"""The public events on a real PostgreSQL: told in the change's own commit, once, and read so that none is skipped."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from psycopg import AsyncConnection
from sqlalchemy import text
from sqlmodel import select

from activities.messages import DrawOrder, Moved, Patience, SettleOrder
from adapters.postgres.claims import Claims
from adapters.postgres.database import EVENT_CHANNEL, WAKE_CHANNEL, Database, run_sql
from adapters.postgres.events import (
    EventKind,
    EventRecord,
    EventsGone,
    Following,
    KeyEnded,
    Position,
    PositionUnreadable,
    drop_old_events,
    find_position,
    mend_events,
    read_events,
    read_news,
    write_event,
)
from adapters.postgres.keys import create_key, revoke_key
from adapters.postgres.ledger import LedgerAccounts
from adapters.postgres.tables import Asset
from adapters.postgres.top_ups import TopUpRecords
from adapters.postgres.wakes import Wakes
from tests.builders import Household, open_household
from tests.hands import owner_of
from topup.keys import draw_key
from topup.money import ASSET_SCALES, Money
from topup.outcome import (
    DrawReason,
    DrawResult,
    DrawStatus,
    Ending,
    Reason,
    conclude,
    failed,
    not_drawn,
)
from topup.quote import Quote

NOWHERE = Position(0, 0)
NOTHING_ARRIVED = failed(Reason.SYSTEM_ERROR, "USDT")


async def key_of(database: Database) -> str:
    """The id of a new API key."""
    async with database.commit() as session:
        key_id, _ = await create_key(session, name="test", scopes=["wallets:read"])
    return key_id


async def told(database: Database, owner_id: str, after: Position = NOWHERE) -> Sequence[EventRecord]:
    """What can be read of the owner's events."""
    following = Following(owner_id, tuple(EventKind), await key_of(database))
    return await read_events(database, following, after=after, most=1000)


async def payloads(database: Database, home: Household, kind: EventKind) -> list[Any]:
    """What was told of this kind, oldest first."""
    return [event.payload for event in await told(database, home.owner_id) if event.kind is kind]


async def claim(database: Database, home: Household) -> str:
    """Judge what has happened; the id of the top-up that came of it."""
    (top_up_id,) = (await Claims(database).judge_waiting()).claimed
    assert [row.id for row in await home.top_ups()][-1] == top_up_id
    return top_up_id


async def draw(
    database: Database, home: Household, top_up_id: str, rank: int, asset: str, credit: str
) -> Any:
    """Draw from one source, one for one."""
    order = DrawOrder(
        top_up_id=top_up_id,
        rank=rank,
        key=draw_key(top_up_id, rank),
        owner_id=home.owner_id,
        account="funding",
        asset=asset,
        currency="USDT",
        wallet_id=home.wallet_id,
        credit=Money.parse(credit, "USDT"),
        quote=Quote(asset, "USDT", 1, 1),
    )
    return await LedgerAccounts(database).draw(order)


async def settle(database: Database, top_up_id: str, ending: Ending, *draws: DrawResult) -> None:
    """Settle with what a workflow would report."""
    records = TopUpRecords(database, Patience())
    await records.settle(SettleOrder(top_up_id=top_up_id, draws=draws, ending=ending))


async def open_dip(database: Database, *sources: str) -> tuple[Household, str]:
    """A household whose wallet has just fallen below its rule's threshold, and the claimed top-up."""
    home = await open_household(database, balance="60")
    await home.draw_up_rule(threshold="50", amount="100", sources=sources or ("USDT",))
    await home.spend("20")
    return home, await claim(database, home)


@pytest_asyncio.fixture
async def home(database: Database) -> Household:
    """An owner with an empty wallet."""
    return await open_household(database)


class TestTheAssets:
    async def test_of_the_database_are_those_of_the_registry(self, database: Database) -> None:
        async with database.read() as session:
            rows = (await session.exec(select(Asset))).all()

        assert {row.code: row.scale for row in rows} == dict(ASSET_SCALES)

    async def test_cannot_be_changed(self, database: Database) -> None:
        with (
            psycopg.connect(owner_of(database)) as connection,
            pytest.raises(psycopg.DatabaseError, match="written"),
        ):
            connection.execute("UPDATE asset SET scale = 2")

    def test_are_written_out_as_money_writes_them(self, database_url: str) -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:

            @given(st.sampled_from(sorted(ASSET_SCALES)), st.integers(0, 10**30))
            def agree(asset: str, units: int) -> None:
                (written,) = connection.execute(
                    "SELECT amount_text(%s::numeric, %s)", (units, asset)
                ).fetchone() or ("",)
                assert written == Money(asset, units).text

            agree()


class TestABalance:
    async def test_is_told_at_each_deposit_and_payment_in_the_commit_that_makes_it(
        self, database: Database, home: Household
    ) -> None:
        await home.add("60.5")
        await home.spend("20")
        await home.spend("1000")

        assert await payloads(database, home, EventKind.BALANCE_CHANGED) == [
            {
                "wallet_id": home.wallet_id,
                "currency": "USDT",
                "balance": balance,
                "version": version,
                "change": change,
            }
            for version, (balance, change) in enumerate([("60.50", "added"), ("40.50", "spent")], start=1)
        ]

    async def test_is_told_when_it_is_reported_and_not_when_the_report_is_stale(
        self, database: Database, home: Household
    ) -> None:
        await home.tell("12.00")
        await home.tell("13.00", stale=True)

        assert [told["balance"] for told in await payloads(database, home, EventKind.BALANCE_CHANGED)] == [
            "12.00"
        ]

    async def test_is_not_told_of_an_exchange_account(self, database: Database, home: Household) -> None:
        await home.fund("100", "USDT")

        assert await told(database, home.owner_id) == ()

    async def test_of_a_rolled_back_payment_is_not_told(self, database: Database, home: Household) -> None:
        async with database.commit() as session:
            await write_event(
                session, EventKind.BALANCE_CHANGED, owner_id=home.owner_id, payload={"balance": "1.00"}
            )
            await session.rollback()

        assert await told(database, home.owner_id) == ()


class TestATopUp:
    async def test_is_told_from_its_start_over_each_draw_to_its_end(self, database: Database) -> None:
        home, top_up_id = await open_dip(database, "USDT", "USDC", "BTC")
        await home.fund("60", "USDT")
        await home.fund("70", "USDC")
        first = await draw(database, home, top_up_id, 1, "USDT", "100")
        second = await draw(database, home, top_up_id, 2, "USDC", "40")
        draws = [
            DrawResult(1, "USDT", DrawStatus.SHORT, DrawReason.INSUFFICIENT, first.debited, first.credited),
            DrawResult(2, "USDC", DrawStatus.TRANSFERRED, None, second.debited, second.credited),
            not_drawn(3, "BTC", currency="USDT"),
        ]
        await settle(database, top_up_id, conclude(Money.parse("100", "USDT"), draws), *draws)

        kinds = [event.kind.value for event in await told(database, home.owner_id)]
        assert kinds == [
            "wallet.balance_changed",
            "wallet.balance_changed",
            "top_up.started",
            "top_up.draw_settled",
            "wallet.balance_changed",
            "top_up.draw_settled",
            "wallet.balance_changed",
            "top_up.ended",
        ]
        assert await payloads(database, home, EventKind.DRAW_SETTLED) == [
            {
                "top_up_id": top_up_id,
                "rank": 1,
                "asset": "USDT",
                "status": "short",
                "reason": "insufficient",
                "debited": "60.00",
                "credited": "60.00",
            },
            {
                "top_up_id": top_up_id,
                "rank": 2,
                "asset": "USDC",
                "status": "transferred",
                "reason": None,
                "debited": "40.00",
                "credited": "40.00",
            },
        ]
        (ended,) = await payloads(database, home, EventKind.TOP_UP_ENDED)
        assert (ended["outcome"], ended["credited"], len(ended["draws"])) == ("completed", "100.00", 3)

    async def test_starts_with_nothing_drawn(self, database: Database) -> None:
        home, top_up_id = await open_dip(database, "USDT", "BTC")

        (started,) = await payloads(database, home, EventKind.TOP_UP_STARTED)
        assert (started["id"], started["state"], started["outcome"]) == (top_up_id, "in_progress", None)
        assert [row["status"] for row in started["draws"]] == ["not_reached", "not_reached"]
        assert started["trigger"]["balance"] == "40.00"
        assert started["started_at"].endswith("Z")

    async def test_tells_of_a_draw_once_however_often_it_is_asked_and_settled(
        self, database: Database
    ) -> None:
        home, top_up_id = await open_dip(database)
        await home.fund("500", "USDT")
        asked = [draw(database, home, top_up_id, 1, "USDT", "100") for _ in range(8)]
        moved = (await asyncio.gather(*asked))[0]
        assert isinstance(moved, Moved)
        result = DrawResult(1, "USDT", DrawStatus.TRANSFERRED, None, moved.debited, moved.credited)
        for _ in range(3):
            await settle(database, top_up_id, conclude(Money.parse("100", "USDT"), [result]), result)

        kinds = Counter(event.kind for event in await told(database, home.owner_id))
        assert kinds[EventKind.DRAW_SETTLED] == kinds[EventKind.TOP_UP_ENDED] == 1

    @pytest.mark.parametrize(
        ("status", "reason"),
        [
            (DrawStatus.FAILED, DrawReason.REJECTED),
            (DrawStatus.CONFIRMED_NOT_MOVED, DrawReason.TIMED_OUT),
        ],
    )
    async def test_tells_of_a_draw_the_ledger_never_saw_when_it_is_settled(
        self, database: Database, status: DrawStatus, reason: DrawReason
    ) -> None:
        home, top_up_id = await open_dip(database)
        failing = not_drawn(1, "USDT", currency="USDT", status=status, reason=reason)
        await settle(database, top_up_id, NOTHING_ARRIVED, failing)

        (settled,) = await payloads(database, home, EventKind.DRAW_SETTLED)
        assert (settled["status"], settled["reason"], settled["credited"]) == (status, reason, "0.00")

    async def test_tells_of_no_draw_where_none_was_made(self, database: Database) -> None:
        home, top_up_id = await open_dip(database)
        await settle(database, top_up_id, NOTHING_ARRIVED)

        assert await payloads(database, home, EventKind.DRAW_SETTLED) == []
        assert len(await payloads(database, home, EventKind.TOP_UP_ENDED)) == 1


class _Writer:
    """A connection of its own, whose commits end when the test says so."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self.connection = connection

    async def tell(self, owner_id: str, event_id: str) -> None:
        await self.connection.execute(
            "INSERT INTO event (id, owner_id, type, payload) VALUES (%s, %s, 'rule.changed', '{}')",
            (event_id, owner_id),
        )


@pytest_asyncio.fixture
async def writers(database_url: str) -> AsyncIterator[tuple[_Writer, _Writer]]:
    """Two writers that know nothing of each other."""
    one, other = [await AsyncConnection.connect(database_url) for _ in range(2)]
    async with one, other:
        yield _Writer(one), _Writer(other)


class TestReading:
    async def test_skips_nothing_when_commits_end_in_another_order_than_they_began(
        self, database: Database, home: Household, writers: tuple[_Writer, _Writer]
    ) -> None:
        early, late = writers
        begin = await find_position(database, None)
        await early.tell(home.owner_id, "evt_early")
        await late.tell(home.owner_id, "evt_late")
        await late.connection.commit()
        before = await told(database, home.owner_id, begin)
        news = await read_news(database, since=begin.xact)
        await early.connection.commit()
        after = await told(database, home.owner_id, before[-1].position if before else begin)

        assert before == ()
        assert (news.owners, news.more) == (frozenset(), True)
        assert [event.id for event in after] == ["evt_early", "evt_late"]

    async def test_goes_on_behind_any_event_in_an_order_that_stays(
        self, database: Database, home: Household, writers: tuple[_Writer, _Writer]
    ) -> None:
        early, late = writers
        for number in range(3):
            await early.tell(home.owner_id, f"evt_early{number}")
            await late.tell(home.owner_id, f"evt_late{number}")
        await late.connection.commit()
        await early.connection.commit()
        everything = await told(database, home.owner_id)

        assert len(everything) == 6
        for place, event in enumerate(everything):
            assert await told(database, home.owner_id, event.position) == everything[place + 1 :]

    async def test_misses_nothing_while_many_commit_at_once(self, database: Database) -> None:
        homes = [await open_household(database, balance="1000") for _ in range(4)]
        owner = homes[0].owner_id
        following = Following(owner, tuple(EventKind), await key_of(database))
        seen: list[str] = []
        done = asyncio.Event()

        async def follow() -> None:
            position = NOWHERE
            while not done.is_set() or await read_events(database, following, after=position, most=1):
                for event in await read_events(database, following, after=position, most=3):
                    seen.append(event.id)
                    position = event.position

        async def write(number: int) -> None:
            async with database.commit() as session:
                await run_sql(session, text("SELECT pg_current_xact_id()"))
                await asyncio.sleep(0)
                await write_event(session, EventKind.RULE_CHANGED, owner_id=owner, payload={"number": number})

        async def write_all() -> None:
            for batch in range(10):
                await asyncio.gather(*[write(batch * 6 + number) for number in range(6)])
            done.set()

        await asyncio.gather(follow(), write_all())

        everything = [event.id for event in await told(database, owner)]
        assert len(everything) == 61
        assert seen == everything

    async def test_shows_one_owner_nothing_of_another(self, database: Database, home: Household) -> None:
        other = await open_household(database, balance="10")
        await home.add("1")

        assert len(await told(database, home.owner_id)) == len(await told(database, other.owner_id)) == 1

    async def test_shows_only_the_kinds_that_are_asked_for(self, database: Database) -> None:
        home, _ = await open_dip(database)
        following = Following(home.owner_id, [EventKind.TOP_UP_STARTED], await key_of(database))

        events = await read_events(database, following, after=NOWHERE, most=10)

        assert [event.kind for event in events] == [EventKind.TOP_UP_STARTED]

    async def test_ends_with_the_key(self, database: Database, home: Household) -> None:
        await home.add("1")
        following = Following(home.owner_id, tuple(EventKind), await key_of(database))
        async with database.commit() as session:
            await revoke_key(session, following.reader_id, at=datetime.now(UTC))

        with pytest.raises(KeyEnded):
            await read_events(database, following, after=NOWHERE, most=10)

    async def test_begins_with_what_happens_from_now_on(self, database: Database, home: Household) -> None:
        await home.add("1")
        begin = await find_position(database, None)
        await home.add("2")

        assert [event.payload["balance"] for event in await told(database, home.owner_id, begin)] == ["3.00"]

    async def test_tells_who_has_news(self, database: Database, home: Household) -> None:
        begin = await find_position(database, None)
        await open_household(database, balance="0")
        nothing = await read_news(database, since=begin.xact)
        await home.add("2")
        news = await read_news(database, since=nothing.settled)

        assert nothing.owners == frozenset()
        assert (news.owners, news.more) == (frozenset({home.owner_id}), False)
        assert (await read_news(database, since=news.settled)).owners == frozenset()


class TestAPosition:
    @given(st.integers(0, 2**64 - 1), st.integers(0, 2**60 - 1))
    def test_travels_as_text(self, xact: int, seq: int) -> None:
        position = Position(xact, seq)

        assert Position.parse(str(position)) == position

    @pytest.mark.parametrize(
        "token", ["", "-", "1", "1-", "-1", "1-2-3", "g-1", "1 -1", "1" * 17 + "-1", "\u0661-1"]
    )
    def test_that_was_never_given_out_is_refused(self, token: str) -> None:
        with pytest.raises(PositionUnreadable):
            Position.parse(token)

    async def test_from_another_database_is_not_known_here(self, database: Database) -> None:
        with pytest.raises(EventsGone):
            await find_position(database, Position(2**62, 1))

    async def test_may_be_the_largest_there_is(self, database: Database) -> None:
        with pytest.raises(EventsGone):
            await find_position(database, Position(2**64 - 1, 2**60 - 1))


class TestOldEvents:
    async def test_are_dropped_and_whoever_wanted_to_go_on_from_before_them_is_told(
        self, database: Database, home: Household
    ) -> None:
        begin = await find_position(database, None)
        await home.add("1")
        await home.add("2")
        first, second = await told(database, home.owner_id)
        dropped = await drop_old_events(
            database, now=first.at + timedelta(days=30, microseconds=1), kept_for=timedelta(days=30)
        )

        assert dropped == 1
        assert await told(database, home.owner_id) == (second,)
        with pytest.raises(EventsGone):
            await find_position(database, begin)
        for kept in (first, second):
            assert await find_position(database, kept.position) == kept.position

    async def test_that_are_young_stay(self, database: Database, home: Household) -> None:
        await home.add("1")

        assert await drop_old_events(database, now=datetime.now(UTC), kept_for=timedelta(hours=1)) == 0
        assert len(await told(database, home.owner_id)) == 1


class TestARestoredDatabase:
    async def test_is_put_right_so_that_new_events_can_be_read(
        self, database: Database, home: Household
    ) -> None:
        await home.add("1")
        async with database.commit() as session:
            await run_sql(session, text("UPDATE event SET xact = '9000000000000'"))
        assert await told(database, home.owner_id) == ()

        mended = await mend_events(database)
        begin = await find_position(database, None)
        await home.add("2")

        assert mended
        assert len(await told(database, home.owner_id)) == 2
        assert len(await told(database, home.owner_id, begin)) == 1
        with pytest.raises(EventsGone):
            await find_position(database, Position(9_000_000_000_000, 1))

    async def test_that_never_was_another_is_left_alone(self, database: Database, home: Household) -> None:
        await home.add("1")

        assert not await mend_events(database)


class TestTheWakes:
    async def test_reach_those_who_judge_and_those_who_follow(
        self, database: Database, database_url: str
    ) -> None:
        watcher, follower = asyncio.Event(), asyncio.Event()
        wakes = Wakes(database_url, {WAKE_CHANNEL: (watcher,), EVENT_CHANNEL: (follower,)})
        listening = asyncio.create_task(wakes.listen())
        await wakes.connected.wait()
        watcher.clear()
        follower.clear()

        await database.wake_followers()
        await asyncio.wait_for(follower.wait(), 5)
        only_the_follower = not watcher.is_set()
        await database.wake_watchers()
        await asyncio.wait_for(watcher.wait(), 5)

        listening.cancel()
        assert only_the_follower
