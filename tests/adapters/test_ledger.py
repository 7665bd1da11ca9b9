"""The embedded ledger on a real PostgreSQL: conserved, never overdrawn, and each key moves money once."""

import asyncio
import random
from fractions import Fraction
from typing import Any

import pytest
from psycopg import AsyncConnection, errors
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from activities.messages import DrawOrder, Moved, NotMoved, Refused
from adapters.postgres.claims import Claims
from adapters.postgres.database import Database
from adapters.postgres.ledger import LedgerAccounts
from runtime.settings import Settings
from tests.builders import Household, open_household
from tests.hands import owner_of, waiting_for_a_lock
from topup.money import Money
from topup.outcome import DrawReason
from topup.quote import Quote, quote_at, read_rate
from worker import accounts_of

SUMS = text("SELECT asset, sum(posted) AS total FROM account GROUP BY asset")
BROKEN_CHAINS = text(
    "SELECT account_id FROM (SELECT account_id, account_version, balance_after, "
    "sum(amount) OVER chain AS running, row_number() OVER chain AS place FROM entry "
    "WINDOW chain AS (PARTITION BY account_id ORDER BY account_version)) AS link "
    "WHERE running <> balance_after OR place <> account_version"
)


def order(
    home: Household, key: str, credit: str, quote: Quote | None = None, asset: str = "USDT"
) -> DrawOrder:
    """A draw for the household's wallet."""
    return DrawOrder(
        top_up_id=key.partition(":")[0],
        rank=1,
        key=key,
        owner_id=home.owner_id,
        account="funding",
        asset=asset,
        currency=home.currency,
        wallet_id=home.wallet_id,
        credit=Money.parse(credit, home.currency),
        quote=quote or Quote(asset, home.currency, 1, 1),
    )


async def rows(database: Database, statement: Any) -> list[tuple[Any, ...]]:
    """The rows of a plain query."""
    async with database.call() as connection:
        return [tuple(row) for row in await connection.execute(statement)]


async def assert_sound(database: Database) -> None:
    """Every asset sums to nothing over all accounts, and every account's entries chain up to its balance."""
    assert {asset: int(total) for asset, total in await rows(database, SUMS) if total} == {}
    assert await rows(database, BROKEN_CHAINS) == []


class TestOneKey:
    @pytest.mark.rule("R10")
    async def test_moves_money_once_however_often_and_at_once_it_is_asked(self, database: Database) -> None:
        home = await open_household(database)
        await home.fund("500", "USDT")
        ledger = LedgerAccounts(database)

        answers = await asyncio.gather(*[ledger.draw(order(home, "topup_a:1", "100")) for _ in range(20)])

        moved = Moved(debited=Money.parse("100", "USDT"), credited=Money.parse("100", "USDT"), short=False)
        assert answers == [moved] * 20
        assert (await home.balance(), await home.holding("USDT")) == ("100.00", "400.00")
        await assert_sound(database)

    async def test_remembers_a_refusal_even_when_money_has_come_since(self, database: Database) -> None:
        home = await open_household(database)
        ledger = LedgerAccounts(database)
        first = await ledger.draw(order(home, "topup_a:1", "100"))

        await home.fund("500", "USDT")
        again = await ledger.draw(order(home, "topup_a:1", "100"))

        assert first == again == Refused(reason=DrawReason.INSUFFICIENT)
        assert await home.balance() == "0.00"

    async def test_cannot_stand_for_another_request(self, database: Database) -> None:
        home = await open_household(database)
        await home.fund("500", "USDT")
        ledger = LedgerAccounts(database)
        await ledger.draw(order(home, "topup_a:1", "100"))

        with pytest.raises(DBAPIError, match="was another request"):
            await ledger.draw(order(home, "topup_a:1", "101"))

        assert await home.balance() == "100.00"


