"""The frame of every page in a real browser: what its small script does, what works without, what a window notices."""

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect

from adapters.postgres.database import Database
from tests.builders import open_household
from tests.console.browser import DESKTOP, OpenWindow, Window, assert_accessible, assert_fits, windows_of
from tests.console.conftest import Browser, sign_in

NOWHERE = "/wallets/nothing/here"
NOT_FOUND = "status of 404"
OWN_TIME = """() => {
    document.querySelector("main").insertAdjacentHTML("beforeend",
        '<p><time datetime="2027-01-31T23:30:00+00:00" data-moment>Jan 31, 2027, 11:30:00 PM UTC</time></p>');
}"""
FORM = """() => {
    const form = document.createElement("form");
    form.method = "get";
    form.action = "/nowhere-that-answers";
    form.innerHTML = '<button id="go" name="do" value="it">Go</button><button type="button" id="other">Other</button>';
    document.querySelector("main").append(form);
}"""

WIDE = """() => document.querySelector("main").insertAdjacentHTML("beforeend",
    '<img width="900" height="1" src="/static/icon.svg">')"""


async def signed_in(window: Window, stranger: Browser, database: Database) -> Window:
    """The window once somebody has signed in with it."""
    home = await open_household(database)
    owner = await sign_in(stranger, database, owner_id=home.owner_id)
    assert owner.token is not None
    await window.sign_in(owner.token)
    return window


class TestTheFrame:
    async def test_stands_around_a_page_of_trouble_too(
        self, small: Window, stranger: Browser, database: Database
    ) -> None:
        window = await signed_in(small, stranger, database)
        window.expect_trouble(NOT_FOUND)

        answer = await window.go(NOWHERE)

        assert answer.status == 404
        await assert_accessible(window.page)
        await assert_fits(window.page)
        await expect(window.page.get_by_role("navigation", name="Main")).to_be_visible()

    async def test_lets_the_keyboard_skip_it(
        self, desktop: Window, stranger: Browser, database: Database
    ) -> None:
        window = await signed_in(desktop, stranger, database)
        window.expect_trouble(NOT_FOUND)
        await window.go(NOWHERE)

        await window.page.keyboard.press("Tab")
        await expect(window.page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
        await window.page.keyboard.press("Enter")
        await window.page.keyboard.press("Tab")

        await expect(window.page.get_by_role("link", name="Go to your wallets")).to_be_focused()

    async def test_stands_without_scripts_as_well(self, open_window: OpenWindow) -> None:
        window = await open_window(DESKTOP, javascript=False)
        window.expect_trouble(NOT_FOUND)

        await window.go(NOWHERE)

        await expect(window.page.get_by_role("heading", level=1)).to_have_text("There is no such page")


class TestTheScriptOfEveryPage:
    async def test_shows_times_in_the_readers_own_zone(self, open_window: OpenWindow) -> None:
        window = await open_window(DESKTOP, timezone_id="Asia/Tokyo", locale="en-GB")
        window.expect_trouble(NOT_FOUND)
        await window.go(NOWHERE)

        await window.page.evaluate(OWN_TIME)

        shown = window.page.locator("time[data-moment]")
        await expect(shown).to_have_text("1 Feb 2027, 08:30")
        await expect(shown).to_have_attribute("title", "Jan 31, 2027, 11:30:00 PM UTC")

    async def test_shows_them_so_again_when_the_server_has_changed_the_page(
        self, open_window: OpenWindow
    ) -> None:
        window = await open_window(DESKTOP, timezone_id="Asia/Tokyo", locale="en-GB")
        window.expect_trouble(NOT_FOUND)
        await window.go(NOWHERE)
        await window.page.evaluate(OWN_TIME)
        shown = window.page.locator("time[data-moment]")
        await expect(shown).to_have_text("1 Feb 2027, 08:30")

        await shown.evaluate(
            "time => { time.dateTime = '2027-02-01T00:30:00+00:00'; time.firstChild.data = 'anew' }"
        )

        await expect(shown).to_have_text("1 Feb 2027, 09:30")

    async def test_holds_the_buttons_of_a_form_that_is_being_sent(self, desktop: Window) -> None:
        desktop.expect_trouble(NOT_FOUND)
        await desktop.go(NOWHERE)
        await desktop.page.evaluate(FORM)
        await desktop.page.route("**/nowhere-that-answers**", lambda route: route.fulfill(status=204))

        async with desktop.page.expect_request("**/nowhere-that-answers**") as asked:
            await desktop.page.click("#go")

        assert (await asked.value).url.endswith("?do=it"), "the button's own value is sent"
        await expect(desktop.page.locator("#go")).to_be_disabled()
        await expect(desktop.page.locator("#other")).to_be_enabled()

    async def test_gives_them_back_when_the_page_is_shown_again(self, desktop: Window) -> None:
        desktop.expect_trouble(NOT_FOUND)
        await desktop.go(NOWHERE)
        await desktop.page.evaluate(FORM)
        await desktop.page.route("**/nowhere-that-answers**", lambda route: route.fulfill(status=204))
        await desktop.page.click("#go")
        await expect(desktop.page.locator("#go")).to_be_disabled()

        await desktop.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")

        await expect(desktop.page.locator("#go")).to_be_enabled()


class TestAWindow:
    @pytest.mark.parametrize(
        ("mishap", "noticed"),
        [
            ("console.error('something broke')", "something broke"),
            ("setTimeout(() => { throw new Error('out of hand') })", "out of hand"),
            ("document.body.setAttribute('style', 'color: red')", "Content Security Policy"),
            (
                "document.body.append(Object.assign(document.createElement('script'), {text: '1'}))",
                "Content Security",
            ),
            ("fetch('/static/none-of-this-name.css').catch(() => {})", "404"),
        ],
    )
    async def test_notices_what_goes_wrong_in_it(
        self, chromium: Chromium, site: str, mishap: str, noticed: str
    ) -> None:
        with pytest.raises(AssertionError) as failed:  # noqa: PT012 leaving the block is what is to fail
            async with windows_of(chromium, site) as opening:
                window = await opening(DESKTOP)
                window.expect_trouble(f"{NOT_FOUND}.*{NOWHERE}")
                await window.go(NOWHERE)
                await window.page.evaluate(f"() => {{ {mishap} }}")
                while not window.unexpected():
                    await window.page.evaluate("new Promise(requestAnimationFrame)")

        assert noticed in str(failed.value)

    async def test_that_is_too_narrow_or_not_accessible_is_found_out(self, small: Window) -> None:
        small.expect_trouble(NOT_FOUND)
        await small.go(NOWHERE)
        await small.page.evaluate(WIDE)

        with pytest.raises(AssertionError, match="too wide"):
            await assert_fits(small.page)
        with pytest.raises(AssertionError, match="image-alt"):
            await assert_accessible(small.page)
