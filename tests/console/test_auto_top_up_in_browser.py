"""From nothing to a top-up on a phone: a passkey, a rule, its confirmation, a payment below the line."""

import re
from dataclasses import dataclass

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from adapters.postgres.database import Database
from tests.builders import Household, open_household
from tests.console.browser import Authenticator, OpenWindow, Window, assert_accessible, assert_fits
from tests.console.visits import link_for
from tests.stories.town import Town

_CHOSEN = "() => [...document.querySelectorAll('[data-source] select')].map(select => select.value)"


@dataclass(frozen=True, slots=True)
class Desk:
    """An owner at a phone, signed in with the passkey it holds."""

    window: Window
    authenticator: Authenticator
    home: Household

    @property
    def page(self) -> Page:
        return self.window.page

    async def open_form(self) -> None:
        await self.window.go(f"/wallets/{self.home.wallet_id}/auto-top-up")

    async def fill_in(self, *, threshold: str = "50", amount: str = "100") -> None:
        """The form as its owner wants it, from both assets they have."""
        await self.page.get_by_label("When the balance drops below").fill(threshold)
        await self.page.get_by_label("Top up by").fill(amount)
        await self.page.get_by_label("Second source").select_option("USDC")

    async def press(self, name: str) -> None:
        await self.page.get_by_role("button", name=name, exact=True).click()


@pytest_asyncio.fixture
async def desk(phone: Window, database: Database) -> Desk:
    """An owner whose wallet holds 80 USDT and has no rule, with 60 USDT and 500 USDC to draw from."""
    home = await open_household(database, balance="80")
    await home.fund("60", "USDT")
    await home.fund("500", "USDC")
    authenticator = await phone.add_authenticator()
    await phone.go(await link_for(database, owner_id=home.owner_id))
    await phone.page.locator("form[data-passkey] button[type=submit]").click()
    await expect(phone.page.locator(".codes")).to_be_visible()
    return Desk(phone, authenticator, home)


@pytest.mark.rule("R3", "R23")
class TestFromNothingToATopUp:
    async def test_is_understood_at_each_step(self, desk: Desk, town: Town) -> None:
        page = desk.page
        await desk.window.go("/")
        await page.get_by_role("link", name="Set up auto top-up").click()
        await desk.fill_in()
        await expect(page.locator("#preview")).to_contain_text(
            "If it fired now: 60.00 USDT from USDT and 40.00 USDC from USDC (worth 40.00 USDT)."
        )
        await assert_accessible(page)
        await assert_fits(page)

        await desk.press("Save and turn on")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Turn on auto top-up")
        await expect(page.get_by_text("Nothing moves now.")).to_be_visible()
        await expect(page.locator("[data-left]")).to_have_text(re.compile(r"another \d+ seconds"))
        await assert_accessible(page)
        await assert_fits(page)
        await desk.press("Confirm with your passkey")

        await expect(page.get_by_text("Confirmed with your passkey.")).to_be_visible()
        await expect(page.locator(".balance-card")).to_contain_text("On")
        await page.get_by_label("Amount").fill("45")
        await desk.press("Pay")
        await expect(page.get_by_text("Paid.")).to_be_visible()
        await town.see_through(desk.home)

        await expect(page.locator(".balance")).to_have_text("135.00 USDT")
        last = page.get_by_role("link", name="100.00 USDT arrived")
        await expect(last).to_contain_text("Completed")
        await expect(page.locator(".chart-legend")).to_contain_text("Top-up")
        await assert_accessible(page)
        await assert_fits(page)
        await last.click()
        await expect(page.locator(".steps")).to_contain_text("Gave 60.00 USDT")