@pytest.mark.rule("R19")
class TestTheDrawsOfOneTopUp:
    async def test_never_give_more_than_its_amount_whatever_they_are_asked_for(
        self, database: Database
    ) -> None:
        home, top_up_id = await low_household(database)
        ledger = LedgerAccounts(database)

        answers = [
            await ledger.draw(order(home, f"{top_up_id}:1", "60")),
            await ledger.draw(order(home, f"{top_up_id}:2", "100", asset="USDC")),
            await ledger.draw(order(home, f"{top_up_id}:3", "1", asset="USDG")),
        ]

        assert answers == [
            Moved(debited=Money.parse("60", "USDT"), credited=Money.parse("60", "USDT"), short=False),
            Moved(debited=Money.parse("40", "USDC"), credited=Money.parse("40", "USDT"), short=True),
            Refused(reason=DrawReason.REJECTED),
        ]
        assert await home.balance() == "135.00"
        await assert_sound(database)

    async def test_never_give_more_than_its_amount_however_many_come_at_once(
        self, database: Database
    ) -> None:
        home, top_up_id = await low_household(database)
        ledger = LedgerAccounts(database)
        orders = [
            order(home, f"{top_up_id}:{rank}", "70", asset=asset)
            for rank, asset in ((1, "USDT"), (2, "USDC"), (3, "USDG"))
        ]

        answers = await asyncio.gather(*[ledger.draw(each) for each in orders * 7])

        given = {answer for answer in answers if isinstance(answer, Moved)}
        assert sum(answer.credited.units for answer in given) == Money.parse("100", "USDT").units
        assert await home.balance() == "135.00"
        await assert_sound(database)


async def low_household(database: Database) -> tuple[Household, str]:
    """A wallet of 35 whose rule has just fired for 100, over three sources of 500 each; the top-up's id."""
    home = await open_household(database, balance="80")
    for asset in ("USDT", "USDC", "USDG"):
        await home.fund("500", asset)
    await home.draw_up_rule(sources=("USDT", "USDC", "USDG"))
    await home.spend("45")
    (top_up_id,) = (await Claims(database).judge_waiting()).claimed
    return home, top_up_id


class TestTheFence:
    @pytest.mark.rule("R21")
    async def test_before_the_draw_keeps_it_from_ever_moving_money(self, database: Database) -> None:
        home = await open_household(database)
        await home.fund("500", "USDT")
        ledger = LedgerAccounts(database)

        looked_up = await ledger.look_up(order(home, "topup_a:1", "100"))
        late = await ledger.draw(order(home, "topup_a:1", "100"))

        assert looked_up == late == NotMoved()
        assert await home.balance() == "0.00"

    @pytest.mark.rule("R21")
    async def test_after_the_draw_tells_what_moved(self, database: Database) -> None:
        home = await open_household(database)
        await home.fund("60", "USDT")
        ledger = LedgerAccounts(database)

        drawn = await ledger.draw(order(home, "topup_a:1", "100"))
        looked_up = await ledger.look_up(order(home, "topup_a:1", "100"))

        assert looked_up == drawn
        assert isinstance(drawn, Moved)
        assert drawn.short

    @pytest.mark.rule("R21")
    async def test_waits_for_a_draw_that_has_not_committed(
        self, database: Database, database_url: str
    ) -> None:
        home = await open_household(database)
        await home.fund("500", "USDT")
        call = (
            "SELECT status FROM ledger_draw('topup_a:1', 'hash', %s, 'funding', 'USDT', %s, 100000000, 1, 1)"
        )

        async with await AsyncConnection.connect(database_url) as drawing:
            await drawing.execute(call, (home.owner_id, home.wallet_id))
            looking_up = asyncio.ensure_future(
                LedgerAccounts(database).look_up(order(home, "topup_a:1", "100"))
            )
            await waiting_for_a_lock(database)
            assert not looking_up.done()
            await drawing.commit()

        assert isinstance(await looking_up, Moved)

    @pytest.mark.rule("R21")
    async def test_wins_when_the_draw_is_rolled_back(self, database: Database, database_url: str) -> None:
        home = await open_household(database)
        await home.fund("500", "USDT")
        call = (
            "SELECT status FROM ledger_draw('topup_a:1', 'hash', %s, 'funding', 'USDT', %s, 100000000, 1, 1)"
        )

        async with await AsyncConnection.connect(database_url) as drawing:
            await drawing.execute(call, (home.owner_id, home.wallet_id))
            looking_up = asyncio.ensure_future(
                LedgerAccounts(database).look_up(order(home, "topup_a:1", "100"))
            )
            await waiting_for_a_lock(database)
            await drawing.rollback()

        assert await looking_up == NotMoved()
        assert await home.balance() == "0.00"


