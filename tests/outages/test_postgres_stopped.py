"""PostgreSQL shut down or killed for ten seconds at any point of a top-up: nothing lost, nothing doubled."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.builders import Household
from tests.outages.product import OUTAGE_SECONDS, Product, until
from tests.stories.test_waterfall import USDT, ending, results
from topup.money import Money


@dataclass(frozen=True, slots=True)
class Households:
    """Four at different points when PostgreSQL stopped."""

    idle: Household
    """Its owner paid again and again until it worked, with one Idempotency-Key."""
    drawing: Household
    """Its draw stood inside PostgreSQL."""
    moved: Household
    """Its first source had given, and the worker had not read the answer."""
    settling: Household
    """Its settling stood inside PostgreSQL."""


@pytest_asyncio.fixture(scope="module", params=["shut down", "killed"])
async def homes(product: Product, request: pytest.FixtureRequest) -> AsyncIterator[Households]:
    """One outage of ten seconds, with top-ups at every point of their way."""
    homes = Households(*[await product.low_household() for _ in range(4)])
    key = str(uuid4())
    async with AsyncExitStack() as outage:
        async with (
            product.hold_settling() as settling,
            product.hold_source(homes.drawing) as drawing,
            product.hold_source(homes.moved) as moved,
        ):
            await product.spend(homes.settling)
            await settling.reached("INSERT INTO draw")
            await asyncio.gather(product.spend(homes.drawing), product.spend(homes.moved))
            await drawing.reached("ledger_draw")
            await moved.reached("ledger_draw")
            with product.frozen("worker"):
                await moved.release()
                assert await product.transfer(homes.moved) == "moved"
                await outage.enter_async_context(product.halted("postgres", kill=request.param == "killed"))
        await assert_nobody_can_pay(product, homes.idle, key)
    await until(lambda: is_paid(product, homes.idle, key))
    yield homes


async def assert_nobody_can_pay(product: Product, home: Household, key: str) -> None:
    """For as long as the outage lasts, every payment is refused with the advice to repeat it."""

    async def one_is_served() -> bool:
        answer = await product.pay(home, "45", key=key)
        assert answer.json()["code"] == "unavailable"
        assert int(answer.headers["Retry-After"]) > 0
        return answer.status_code != 503

    with pytest.raises(TimeoutError):
        await until(one_is_served, within=OUTAGE_SECONDS)


async def is_paid(product: Product, home: Household, key: str) -> bool:
    """Whether the payment, repeated, has worked."""
    return (await product.pay(home, "45", key=key)).status_code == 201


class TestPostgresStopped:
    @pytest.mark.rule("R10")
    async def test_before_a_payment_lets_its_repetition_fire_once(
        self, product: Product, homes: Households
    ) -> None:
        (top_up,) = await product.ended(homes.idle)

        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert await homes.idle.balance() == "135.00"

    @pytest.mark.rule("R21")
    async def test_in_the_middle_of_a_draw_finds_out_what_became_of_it_and_draws_the_rest(
        self, product: Product, homes: Households
    ) -> None:
        """A shutdown may end the one who held the draw up before the draw itself, which then still commits."""
        (top_up,) = await product.ended(homes.drawing)
        first, second = results(await homes.drawing.draws(top_up.id))

        assert first[1:] in (
            ("confirmed_not_moved", "unavailable", 0, 0),
            ("confirmed_not_moved", "timed_out", 0, 0),
            ("transferred", None, 60 * USDT, 60 * USDT),
        )
        assert top_up.credited == first[4] + second[4]
        assert await homes.drawing.balance() == Money("USDT", 35 * USDT + top_up.credited).text
        assert await homes.drawing.holding("USDT") == Money("USDT", 60 * USDT - first[3]).text
        assert (await homes.drawing.rule()).locked_by is None

    @pytest.mark.rule("R19")
    async def test_between_two_draws_keeps_what_the_first_has_given(
        self, product: Product, homes: Households
    ) -> None:
        (top_up,) = await product.ended(homes.moved)
        first, second = results(await homes.moved.draws(top_up.id))

        assert first == ("USDT", "transferred", None, 60 * USDT, 60 * USDT)
        assert second[1] == ("transferred" if top_up.outcome == "completed" else "confirmed_not_moved")
        assert top_up.credited == first[4] + second[4]
        assert await homes.moved.holding("USDT") == "0.00"
        assert (await homes.moved.rule()).locked_by is None

    @pytest.mark.rule("R20")
    async def test_at_the_settling_settles_when_it_is_back(self, product: Product, homes: Households) -> None:
        (top_up,) = await product.ended(homes.settling)

        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert await homes.settling.balance() == "135.00"
        assert (await homes.settling.rule()).locked_by is None
