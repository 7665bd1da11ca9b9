"""Pages that keep themselves up to date, in a real browser, while real top-ups run."""

import re

import pytest
from playwright.async_api import Page, Route, expect

from adapters.postgres.sessions import end_all_sessions, find_visitor
from tests.builders import Household
from tests.console.browser import DESKTOP, PHONE, OpenWindow, Window, assert_accessible, assert_fits
from tests.console.conftest import Browser, sign_in
from tests.console.low_wallets import Silent, held_at_draw, low_wallet
from tests.stories.town import Town

WAITED_MS = 90_000
RENEW = "htmx.ajax('GET', '/operator/live', {target: '#now', swap: 'innerMorph'})"
ARRIVED = "Your Pay wallet was topped up with 100.00 USDT"


async def signed_in(window: Window, stranger: Browser, town: Town, home: Household) -> Window:
    """The window, with which the wallet's owner has signed in."""
    owner = await sign_in(stranger, town.database, owner_id=home.owner_id)
    await window.sign_in(owner.token or "")
    return window


async def mark(page: Page) -> None:
    """Mark the page as it is: whoever loads it again loses the mark."""
    await page.evaluate("window.marked = true")


async def is_marked(page: Page) -> bool:
    return bool(await page.evaluate("window.marked === true"))


class TestTheTopUpPage:
    async def test_shows_each_step_as_it_is_made_and_says_it_to_those_who_hear_the_page(
        self, idle_town: Town, stranger: Browser, phone: Window
    ) -> None:
        home = await low_wallet(idle_town)
        await signed_in(phone, stranger, idle_town, home)
        page = phone.page

        async with held_at_draw(idle_town, home, 2) as (top_up_id, gate):
            await phone.go(f"/top-ups/{top_up_id}")
            await mark(page)
            await expect(page.get_by_text("Gave 60.00 USDT.")).to_be_visible()
            await expect(page.locator("[aria-current=step]")).to_contain_text("2. USDC")
            await assert_accessible(page)
            gate.opened.set()
            await expect(page.locator(".steps")).to_contain_text(ARRIVED, timeout=WAITED_MS)

        await expect(page.locator("#announcements")).not_to_be_empty(timeout=WAITED_MS)
        await expect(page.get_by_text("By email: sent.")).to_be_visible(timeout=WAITED_MS)
        assert await is_marked(page)
        await assert_accessible(page)
        await assert_fits(page)

    @pytest.mark.rule("R21")
    async def test_says_by_itself_not_to_top_up_by_hand_while_nobody_knows(
        self, idle_town: Town, stranger: Browser, phone: Window
    ) -> None:
        home = await low_wallet(idle_town)
        await signed_in(phone, stranger, idle_town, home)
        idle_town.accounts = silent = Silent(idle_town.accounts)
        await idle_town.watch()
        (top_up,) = await home.top_ups()
        await phone.go(f"/top-ups/{top_up.id}")

        async with idle_town.worker():
            notice = phone.page.locator(".notice-warning")
            await expect(notice).to_contain_text("do not top up by hand yet", timeout=WAITED_MS)
            await assert_accessible(phone.page)
            silent.known = True
            await expect(phone.page.locator(".notice-danger")).to_contain_text(
                "Your top-up of 100.00 USDT failed", timeout=WAITED_MS
            )

    async def test_goes_on_without_scripts(
        self, idle_town: Town, stranger: Browser, open_window: OpenWindow
    ) -> None:
        home = await low_wallet(idle_town)
        window = await signed_in(await open_window(PHONE, javascript=False), stranger, idle_town, home)

        async with held_at_draw(idle_town, home, 2) as (top_up_id, gate):
            await window.go(f"/top-ups/{top_up_id}")
            await expect(window.page.locator("[aria-current=step]")).to_contain_text("2. USDC")
            gate.opened.set()
            await expect(window.page.locator(".steps")).to_contain_text(ARRIVED, timeout=WAITED_MS)

    async def test_leaves_times_and_the_keyboard_where_they_are(
        self, idle_town: Town, stranger: Browser, open_window: OpenWindow
    ) -> None:
        home = await low_wallet(idle_town)
        window = await signed_in(
            await open_window(DESKTOP, timezone_id="Asia/Tokyo"), stranger, idle_town, home
        )
        page = window.page

        async with held_at_draw(idle_town, home, 2) as (top_up_id, gate):
            await window.go(f"/top-ups/{top_up_id}")
            fired = page.locator(".steps time").first
            await expect(fired).not_to_contain_text("UTC")
            shown = await fired.text_content()
            gate.opened.set()
            await expect(page.locator(".steps")).to_contain_text(ARRIVED, timeout=WAITED_MS)

        await expect(fired).to_have_text(shown or "")

    async def test_says_that_its_reader_has_been_signed_out(
        self, idle_town: Town, stranger: Browser, phone: Window
    ) -> None:
        home = await low_wallet(idle_town)
        owner = await sign_in(stranger, idle_town.database, owner_id=home.owner_id)
        await phone.sign_in(owner.token or "")
        await idle_town.watch()
        (top_up,) = await home.top_ups()
        await phone.go(f"/top-ups/{top_up.id}")
        visitor = await find_visitor(idle_town.database, owner.token or "")
        assert visitor is not None

        async with idle_town.database.commit() as session:
            await end_all_sessions(session, visitor.person_id)

        await expect(phone.page.get_by_text("You are signed out")).to_be_visible(timeout=WAITED_MS)
        await expect(phone.page.locator(".steps")).to_have_count(0)
        await assert_accessible(phone.page)