class TestMoney:
    @pytest.mark.rule("R19")
    async def test_cannot_be_overdrawn_even_by_hand(self, database: Database) -> None:
        home = await open_household(database, balance="10")

        async with await AsyncConnection.connect(owner_of(database)) as connection:
            with pytest.raises(errors.CheckViolation):
                await connection.execute(
                    "UPDATE account SET posted = posted - 11000000 WHERE wallet_id = %s", (home.wallet_id,)
                )

    @pytest.mark.parametrize("amount", ["'NaN'", "'Infinity'", "1.5", "1e38", "-1"])
    async def test_has_no_amount_that_is_not_a_whole_number_of_units(
        self, database: Database, database_url: str, amount: str
    ) -> None:
        del database
        async with await AsyncConnection.connect(database_url) as connection:
            with pytest.raises((errors.CheckViolation, errors.NumericValueOutOfRange)):
                await connection.execute(f"SELECT CAST({amount} AS numeric)::minor_units")

    @pytest.mark.parametrize("table", ["entry", "transfer"])
    @pytest.mark.parametrize("act", ["UPDATE {} SET at = now()", "DELETE FROM {}", "TRUNCATE {}"])
    async def test_once_written_down_stays_written(self, database: Database, table: str, act: str) -> None:
        await open_household(database, balance="10")

        async with await AsyncConnection.connect(owner_of(database)) as connection:
            with pytest.raises(errors.DatabaseError, match="what is written stays written"):
                await connection.execute(act.format(table))

    @pytest.mark.rule("R19")
    async def test_is_conserved_by_a_crowd_of_payments_deposits_and_draws(self, database: Database) -> None:
        home = await open_household(database, balance="50")
        await home.fund("30", "USDT")
        await home.fund("0.001", "BTC")
        ledger = LedgerAccounts(database)
        bitcoin = quote_at("BTC", "USDT", read_rate("60000"))

        await asyncio.gather(
            *[home.spend("3") for _ in range(25)],
            *[home.add("0.5") for _ in range(10)],
            *[ledger.draw(order(home, f"topup_{number}:1", "4")) for number in range(12)],
            *[ledger.draw(order(home, f"topup_{number}:2", "7", bitcoin, "BTC")) for number in range(12)],
        )

        await assert_sound(database)
        assert (await home.holding("USDT"), await home.holding("BTC")) == ("0.00", "0.00")


class TestConversion:
    @pytest.mark.rule("R22")
    async def test_agrees_with_the_pure_rules_to_the_last_unit(self, database: Database) -> None:
        home = await open_household(database)
        dice = random.Random(22)
        ledger = LedgerAccounts(database)

        for number in range(150):
            asset = dice.choice(["BTC", "ETH", "EUR", "JPY"])
            held, credit = Money(asset, dice.randint(1, 10**9)), Money("USDT", dice.randint(1, 10**8))
            quote = quote_at(asset, "USDT", Fraction(dice.randint(1, 10**12), 10**6))
            await home.fund(held.text, asset)
            holding = Money.parse(await home.holding(asset), asset)
            expected = min(quote.worth(holding), credit)

            answer = await ledger.draw(order(home, f"topup_{number}:1", credit.text, quote, asset))

            if expected:
                assert answer == Moved(
                    debited=quote.cost(expected), credited=expected, short=expected < credit
                )
            else:
                assert answer == Refused(reason=DrawReason.INSUFFICIENT)
        await assert_sound(database)

    @pytest.mark.rule("R22")
    @pytest.mark.parametrize(
        ("asset", "held", "rate", "asked", "debited", "credited"),
        [
            ("ETH", "1", "3000", "10", "0.003333333333333334", "10"),
            ("BTC", "0.00000001", "60000", "10", "0.00000001", "0.0006"),
            ("JPY", "100", "0.0067", "10", "100", "0.67"),
            ("EUR", "9.09", "1.1", "10", "9.09", "9.999"),
        ],
    )
    async def test_debits_the_least_that_is_worth_the_credit(
        self, database: Database, asset: str, held: str, rate: str, asked: str, debited: str, credited: str
    ) -> None:
        home = await open_household(database)
        await home.fund(held, asset)
        quote = quote_at(asset, "USDT", read_rate(rate))

        answer = await LedgerAccounts(database).draw(order(home, "topup_a:1", asked, quote, asset))

        assert isinstance(answer, Moved)
        assert (answer.debited, answer.credited) == (
            Money.parse(debited, asset),
            Money.parse(credited, "USDT"),
        )
        await assert_sound(database)


class TestTheFaultSwitch:
    def test_is_not_even_wired_in_production(self, database: Database, database_url: str) -> None:
        production = Settings(environment="production", database_url=database_url)

        assert isinstance(accounts_of(database, production), LedgerAccounts)
