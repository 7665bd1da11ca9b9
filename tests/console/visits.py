"""Visits over HTTP as a browser with scripts makes them: with its cookies, and ceremonies answered by software."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html import unescape
from typing import Any

import httpx2

from adapters.postgres.database import Database
from adapters.postgres.links import create_link
from adapters.postgres.people import operator_named, person_of_owner
from console.visitors import COOKIE, CSRF_FIELD, CSRF_HEADER
from tests.console.authenticator import Passkey, Way, make_passkey
from tests.served import client_at

_CSRF = re.compile(r'<meta name="csrf" content="([^"]+)">')
_GIVEN = re.compile(r'data-given="([^"]+)"')
_CODE = re.compile(r"<code>([0-9A-Z-]{23})</code>")
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Version/19.0 Safari/604.1"
)


@dataclass(slots=True)
class Visit:
    """One browser: its cookies, and the token of the page it looked at last."""

    client: httpx2.AsyncClient
    origin: str
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str = ""

    @property
    def way(self) -> Way:
        """How an honest browser answers here."""
        return Way(self.origin)

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return self._look(await self.client.get(path, headers={**self._cookies(), **headers}))

    async def send(self, path: str, **fields: Any) -> httpx2.Response:
        """Send a form of the page."""
        form = {CSRF_FIELD: self.csrf, **fields}
        headers = {**self._cookies(), "Origin": self.origin}
        return self._look(await self.client.post(path, data=form, headers=headers))

    async def answer(self, path: str, credential: Mapping[str, Any], **fields: Any) -> httpx2.Response:
        """Send the form into which a script has put a passkey's answer."""
        return await self.send(path, credential=json.dumps(credential), **fields)

    async def ask(self, path: str) -> httpx2.Response:
        """What a script does to get the options of a ceremony."""
        headers = {
            **self._cookies(),
            "Origin": self.origin,
            "Accept": "application/json",
            CSRF_HEADER: self.csrf,
        }
        return self._look(await self.client.post(path, headers=headers))

    async def options(self, path: str) -> dict[str, Any]:
        answer = await self.ask(path)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def join(self, path: str, **fields: str) -> tuple[Passkey, httpx2.Response]:
        """Register by a link: the passkey, and the page with the codes."""
        await self.get(path)
        passkey, credential = make_passkey(await self.options(f"{path}/options"), self.way)
        return passkey, await self.answer(path, credential, **fields)

    async def sign_in(self, passkey: Passkey, **fields: str) -> httpx2.Response:
        """Sign in with this passkey."""
        options = await self.options("/sign-in/options")
        answer = await self.answer("/sign-in", passkey.sign(options, self.way), **fields)
        if COOKIE in self.cookies:
            await self.get("/account")
        return answer

    async def add_passkey(self, held: Passkey, **fields: str) -> tuple[Passkey, httpx2.Response]:
        """Add a passkey, after showing one that is held."""
        options = await self.options("/account/passkeys/options")
        shown = await self.answer("/account/passkeys/confirm", held.sign(options, self.way))
        assert shown.status_code == 200, shown.text
        passkey, credential = make_passkey(given_in(shown), self.way)
        return passkey, await self.answer("/account/passkeys", credential, **fields)

    def _cookies(self) -> dict[str, str]:
        text = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Cookie": text, "User-Agent": PHONE} if text else {"User-Agent": PHONE}

    def _look(self, answer: httpx2.Response) -> httpx2.Response:
        for line in answer.headers.get_list("set-cookie"):
            name, _, rest = line.partition("=")
            value = rest.partition(";")[0].strip('"')
            assert line.startswith("__Host-"), line
            assert all(part in line.lower() for part in ("secure", "httponly", "path=/", "samesite=")), line
            if value:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        if found := _CSRF.search(answer.text):
            self.csrf = found[1]
        return answer


@asynccontextmanager
async def visiting(origin: str) -> AsyncIterator[Visit]:
    """A browser that has never been here."""
    async with client_at(origin) as client:
        yield Visit(client, origin)


def another_browser(visit: Visit) -> Visit:
    """Another browser, as new as the first one was."""
    return replace(visit, cookies={}, csrf="")


def given_in(page: httpx2.Response) -> dict[str, Any]:
    """The options that a page holds."""
    found = _GIVEN.search(page.text)
    assert found is not None, page.text
    options: dict[str, Any] = json.loads(unescape(found[1]))
    return options


def codes_in(page: httpx2.Response) -> list[str]:
    """The recovery codes that a page shows."""
    return _CODE.findall(page.text)


async def link_for(database: Database, *, owner_id: str | None = None, name: str = "Opal") -> str:
    """The path of a new link for this owner, or for an operator of this name."""
    async with database.commit() as session:
        person = await person_of_owner(session, owner_id) if owner_id else await operator_named(session, name)
        link = await create_link(session, person.id, made_by="a test", now=datetime.now(UTC))
    return f"/join/{link.token}"
