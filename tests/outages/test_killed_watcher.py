"""A watcher killed by SIGKILL at any point, late, or one of two: every dip is judged once and becomes one top-up."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from runtime.parts import CHECKOUT
from tests.builders import Household
from tests.outages.product import Product
from tests.stories.test_waterfall import USDT, ending

HOUSEHOLDS = 10
STARTING_SECONDS = 180.0


@asynccontextmanager
async def another_watcher(product: Product) -> AsyncIterator[None]:
    """One more watcher beside the stack's own, at work."""
    watcher = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "starter", "watch"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=CHECKOUT,
        env=product.stack.environment(),
    )
    assert watcher.stdout is not None
    try:
        async with asyncio.timeout(STARTING_SECONDS):
            while b"watcher.started" not in await watcher.stdout.readline():
                assert watcher.returncode is None
        yield
    finally:
        watcher.terminate()
        await watcher.communicate()


async def assert_topped_up_once(product: Product, home: Household) -> None:
    """One top-up, and one firing among the decisions."""
    (top_up,) = await product.ended(home)
    assert ending(top_up) == ("completed", "full", 100 * USDT)
    assert await home.balance() == "135.00"
    assert [decision.fired for decision in await home.decisions()].count(True) == 1


class TestAWatcherKilled:
    @pytest.mark.rule("R10")
    async def test_while_judging_leaves_the_judging_to_the_next(self, product: Product) -> None:
        home = await product.low_household()

        async with product.hold_rule(home) as rule:
            await product.spend(home)
            await rule.reached("FROM rule")
            product.kill("watcher")

        await assert_topped_up_once(product, home)

    @pytest.mark.rule("R10")
    async def test_between_claim_and_hand_over_leaves_the_hand_over_to_the_next(
        self, product: Product
    ) -> None:
        home = await product.low_household()

        with product.frozen("temporal"):
            await product.spend(home)
            claimed = await product.claimed(home)
            product.kill("watcher")

        assert claimed.handed_over_at is None
        await assert_topped_up_once(product, home)

    @pytest.mark.rule("R10")
    async def test_before_it_could_record_the_hand_over_starts_nothing_twice(self, product: Product) -> None:
        home = await product.low_household()

        async with AsyncExitStack() as held:
            with product.frozen("temporal"):
                await product.spend(home)
                await product.claimed(home)
                top_up = await held.enter_async_context(product.hold_top_up(home))
            await top_up.reached("UPDATE top_up")
            product.kill("watcher")

        await assert_topped_up_once(product, home)


class TestAWatcherThatWakesUpLate:
    @pytest.mark.rule("R10")
    @pytest.mark.rule("R11")
    async def test_makes_one_top_up_of_a_spend_and_a_save_after_it(self, product: Product) -> None:
        home = await product.low_household(amount="10")
        path = f"/v1/rules/{(await home.rule()).id}"

        with product.frozen("watcher"):
            await product.spend(home)
            saved = await product.client.patch(path, json={"amount": "9"}, headers={"If-Match": '"1"'})
            assert saved.status_code == 200, saved.text
        await product.ended(home)
        await product.quiet()

        assert [ending(top_up) for top_up in await home.top_ups()] == [("completed", "full", 9 * USDT)]
        assert await home.balance() == "44.00"


class TestTwoWatchersAtOnce:
    @pytest.mark.rule("R10")
    async def test_make_one_top_up_of_each_dip(self, product: Product) -> None:
        homes = [await product.low_household() for _ in range(HOUSEHOLDS)]
        crowded = await product.low_household()
        await crowded.add("40")

        async with another_watcher(product):
            await asyncio.gather(
                *(product.spend(home) for home in homes),
                *(product.spend(crowded, "1") for _ in range(100)),
            )
            for home in homes:
                await assert_topped_up_once(product, home)
            await product.ended(crowded)

        (top_up,) = await crowded.top_ups()
        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert await crowded.balance() == "120.00"
