"""The whole product at work: by hand, under an operator's hand, and with nobody there to take its notifications."""

import asyncio
import sys

import pytest
from httpx2 import AsyncClient
from temporalio.client import Client

from runtime.parts import CHECKOUT
from tests.builders import Household
from tests.outages.product import Product
from tests.stories.test_waterfall import USDT, ending
from topup.keys import workflow_id


async def run_by_hand(product: Product, rule_id: str) -> tuple[int | None, str]:
    """`python -m starter run RULE`: its exit code, and what it said."""
    command = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "starter", "run", rule_id),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=CHECKOUT,
        env=product.stack.environment(),
    )
    said, _ = await command.communicate()
    return command.returncode, said.decode()


async def messages_of(product: Product, home: Household) -> list[str]:
    """The channels on which the owner's notifications have reached the inbox, one for each message there."""
    ids = [delivery.id for delivery in await home.deliveries()]
    async with AsyncClient(base_url=product.stack.addresses.inbox, trust_env=False) as inbox:
        kept = (await inbox.get("/messages")).json()["data"]
    return sorted(message["channel"] for message in kept if any(key in message["message_id"] for key in ids))


class TestByHand:
    @pytest.mark.rule("R11")
    async def test_a_low_wallet_is_topped_up_and_the_end_told_in_words(self, product: Product) -> None:
        home = await product.low_household(armed=False)
        await home.take("20", "USDT")
        await home.spend("45")

        code, said = await run_by_hand(product, (await home.rule()).id)

        (top_up,) = await product.ended(home)
        assert (code, ending(top_up)) == (0, ("completed", "full", 100 * USDT))
        assert f"{top_up.id}: completed / full" in said
        assert "40.00 USDT" in said

    @pytest.mark.rule("R7")
    async def test_a_rule_whose_top_up_runs_is_refused_and_one_above_its_line_left_alone(
        self, product: Product
    ) -> None:
        locked, full = await product.low_household(), await product.low_household()

        with product.frozen("worker"):
            await product.spend(locked)
            await product.claimed(locked)
            refused, untouched = await asyncio.gather(
                run_by_hand(product, (await locked.rule()).id), run_by_hand(product, (await full.rule()).id)
            )

        assert refused[0] == 1
        assert f"{(await product.claimed(locked)).id} is in progress" in refused[1]
        assert untouched[0] == 0
        assert "No top-up" in untouched[1]
        assert await full.top_ups() == []


class TestAnOperator:
    @pytest.mark.rule("R19")
    async def test_who_terminates_a_run_between_draw_and_answer_gets_true_results_from_the_sweep(
        self, product: Product
    ) -> None:
        home = await product.low_household()
        temporal = await Client.connect(product.stack.addresses.temporal)

        async with product.hold_source(home) as source:
            await product.spend(home)
            await source.reached("ledger_draw")
            with product.frozen("worker"):
                await source.release()
                assert await product.transfer(home) == "moved"
                run = temporal.get_workflow_handle(workflow_id((await product.claimed(home)).id))
                await run.terminate("a test")

        (top_up,) = await product.ended(home)
        assert ending(top_up) == ("partial", "ended_by_operator", 60 * USDT)
        assert (await home.balance(), await home.holding("USDT")) == ("95.00", "0.00")
        assert (await home.rule()).locked_by is None


class TestNobodyTakesNotifications:
    @pytest.mark.rule("R23")
    @pytest.mark.rule("R24")
    async def test_and_the_top_up_ends_all_the_same_and_its_owner_is_told_once_later(
        self, product: Product
    ) -> None:
        home = await product.low_household()

        async with product.halted("inbox", kill=True):
            await product.spend(home)
            (top_up,) = await product.ended(home)
            unlocked = (await home.rule()).locked_by is None
            told = {delivery.status for delivery in await home.deliveries()}

        assert (ending(top_up), unlocked, told) == (("completed", "full", 100 * USDT), True, {"pending"})
        await product.quiet()
        assert await messages_of(product, home) == ["email", "push"]
