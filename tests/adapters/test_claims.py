"""Judging and settling on a real PostgreSQL: one top-up per trigger, whatever the order and the crowd."""

import asyncio
from datetime import timedelta

import pytest

from activities.messages import DrawOrder, Patience, SettleOrder
from activities.results import result_of
from adapters.postgres.claims import Claims, record_hand_over, unstarted
from adapters.postgres.database import Database
from adapters.postgres.ledger import LedgerAccounts
from adapters.postgres.top_ups import TopUpRecords
from tests.builders import Household, open_household
from topup.keys import draw_key
from topup.money import Money
from topup.outcome import DrawResult, DrawStatus, Ending, Reason, conclude, failed, not_needed
from topup.quote import Quote


async def judge_all(database: Database, *, watchers: int = 1) -> None:
    """Let some watchers judge everything there is."""
    claims = Claims(database)

    async def until_done() -> None:
        idle = 0
        while idle < 2:
            judged = await claims.judge_waiting()
            idle = 0 if judged.events else idle + 1

    await asyncio.gather(*[until_done() for _ in range(watchers)])


async def low_household(database: Database, *, amount: str = "100", enabled: bool = True) -> Household:
    """A wallet of 80 with a rule at 50, from which 45 have just been spent; everything is judged."""
    home = await open_household(database, balance="80")
    await home.draw_up_rule(amount=amount, enabled=enabled)
    await home.spend("45")
    await judge_all(database)
    return home


async def end(database: Database, home: Household, ending: Ending) -> None:
    """Settle the wallet's open top-up like this."""
    top_up = (await home.top_ups())[-1]
    records = TopUpRecords(database, Patience())
    await records.settle(SettleOrder(top_up_id=top_up.id, draws=(), ending=ending))


async def draw_now(database: Database, home: Household, amount: str) -> DrawResult:
    """Really draw for the wallet's open top-up, from money put there for it."""
    await home.fund(amount, "USDT")
    top_up = (await home.top_ups())[-1]
    credit = Money.parse(amount, "USDT")
    order = DrawOrder(
        top_up_id=top_up.id,
        rank=1,
        key=draw_key(top_up.id, 1),
        owner_id=home.owner_id,
        account="funding",
        asset="USDT",
        currency="USDT",
        wallet_id=home.wallet_id,
        credit=credit,
        quote=Quote("USDT", "USDT", 1, 1),
    )
    return result_of(order, await LedgerAccounts(database).draw(order))


async def complete(database: Database, home: Household, amount: str) -> None:
    """Draw all of it and settle as completed."""
    draw = await draw_now(database, home, amount)
    order = SettleOrder(
        top_up_id=(await home.top_ups())[-1].id, draws=(draw,), ending=conclude(draw.credited, [draw])
    )
    await TopUpRecords(database, Patience()).settle(order)


INSUFFICIENT = failed(Reason.INSUFFICIENT_BALANCE, "USDT")


