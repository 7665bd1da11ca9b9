"""Caps on a real PostgreSQL: strict inside the commit that claims, whatever the crowd and the hour."""

import asyncio
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlmodel import col, delete

from adapters.postgres.caps import read_reached
from adapters.postgres.database import Database
from adapters.postgres.rules import Author, edit_rule
from adapters.postgres.tables import Rule
from tests.adapters.crowd import judge_with, settle
from tests.builders import Household, open_household
from topup.caps import Cap, CapReached, Caps, Period
from topup.money import Money

MIDNIGHT = datetime(2026, 12, 1, tzinfo=UTC)
OWNER = Author(name="owner", bound_to=None)


def at(hour: float) -> datetime:
    """So many hours after midnight, which is the first of the month."""
    return MIDNIGHT + timedelta(hours=hour)


def usdt(amount: int) -> Money:
    return Money.parse(str(amount), "USDT")


LINE = usdt(50)


async def dip(home: Household, hour: float) -> None:
    """Bring the wallet to its line, then spend below it, and let a watcher judge at this hour."""
    await _to_the_line(home)
    await home.spend("1")
    await judge_with(home.database, partial(at, hour))


async def reasons(home: Household) -> list[str]:
    """Why the wallet's rule fired or did not, leaving out what was not below."""
    return [row.reason for row in await home.decisions() if row.reason not in ("not_below", "locked")]


class TestACapInTheClaim:
    @pytest.mark.rule("R13")
    async def test_holds_the_rule_back_and_leaves_it_armed(self, database: Database) -> None:
        home = await open_household(database, balance="50")
        await home.draw_up_rule(amount="1", caps=Caps(Cap(None, 1), None))
        await dip(home, 9)
        await settle(database, home)

        await dip(home, 10)

        assert await reasons(home) == ["below_threshold", "cap_reached"]
        rule = await home.rule()
        assert (rule.armed, rule.locked_by) == (True, None)
        assert len(await home.top_ups()) == 1

    @pytest.mark.rule("R8")
    async def test_ends_with_its_day_but_only_a_spend_fires_then(self, database: Database) -> None:
        home = await open_household(database, balance="50")
        await home.draw_up_rule(amount="1", caps=Caps(Cap(None, 1), None))
        await dip(home, 9)
        await settle(database, home)
        await dip(home, 23.99)

        await judge_with(database, partial(at, 24))
        assert len(await home.top_ups()) == 1
        await home.spend("1")
        await judge_with(database, partial(at, 24))

        assert len(await home.top_ups()) == 2
        assert [row.started_at for row in await home.top_ups()] == [at(9), at(24)]

    async def test_counts_what_arrived_not_what_was_tried(self, database: Database) -> None:
        home = await open_household(database, balance="50")
        await home.draw_up_rule(amount="10", caps=Caps(Cap(usdt(20), 2), None))
        await dip(home, 1)
        await settle(database, home, give="0")
        await dip(home, 2)
        await settle(database, home, give="4")
        await dip(home, 3)
        await settle(database, home, give="10")

        async with database.read() as session:
            reached = await read_reached(session, [(await home.rule(), "USDT")], at=at(4))

        assert [row.credited for row in await home.top_ups()] == [0, 4_000_000, 10_000_000]
        assert reached == {home.wallet_id: CapReached(Period.DAY, at(24))}

    async def test_of_a_month_outlasts_its_days(self, database: Database) -> None:
        home = await open_household(database, balance="50")
        await home.draw_up_rule(amount="10", caps=Caps(None, Cap(usdt(10), None)))
        await dip(home, 1)
        await settle(database, home)

        await dip(home, 30 * 24)
        assert len(await home.top_ups()) == 1
        await dip(home, 31 * 24)

        assert len(await home.top_ups()) == 2

    async def test_is_not_got_round_by_a_new_rule(self, database: Database) -> None:
        home = await open_household(database, balance="50")
        await home.draw_up_rule(amount="1", caps=Caps(Cap(None, 1), None))
        await dip(home, 1)
        await settle(database, home)
        async with database.commit() as session:
            await session.exec(delete(Rule).where(col(Rule.wallet_id) == home.wallet_id))
        await home.draw_up_rule(amount="1", caps=Caps(Cap(None, 1), None))

        await dip(home, 2)

        assert await reasons(home) == ["below_threshold", "cap_reached"]

    @pytest.mark.rule("R11")
    async def test_holds_a_saved_rule_back_until_its_owner_widens_it(self, database: Database) -> None:
        home = await open_household(database, balance="50")
        rule_id = await home.draw_up_rule(amount="1", caps=Caps(Cap(None, 1), None))
        await dip(home, 1)
        await settle(database, home)
        await dip(home, 2)

        for version, changes in ((1, {}), (2, {"caps": {"day": {"count": 2}}})):
            async with database.commit() as session:
                await edit_rule(session, rule_id, changes, version=version, author=OWNER)
            await judge_with(database, partial(at, 3))

        assert await reasons(home) == ["below_threshold", "cap_reached", "cap_reached", "below_threshold"]


class TestNoCrowd:
    @pytest.mark.rule("R10")
    @pytest.mark.parametrize("seed", range(4))
    async def test_passes_a_cap_by_amount_or_by_count_not_even_across_midnight(
        self, database: Database, seed: int
    ) -> None:
        dice = random.Random(seed)
        caps = Caps(Cap(usdt(25), 4), Cap(usdt(60), 9))
        homes = [await open_household(database, balance="50") for _ in range(3)]
        for home in homes:
            await home.draw_up_rule(amount="10", caps=caps)

        for hours in _hours(dice):
            clocks = [partial(at, hour) for hour in hours]
            spending = [home.spend("1") for home in homes for _ in range(3)]
            await asyncio.gather(*spending, judge_with(database, *clocks))
            await judge_with(database, *clocks)
            await asyncio.gather(
                *[settle(database, home, give=dice.choice(["0", "3", "10", "10"])) for home in homes]
            )
            await asyncio.gather(*[_to_the_line(home) for home in homes])
            await judge_with(database, *clocks)

        for home in homes:
            assert await home.top_ups()
            assert "cap_reached" in await reasons(home)
            await _hold_to(caps, home)


def _hours(dice: random.Random) -> list[list[float]]:
    """The hours that three watchers' clocks show in each round: about the same, and now and then not the same day."""
    moments = sorted(dice.uniform(-30, 30) for _ in range(14))
    return [[moment + dice.uniform(-0.5, 0.5) for _ in range(3)] for moment in moments]


async def _to_the_line(home: Household) -> None:
    balance = Money.parse(await home.balance(), "USDT")
    if balance < LINE:
        await home.add((LINE - balance).text)
    if balance > LINE:
        await home.spend((balance - LINE).text)


async def _hold_to(caps: Caps, home: Household) -> None:
    """By the recorded start of each top-up, no day and no month has more than it may."""
    used: dict[tuple[Period, datetime], list[int]] = defaultdict(list)
    for top_up in await home.top_ups():
        for period in Period:
            if top_up.credited:
                used[period, period.start(top_up.started_at)].append(top_up.credited)
    for (period, _), credited in used.items():
        cap = caps.of(period)
        assert cap is not None
        assert cap.amount is not None
        assert sum(credited) <= cap.amount.units
        assert cap.count is not None
        assert len(credited) <= cap.count
