"""Parts of pages that go on: shown anew after each step, said aloud, ended with the session."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from adapters.postgres.database import Database, run_sql
from adapters.postgres.sessions import Visitor, end_all_sessions, find_visitor
from console import visitors
from tests.builders import events_readable
from tests.console.conftest import Browser, sign_in
from tests.console.listening import listen
from tests.console.low_wallets import Silent, held_at_draw, low_wallet
from tests.console.sites import opened
from tests.stories.town import Town


async def sign_out(browser: Browser, town: Town) -> None:
    """Sign the browser's person out, with another browser."""
    visitor = await find_visitor(town.database, browser.token or "")
    assert visitor is not None
    async with town.database.commit() as session:
        await end_all_sessions(session, visitor.person_id)


class TestTheStreamOfATopUp:
    async def test_shows_each_step_as_it_is_made_and_says_it_aloud(
        self, idle_town: Town, stranger: Browser
    ) -> None:
        home = await low_wallet(idle_town)
        owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)

        async with (
            held_at_draw(idle_town, home, 1) as (top_up_id, gate),
            listen(owner, f"/top-ups/{top_up_id}/live") as stream,
        ):
            first = await stream.next()
            gate.opened.set()
            last = await stream.until("Your Pay wallet was topped up with 100.00 USDT")
            await stream.rest()

        assert first is not None
        assert "Is being asked for 60.00 USDT." in first.part
        assert first.id
        assert "Gave 40.00 USDC, worth 40.00 USDT." in last.part
        assert "1. USDT: gave 60.00 USDT." in stream.aloud
        assert "2. USDC: gave 40.00 USDC, worth 40.00 USDT." in stream.aloud
        assert "Your Pay wallet was topped up with 100.00 USDT." in stream.aloud

    async def test_says_its_end_aloud_before_it_ends_however_late_that_can_be_read(
        self, idle_town: Town, stranger: Browser
    ) -> None:
        home = await low_wallet(idle_town)
        owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)

        await idle_town.watch()
        (top_up,) = await home.top_ups()

        async with listen(owner, f"/top-ups/{top_up.id}/live") as stream:
            async with idle_town.database.commit() as older, idle_town.worker():
                await run_sql(older, text("SELECT pg_current_xact_id()"))
                shown = await stream.until("Your Pay wallet was topped up with 100.00 USDT")
                while not ("By email: sent." in shown.part and "By push: sent." in shown.part):
                    shown = await stream.until("Your Pay wallet was topped up with 100.00 USDT")
            await stream.rest()

        assert "Your Pay wallet was topped up with 100.00 USDT." in stream.aloud
        assert stream.heard[-1].event == "stop"

    async def test_ends_for_good_when_everything_about_it_is_told(
        self, town: Town, stranger: Browser
    ) -> None:
        home = await low_wallet(town)
        owner = await sign_in(stranger, town.database, owner_id=home.owner_id)
        top_up = await town.see_through(home)

        async with listen(owner, f"/top-ups/{top_up.id}/live") as stream:
            first, stop = await stream.rest()

        assert "By email: sent." in first.part
        assert stop.event == "stop"

    @pytest.mark.rule("R21")
    async def test_says_by_itself_that_a_draw_is_being_checked(
        self, idle_town: Town, stranger: Browser
    ) -> None:
        home = await low_wallet(idle_town)
        owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)
        idle_town.accounts = silent = Silent(idle_town.accounts)
        await idle_town.watch()
        (top_up,) = await home.top_ups()

        async with listen(owner, f"/top-ups/{top_up.id}/live") as stream, idle_town.worker():
            await stream.until("do not top up by hand yet")
            silent.known = True
            await stream.until("failed: nothing was moved")

        assert "is being checked, do not top up by hand yet." in stream.aloud

    async def test_goes_on_where_a_browser_left_off_and_says_what_it_missed(
        self, idle_town: Town, stranger: Browser
    ) -> None:
        home = await low_wallet(idle_town)
        owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)
        async with (
            held_at_draw(idle_town, home, 1) as (top_up_id, _),
            listen(owner, f"/top-ups/{top_up_id}/live") as stream,
        ):
            first = await stream.next()
        await events_readable(idle_town.database)

        assert first is not None
        async with listen(owner, f"/top-ups/{top_up_id}/live", **{"Last-Event-ID": first.id}) as again:
            await again.rest()

        assert "Your Pay wallet was topped up with 100.00 USDT" in again.heard[0].part
        assert "1. USDT: gave 60.00 USDT." in again.aloud
        assert again.heard[-1].event == "stop"

    @pytest.mark.parametrize("place", ["nonsense", "ffffffffffff-1"])
    async def test_begins_anew_where_it_cannot_go_on(self, town: Town, stranger: Browser, place: str) -> None:
        home = await low_wallet(town)
        owner = await sign_in(stranger, town.database, owner_id=home.owner_id)
        top_up = await town.see_through(home)

        async with listen(owner, f"/top-ups/{top_up.id}/live", **{"Last-Event-ID": place}) as stream:
            first = await stream.next()

        assert first is not None
        assert "The full amount arrived." in first.part

    async def test_of_somebody_else_is_not_there(self, town: Town, stranger: Browser) -> None:
        home = await low_wallet(town)
        other = await town.open_household(balance="1")
        intruder = await sign_in(stranger, town.database, owner_id=other.owner_id)
        top_up = await town.see_through(home)

        assert (await intruder.get(f"/top-ups/{top_up.id}/live")).status_code == 404

    async def test_is_no_business_of_an_operator(self, town: Town, stranger: Browser) -> None:
        home = await low_wallet(town)
        operator = await sign_in(stranger, town.database, owner_id=None)
        top_up = await town.see_through(home)

        assert (await operator.get(f"/top-ups/{top_up.id}/live")).status_code == 403


