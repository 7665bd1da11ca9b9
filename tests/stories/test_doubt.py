"""No answer is not a no: draws whose outcome nobody knows at first, and what is made of them (R21)."""

import asyncio
from datetime import timedelta

import pytest

from runtime.patience import patience_of
from tests.builders import Household
from tests.stories.accounts import Gate, Unknowable
from tests.stories.test_waterfall import USDT, ending, results
from tests.stories.town import Town


async def three_sources(town: Town) -> Household:
    """A low wallet and a rule over three sources of 60, 30 and 500."""
    home = await town.open_household(balance="80")
    await home.fund("60", "USDT")
    await home.fund("30", "USDC")
    await home.fund("500", "USDG")
    await home.draw_up_rule(sources=("USDT", "USDC", "USDG"))
    await home.spend("45")
    return home


class TestALostAnswer:
    @pytest.mark.rule("R21")
    async def test_after_the_money_moved_is_found_to_have_happened(self, town: Town) -> None:
        home = await three_sources(town)
        await home.switch_fault("answer_lost_after_moving", "USDC")

        top_up = await town.see_through(home)

        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert results(await home.draws(top_up.id))[1] == ("USDC", "transferred", None, 30 * USDT, 30 * USDT)
        assert (await home.balance(), await home.holding("USDC")) == ("135.00", "0.00")

    @pytest.mark.rule("R21")
    async def test_before_the_money_moved_is_confirmed_not_to_have_happened(self, town: Town) -> None:
        home = await three_sources(town)
        await home.switch_fault("answer_lost_before_moving", "USDC")

        top_up = await town.see_through(home)

        assert ending(top_up) == ("partial", "not_confirmed", 70 * USDT)
        assert results(await home.draws(top_up.id))[1] == ("USDC", "confirmed_not_moved", "unavailable", 0, 0)
        assert (await home.balance(), await home.holding("USDC")) == ("105.00", "30.00")

    @pytest.mark.rule("R21")
    async def test_of_a_source_that_hangs_is_waited_for_only_so_long(self, town: Town) -> None:
        home = await three_sources(town)
        await home.switch_fault("hang", "USDT")

        top_up = await town.see_through(home)

        assert ending(top_up) == ("partial", "not_confirmed", 40 * USDT)
        assert results(await home.draws(top_up.id))[0] == ("USDT", "confirmed_not_moved", "timed_out", 0, 0)


class TestALateAttempt:
    @pytest.mark.rule("R21")
    async def test_that_comes_after_the_fence_moves_nothing(self, idle_town: Town) -> None:
        home = await three_sources(idle_town)
        gate = Gate(idle_town.accounts, rank=1, after_moving=False)
        idle_town.accounts = gate

        async with idle_town.worker():
            top_up = await idle_town.see_through(home)
            gate.opened.set()
            late = await gate.late

        assert late.kind == "not_moved"
        assert ending(top_up) == ("partial", "not_confirmed", 40 * USDT)
        assert (await home.balance(), await home.holding("USDT")) == ("75.00", "60.00")

    @pytest.mark.rule("R21")
    async def test_that_moved_money_before_the_fence_is_counted(self, idle_town: Town) -> None:
        home = await three_sources(idle_town)
        gate = Gate(idle_town.accounts, rank=1, after_moving=True)
        idle_town.accounts = gate

        async with idle_town.worker():
            top_up = await idle_town.see_through(home)
            gate.opened.set()
            late = await gate.late

        assert late.kind == "moved"
        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert await home.balance() == "135.00"


class TestWhileNobodyKnows:
    @pytest.mark.rule("R21")
    async def test_the_top_up_stays_open_the_rule_locked_and_the_owner_is_told_to_wait(
        self, idle_town: Town
    ) -> None:
        home = await idle_town.open_household(balance="80")
        await home.fund("500", "USDT")
        await home.draw_up_rule()
        idle_town.accounts = unknowable = Unknowable(idle_town.accounts)
        patience = patience_of(idle_town.settings).model_copy(
            update={"tell_checking": timedelta(milliseconds=100)}
        )
        idle_town.watcher.patience = patience
        told = asyncio.Event()
        idle_town.channels["email"].on_sent = told.set

        await home.spend("45")
        async with idle_town.worker():
            await idle_town.watch()
            await asyncio.wait_for(told.wait(), timeout=90)
            (open_top_up,) = await home.top_ups()
            (draw,) = await home.draws(open_top_up.id)
            locked_by = (await home.rule()).locked_by
            unknowable.known = True
            top_up = await idle_town.see_through(home)

        assert (open_top_up.state, draw.status, locked_by) == ("in_progress", "being_checked", open_top_up.id)
        assert "being checked, do not top up by hand yet" in idle_town.channels["email"].sent[0].subject
        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert unknowable.asked >= 2
        assert [letter.channel for letter in idle_town.channels["email"].sent] == ["email", "email"]

    @pytest.mark.rule("R21")
    async def test_no_further_source_is_drawn_from(self, idle_town: Town) -> None:
        home = await three_sources(idle_town)
        idle_town.accounts = unknowable = Unknowable(idle_town.accounts)
        patience = patience_of(idle_town.settings).model_copy(
            update={"tell_checking": timedelta(milliseconds=100)}
        )
        idle_town.watcher.patience = patience
        told = asyncio.Event()
        idle_town.channels["push"].on_sent = told.set

        async with idle_town.worker():
            await idle_town.watch()
            await asyncio.wait_for(told.wait(), timeout=90)
            held = (await home.holding("USDC"), await home.holding("USDG"))
            unknowable.known = True
            await idle_town.see_through(home)

        assert held == ("30.00", "500.00")
