"""The application with its pages on a real socket, and people who have signed in."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest_asyncio
from playwright.async_api import Browser as Chromium

from adapters.postgres.database import Database
from adapters.postgres.ids import new_id
from adapters.postgres.sessions import begin_session, find_visitor
from adapters.postgres.tables import Person
from console.visitors import COOKIE, CSRF_FIELD
from tests.api.conftest import build
from tests.chromium import configured_chromium, find_chromium
from tests.console.browser import DESKTOP, PHONE, SMALL, OpenWindow, Window, start_chromium, windows_of
from tests.served import client_at, serve


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser without scripts: what a page sends when its forms are used; signed in, or not."""

    client: httpx2.AsyncClient
    origin: str
    token: str | None = None
    csrf: str = ""

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.client.get(path, headers={**self._cookie(), **headers})

    async def send(self, path: str, **fields: Any) -> httpx2.Response:
        """Send a form of ours."""
        form = {CSRF_FIELD: self.csrf, **fields}
        return await self.client.post(path, data=form, headers={**self._cookie(), "Origin": self.origin})

    def _cookie(self) -> dict[str, str]:
        return {"Cookie": f"{COOKIE}={self.token}"} if self.token else {}


@pytest_asyncio.fixture
async def site(database: Database, database_url: str) -> AsyncIterator[str]:
    """The address of the application, by the machine's name, as passkeys are bound to names."""
    async with AsyncExitStack() as stack:
        app = build(database, url=database_url)
        address = by_name(await stack.enter_async_context(serve(app)))
        app.state.console = replace(app.state.console, public_url=address)
        yield address


def by_name(address: str) -> str:
    """The address with this machine's name instead of its number."""
    return address.replace("//127.0.0.1:", "//localhost:")


@pytest_asyncio.fixture(scope="session")
async def chromium() -> AsyncIterator[Chromium]:
    """A real browser for all tests. None to be found is a failure, never a reason to skip."""
    async with start_chromium(find_chromium(configured_chromium(), say=print)) as browser:
        yield browser


@pytest_asyncio.fixture
async def open_window(chromium: Chromium, site: str) -> AsyncIterator[OpenWindow]:
    """What opens windows on the site: one of a phone's size, unless another is asked for."""
    async with windows_of(chromium, site) as opening:
        yield opening


@pytest_asyncio.fixture
async def phone(open_window: OpenWindow) -> Window:
    """A window of a phone's size."""
    return await open_window(PHONE)


@pytest_asyncio.fixture
async def small(open_window: OpenWindow) -> Window:
    """A window of the smallest size that counts."""
    return await open_window(SMALL)


@pytest_asyncio.fixture
async def desktop(open_window: OpenWindow) -> Window:
    """A window of a desk's size."""
    return await open_window(DESKTOP)


@pytest_asyncio.fixture
async def stranger(site: str) -> AsyncIterator[Browser]:
    """A browser with which nobody has signed in."""
    async with client_at(site) as client:
        yield Browser(client, site)


async def sign_in(browser: Browser, database: Database, *, owner_id: str | None) -> Browser:
    """The browser once this owner, or without one an operator, has signed in with a passkey."""
    async with database.commit() as session:
        person = Person(
            id=new_id("user"),
            kind="owner" if owner_id else "operator",
            owner_id=owner_id,
            name="Ada",
            handle=new_id("handle").encode(),
        )
        session.add(person)
        await session.flush()
        token = await begin_session(
            session, person.id, browser="a test", passkey_id=None, now=datetime.now(UTC)
        )
    visitor = await find_visitor(database, token)
    assert visitor is not None
    return Browser(browser.client, browser.origin, token, visitor.csrf)
