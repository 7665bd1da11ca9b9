"""A part of a page that goes on: its messages as a browser gets them, one after another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape

import httpx2

from console.visitors import COOKIE
from tests.console.conftest import Browser

PATIENCE_SECONDS = 90
_ALOUD = '<div hx-swap-oob="innerHTML:#announcements">'


@dataclass(slots=True)
class Message:
    """One message: what is put into the page, and what is said aloud with it."""

    id: str = ""
    event: str = ""
    part: str = ""
    aloud: str = ""

    @classmethod
    def read(cls, lines: list[str]) -> "Message":
        """Read the lines between two empty ones, as the standard says."""
        fields: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        part, _, aloud = unescape("\n".join(fields.get("data", []))).partition(_ALOUD)
        return cls("".join(fields.get("id", [])), "".join(fields.get("event", [])), part, aloud)


@dataclass(slots=True)
class Stream:
    """An open stream."""

    response: httpx2.Response
    heard: list[Message] = field(default_factory=list)
    _lines: AsyncIterator[str] | None = None

    async def next(self) -> Message | None:
        """The next message that says something; None at the end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (message := await self._next()) is not None:
                if message.part or message.event:
                    self.heard.append(message)
                    return message
        return None

    async def until(self, words: str) -> Message:
        """The next message whose part has these words."""
        while (told := await self.next()) is not None:
            if words in told.part:
                return told
        message = f"the stream ended without {words!r}"
        raise AssertionError(message)

    async def rest(self) -> list[Message]:
        """All that comes until the stream ends."""
        rest = []
        while (message := await self.next()) is not None:
            rest.append(message)
        return rest

    @property
    def aloud(self) -> str:
        """All that was said aloud by now."""
        return "".join(message.aloud for message in self.heard)

    async def _next(self) -> Message | None:
        self._lines = self._lines or self.response.aiter_lines()
        lines: list[str] = []
        async for line in self._lines:
            if line:
                lines.append(line)
            elif lines:
                return Message.read(lines)
        return None


@asynccontextmanager
async def listen(browser: Browser, path: str, **headers: str) -> AsyncIterator[Stream]:
    """The stream at this address, as the browser's script opens it."""
    cookie = {"Cookie": f"{COOKIE}={browser.token}"} if browser.token else {}
    asked = {"Accept": "text/html, text/event-stream", **cookie, **headers}
    async with browser.client.stream("GET", path, headers=asked) as response:
        yield Stream(response)