class TestClaim:
    @pytest.mark.rule("R8")
    async def test_a_spend_below_the_threshold_makes_exactly_one_top_up_exist(
        self, database: Database
    ) -> None:
        home = await open_household(database, balance="80")
        rule_id = await home.draw_up_rule()

        await home.spend("45")
        await judge_all(database)

        (top_up,) = await home.top_ups()
        rule = await home.rule()
        assert (top_up.rule_id, top_up.state, top_up.trigger_balance) == (rule_id, "in_progress", 35_000_000)
        assert (rule.locked_by, rule.armed) == (top_up.id, False)
        assert [(row.fired, row.reason) for row in await home.decisions()] == [(True, "below_threshold")]

    @pytest.mark.rule("R8")
    async def test_a_balance_equal_to_the_threshold_does_not_fire(self, database: Database) -> None:
        home = await open_household(database, balance="80")
        await home.draw_up_rule()

        await home.spend("30")
        await judge_all(database)

        assert await home.top_ups() == []
        assert [(row.fired, row.reason) for row in await home.decisions()] == [(False, "not_below")]

    @pytest.mark.rule("R10")
    async def test_a_hundred_payments_at_once_and_five_watchers_fire_one_top_up(
        self, database: Database
    ) -> None:
        home = await open_household(database, balance="149")
        await home.draw_up_rule()

        payments = asyncio.gather(*[home.spend("1") for _ in range(100)])
        await asyncio.gather(payments, *[judge_all(database) for _ in range(5)])
        await judge_all(database, watchers=5)

        assert all(payments.result())
        assert len(await home.top_ups()) == 1
        assert len(await home.decisions()) == 100
        assert sum(row.fired for row in await home.decisions()) == 1

    @pytest.mark.rule("R10")
    async def test_shuffled_stale_events_never_fire(self, database: Database) -> None:
        home = await open_household(database, balance="80")
        await home.draw_up_rule()

        for balance in ("10", "20", "5"):
            await home.tell(balance, stale=True)
        await judge_all(database)

        assert await home.top_ups() == []
        assert {row.reason for row in await home.decisions()} == {"stale_event"}

    @pytest.mark.rule("R13")
    async def test_each_event_is_judged_once_and_says_why(self, database: Database) -> None:
        home = await open_household(database, balance="80")
        await home.draw_up_rule(enabled=False)

        await home.spend("45")
        await judge_all(database, watchers=3)
        await judge_all(database)

        assert [row.reason for row in await home.decisions()] == ["off"]

    @pytest.mark.rule("R4")
    async def test_edited_terms_count_from_the_very_next_decision(self, database: Database) -> None:
        home = await open_household(database, balance="80")
        await home.draw_up_rule(threshold="50")

        await home.spend("45")
        async with database.commit() as session:
            rule = await home.rule()
            rule.threshold = Money.parse("20", "USDT").units
            await session.merge(rule)
        await judge_all(database)

        assert await home.top_ups() == []

    async def test_the_claimed_top_up_waits_for_temporal_until_it_was_handed_over(
        self, database: Database
    ) -> None:
        home = await open_household(database, balance="80")
        await home.draw_up_rule(sources=("USDT", "BTC"))
        await home.spend("45")
        await judge_all(database)

        (order,) = await unstarted(database, patience=Patience(draw=timedelta(seconds=3)))
        await record_hand_over(database, [order.top_up_id])

        assert order.terms.sources == ("USDT", "BTC")
        assert order.trigger_balance == Money.parse("35", "USDT")
        assert await unstarted(database, patience=Patience()) == ()


class TestArming:
    @pytest.mark.rule("R9")
    async def test_a_failed_top_up_leaves_the_rule_disarmed_until_the_balance_is_back(
        self, database: Database
    ) -> None:
        home = await low_household(database)

        await end(database, home, INSUFFICIENT)
        await home.spend("5")
        await judge_all(database)
        assert len(await home.top_ups()) == 1
        await home.add("20")
        await home.spend("1")
        await judge_all(database)

        assert len(await home.top_ups()) == 2
        assert [row.reason for row in await home.decisions()] == [
            "below_threshold",
            "disarmed",
            "not_below",
            "below_threshold",
        ]

    @pytest.mark.rule("R9")
    async def test_after_a_completed_one_the_next_spend_below_fires_but_never_the_rise(
        self, database: Database
    ) -> None:
        home = await low_household(database, amount="1")

        await complete(database, home, "1")
        await home.add("1")
        await judge_all(database)
        assert len(await home.top_ups()) == 1
        await home.spend("1")
        await judge_all(database)

        assert len(await home.top_ups()) == 2

    @pytest.mark.rule("R9")
    async def test_a_failed_one_arms_when_the_owner_has_filled_the_wallet_meanwhile(
        self, database: Database
    ) -> None:
        home = await low_household(database)

        await home.add("100")
        await end(database, home, INSUFFICIENT)

        assert (await home.rule()).armed
        assert (await home.rule()).locked_by is None

    @pytest.mark.rule("R12")
    async def test_spends_while_locked_are_judged_once_at_the_end_against_the_balance_then(
        self, database: Database
    ) -> None:
        home = await low_household(database, amount="1")

        await home.spend("2")
        await judge_all(database)
        await home.spend("3")
        await complete(database, home, "1")
        await judge_all(database)

        reasons = [(row.reason, row.fired, row.balance) for row in await home.decisions()]
        assert reasons == [
            ("below_threshold", True, 35_000_000),
            ("locked", False, 33_000_000),
            ("locked", False, 30_000_000),
            ("locked", False, 31_000_000),
            ("below_threshold", True, 31_000_000),
        ]
        assert len(await home.top_ups()) == 2

    @pytest.mark.rule("R12")
    async def test_nothing_is_judged_again_when_nothing_was_spent_meanwhile(self, database: Database) -> None:
        home = await low_household(database, amount="1")

        await complete(database, home, "1")
        await judge_all(database)

        assert len(await home.top_ups()) == 1

    @pytest.mark.rule("R14")
    async def test_an_unneeded_one_arms_again_and_tells_nobody(self, database: Database) -> None:
        home = await low_household(database)
        await home.add("100")

        await end(database, home, not_needed("USDT"))

        assert (await home.rule()).armed
        assert await home.deliveries() == []


