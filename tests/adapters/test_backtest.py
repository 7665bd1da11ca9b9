"""The dry run decides as the store does: the same history, lived through on a real PostgreSQL and replayed."""

import random
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from adapters.postgres.backtest import read_past
from adapters.postgres.caps import caps_of
from adapters.postgres.claims import terms_of
from adapters.postgres.database import Database
from adapters.postgres.wallets import name_wallet
from tests.adapters.crowd import judge_with, report, settle, utc_now
from tests.builders import Household, open_household
from topup.backtest import Agreement, Course, replay, steps_of
from topup.caps import Cap, Caps
from topup.money import Money
from topup.trigger import Kept

START = datetime(2026, 11, 21, tzinfo=UTC)
CAPS = (None, Caps(Cap(None, 3), None), Caps(Cap(Money.parse("90", "USDT"), None), Cap(None, 5)))


def usdt(amount: int) -> Money:
    return Money.parse(str(amount), "USDT")


async def replayed(home: Household) -> Course:
    """What the dry run makes of the wallet's history, with the rule it really had."""
    rule = await home.rule()
    async with home.database.read() as session:
        wallet = await name_wallet(session, home.wallet_id, bound_to=None)
        past = await read_past(session, wallet, since=None, until=None)
    agreement = Agreement(terms_of(rule, "USDT"), caps_of(rule, "USDT"), wallet.kept)
    steps = steps_of(past.history, before=past.before, kept=wallet.kept)
    return replay(agreement, steps, before=past.before.balance if past.before else None)


async def handed_over(home: Household) -> int:
    """What the wallet's top-ups have credited."""
    return sum(row.credited for row in await home.top_ups())


def second(number: int) -> datetime:
    """So many seconds after the day began."""
    return START + timedelta(seconds=number)


@pytest.mark.rule("R8")
class TestTheSameHistory:
    @pytest.mark.parametrize("seed", range(3))
    async def test_of_a_wallet_in_the_ledger_fires_at_the_same_moments(
        self, database: Database, seed: int
    ) -> None:
        dice = random.Random(seed)
        home = await open_household(database, balance="60")
        await home.draw_up_rule(amount=str(dice.choice([5, 30, 60])), caps=CAPS[seed % 3])

        for _ in range(30):
            amount = str(dice.randint(1, 40))
            await (home.add(amount) if dice.random() < 0.3 else home.spend(amount))
            await judge_with(database, utc_now)
            await settle(database, home)

        course, real = await replayed(home), await home.top_ups()
        assert real
        assert [top_up.balance_before.units for top_up in course.top_ups] == [
            row.trigger_balance for row in real
        ]
        assert course.balance.text == await home.balance()
        assert course.capped == sum(row.reason == "cap_reached" for row in await home.decisions())

    @pytest.mark.parametrize("seed", range(3))
    async def test_of_a_wallet_elsewhere_fires_at_the_same_moments(
        self, database: Database, seed: int
    ) -> None:
        dice = random.Random(100 + seed)
        home = await open_household(database, kept=Kept.ELSEWHERE)
        await home.draw_up_rule(amount=str(dice.choice([5, 30, 60])), caps=CAPS[seed % 3])
        there, version = usdt(60), 0

        for _ in range(30):
            amount = usdt(dice.randint(1, 40))
            there = there + amount if dice.random() < 0.3 else there - min(amount, there)
            version += 1
            await report(home, (version, there.text), at=second(version))
            await judge_with(database, partial(second, version))
            before = await handed_over(home)
            await settle(database, home)
            if credited := await handed_over(home) - before:
                there, version = there + Money("USDT", credited), version + 1
                await report(home, (version, there.text), at=second(version))
                await judge_with(database, partial(second, version))

        course, real = await replayed(home), await home.top_ups()
        assert real
        assert [top_up.balance_before.units for top_up in course.top_ups] == [
            row.trigger_balance for row in real
        ]
        assert course.balance == there


class TestTheHistory:
    async def test_is_read_within_bounds_from_how_the_wallet_stood_before(self, database: Database) -> None:
        home = await open_household(database, kept=Kept.ELSEWHERE)
        for hour, balance in enumerate(("80", "70", "60", "50")):
            await report(home, (hour, balance), at=START + timedelta(hours=hour))
        async with database.read() as session:
            wallet = await name_wallet(session, home.wallet_id, bound_to=None)
            read = partial(read_past, session, wallet)

            some = await read(since=START + timedelta(hours=1), until=START + timedelta(hours=3))
            none = await read(since=START + timedelta(hours=9), until=None)

        assert [told.balance for told in some.history] == [usdt(70), usdt(60)]
        assert some.before is not None
        assert none.before is not None
        assert (some.before.balance, none.before.balance, none.history) == (usdt(80), usdt(50), ())

    async def test_that_is_too_long_gives_its_newest_part_and_says_so(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("adapters.postgres.backtest.EVENTS_MAX", 2)
        home = await open_household(database, kept=Kept.ELSEWHERE)
        await report(home, *[(version, str(90 - version)) for version in range(5)])
        async with database.read() as session:
            wallet = await name_wallet(session, home.wallet_id, bound_to=None)

            past = await read_past(session, wallet, since=None, until=None)

        assert ([told.balance for told in past.history], past.truncated) == ([usdt(87), usdt(86)], True)
        assert past.before is not None
        assert past.before.balance == usdt(88)