class TestASessionThatEnds:
    async def test_ends_its_stream_with_words(self, idle_town: Town, stranger: Browser) -> None:
        home = await low_wallet(idle_town)
        owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)
        await idle_town.watch()
        (top_up,) = await home.top_ups()

        async with listen(owner, f"/top-ups/{top_up.id}/live") as stream:
            await stream.next()
            await sign_out(owner, idle_town)
            rest = await stream.rest()

        assert "You are signed out" in rest[-2].part
        assert "35.00 USDT" not in rest[-2].part
        assert rest[-1].event == "stop"

    async def test_is_told_so_when_its_browser_comes_back(self, stranger: Browser) -> None:
        async with listen(stranger, "/top-ups/topup_1/live") as stream:
            words, stop = await stream.rest()

        assert "You are signed out" in words.part
        assert stop.event == "stop"

    async def test_is_told_so_when_it_ends_while_its_browser_comes(
        self, idle_town: Town, stranger: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = await low_wallet(idle_town)
        owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)
        await idle_town.watch()
        (top_up,) = await home.top_ups()

        async def find_and_sign_out(database: Database, token: str) -> Visitor | None:
            visitor = await find_visitor(database, token)
            await sign_out(owner, idle_town)
            return visitor

        monkeypatch.setattr(visitors, "find_visitor", find_and_sign_out)
        async with listen(owner, f"/top-ups/{top_up.id}/live") as stream:
            words, stop = await stream.rest()

        assert "You are signed out" in words.part
        assert stop.event == "stop"


class TestStreamsTogether:
    async def test_are_bounded_for_each_browser(self, idle_town: Town, database_url: str) -> None:
        home = await low_wallet(idle_town)
        await idle_town.watch()
        (top_up,) = await home.top_ups()

        async with opened(idle_town.database, database_url, streams_per_key=1) as (_, stranger):
            owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)
            async with listen(owner, f"/top-ups/{top_up.id}/live") as stream:
                await stream.next()
                refused = await owner.get(f"/top-ups/{top_up.id}/live")

        assert refused.status_code == 429

    async def test_end_with_the_program_and_may_be_opened_again_elsewhere(
        self, idle_town: Town, database_url: str
    ) -> None:
        home = await low_wallet(idle_town)
        await idle_town.watch()
        (top_up,) = await home.top_ups()

        async with opened(idle_town.database, database_url) as (app, stranger):
            owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)
            async with listen(owner, f"/top-ups/{top_up.id}/live") as stream:
                await stream.next()
                app.state.given.streams.end()
                rest = await stream.rest()

        assert "stop" not in [message.event for message in rest]


class TestTheStreamOfAWallet:
    async def test_shows_the_balance_and_the_top_up_as_they_go(
        self, idle_town: Town, stranger: Browser
    ) -> None:
        home = await idle_town.open_household(balance="80")
        await home.fund("500", "USDT")
        await home.draw_up_rule()
        owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)

        async with idle_town.worker(), listen(owner, f"/wallets/{home.wallet_id}/live") as stream:
            first = last = await stream.next()
            await home.spend("45")
            await idle_town.see_through(home)
            # What is said follows an event, which may become readable after the part has shown what it tells of.
            while last is not None and "The balance is 135.00 USDT." not in stream.aloud:
                last = await stream.next()

        assert first is not None
        assert ">80.00<" in first.part
        assert last is not None
        assert ">135.00<" in last.part
        assert "A top-up of 100.00 USDT has started." in stream.aloud
        assert "The balance is 135.00 USDT." in stream.aloud

    async def test_shows_what_comes_in_a_burst_together(self, town: Town, stranger: Browser) -> None:
        home = await town.open_household(balance="100")
        owner = await sign_in(stranger, town.database, owner_id=home.owner_id)
        clock = asyncio.get_running_loop().time

        async with listen(owner, f"/wallets/{home.wallet_id}/live") as stream:
            await stream.next()
            began = clock()
            for _ in range(30):
                await home.spend("1")
            await stream.until(">70.00<")

        assert len(stream.heard) <= 2 + 4 * (clock() - began)

    async def test_of_somebody_else_is_not_there(self, town: Town, stranger: Browser) -> None:
        home, other = await town.open_household(balance="1"), await town.open_household(balance="1")
        intruder = await sign_in(stranger, town.database, owner_id=other.owner_id)

        assert (await intruder.get(f"/wallets/{home.wallet_id}/live")).status_code == 404

    async def test_says_nothing_of_another_wallet(self, database_url: str, idle_town: Town) -> None:
        home, other = (
            await idle_town.open_household(balance="80"),
            await idle_town.open_household(balance="50"),
        )

        async with opened(idle_town.database, database_url) as (app, stranger):
            app.state.given.streams.heartbeat = timedelta(milliseconds=50)
            owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)
            async with listen(owner, f"/wallets/{home.wallet_id}/live") as stream:
                await stream.next()
                await other.spend("7")
                await home.spend("1")
                await stream.until(">79.00<")

        assert "43.00" not in "".join(message.part + message.aloud for message in stream.heard)
