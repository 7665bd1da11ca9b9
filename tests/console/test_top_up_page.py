"""One top-up, step by step, as it stands when its page is opened."""

import asyncio

import pytest

from tests.console.conftest import Browser, sign_in
from tests.console.low_wallets import Silent, held_at_draw, low_wallet
from tests.stories.town import Town

REFRESH = '<noscript><meta http-equiv="refresh"'


class TestATopUpThatEnded:
    @pytest.mark.rule("R23")
    async def test_shows_why_it_fired_what_each_source_gave_and_who_was_told(
        self, town: Town, stranger: Browser
    ) -> None:
        home = await low_wallet(town)
        owner = await sign_in(stranger, town.database, owner_id=home.owner_id)
        top_up = await town.see_through(home)

        page = (await owner.get(f"/top-ups/{top_up.id}")).text

        assert "The balance was 35.00 USDT, below the threshold of 50.00 USDT" in page
        assert "60.00 USDT from USDT, 40.00 USDT from USDC" in page
        assert "Gave 40.00 USDC, worth 40.00 USDT." in page
        assert "Your Pay wallet was topped up with 100.00 USDT" in page
        assert "By push: sent." in page
        assert "By email: sent." in page
        assert f'href="/wallets/{home.wallet_id}/history"' in page

    async def test_is_not_kept_up_to_date_any_more(self, town: Town, stranger: Browser) -> None:
        home = await low_wallet(town)
        owner = await sign_in(stranger, town.database, owner_id=home.owner_id)
        top_up = await town.see_through(home)

        page = (await owner.get(f"/top-ups/{top_up.id}")).text

        assert "hx-sse:connect" not in page
        assert REFRESH not in page

    @pytest.mark.rule("R18", "R23")
    async def test_explains_what_did_not_arrive_and_says_what_to_do_next(
        self, town: Town, stranger: Browser
    ) -> None:
        home = await low_wallet(town)
        await home.switch_fault("reject", "USDC")
        owner = await sign_in(stranger, town.database, owner_id=home.owner_id)
        top_up = await town.see_through(home)

        page = (await owner.get(f"/top-ups/{top_up.id}")).text

        assert "40.00 USDT did not arrive, because USDC gave nothing, as the exchange refused" in page
        assert "You have two options: add funds to your Pay wallet by hand, or adjust" in page
        assert f'href="/wallets/{home.wallet_id}/auto-top-up"' in page

    @pytest.mark.rule("R15")
    async def test_says_what_the_sources_lacked(self, town: Town, stranger: Browser) -> None:
        home = await low_wallet(town, usdt="20", usdc="10")
        owner = await sign_in(stranger, town.database, owner_id=home.owner_id)
        top_up = await town.see_through(home)

        page = (await owner.get(f"/top-ups/{top_up.id}")).text

        assert "The sources are worth 30.00 USDT together, 70.00 USDT too little." in page
        assert "Your top-up of 100.00 USDT failed: nothing was moved" in page


class TestATopUpInProgress:
    async def test_shows_how_far_it_is_and_goes_on_without_scripts_too(
        self, idle_town: Town, stranger: Browser
    ) -> None:
        home = await low_wallet(idle_town)
        owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)

        async with held_at_draw(idle_town, home, 2) as (top_up_id, _):
            page = (await owner.get(f"/top-ups/{top_up_id}")).text

        assert "Gave 60.00 USDT." in page
        assert "Is being asked for 40.00 USDT." in page
        assert "Until it has ended its rule cannot be changed." in page
        assert REFRESH in page
        assert f'hx-sse:connect="/top-ups/{top_up_id}/live"' in page

    @pytest.mark.rule("R21")
    async def test_says_not_to_top_up_by_hand_while_a_draw_is_being_checked(
        self, idle_town: Town, stranger: Browser
    ) -> None:
        home = await low_wallet(idle_town)
        owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)
        idle_town.accounts = silent = Silent(idle_town.accounts)

        async with idle_town.worker():
            await idle_town.watch()
            await asyncio.wait_for(silent.asked.wait(), timeout=90)
            (top_up,) = await home.top_ups()
            page = (await owner.get(f"/top-ups/{top_up.id}")).text
            silent.known = True
            await idle_town.see_through(home)

        assert "is being checked, do not top up by hand yet" in page
        assert "The transfer from USDT has not been answered" in page
        assert "you would pay twice" in page
        assert "Being checked</span>" in page


class TestATopUpOfSomebodyElse:
    async def test_is_not_there(self, town: Town, stranger: Browser) -> None:
        home = await low_wallet(town)
        other = await town.open_household(balance="1")
        intruder = await sign_in(stranger, town.database, owner_id=other.owner_id)
        top_up = await town.see_through(home)

        answer = await intruder.get(f"/top-ups/{top_up.id}")

        assert answer.status_code == 404
        assert top_up.id not in answer.text

    async def test_is_as_little_there_as_one_of_no_possible_name(self, stranger: Browser, town: Town) -> None:
        home = await town.open_household(balance="1")
        owner = await sign_in(stranger, town.database, owner_id=home.owner_id)

        assert (await owner.get("/top-ups/%00")).status_code == 404
        assert (await owner.get("/top-ups/topup_nothing")).status_code == 404
