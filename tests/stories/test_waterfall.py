"""The way of a top-up, end to end: what moves, from where, and how it ends."""

from collections.abc import Sequence

import pytest
from sqlalchemy import text

from adapters.postgres.database import run_sql
from adapters.postgres.tables import DrawRow, TopUpRow
from tests.hands import by_hand
from tests.stories.accounts import Blind, EmptiedMeanwhile
from tests.stories.town import Town

USDT = 1_000_000
_DAMAGE = """
CREATE FUNCTION damaged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE 'invalid page in block 0' USING ERRCODE = 'data_corrupted';
END $$
"""
_DAMAGED = (
    "CREATE TRIGGER damaged BEFORE INSERT ON decision FOR EACH ROW WHEN (NEW.wallet_id = '{wallet_id}') "
    "EXECUTE FUNCTION damaged()"
)


def results(draws: Sequence[DrawRow]) -> list[tuple[str, str, str | None, int, int]]:
    """Each draw's asset, status, reason, debit and credit, in rank order."""
    return [(row.asset, row.status, row.reason, row.debited, row.credited) for row in draws]


def ending(top_up: TopUpRow) -> tuple[str | None, str | None, int]:
    """How a top-up ended."""
    return top_up.outcome, top_up.reason, top_up.credited


class TestFullTopUp:
    @pytest.mark.rule("R16")
    async def test_it_comes_from_the_first_source_alone_when_that_covers_it(self, town: Town) -> None:
        home = await town.open_household(balance="80")
        await home.fund("500", "USDT")
        await home.fund("500", "USDC")
        await home.draw_up_rule(sources=("USDT", "USDC"))

        await home.spend("45")
        top_up = await town.see_through(home)

        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert results(await home.draws(top_up.id)) == [
            ("USDT", "transferred", None, 100 * USDT, 100 * USDT),
            ("USDC", "not_reached", None, 0, 0),
        ]
        assert (await home.balance(), await home.holding("USDT")) == ("135.00", "400.00")
        assert (await home.rule()).locked_by is None

    @pytest.mark.rule("R22")
    async def test_it_falls_through_three_sources_two_of_them_not_in_the_wallets_currency(
        self, town: Town
    ) -> None:
        home = await town.open_household(balance="80")
        await home.fund("60", "USDT")
        await home.fund("0.0005", "BTC")
        await home.fund("1", "ETH")
        await home.draw_up_rule(sources=("USDT", "BTC", "ETH"))

        await home.spend("45")
        top_up = await town.see_through(home)

        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert results(await home.draws(top_up.id)) == [
            ("USDT", "transferred", None, 60 * USDT, 60 * USDT),
            ("BTC", "transferred", None, 50_000, 30 * USDT),
            ("ETH", "transferred", None, 3_333_333_333_333_334, 10 * USDT),
        ]
        assert (await home.balance(), await home.holding("BTC")) == ("135.00", "0.00")

    @pytest.mark.rule("R16")
    async def test_an_empty_first_source_is_passed_over_and_says_so(self, town: Town) -> None:
        home = await town.open_household(balance="80")
        await home.fund("500", "USDC")
        await home.draw_up_rule(sources=("USDT", "USDC"))

        await home.spend("45")
        top_up = await town.see_through(home)

        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert results(await home.draws(top_up.id))[0] == ("USDT", "short", "insufficient", 0, 0)


class TestBeforeAnythingMoves:
    @pytest.mark.rule("R15")
    async def test_sources_that_cannot_cover_the_amount_together_leave_everything_where_it_is(
        self, town: Town
    ) -> None:
        home = await town.open_household(balance="80")
        await home.fund("60", "USDT")
        await home.fund("39.99", "USDC")
        await home.draw_up_rule(sources=("USDT", "USDC"))

        await home.spend("45")
        top_up = await town.see_through(home)

        assert ending(top_up) == ("failed", "insufficient_balance", 0)
        assert (await home.balance(), await home.holding("USDT"), await home.holding("USDC")) == (
            "35.00",
            "60.00",
            "39.99",
        )
        assert {row.status for row in await home.draws(top_up.id)} == {"not_reached"}

    @pytest.mark.rule("R14")
    async def test_a_wallet_that_recovered_needs_none(self, idle_town: Town) -> None:
        home = await idle_town.open_household(balance="80")
        await home.fund("500", "USDT")
        await home.draw_up_rule()
        await home.spend("45")
        await idle_town.watch()
        await home.add("15")

        async with idle_town.worker():
            top_up = await idle_town.see_through(home)

        assert ending(top_up) == ("not_needed", "balance_recovered", 0)
        assert await home.balance() == "50.00"
        assert idle_town.channels["email"].sent == []


