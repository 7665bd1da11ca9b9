"""Every page, in both themes and on every size of screen: for eyes, fingers, keyboards and screen readers alike.

With `--pictures` the pages are also kept as docs/images show them: `make pictures`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import Any, Literal

import pytest
import pytest_asyncio
from PIL import Image
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page
from temporalio.testing import WorkflowEnvironment

from tests.api.conftest import lasting
from tests.conftest import address
from tests.console.browser import DESKTOP, PHONE, SMALL, Window, assert_accessible, assert_fits
from tests.console.furnished import Furnished, Resident, furnish
from tests.house.building import ROOT

IMAGES = ROOT / "docs" / "images"
COLORS_MAX = 256
SIZES = {"phone": PHONE, "desktop": DESKTOP}
TABS_MAX = 120

Way = Callable[[Furnished], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Shown:
    """A page: whose it is, and how to get its address."""

    name: str
    whose: str | None
    way: Way
    status: HTTPStatus = HTTPStatus.OK
    """Another one for a page of trouble, of which the browser's console speaks too."""


def at(path: str) -> Way:
    """The address that is the same for everybody."""

    async def way(_: Furnished) -> str:
        return path

    return way


def of(resident: str, below: str = "") -> Way:
    """The address of a resident's wallet, or of a page below it."""

    async def way(furnished: Furnished) -> str:
        found: Resident = getattr(furnished, resident)
        return found.wallet + below

    return way


def top_up(resident: str, outcome: str | None) -> Way:
    """The address of a resident's top-up that ended like this; None for the one under way."""

    async def way(furnished: Furnished) -> str:
        return await furnished.top_up(getattr(furnished, resident), outcome)

    return way


async def confirming(furnished: Furnished) -> str:
    """The address of a page that waits for Ada's passkey."""
    return await furnished.ask_to_confirm(furnished.ada)


async def too_late(furnished: Furnished) -> str:
    """The address of a confirmation that has been used up."""
    return await furnished.confirm_too_late(furnished.ada)


async def joining(furnished: Furnished) -> str:
    """The address of the link by which somebody new gets in."""
    return furnished.link


