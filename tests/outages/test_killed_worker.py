"""A worker killed by SIGKILL in the middle of a top-up: true results, the rule unlocked, nothing moved twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.builders import Household
from tests.outages.product import Product
from tests.stories.test_waterfall import USDT, ending, results

BTC_FOR_40 = 66_667


@dataclass(frozen=True, slots=True)
class Killed:
    """Households whose draws were at different points when the worker was killed."""

    before: Household
    """It had not yet asked the ledger."""
    fenced: Household
    """It stood inside the ledger, until the draw had been looked up."""
    late: Household
    """It stood inside the ledger, and went on after the worker was dead."""
    unheard: Household
    """It had moved the money, and the worker had not read the answer."""
    spending: Household
    """As `late`, and its owner spent on meanwhile."""
    settling: Household
    """All was drawn, and the settling stood inside PostgreSQL."""


@pytest_asyncio.fixture(scope="module")
async def killed(product: Product) -> AsyncIterator[Killed]:
    """Six top-ups brought to their points, then one SIGKILL; the stack starts the worker again."""
    homes = Killed(
        await product.low_household(),
        await product.low_household(),
        await product.low_household(),
        await product.low_household(),
        await product.low_household(amount="20"),
        await product.low_household(),
    )
    await homes.before.switch_fault("hang", "USDT")
    async with AsyncExitStack() as held:
        settling = await held.enter_async_context(product.hold_settling())
        await product.spend(homes.settling)
        await settling.reached("INSERT INTO draw")
        standing = [
            await held.enter_async_context(product.hold_source(home))
            for home in (homes.fenced, homes.late, homes.unheard, homes.spending)
        ]
        fenced, late, unheard, spending = standing
        await asyncio.gather(
            *map(product.spend, (homes.before, homes.fenced, homes.late, homes.unheard, homes.spending))
        )
        await product.fault_taken(homes.before)
        for hold in standing:
            await hold.reached("ledger_draw")
        with product.frozen("worker"):
            await unheard.release()
            assert await product.transfer(homes.unheard) == "moved"
            product.kill("worker")
        await settling.release()
        for home, hold in ((homes.late, late), (homes.spending, spending)):
            await hold.release()
            assert await product.transfer(home) == "moved"
        for _ in range(3):
            await product.spend(homes.spending, "10")
        assert await product.transfer(homes.fenced) == "void"
        await fenced.release()
    yield homes


class TestAWorkerKilledInTheMiddle:
    @pytest.mark.rule("R21")
    @pytest.mark.parametrize("point", ["before", "fenced"])
    async def test_of_a_draw_before_the_money_moved_confirms_that_it_did_not_and_draws_the_rest(
        self, product: Product, killed: Killed, point: str
    ) -> None:
        home: Household = getattr(killed, point)

        (top_up,) = await product.ended(home)

        assert ending(top_up) == ("partial", "not_confirmed", 40 * USDT)
        assert results(await home.draws(top_up.id)) == [
            ("USDT", "confirmed_not_moved", "timed_out", 0, 0),
            ("BTC", "transferred", None, BTC_FOR_40, 40 * USDT),
        ]
        assert (await home.balance(), await home.holding("USDT")) == ("75.00", "60.00")
        assert (await home.rule()).locked_by is None

    @pytest.mark.rule("R10")
    @pytest.mark.rule("R21")
    @pytest.mark.parametrize("point", ["late", "unheard"])
    async def test_of_a_draw_after_the_money_moved_finds_it_and_draws_only_what_is_still_owed(
        self, product: Product, killed: Killed, point: str
    ) -> None:
        home: Household = getattr(killed, point)

        (top_up,) = await product.ended(home)

        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert results(await home.draws(top_up.id)) == [
            ("USDT", "transferred", None, 60 * USDT, 60 * USDT),
            ("BTC", "transferred", None, BTC_FOR_40, 40 * USDT),
        ]
        assert (await home.balance(), await home.holding("USDT")) == ("135.00", "0.00")
        assert (await home.rule()).locked_by is None

    @pytest.mark.rule("R19")
    async def test_at_the_settling_settles_whole_or_not_at_all_and_then_again(
        self, product: Product, killed: Killed
    ) -> None:
        (top_up,) = await product.ended(killed.settling)

        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert await killed.settling.balance() == "135.00"
        assert (await killed.settling.rule()).locked_by is None

    @pytest.mark.rule("R12")
    async def test_has_what_was_spent_meanwhile_judged_once(self, product: Product, killed: Killed) -> None:
        home = killed.spending

        top_ups = await product.ended(home, count=2)
        await product.quiet()

        assert [ending(top_up) for top_up in top_ups] == [("completed", "full", 20 * USDT)] * 2
        assert [decision.reason for decision in await home.decisions()] == [
            "below_threshold",
            "locked",
            "locked",
            "locked",
            "locked",
            "below_threshold",
            "locked",
        ]
        assert await home.balance() == "45.00"
