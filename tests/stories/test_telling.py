"""Telling the owner: once per channel, retried by itself, and never in the top-up's way (R23, R24)."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle

from activities.messages import Telling
from activities.ports import NotDeliveredYet, Undeliverable
from adapters.postgres.claims import Claims
from runtime.patience import patience_of
from starter.runs import TemporalRuns
from tests.builders import Household, low_wallet
from tests.stories.test_operators import sweep
from tests.stories.town import Town
from topup.keys import telling_id


async def terminate(telling: WorkflowHandle[Any, Any]) -> None:
    """An operator ends the run at once."""
    await telling.terminate("a story")


async def cancel(telling: WorkflowHandle[Any, Any]) -> None:
    """An operator asks the run to end, and it does."""
    await telling.cancel()
    with pytest.raises(WorkflowFailureError):
        await telling.result()


Hand = Callable[[WorkflowHandle[Any, Any]], Awaitable[None]]


class TestNotifications:
    @pytest.mark.rule("R23")
    async def test_both_channels_tell_the_amount_and_each_sources_result(self, town: Town) -> None:
        home = await low_wallet(town.database)

        await town.see_through(home)

        (mail,), (push,) = town.channels["email"].sent, town.channels["push"].sent
        assert mail.subject == push.subject == "Your Pay wallet was topped up with 100.00 USDT"
        assert any("USDT" in line for line in mail.lines)
        assert [row.status for row in await home.deliveries()] == ["sent", "sent"]

    @pytest.mark.rule("R24")
    async def test_one_that_can_never_be_delivered_changes_nothing_else(self, town: Town) -> None:
        home = await low_wallet(town.database)
        town.channels["push"].refusal = Undeliverable("no push subscription")

        top_up = await town.see_through(home)

        assert (top_up.outcome, (await home.rule()).locked_by) == ("completed", None)
        assert {row.channel: row.status for row in await home.deliveries()} == {
            "email": "sent",
            "push": "undeliverable",
        }

    @pytest.mark.rule("R24")
    async def test_one_that_cannot_be_delivered_now_is_tried_on_in_a_run_of_its_own(self, town: Town) -> None:
        home = await low_wallet(town.database)
        town.channels["email"].refusal = ConnectionError("mail server down")
        town.watcher.patience = patience_of(town.settings).model_copy(
            update={"notify": timedelta(milliseconds=300)}
        )

        top_up = await town.see_through(home)
        pending = [row.status for row in await home.deliveries() if row.channel == "email"]
        town.channels["email"].refusal = None
        await town.client.get_workflow_handle(telling_id(top_up.id, "ended")).result()

        assert pending == ["pending"]
        assert [row.status for row in await home.deliveries()] == ["sent", "sent"]
        assert len(town.channels["email"].sent) == 1

    @pytest.mark.rule("R24")
    async def test_one_whose_service_asks_for_a_pause_is_tried_again_after_it(self, town: Town) -> None:
        home = await low_wallet(town.database)
        town.channels["push"].refusal = NotDeliveredYet("its push service answered 429", timedelta(seconds=1))
        refused, told = asyncio.Event(), asyncio.Event()
        town.channels["push"].on_refused = refused.set
        town.channels["push"].on_sent = told.set
        town.watcher.patience = patience_of(town.settings).model_copy(update={"notify": timedelta(minutes=5)})

        await town.watch()
        await asyncio.wait_for(refused.wait(), timeout=90)
        began = asyncio.get_running_loop().time()
        town.channels["push"].refusal = None
        await asyncio.wait_for(told.wait(), timeout=90)

        # The retry policy alone would have tried again after a quarter of a second.
        assert asyncio.get_running_loop().time() - began > 0.8
        await (await town.handle(home)).result()
        assert [row.attempts for row in await home.deliveries() if row.channel == "push"] == [2]

    @pytest.mark.rule("R24")
    @pytest.mark.parametrize("hand", [terminate, cancel])
    async def test_one_nobody_is_trying_any_more_is_taken_up_by_the_sweep(
        self, town: Town, hand: Hand
    ) -> None:
        home = await low_wallet(town.database)
        town.channels["email"].refusal = ConnectionError("mail server down")
        town.watcher.patience = patience_of(town.settings).model_copy(
            update={"notify": timedelta(milliseconds=300)}
        )
        top_up = await town.see_through(home)
        await hand(town.client.get_workflow_handle(telling_id(top_up.id, "ended")))
        told = asyncio.Event()
        town.channels["email"].on_sent = told.set

        # The channel answers again only after the sweep: an attempt of the terminated run still under way fails too.
        report = await sweep(town)
        town.channels["email"].refusal = None
        await asyncio.wait_for(told.wait(), timeout=90)

        assert report.retold == (top_up.id,)
        assert len(town.channels["email"].sent) == 1


@pytest.mark.rule("R25")
class TestTheLowBalanceNotice:
    async def test_reaches_the_owner_once_for_a_dip_on_both_channels(self, town: Town) -> None:
        home = await wallet_without_help(town)

        await home.spend("45")
        await town.watch()
        await finish_telling(town, home)
        await home.spend("5")
        await town.watch()

        (mail,), (push,) = town.channels["email"].sent, town.channels["push"].sent
        assert (
            mail.subject == push.subject == "Your Pay wallet is below 50.00 USDT, and no top-up is on its way"
        )
        assert [row.status for row in await home.deliveries()] == ["sent", "sent"]

    async def test_comes_again_with_the_next_dip(self, town: Town) -> None:
        home = await wallet_without_help(town)

        for _ in range(2):
            await home.spend("45")
            await town.watch()
            await finish_telling(town, home)
            await home.add("45")
            await town.watch()

        assert len(town.channels["email"].sent) == len(town.channels["push"].sent) == 2

    async def test_is_sent_by_the_sweep_where_the_watcher_was_killed_behind_its_commit(
        self, town: Town
    ) -> None:
        home = await wallet_without_help(town)
        await home.spend("45")
        judged = await Claims(town.database).judge_waiting()

        report = await sweep(town)
        await finish_telling(town, home)

        assert report.retold == (judged.low[0].event_id,)
        assert len(town.channels["email"].sent) == len(town.channels["push"].sent) == 1

    async def test_goes_once_though_watcher_and_sweep_both_see_to_it(self, town: Town) -> None:
        home = await wallet_without_help(town)
        await home.spend("45")
        await town.watch()
        await sweep(town)
        await finish_telling(town, home)
        await sweep(town)

        assert len(town.channels["email"].sent) == len(town.channels["push"].sent) == 1

    async def test_that_cannot_be_handed_to_temporal_is_left_to_the_sweep(self, town: Town) -> None:
        home = await wallet_without_help(town)
        town.watcher.runs = Unreachable()
        await home.spend("45")

        await town.watch()
        report = await sweep(town)
        await finish_telling(town, home)

        assert len(report.retold) == 1
        assert len(town.channels["email"].sent) == 1


class Unreachable(TemporalRuns):
    """Temporal's runs while it is out of reach."""

    def __init__(self) -> None:
        """Reach nobody."""

    async def tell(self, telling: Telling) -> bool:
        """Refuse."""
        del telling
        raise ConnectionError


async def wallet_without_help(town: Town) -> Household:
    """A wallet of 80 USDT whose rule, from 50 USDT on, is off."""
    home = await town.open_household(balance="80")
    await home.draw_up_rule(threshold="50", enabled=False)
    return home


async def finish_telling(town: Town, home: Household) -> None:
    """Wait until the newest notice has been told."""
    event_id = (await home.deliveries())[-1].event_id
    assert event_id
    await town.client.get_workflow_handle(telling_id(event_id, "low_balance")).result()
