"""The low-balance notice on a real PostgreSQL: once for each dip, in the commit of the decision, and never untrue."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from activities.ports import Letter
from adapters.postgres.claims import Claims, Judged
from adapters.postgres.database import Database
from adapters.postgres.deliveries import (
    RECOVERED,
    DeliveryRecords,
    StopTokenUnknown,
    choose_low_balance_notices,
    stop_low_balance_notices,
    wants_low_balance_notices,
)
from adapters.postgres.history import list_deliveries
from adapters.postgres.rules import Author, enable_rule
from tests.adapters.crowd import judge_with, settle
from tests.builders import Household, open_household
from topup.caps import Cap, Caps
from topup.trigger import Change

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
pytestmark = [pytest.mark.rule("R25"), pytest.mark.rule("R23")]


@pytest_asyncio.fixture
async def home(database: Database) -> Household:
    """A wallet with 80 USDT whose rule, from 50 USDT on, is off."""
    home = await open_household(database, balance="80")
    await home.draw_up_rule(threshold="50", enabled=False)
    return home


async def judge(home: Household) -> Judged:
    return await Claims(home.database).judge_waiting()


async def spend(home: Household, amount: str) -> Judged:
    await home.spend(amount)
    return await judge(home)


async def letter(home: Household, channel: str = "email") -> Letter | None:
    row = [row for row in await home.deliveries() if row.channel == channel][-1]
    return await DeliveryRecords(home.database).letter(row.id)


class TestALowBalance:
    async def test_is_told_on_both_channels_in_the_commit_of_the_decision(self, home: Household) -> None:
        judged = await spend(home, "45")

        rows = await home.deliveries()
        assert sorted((row.channel, row.kind, row.top_up_id) for row in rows) == [
            ("email", "low_balance", None),
            ("push", "low_balance", None),
        ]
        assert {row.event_id for row in rows} == {judged.low[0].event_id}
        assert len(await home.decisions()) == 1

    async def test_is_told_once_for_one_dip(self, home: Household) -> None:
        await spend(home, "45")
        judged = await spend(home, "5")

        assert judged.low == ()
        assert len(await home.deliveries()) == 2

    async def test_is_told_again_for_the_next_dip(self, home: Household) -> None:
        await spend(home, "45")
        await home.add("40")
        await judge(home)
        await spend(home, "45")

        assert len(await home.deliveries()) == 4

    async def test_is_none_at_the_threshold_itself(self, home: Household) -> None:
        await spend(home, "30")

        assert await home.deliveries() == []

    async def test_is_not_told_of_a_rise_that_stays_below(self, home: Household) -> None:
        await home.tell("10", change=Change.ADDED)
        await judge(home)

        assert await home.deliveries() == []

    async def test_is_told_once_however_many_watchers_judge(self, home: Household) -> None:
        await home.spend("45")
        await home.spend("1")

        rounds = await asyncio.gather(*[judge(home) for _ in range(6)])
        while (await judge(home)).events:
            pass

        assert sum(len(judged.low) for judged in rounds) <= 1
        assert len(await home.deliveries()) == 2

    async def test_is_not_told_to_an_owner_who_does_not_want_to_know(self, home: Household) -> None:
        async with home.database.commit() as session:
            await choose_low_balance_notices(session, home.owner_id, wanted=False)

        await spend(home, "45")

        assert await home.deliveries() == []
        assert (await home.rule()).told_low_event_id is None

    async def test_is_told_where_a_cap_keeps_the_rule_from_firing(self, database: Database) -> None:
        home = await open_household(database, balance="50")
        await home.draw_up_rule(threshold="50", amount="1", caps=Caps(day=Cap(None, 1), month=None))
        await home.spend("1")
        await judge_with(database, lambda: NOON)
        await settle(database, home)
        before = {row.id for row in await home.deliveries()}

        await home.spend("5")
        await judge_with(database, lambda: NOON)

        new = [row for row in await home.deliveries() if row.id not in before]
        assert {row.kind for row in new} == {"low_balance"}
        assert len(await home.top_ups()) == 1
        told = await letter(home)
        assert told is not None
        assert "has reached its cap" in told.why
        assert "raise the cap" in str(told.next_step)

    async def test_is_not_told_of_a_dip_that_a_top_up_came_up_short_for(self, database: Database) -> None:
        home = await open_household(database, balance="80")
        await home.draw_up_rule(threshold="50", armed=False)

        await spend(home, "45")

        assert await home.deliveries() == []

    async def test_is_not_told_when_the_rule_fires(self, database: Database) -> None:
        home = await open_household(database, balance="80")
        await home.draw_up_rule(threshold="50")

        judged = await spend(home, "45")

        assert (len(judged.claimed), judged.low) == (1, ())


class TestTheLetter:
    async def test_says_why_nothing_follows_and_what_to_do_without_the_balance(self, home: Household) -> None:
        await spend(home, "45.67")
        told = await letter(home)

        assert told is not None
        assert told.subject == "Your Pay wallet is below 50.00 USDT, and no top-up is on its way"
        assert told.why == (
            "A spend has left your Pay wallet below your threshold of 50.00 USDT, and your rule is off, so it does "
            "not top up."
        )
        assert "Turn your rule on" in str(told.next_step)
        assert (told.page, told.rule_page) == (
            f"/wallets/{home.wallet_id}",
            f"/wallets/{home.wallet_id}/auto-top-up",
        )
        assert "34.33" not in repr(told)
        assert told.stop_token

    async def test_is_not_sent_once_the_balance_has_recovered(self, home: Household) -> None:
        await spend(home, "45")
        await home.add("100")
        await judge(home)

        assert await letter(home) is None
        assert {row.last_failure for row in await home.deliveries() if row.channel == "email"} == {RECOVERED}

    async def test_is_not_sent_once_the_rule_has_fired(self, home: Household) -> None:
        await spend(home, "45")
        rule = await home.rule()
        async with home.database.commit() as session:
            author = Author(name="Ada", bound_to=None)
            await enable_rule(session, rule.id, version=rule.version, author=author)
        judged = await judge(home)

        assert len(judged.claimed) == 1
        assert await letter(home) is None

    async def test_stands_in_the_owners_list_without_a_top_up(self, home: Household) -> None:
        await spend(home, "45")

        async with home.database.read() as session:
            listed = await list_deliveries(session, home.owner_id, after=None, most=10)

        assert {(record.top_up_id, record.kind) for record in listed} == {(None, "low_balance")}


class TestWhatNobodyHasBeenToldOf:
    async def test_is_found_with_the_event_it_is_about(self, home: Household) -> None:
        judged = await spend(home, "45")

        (telling,) = await DeliveryRecords(home.database).untold(older_than=timedelta())

        assert (telling.about, telling.kind) == (judged.low[0].event_id, "low_balance")
        assert telling.top_up_id is None
        assert {delivery.channel for delivery in telling.deliveries} == {"push", "email"}


class TestStopping:
    async def test_turns_the_notices_off_with_the_token_of_one(self, home: Household) -> None:
        await spend(home, "45")
        told = await letter(home)
        assert told is not None

        async with home.database.commit() as session:
            await stop_low_balance_notices(session, str(told.stop_token))
            await stop_low_balance_notices(session, str(told.stop_token))

        async with home.database.read() as session:
            assert not await wants_low_balance_notices(session, home.owner_id)
        assert await letter(home) is None

    async def test_takes_no_other_token(self, home: Household) -> None:
        await spend(home, "45")

        async with home.database.commit() as session:
            with pytest.raises(StopTokenUnknown):
                await stop_low_balance_notices(session, "guessed")
        async with home.database.read() as session:
            assert await wants_low_balance_notices(session, home.owner_id)

    async def test_keeps_the_token_to_the_letter(self, home: Household) -> None:
        await spend(home, "45")
        told = await letter(home)
        assert told is not None
        assert str(told.stop_token) not in repr(told)