class TestTheBalancePage:
    @pytest.mark.rule("R25")
    async def test_shows_the_balance_the_top_up_and_the_banner_by_itself(
        self, town: Town, stranger: Browser, phone: Window
    ) -> None:
        home = await town.open_household(balance="80")
        await home.fund("60", "USDT")
        await home.draw_up_rule()
        await signed_in(phone, stranger, town, home)
        page = phone.page
        await phone.go(f"/wallets/{home.wallet_id}")
        await mark(page)
        await expect(page.locator(".balance")).to_have_text(re.compile(r"80\.00\s*USDT"))

        await home.spend("45")
        await expect(page.locator(".balance")).to_have_text(re.compile(r"35\.00\s*USDT"), timeout=WAITED_MS)
        await town.see_through(home)
        banner = page.locator(".notice-warning")
        await expect(banner).to_contain_text("Your balance is low", timeout=WAITED_MS)
        await expect(banner).to_contain_text("do not hold enough to cover the amount")
        await assert_accessible(page)
        await home.add("100")
        await town.watch()

        await expect(banner).to_have_count(0, timeout=WAITED_MS)
        assert await is_marked(page)

    async def test_begins_to_listen_also_when_a_script_comes_late(
        self, idle_town: Town, stranger: Browser, phone: Window
    ) -> None:
        home = await idle_town.open_household(balance="80")
        await signed_in(phone, stranger, idle_town, home)
        page = phone.page

        async def late(route: Route) -> None:
            await page.wait_for_function("() => window.htmx !== undefined")
            await route.continue_()

        await page.route("**/hx-sse*", late)
        await phone.go(f"/wallets/{home.wallet_id}")
        await home.spend("5")

        await expect(page.locator(".balance")).to_contain_text("75.00", timeout=WAITED_MS)

    async def test_leaves_the_keyboard_where_it_is(
        self, idle_town: Town, stranger: Browser, phone: Window
    ) -> None:
        home = await idle_town.open_household(balance="80")
        await home.draw_up_rule()
        await signed_in(phone, stranger, idle_town, home)
        await phone.go(f"/wallets/{home.wallet_id}")
        link = phone.page.get_by_role("link", name="See or change the rule")
        await link.focus()

        await home.spend("5")
        await expect(phone.page.locator(".balance")).to_contain_text("75.00", timeout=WAITED_MS)

        await expect(link).to_be_focused()


class TestTheOperatorsPage:
    async def test_turns_red_by_itself_when_nothing_is_funded(
        self, town: Town, stranger: Browser, desktop: Window
    ) -> None:
        operator = await sign_in(stranger, town.database, owner_id=None)
        await desktop.sign_in(operator.token or "")
        await desktop.go("/operator")
        page = desktop.page
        await expect(page.get_by_text("No top-up was attempted in the last day.")).to_be_visible()
        await page.get_by_label("Id of the owner").fill("owner_half_typ")

        await town.see_through(await low_wallet(town, usdt="1", usdc="1"))

        await expect(page.locator(".notice-danger")).to_contain_text(
            "Nothing has been funded", timeout=WAITED_MS
        )
        await expect(page.locator(".figure-danger")).to_contain_text("0 of 1")
        await expect(page.get_by_label("Id of the owner")).to_have_value("owner_half_typ")
        await assert_accessible(page)
        await assert_fits(page)

    async def test_leaves_open_what_its_reader_has_opened(
        self, town: Town, stranger: Browser, desktop: Window
    ) -> None:
        await town.see_through(await low_wallet(town, usdt="1", usdc="1"))
        operator = await sign_in(stranger, town.database, owner_id=None)
        await desktop.sign_in(operator.token or "")
        await desktop.go("/operator")
        latest = desktop.page.locator("details")
        await latest.locator("summary").click()

        for _ in range(2):
            await desktop.page.evaluate(RENEW)

        await expect(latest).to_have_js_property("open", value=True)

    async def test_leads_to_the_sign_in_when_its_reader_has_been_signed_out(
        self, town: Town, stranger: Browser, phone: Window
    ) -> None:
        operator = await sign_in(stranger, town.database, owner_id=None)
        visitor = await find_visitor(town.database, operator.token or "")
        assert visitor is not None
        await phone.sign_in(operator.token or "")
        await phone.go("/operator")
        await assert_accessible(phone.page)
        await assert_fits(phone.page)

        async with town.database.commit() as session:
            await end_all_sessions(session, visitor.person_id)

        await phone.page.wait_for_url(re.compile("/sign-in"), timeout=WAITED_MS)
