"""Temporal frozen or killed for ten seconds at any point of a top-up: nothing lost, nothing doubled."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.builders import Household
from tests.outages.product import OUTAGE_SECONDS, Product, until
from tests.stories.test_waterfall import USDT, ending


@dataclass(frozen=True, slots=True)
class Households:
    """Four whose top-ups were at different points when Temporal stopped."""

    claimed: Household
    """Claimed without Temporal."""
    claimed_anew: Household
    """Claimed by a watcher that was started without Temporal."""
    drawing: Household
    """Its money moved without Temporal, so the answer found nobody."""
    settling: Household
    """It was settled without Temporal."""


@asynccontextmanager
async def without_temporal(product: Product, how: str) -> AsyncIterator[None]:
    """Temporal gone until the block ends."""
    if how == "frozen":
        with product.frozen("temporal"):
            yield
    else:
        async with product.halted("temporal", kill=True):
            yield


@pytest_asyncio.fixture(scope="module", params=["frozen", "killed"])
async def homes(product: Product, request: pytest.FixtureRequest) -> AsyncIterator[Households]:
    """One outage of ten seconds, with top-ups at every point of their way."""
    homes = Households(*[await product.low_household() for _ in range(4)])
    async with product.hold_settling() as settling, product.hold_source(homes.drawing) as source:
        await product.spend(homes.settling)
        await settling.reached("INSERT INTO draw")
        await product.spend(homes.drawing)
        await source.reached("ledger_draw")
        async with without_temporal(product, request.param):
            await source.release()
            await settling.release()
            await product.spend(homes.claimed)
            await product.claimed(homes.claimed)
            product.kill("watcher")
            await product.spend(homes.claimed_anew)
            await product.claimed(homes.claimed_anew)
            assert await product.transfer(homes.drawing) == "moved"
            await product.ended(homes.settling)
            await assert_none_ends(homes.claimed, homes.claimed_anew, homes.drawing)
    yield homes


async def assert_none_ends(*homes: Household) -> None:
    """For as long as the outage lasts, no top-up ends that needs Temporal for it."""

    async def one_has_ended() -> bool:
        states = [row.state for home in homes for row in await home.top_ups()]
        return "ended" in states

    with pytest.raises(TimeoutError):
        await until(one_has_ended, within=OUTAGE_SECONDS)


class TestTemporalStopped:
    @pytest.mark.rule("R10")
    @pytest.mark.parametrize("point", ["claimed", "claimed_anew", "drawing", "settling"])
    async def test_for_ten_seconds_changes_nothing_about_the_end(
        self, product: Product, homes: Households, point: str
    ) -> None:
        home: Household = getattr(homes, point)

        (top_up,) = await product.ended(home)

        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert (await home.balance(), await home.holding("USDT")) == ("135.00", "0.00")
        assert (await home.rule()).locked_by is None
