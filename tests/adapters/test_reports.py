"""Balance events from outside on a real PostgreSQL: each taken once, in its version's order, however they come."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import col, select

from adapters.postgres.database import Database
from adapters.postgres.reports import EventIdReused, Receipt
from adapters.postgres.tables import BalanceEvent, BalanceReport
from adapters.postgres.wallets import read_wallet
from tests.adapters.crowd import judge_with, report, settle, utc_now
from tests.builders import Household, open_household
from topup.trigger import Kept

TAKEN, STALE = Receipt(duplicate=False, stale=False), Receipt(duplicate=False, stale=True)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


async def open_elsewhere(database: Database) -> Household:
    """A wallet whose balance is told to us; its rule fires below 50."""
    home = await open_household(database, kept=Kept.ELSEWHERE)
    await home.draw_up_rule(amount="100")
    return home


async def last_balance(home: Household) -> str:
    """What the wallet holds as its owner is shown it."""
    async with home.database.read() as session:
        return (await read_wallet(session, home.wallet_id, bound_to=None)).balance.text


async def outcomes(home: Household) -> list[tuple[str, bool]]:
    """Why the rule fired or did not, and whether it is armed at the end."""
    return [(row.reason, row.fired) for row in await home.decisions()]


class TestAReport:
    @pytest.mark.rule("R8")
    async def test_of_a_drop_below_the_line_fires(self, database: Database) -> None:
        home = await open_elsewhere(database)

        receipts = await report(home, (1, "80"), (2, "49.99"))
        await judge_with(database, utc_now)

        assert receipts == (TAKEN, TAKEN)
        assert await outcomes(home) == [("not_below", False), ("below_threshold", True)]
        assert await last_balance(home) == "49.99"

    @pytest.mark.rule("R8")
    async def test_that_is_the_first_fires_when_it_is_below(self, database: Database) -> None:
        home = await open_elsewhere(database)

        await report(home, (7, "0"))
        await judge_with(database, utc_now)

        assert await outcomes(home) == [("below_threshold", True)]

    @pytest.mark.rule("R9")
    async def test_counts_as_a_spend_only_when_the_balance_is_lower(self, database: Database) -> None:
        home = await open_elsewhere(database)

        await report(home, (1, "80"), (2, "70"), (3, "70"), (4, "75"))

        async with database.read() as session:
            told = await session.exec(select(BalanceEvent.change).order_by(col(BalanceEvent.seq)))
            assert told.all() == ["spent", "spent", "added", "added"]

    @pytest.mark.rule("R10")
    async def test_that_comes_late_is_kept_and_moves_nothing(self, database: Database) -> None:
        home = await open_elsewhere(database)

        receipts = await report(home, (2, "80"), (1, "10"))
        await judge_with(database, utc_now)

        assert receipts == (TAKEN, STALE)
        assert await outcomes(home) == [("not_below", False), ("stale_event", False)]
        assert await last_balance(home) == "80.00"

    @pytest.mark.rule("R10")
    async def test_that_is_repeated_changes_nothing(self, database: Database) -> None:
        home = await open_elsewhere(database)
        await report(home, (2, "80"), (1, "10"))

        again = await report(home, (1, "10"), (2, "80"), (2, "80.000000"))

        assert again == (
            Receipt(duplicate=True, stale=True),
            Receipt(duplicate=True, stale=False),
            Receipt(duplicate=True, stale=False),
        )
        async with database.read() as session:
            assert len((await session.exec(select(BalanceEvent))).all()) == 2

    async def test_under_an_id_that_said_something_else_is_refused_with_its_whole_batch(
        self, database: Database
    ) -> None:
        home = await open_elsewhere(database)
        await report(home, (1, "80"))

        with pytest.raises(EventIdReused):
            await report(home, (2, "70"), (1, "81"))
        with pytest.raises(EventIdReused):
            await report(home, (1, "80"), at=NOON + timedelta(seconds=1))

        assert await last_balance(home) == "80.00"

    async def test_may_have_the_id_of_another_wallets_event_or_of_one_of_ours(
        self, database: Database
    ) -> None:
        one, other = await open_elsewhere(database), await open_elsewhere(database)
        await report(one, (1, "80"))

        assert await report(other, (1, "70")) == (TAKEN,)

        assert (await last_balance(one), await last_balance(other)) == ("80.00", "70.00")


class TestATopUpOfAWalletElsewhere:
    @pytest.mark.rule("R10")
    async def test_fires_no_second_one_before_its_money_was_seen(self, database: Database) -> None:
        home = await open_elsewhere(database)
        await report(home, (1, "80"), (2, "40"))
        await judge_with(database, utc_now)
        await settle(database, home)

        await report(home, (3, "39"))
        await judge_with(database, utc_now)

        (top_up,) = await home.top_ups()
        assert top_up.outcome == "completed"
        assert [reason for reason, _ in await outcomes(home)][-1] == "disarmed"

    @pytest.mark.rule("R9")
    async def test_is_followed_by_another_once_a_report_has_shown_the_line(self, database: Database) -> None:
        home = await open_elsewhere(database)
        await report(home, (1, "80"), (2, "40"))
        await judge_with(database, utc_now)
        await settle(database, home)
        await report(home, (3, "140"))
        await judge_with(database, utc_now)
        assert (await home.rule()).armed

        await report(home, (4, "49"))
        await judge_with(database, utc_now)

        assert len(await home.top_ups()) == 2

    @pytest.mark.rule("R19")
    async def test_hands_money_over_without_telling_of_a_balance(self, database: Database) -> None:
        home = await open_elsewhere(database)
        await report(home, (1, "80"), (2, "40"))
        await judge_with(database, utc_now)

        await settle(database, home)

        assert (await home.balance(), await last_balance(home)) == ("100.00", "40.00")
        async with database.read() as session:
            changes = (await session.exec(select(BalanceEvent.change))).all()
        assert "topped_up" not in changes

    @pytest.mark.rule("R12")
    async def test_is_followed_by_one_judgement_of_what_was_reported_meanwhile(
        self, database: Database
    ) -> None:
        home = await open_elsewhere(database)
        await report(home, (1, "80"), (2, "40"))
        await judge_with(database, utc_now)
        await report(home, (3, "30"))
        await judge_with(database, utc_now)

        await settle(database, home)
        await judge_with(database, utc_now)

        assert (await outcomes(home))[-2:] == [("locked", False), ("disarmed", False)]
        assert len(await home.top_ups()) == 1


@pytest.mark.rule("R10")
class TestAFlood:
    @pytest.mark.parametrize("seed", range(3))
    async def test_of_a_thousand_shuffled_and_repeated_events_fires_once_for_a_crossing(
        self, database: Database, seed: int
    ) -> None:
        dice, home = random.Random(seed), await open_elsewhere(database)
        told = [(version, f"{1000 - version}") for version in range(1, 961)]
        flood = told + dice.choices(told, k=40)
        dice.shuffle(flood)
        batches = [flood[start : start + 50] for start in range(0, len(flood), 50)]

        await asyncio.gather(
            *[report(home, *batch) for batch in batches], judge_with(database, utc_now, utc_now)
        )
        await judge_with(database, utc_now, utc_now)

        assert len(await home.top_ups()) == 1
        assert await last_balance(home) == "40.00"
        decisions = await home.decisions()
        assert len(decisions) == len({row.event_id for row in decisions}) == 960
        assert await _accepted_in_order(home)

    async def test_over_several_dips_fires_once_for_each_that_was_seen(self, database: Database) -> None:
        home = await open_elsewhere(database)
        for dip in range(3):
            told = [(dip * 100 + version, f"{95 - version}") for version in range(1, 91)]
            random.Random(dip).shuffle(told)
            await asyncio.gather(*[report(home, one) for one in told], judge_with(database, utc_now))
            await judge_with(database, utc_now)
            await settle(database, home)
            await report(home, (dip * 100 + 99, "105"))
            await judge_with(database, utc_now)

        assert len(await home.top_ups()) == 3

    async def test_of_two_at_once_leaves_the_newer_one_standing(self, database: Database) -> None:
        home = await open_elsewhere(database)

        for version in range(1, 40, 2):
            await asyncio.gather(
                report(home, (version, f"{100 + version}")), report(home, (version + 1, f"{101 + version}"))
            )
            assert await last_balance(home) == f"{101 + version}.00"


async def _accepted_in_order(home: Household) -> bool:
    """Whether what was accepted rises by version, and the last of it is how the wallet stands."""
    async with home.database.read() as session:
        statement = select(BalanceEvent).where(~col(BalanceEvent.stale)).order_by(col(BalanceEvent.seq))
        versions = [row.version for row in (await session.exec(statement)).all()]
        last = (await session.exec(select(BalanceReport))).one()
    return versions == sorted(set(versions)) and versions[-1] == last.version