class TestShortAndFailedDraws:
    @pytest.mark.rule("R17")
    async def test_a_source_that_shrank_since_the_check_gives_what_it_has_and_the_rest_flows_on(
        self, idle_town: Town
    ) -> None:
        home = await idle_town.open_household(balance="80")
        await home.fund("100", "USDT")
        await home.fund("500", "USDC")
        await home.draw_up_rule(sources=("USDT", "USDC"))
        idle_town.accounts = EmptiedMeanwhile(idle_town.accounts, home, "USDT", "70")

        await home.spend("45")
        async with idle_town.worker():
            top_up = await idle_town.see_through(home)

        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert results(await home.draws(top_up.id)) == [
            ("USDT", "short", "insufficient", 30 * USDT, 30 * USDT),
            ("USDC", "transferred", None, 70 * USDT, 70 * USDT),
        ]

    @pytest.mark.rule("R17")
    async def test_when_the_last_source_is_short_too_the_owner_gets_what_there_was(
        self, idle_town: Town
    ) -> None:
        home = await idle_town.open_household(balance="80")
        await home.fund("100", "USDT")
        await home.draw_up_rule()
        idle_town.accounts = EmptiedMeanwhile(idle_town.accounts, home, "USDT", "70")

        await home.spend("45")
        async with idle_town.worker():
            top_up = await idle_town.see_through(home)

        assert ending(top_up) == ("partial", "source_short", 30 * USDT)
        assert await home.balance() == "65.00"

    @pytest.mark.rule("R18")
    async def test_a_refused_share_is_not_taken_from_another_source(self, town: Town) -> None:
        home = await town.open_household(balance="80")
        await home.fund("60", "USDT")
        await home.fund("30", "USDC")
        await home.fund("500", "USDG")
        await home.draw_up_rule(sources=("USDT", "USDC", "USDG"))
        await home.switch_fault("reject", "USDC")

        await home.spend("45")
        top_up = await town.see_through(home)

        assert ending(top_up) == ("partial", "source_failed", 70 * USDT)
        assert results(await home.draws(top_up.id)) == [
            ("USDT", "transferred", None, 60 * USDT, 60 * USDT),
            ("USDC", "failed", "rejected", 0, 0),
            ("USDG", "transferred", None, 10 * USDT, 10 * USDT),
        ]
        assert len(town.channels["email"].sent) == 1
        assert len(town.channels["push"].sent) == 1

    @pytest.mark.rule("R18")
    async def test_nothing_arrived_after_a_refusal_is_a_system_error(self, town: Town) -> None:
        home = await town.open_household(balance="80")
        await home.fund("500", "USDT")
        await home.draw_up_rule()
        await home.switch_fault("reject", "USDT")

        await home.spend("45")
        top_up = await town.see_through(home)

        assert ending(top_up) == ("failed", "system_error", 0)
        assert not (await home.rule()).armed


class TestSingleAttempt:
    @pytest.mark.rule("R20")
    async def test_check_and_draws_are_scheduled_with_one_attempt_and_nothing_else_moves_money(
        self, town: Town
    ) -> None:
        home = await town.open_household(balance="80")
        await home.fund("500", "USDT")
        await home.draw_up_rule()

        await home.spend("45")
        await town.see_through(home)
        history = await (await town.handle(home)).fetch_history()

        scheduled = [
            event.activity_task_scheduled_event_attributes
            for event in history.events
            if event.HasField("activity_task_scheduled_event_attributes")
        ]
        attempts = {call.activity_type.name: call.retry_policy.maximum_attempts for call in scheduled}
        assert attempts == {"hold_lock": 0, "check": 1, "draw": 1, "settle": 0, "notify": 0}

    @pytest.mark.rule("R20")
    async def test_a_check_that_fails_is_not_tried_again_and_nothing_moves(self, idle_town: Town) -> None:
        home = await idle_town.open_household(balance="80")
        await home.fund("500", "USDT")
        await home.draw_up_rule()
        blind = Blind(idle_town.accounts)
        idle_town.accounts = blind

        await home.spend("45")
        async with idle_town.worker():
            top_up = await idle_town.see_through(home)

        assert ending(top_up) == ("failed", "system_error", 0)
        assert blind.looks == 1
        assert await home.holding("USDT") == "500.00"


class TestTwoTriggers:
    @pytest.mark.rule("R9")
    async def test_a_completed_one_that_leaves_the_balance_low_fires_again_at_the_next_spend_only(
        self, town: Town
    ) -> None:
        home = await town.open_household(balance="80")
        await home.fund("500", "USDT")
        await home.draw_up_rule(amount="5")

        await home.spend("45")
        await town.see_through(home)
        await town.watch()
        assert len(await home.top_ups()) == 1
        await home.spend("1")
        await town.see_through(home)

        assert [row.outcome for row in await home.top_ups()] == ["completed", "completed"]
        assert await home.balance() == "44.00"

    @pytest.mark.rule("R10")
    async def test_a_wallet_that_cannot_be_judged_holds_up_no_other(self, town: Town) -> None:
        broken = await town.open_household(balance="80")
        await broken.draw_up_rule()
        await broken.spend("45")
        await broken.spoil_event()
        home = await town.open_household(balance="80")
        await home.fund("500", "USDT")
        await home.draw_up_rule()

        await home.spend("45")
        top_up = await town.see_through(home)

        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert await broken.decisions() == []

    @pytest.mark.rule("R10")
    async def test_a_wallet_at_which_the_database_fails_inside_holds_up_no_other(self, town: Town) -> None:
        broken, home = [await town.open_household(balance="80") for _ in range(2)]
        await broken.draw_up_rule()
        await home.fund("500", "USDT")
        await home.draw_up_rule()
        async with by_hand(town.database) as session:
            await run_sql(session, text(_DAMAGE))
            await run_sql(session, text(_DAMAGED.format(wallet_id=broken.wallet_id)))

        await broken.spend("45")
        await home.spend("45")
        top_up = await town.see_through(home)

        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert await broken.decisions() == []
