"""A real Chromium, and windows of it in which nothing may go wrong unnoticed."""

import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import (
    Browser,
    BrowserContext,
    CDPSession,
    ConsoleMessage,
    Page,
    Request,
    Response,
    async_playwright,
    expect,
)

from console.visitors import COOKIE

PHONE = (390, 844)
SMALL = (320, 640)
DESKTOP = (1280, 900)
PATIENCE_MS = 90_000
AXE = Path(__file__).parent / "vendor" / "axe-4.14.1.min.js"
GRAVE = {"serious", "critical"}

_ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--font-render-hinting=none",
)
_LEFT_BEHIND = "net::ERR_ABORTED"
"""What becomes of a stream, or of whatever else is still under way, when its page is left."""
_RUN_AXE = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations.map(
    ({id, impact, help, nodes}) => ({id, impact, help, at: nodes.slice(0, 5).map(node => node.html)})
)"""
_OVERFLOW = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    return [...document.querySelectorAll("body *")]
        .filter(element => element.getBoundingClientRect().right > width + 1)
        .map(element => element.outerHTML.slice(0, 120)).slice(0, 5).concat(["the page is too wide"]);
}"""


@dataclass(slots=True)
class Authenticator:
    """The virtual authenticator of a window: a passkey holder that needs no finger."""

    devtools: CDPSession
    id: str

    async def verify_user(self, verified: bool) -> None:
        """Recognize its user from now on, or not."""
        await self._ask("setUserVerified", isUserVerified=verified)

    async def attend(self, present: bool) -> None:
        """Answer by itself from now on, or wait for a touch."""
        await self._ask("setAutomaticPresenceSimulation", enabled=present)

    async def spoil_answers(
        self, *, bogus_signature: bool = False, bad_verification: bool = False, bad_presence: bool = False
    ) -> None:
        """Answer wrongly from now on, in these ways."""
        await self._ask(
            "setResponseOverrideBits",
            isBogusSignature=bogus_signature,
            isBadUV=bad_verification,
            isBadUP=bad_presence,
        )

    async def passkeys(self) -> list[dict[str, Any]]:
        """The passkeys it holds, as DevTools tell them."""
        held: list[dict[str, Any]] = (await self._ask("getCredentials"))["credentials"]
        return held

    async def keep(self, passkey: dict[str, Any]) -> None:
        """Hold this passkey, which another authenticator may have made."""
        await self._ask("addCredential", credential=passkey)

    async def drop(self, passkey: dict[str, Any]) -> None:
        """Hold this passkey no longer."""
        await self._ask("removeCredential", credentialId=passkey["credentialId"])

    async def _ask(self, deed: str, **words: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self.devtools.send(
            f"WebAuthn.{deed}", {"authenticatorId": self.id, **words}
        )
        return answer


@dataclass  # Without slots: Playwright keeps notes of its own on whom it calls.
class Window:
    """One window of the browser, alone with its cookies. What goes wrong in it is noted, and fails the test."""

    page: Page
    origin: str
    troubles: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    async def go(self, path: str) -> Response:
        """Open a page of ours; its answer."""
        answer = await self.page.goto(f"{self.origin}{path}")
        assert answer is not None
        return answer

    async def sign_in(self, token: str) -> None:
        """Put a session's token where the sign-in would have put it."""
        await self.page.context.add_cookies(
            [
                {
                    "name": COOKIE,
                    "value": token,
                    "url": f"{self.origin.replace('http:', 'https:')}/",
                    "secure": True,
                    "httpOnly": True,
                    "sameSite": "Lax",
                }
            ]
        )

    async def add_authenticator(self, **options: Any) -> Authenticator:
        """Plug a virtual authenticator in; without options it looks like a synced passkey holder of a phone."""
        devtools = await self.devtools()
        await devtools.send("WebAuthn.enable", {"enableUI": False})
        wanted = {
            "protocol": "ctap2",
            "ctap2Version": "ctap2_1",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
            "defaultBackupEligibility": True,
            "defaultBackupState": True,
            **options,
        }
        added = await devtools.send("WebAuthn.addVirtualAuthenticator", {"options": wanted})
        return Authenticator(devtools, added["authenticatorId"])

    async def devtools(self) -> CDPSession:
        """A session of the DevTools protocol with this page."""
        return await self.page.context.new_cdp_session(self.page)

    def expect_trouble(self, pattern: str) -> None:
        """Take this trouble for what the test is about: a pattern of what the console will say."""
        self.expected.append(pattern)

    def unexpected(self) -> list[str]:
        """What has gone wrong and was not foreseen."""
        return [
            trouble
            for trouble in self.troubles
            if not any(re.search(known, trouble) for known in self.expected)
        ]

    def watch(self) -> None:
        """Note from now on what goes wrong."""
        self.page.on("console", self._note_words)
        self.page.on("pageerror", lambda error: self.troubles.append(f"script failed: {error}"))
        self.page.on("requestfailed", self._note_failure)

    def _note_words(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "assert"):
            self.troubles.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _note_failure(self, request: Request) -> None:
        if request.failure != _LEFT_BEHIND and urlsplit(request.url).netloc == urlsplit(self.origin).netloc:
            self.troubles.append(f"no answer: {request.method} {request.url}: {request.failure}")


OpenWindow = Callable[..., Awaitable[Window]]
"""Opens a window of a size; `dark=True` for the dark theme, `javascript=False` without scripts, or any other of
Playwright's options of a context, such as `locale="de-DE"`."""


@asynccontextmanager
async def start_chromium(program: Path) -> AsyncIterator[Browser]:
    """One Chromium for many tests."""
    arguments = [*_ARGUMENTS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, args=arguments, timeout=PATIENCE_MS * 2
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def windows_of(browser: Browser, origin: str) -> AsyncIterator[OpenWindow]:
    """Opens windows, each with cookies of its own; at the end they close, and nothing may have gone wrong in them."""
    opened: list[tuple[BrowserContext, Window]] = []

    async def open_window(
        size: tuple[int, int] = PHONE, *, dark: bool = False, javascript: bool = True, **options: Any
    ) -> Window:
        context = await browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            java_script_enabled=javascript,
            base_url=origin,
            **{"locale": "en-US", "timezone_id": "UTC", "reduced_motion": "reduce", **options},
        )
        context.set_default_timeout(PATIENCE_MS)
        window = Window(await context.new_page(), origin)
        window.watch()
        opened.append((context, window))
        return window

    try:
        yield open_window
    finally:
        for context, _ in opened:
            await context.close()
    troubles = [trouble for _, window in opened for trouble in window.unexpected()]
    assert troubles == [], f"something went wrong in the browser: {troubles}"


async def assert_accessible(page: Page) -> None:
    """Hold the page as it stands to axe's rules: no serious and no critical finding."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE.read_text(encoding="utf-8"))
    findings = await page.evaluate(_RUN_AXE)
    grave = [finding for finding in findings if finding["impact"] in GRAVE]
    assert grave == [], json.dumps(grave, indent=1)


async def assert_fits(page: Page) -> None:
    """Hold the page to its window's width: nothing to scroll sideways."""
    overflowing = await page.evaluate(_OVERFLOW)
    assert overflowing == [], overflowing