class TestTheSources:
    async def test_are_ranked_by_buttons_said_aloud_and_previewed(self, desk: Desk) -> None:
        await desk.open_form()
        await desk.fill_in()

        await desk.page.get_by_role("button", name="Move source 2 up").press("Enter")

        assert await desk.page.evaluate(_CHOSEN) == ["USDC", "USDT", ""]
        await expect(desk.page.locator("#announcements")).to_have_text("USDC is now source 1.")
        await expect(desk.page.locator("#preview")).to_contain_text("If it fired now: 100.00 USDC from USDC")
        await expect(desk.page.locator("#source_1-holds")).to_contain_text("holds 500.00 USDC")
        await expect(desk.page.get_by_role("button", name="Move source 1 down")).to_be_focused()

    async def test_are_ranked_by_dragging(self, desk: Desk) -> None:
        await desk.open_form()
        await desk.fill_in()
        grips = desk.page.locator("[data-grip]")

        await grips.nth(1).scroll_into_view_if_needed()
        upper, lower = await grips.nth(0).bounding_box(), await grips.nth(1).bounding_box()
        assert upper
        assert lower
        await desk.page.mouse.move(lower["x"] + 10, lower["y"] + 10)
        await desk.page.mouse.down()
        await desk.page.mouse.move(upper["x"] + 10, upper["y"] + 10, steps=5)
        await desk.page.mouse.up()

        assert await desk.page.evaluate(_CHOSEN) == ["USDC", "USDT", ""]
        await expect(desk.page.locator("#announcements")).to_have_text("USDC is now source 1.")

    async def test_are_taken_out(self, desk: Desk) -> None:
        await desk.open_form()
        await desk.fill_in()

        await desk.page.get_by_role("button", name="Remove source 1").click()

        assert await desk.page.evaluate(_CHOSEN) == ["USDC", "", ""]
        await expect(desk.page.locator("#announcements")).to_have_text("USDT is removed.")

    async def test_show_what_they_hold_in_the_account_that_is_chosen(self, desk: Desk) -> None:
        await desk.home.fund("7", "USDT", account="trading")
        await desk.open_form()

        await desk.page.get_by_label("Trading account").check()

        await expect(desk.page.locator("#source_1-holds")).to_have_text("holds 7.00 USDT")

    async def test_are_ranked_without_scripts_too(self, desk: Desk, open_window: OpenWindow) -> None:
        plain = await open_window(javascript=False)
        await plain.page.context.add_cookies(await desk.page.context.cookies())  # type: ignore[arg-type]
        await plain.go(f"/wallets/{desk.home.wallet_id}/auto-top-up")
        await plain.page.get_by_label("Top up by").fill("10")
        await plain.page.get_by_label("When the balance drops below").fill("5")
        await plain.page.get_by_label("Second source").select_option("USDC")
        await plain.page.get_by_role("button", name="Preview").last.click()

        await plain.page.get_by_role("button", name="Move source 2 up").click()

        await expect(plain.page.get_by_label("First source")).to_have_value("USDC")
        await expect(plain.page.get_by_label("Second source")).to_have_value("USDT")
        await expect(plain.page.locator("#preview")).to_contain_text("If it fired now: 10.00 USDC from USDC")


@pytest.mark.rule("R3")
class TestAPasskeyThatSaysNo:
    async def test_leaves_the_confirmation_good_for_another_try(self, desk: Desk) -> None:
        await desk.open_form()
        await desk.fill_in()
        await desk.press("Save and turn on")
        await desk.authenticator.verify_user(False)
        await desk.press("Confirm with your passkey")
        await expect(desk.page.locator("[data-passkey-trouble]")).to_contain_text("Nothing was changed.")

        await desk.authenticator.verify_user(True)
        await desk.press("Confirm with your passkey")

        await expect(desk.page.get_by_text("Confirmed with your passkey.")).to_be_visible()

    async def test_is_refused_where_it_lies(self, desk: Desk) -> None:
        desk.window.expect_trouble("status of 403")
        await desk.open_form()
        await desk.fill_in()
        await desk.press("Save and turn on")
        await desk.authenticator.spoil_answers(bogus_signature=True)
        await desk.press("Confirm with your passkey")
        await expect(desk.page.get_by_role("heading", level=1)).to_have_text("Not confirmed")
        await assert_accessible(desk.page)

        await desk.authenticator.spoil_answers()
        await desk.press("Show the terms again")
        await desk.press("Confirm with your passkey")

        await expect(desk.page.get_by_text("Confirmed with your passkey.")).to_be_visible()


class TestWhatIsWrong:
    async def test_is_where_the_reader_is_taken(self, desk: Desk) -> None:
        desk.window.expect_trouble("status of 422")
        await desk.open_form()
        await desk.fill_in(threshold="fifty")

        await desk.press("Save and turn on")

        await expect(desk.page.locator("#troubles")).to_be_focused()
        await desk.page.get_by_role("link", name="The threshold must be a plain decimal").click()
        await expect(desk.page.get_by_label("When the balance drops below")).to_be_focused()
        await assert_accessible(desk.page)
        await assert_fits(desk.page)