class TestSettle:
    @pytest.mark.rule("R23")
    async def test_it_unlocks_and_queues_one_delivery_per_channel_in_one_commit(
        self, database: Database
    ) -> None:
        home = await low_household(database)

        await complete(database, home, "100")

        (top_up,) = await home.top_ups()
        assert (top_up.state, top_up.outcome, top_up.reason, top_up.credited) == (
            "ended",
            "completed",
            "full",
            100_000_000,
        )
        assert (await home.rule()).locked_by is None
        assert sorted(row.channel for row in await home.deliveries()) == ["email", "push"]

    async def test_a_repeat_gets_the_first_answer_and_changes_nothing(self, database: Database) -> None:
        home = await low_household(database)
        (top_up,) = await home.top_ups()
        records = TopUpRecords(database, Patience())
        draw = await draw_now(database, home, "60")
        first_order = SettleOrder(
            top_up_id=top_up.id, draws=(draw,), ending=conclude(Money.parse("100", "USDT"), [draw])
        )
        other_order = SettleOrder(top_up_id=top_up.id, draws=(), ending=INSUFFICIENT)

        first, *others = await asyncio.gather(
            records.settle(first_order), *[records.settle(first_order) for _ in range(4)]
        )
        late = await records.settle(other_order)

        assert all(answer == first for answer in (*others, late))
        assert [row.credited for row in await home.draws(top_up.id)] == [60_000_000]
        assert len(await home.deliveries()) == 2

    @pytest.mark.rule("R19")
    async def test_the_ledger_has_the_last_word_on_what_moved(self, database: Database) -> None:
        home = await low_household(database)
        await draw_now(database, home, "60")

        await end(database, home, not_needed("USDT"))

        (top_up,) = await home.top_ups()
        assert (top_up.outcome, top_up.reason, top_up.credited) == (
            "partial",
            "ended_by_operator",
            60_000_000,
        )
        assert [row.credited for row in await home.draws(top_up.id)] == [60_000_000]

    @pytest.mark.rule("R10")
    async def test_no_draw_of_a_settled_top_up_can_move_money_any_more(self, database: Database) -> None:
        home = await low_household(database)
        await end(database, home, INSUFFICIENT)

        late = await draw_now(database, home, "100")

        assert late.status is DrawStatus.CONFIRMED_NOT_MOVED
        assert (await home.balance(), await home.holding("USDT")) == ("35.00", "100.00")

    async def test_a_top_up_that_ended_holds_no_lock(self, database: Database) -> None:
        home = await low_household(database)
        (top_up,) = await home.top_ups()
        records = TopUpRecords(database, Patience())

        before = await records.holds_lock(top_up.id)
        await complete(database, home, "100")

        assert before
        assert not await records.holds_lock(top_up.id)
