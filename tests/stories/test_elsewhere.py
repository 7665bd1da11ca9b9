"""A wallet kept elsewhere, end to end: reported low, topped up by a real run, and reported well again."""

from collections.abc import Sequence

import pytest

from adapters.postgres.reports import Receipt
from tests.adapters.crowd import report
from tests.builders import Household, open_household
from tests.stories.test_waterfall import USDT, ending, results
from tests.stories.town import Town
from topup.caps import Cap, Caps
from topup.trigger import Kept


async def open_elsewhere(town: Town) -> Household:
    """An owner whose wallet is kept elsewhere and stands at 80."""
    home = await open_household(town.database, kept=Kept.ELSEWHERE)
    await home.fund("60", "USDT")
    await home.fund("0.5", "BTC")
    await report(home, (1, "80"))
    return home


def taken(receipts: Sequence[Receipt]) -> bool:
    """Whether all of them were news."""
    return not any(receipt.duplicate or receipt.stale for receipt in receipts)


class TestAWalletKeptElsewhere:
    @pytest.mark.rule("R9")
    async def test_is_topped_up_when_it_is_reported_low_and_armed_again_by_a_report(self, town: Town) -> None:
        home = await open_elsewhere(town)
        await home.draw_up_rule(sources=("USDT", "BTC"))

        assert taken(await report(home, (2, "35")))
        top_up = await town.see_through(home)

        assert ending(top_up) == ("completed", "full", 100 * USDT)
        assert results(await home.draws(top_up.id)) == [
            ("USDT", "transferred", None, 60 * USDT, 60 * USDT),
            ("BTC", "transferred", None, 66_667, 40 * USDT),
        ]
        assert (await home.balance(), await home.holding("USDT")) == ("100.00", "0.00")
        assert not (await home.rule()).armed

        await report(home, (3, "34"))
        await town.watch()
        assert len(await home.top_ups()) == 1
        await report(home, (4, "134"))
        await town.watch()

        assert (await home.rule()).armed

    @pytest.mark.rule("R14")
    async def test_is_not_needed_to_be_topped_up_when_a_newer_report_shows_the_line(
        self, idle_town: Town
    ) -> None:
        home = await open_elsewhere(idle_town)
        await home.draw_up_rule()
        await report(home, (2, "35"))
        await idle_town.watch()
        await report(home, (3, "50"))

        async with idle_town.worker():
            top_up = await idle_town.see_through(home)

        assert ending(top_up) == ("not_needed", "balance_recovered", 0)
        assert (await home.rule()).armed
        assert await home.holding("USDT") == "60.00"

    @pytest.mark.rule("R13")
    async def test_keeps_to_its_cap_like_any_other(self, town: Town) -> None:
        home = await open_elsewhere(town)
        await home.draw_up_rule(amount="10", caps=Caps(None, Cap(None, 1)))
        await report(home, (2, "35"))
        await town.see_through(home)

        await report(home, (3, "90"), (4, "30"))
        await town.watch()

        assert len(await home.top_ups()) == 1
        assert [row.reason for row in await home.decisions()][-1] == "cap_reached"
