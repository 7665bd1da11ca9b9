"""Telling the owner: once per channel, retried by itself, and never in the top-up's way (R23, R24)."""

import asyncio
from datetime import timedelta

import pytest

from activities.ports import Undeliverable
from runtime.patience import patience_of
from tests.builders import Household
from tests.stories.test_operators import sweep
from tests.stories.town import Town
from topup.keys import telling_id


async def low_wallet(town: Town) -> Household:
    """A wallet that has just fallen below its rule's threshold."""
    home = await town.open_household(balance="80")
    await home.fund("500", "USDT")
    await home.draw_up_rule()
    await home.spend("45")
    return home


class TestNotifications:
    @pytest.mark.rule("R23")
    async def test_both_channels_tell_the_amount_and_each_sources_result(self, town: Town) -> None:
        home = await low_wallet(town)

        await town.see_through(home)

        (mail,), (push,) = town.channels["email"].sent, town.channels["push"].sent
        assert mail.subject == push.subject == "Your Pay wallet was topped up with 100.00 USDT"
        assert any("USDT" in line for line in mail.lines)
        assert [row.status for row in await home.deliveries()] == ["sent", "sent"]

    @pytest.mark.rule("R24")
    async def test_one_that_can_never_be_delivered_changes_nothing_else(self, town: Town) -> None:
        home = await low_wallet(town)
        town.channels["push"].refusal = Undeliverable("no push subscription")

        top_up = await town.see_through(home)

        assert (top_up.outcome, (await home.rule()).locked_by) == ("completed", None)
        assert {row.channel: row.status for row in await home.deliveries()} == {
            "email": "sent",
            "push": "undeliverable",
        }

    @pytest.mark.rule("R24")
    async def test_one_that_cannot_be_delivered_now_is_tried_on_in_a_run_of_its_own(self, town: Town) -> None:
        home = await low_wallet(town)
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
    async def test_one_nobody_is_trying_any_more_is_taken_up_by_the_sweep(self, town: Town) -> None:
        home = await low_wallet(town)
        town.channels["email"].refusal = ConnectionError("mail server down")
        town.watcher.patience = patience_of(town.settings).model_copy(
            update={"notify": timedelta(milliseconds=300)}
        )
        top_up = await town.see_through(home)
        await town.client.get_workflow_handle(telling_id(top_up.id, "ended")).terminate("a story")
        told = asyncio.Event()
        town.channels["email"].on_sent = told.set

        # The channel answers again only after the sweep: an attempt of the terminated run still under way fails too.
        report = await sweep(town)
        town.channels["email"].refusal = None
        await asyncio.wait_for(told.wait(), timeout=30)

        assert report.retold == (top_up.id,)
        assert len(town.channels["email"].sent) == 1