PAGES = (
    Shown("sign-in", None, at("/sign-in")),
    Shown("join", None, joining),
    Shown("recover", None, at("/recover")),
    Shown("balance", "ada", of("ada")),
    Shown("balance-topping-up", "grace", of("grace")),
    Shown("balance-low", "mary", of("mary")),
    Shown("balance-new", "alan", of("alan")),
    Shown("auto-top-up", "ada", of("ada", "/auto-top-up")),
    Shown("auto-top-up-locked", "grace", of("grace", "/auto-top-up")),
    Shown("auto-top-up-new", "alan", of("alan", "/auto-top-up")),
    Shown("delete-rule", "ada", of("ada", "/auto-top-up/delete")),
    Shown("confirmation", "ada", confirming),
    Shown("history", "ada", of("ada", "/history")),
    Shown("history-decisions", "ada", of("ada", "/history?show=decisions")),
    Shown("history-changes", "ada", of("ada", "/history?show=changes")),
    Shown("top-up-completed", "ada", top_up("ada", "completed")),
    Shown("top-up-partial", "ada", top_up("ada", "partial")),
    Shown("top-up-failed", "ada", top_up("ada", "failed")),
    Shown("top-up-in-progress", "grace", top_up("grace", None)),
    Shown("top-up-being-checked", "kay", top_up("kay", None)),
    Shown("account", "ada", at("/account")),
    Shown("account-warned", "mary", at("/account")),
    Shown("push", "ada", at("/push")),
    Shown("operator", "operator", at("/operator")),
    Shown("wallets", "edsger", at("/")),
    Shown("recovering", "locked_out", at("/account")),
    Shown("confirmation-over", "ada", too_late, HTTPStatus.CONFLICT),
    Shown("unsubscribe", None, at("/unsubscribe/of-a-mail")),
    Shown("trouble", "ada", at("/wallets/nobodys"), HTTPStatus.NOT_FOUND),
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def furnished(
    temporal: WorkflowEnvironment, postgres_url: str, template: str, chromium: Chromium
) -> AsyncIterator[Furnished]:
    """The furnished site, for all tests of this file: they look, and change nothing."""
    name = "furnished"
    async with (
        lasting(postgres_url, template, name) as database,
        furnish(temporal.client, database, address(postgres_url, name), chromium) as furnished,
    ):
        yield furnished


def token_of(furnished: Furnished, whose: str | None) -> str | None:
    """The token of the browser that looks."""
    if whose is None:
        return None
    if whose == "operator":
        return furnished.operator_token
    if whose == "locked_out":
        return furnished.locked_out
    resident: Resident = getattr(furnished, whose)
    return resident.token


@pytest_asyncio.fixture(
    scope="class", loop_scope="session", params=PAGES, ids=[shown.name for shown in PAGES]
)
async def page(furnished: Furnished, request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    """Each page in turn, opened once for all that is looked at; each test gives the window the size it is about."""
    shown: Shown = request.param
    async with furnished.window(PHONE, token=token_of(furnished, shown.whose)) as window:
        await open_page(window, furnished, shown)
        yield window.page


class TestEveryPage:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("theme", ["light", "dark"])
    async def test_is_for_everybody(
        self, page: Page, theme: Literal["light", "dark"], size: str, request: pytest.FixtureRequest
    ) -> None:
        await page.emulate_media(color_scheme=theme)
        await resize(page, SIZES[size])

        assert await page.locator("h1").count() == 1
        assert await unlabelled(page) == []
        await assert_accessible(page)
        await assert_fits(page)
        if request.config.getoption("--pictures"):
            shown: Shown = request.node.callspec.params["page"]
            await keep_picture(page, f"{shown.name}-{size}{'-dark' if theme == 'dark' else ''}")

    async def test_fits_the_smallest_window(self, page: Page) -> None:
        await resize(page, SMALL)

        await assert_fits(page)
        assert await too_small(page) == []

    async def test_fits_at_twice_the_size(self, page: Page) -> None:
        await resize(page, (DESKTOP[0] // 2, DESKTOP[1] // 2))

        await assert_fits(page)

    async def test_lets_the_keyboard_reach_all_there_is_in_order_and_shows_where_it_is(
        self, page: Page
    ) -> None:
        await resize(page, DESKTOP)
        wanted = await page.evaluate(REACHABLE)

        reached = await tab_through(page)

        assert [stop["name"] for stop in reached] == wanted
        assert [stop["name"] for stop in reached if not stop["seen"]] == []


async def resize(page: Page, size: tuple[int, int]) -> None:
    """Give the window another size."""
    width, height = size
    await page.set_viewport_size({"width": width, "height": height})


async def open_page(window: Window, furnished: Furnished, shown: Shown) -> None:
    """Open it, and make sure that it is the page and not one of trouble."""
    if shown.status is not HTTPStatus.OK:
        window.expect_trouble(f"status of {shown.status}")
    answer = await window.go(await shown.way(furnished))
    assert answer.status == shown.status


UNLABELLED = """() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea")]
    .filter(field => !field.labels?.length && !field.ariaLabel && !field.getAttribute("aria-labelledby"))
    .map(field => field.outerHTML)"""
TOO_SMALL = """() => [...document.querySelectorAll(
        "button, .button, summary, .nav a, .tabs a, select, input:not([type=hidden], [type=radio], [type=checkbox])")]
    .filter(element => element.checkVisibility() && !element.closest(".visually-hidden"))
    .filter(element => element.getBoundingClientRect().height < 43.5)
    .map(element => element.outerHTML.slice(0, 160))"""
# A group of radio buttons is one stop of the keyboard.
REACHABLE = """() => {
    window.nameOf = element => (element.id ? "#" + element.id + " " : "") + element.tagName + " " +
        (element.getAttribute("aria-label") || element.textContent.trim().replace(/\\s+/g, " ") || element.name || "")
            .slice(0, 60);
    return [...document.querySelectorAll(
            "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]")]
        .filter(element => element.tabIndex >= 0 && !element.matches(":disabled") && element.checkVisibility())
        .filter(element => element.type !== "radio" || element.checked)
        .map(element => window.nameOf(element));
}"""
STOP = """() => {
    const element = document.activeElement;
    if (element === document.body || element === document.documentElement) return null;
    const looks = [element, element.closest(".choice")].filter(Boolean).map(each => getComputedStyle(each));
    const box = element.getBoundingClientRect();
    const above = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    return {
        name: window.nameOf(element),
        seen: looks.some(look => look.outlineStyle !== "none" && parseFloat(look.outlineWidth) >= 2)
            && box.bottom > 0 && box.top < innerHeight && !above?.closest(".nav:not(:focus-within)"),
    };
}"""


async def unlabelled(page: Page) -> list[str]:
    """The inputs that a screen reader has no name for."""
    found: list[str] = await page.evaluate(UNLABELLED)
    return found


async def too_small(page: Page) -> list[str]:
    """What a finger would miss."""
    found: list[str] = await page.evaluate(TOO_SMALL)
    return found


async def tab_through(page: Page) -> list[dict[str, Any]]:
    """Where the keyboard stops on its way, until it is through."""
    stops: list[dict[str, Any]] = []
    for _ in range(TABS_MAX):
        await page.keyboard.press("Tab")
        stop = await page.evaluate(STOP)
        if stop is None:
            break
        stops.append(stop)
    return stops


async def keep_picture(page: Page, name: str) -> None:
    """Keep the whole page as a small picture, with the frame where it is when nothing has to be scrolled."""
    size = page.viewport_size
    assert size is not None
    height = await page.evaluate("document.documentElement.scrollHeight")
    await page.set_viewport_size({"width": size["width"], "height": max(height, size["height"])})
    taken = await page.screenshot(animations="disabled", caret="hide")
    with Image.open(BytesIO(taken)) as whole:
        few = whole.convert("RGB").quantize(COLORS_MAX, dither=Image.Dither.NONE)
    few.save(IMAGES / f"{name}.png", optimize=True)
