"""Push in development: the inbox shows each one, and subscribed browsers get it too; and what a device shows."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from activities.ports import Letter, NotDeliveredYet, Undeliverable
from adapters.notify.push import CONTENT_BYTES_MAX, push_content
from adapters.notify.push_inbox import InboxRefused, PushInboxSender


@dataclass
class Inbox:
    """A real HTTP server that keeps what is posted to it."""

    status: str = "204 No Content"
    posts: list[tuple[str, Any]] = field(default_factory=list)
    silent: bool = False
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length")
        )
        self.posts.append((" ".join(head.split()[:2]), json.loads(await reader.readexactly(length))))
        if self.silent:
            await reader.read()
        else:
            writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        writer.close()


@pytest_asyncio.fixture
async def inbox() -> AsyncIterator[Inbox]:
    inbox = Inbox()
    async with await asyncio.start_server(inbox.serve, "127.0.0.1", 0) as server:
        inbox.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield inbox


@pytest.mark.rule("R23")
class TestPushIntoTheInbox:
    async def test_tells_everything_under_the_deliverys_own_tag(self, inbox: Inbox, letter: Letter) -> None:
        await PushInboxSender(inbox.url).send(replace(letter, to_address="owner_01"))
        [(request, push)] = inbox.posts
        assert request == "POST /pushes"
        assert push == {
            "to": "owner_01",
            "title": letter.subject,
            "body": "\n".join([letter.brief, *letter.lines, str(letter.next_step)]),
            "tag": "delivery_01",
            "about": "topup_01",
            "at": "2026-03-01T09:30:00.000000+00:00",
            "url": "/top-ups/topup_01",
        }


@pytest.mark.rule("R24")
class TestPushThatIsTriedAgain:
    async def test_when_the_inbox_refuses(self, inbox: Inbox, letter: Letter) -> None:
        inbox.status = "503 Service Unavailable"
        with pytest.raises(InboxRefused, match="503"):
            await PushInboxSender(inbox.url).send(letter)

    async def test_when_the_inbox_does_not_answer(self, inbox: Inbox, letter: Letter) -> None:
        inbox.silent = True
        with pytest.raises(InboxRefused, match="ReadTimeout"):
            await PushInboxSender(inbox.url, timedelta(milliseconds=200)).send(letter)

    async def test_when_there_is_no_inbox(self, letter: Letter) -> None:
        with pytest.raises(InboxRefused, match="could not be reached"):
            await PushInboxSender("http://127.0.0.1:1").send(letter)


@dataclass
class Browsers:
    """What stands behind the inbox."""

    failure: Exception | None = None
    letters: list[Letter] = field(default_factory=list)

    async def send(self, letter: Letter) -> None:
        self.letters.append(letter)
        if self.failure:
            raise self.failure


class TestPushBesideTheInbox:
    async def test_goes_to_the_browsers_as_well(self, inbox: Inbox, letter: Letter) -> None:
        browsers = Browsers()

        await PushInboxSender(inbox.url, browsers=browsers).send(letter)

        assert (len(inbox.posts), browsers.letters) == (1, [letter])

    async def test_needs_no_browser(self, inbox: Inbox, letter: Letter) -> None:
        await PushInboxSender(inbox.url, browsers=Browsers(Undeliverable("no browser"))).send(letter)

        assert len(inbox.posts) == 1

    async def test_is_tried_again_when_a_browser_could_not_be_reached(
        self, inbox: Inbox, letter: Letter
    ) -> None:
        with pytest.raises(NotDeliveredYet):
            await PushInboxSender(inbox.url, browsers=Browsers(NotDeliveredYet("busy", None))).send(letter)


class TestWhatADeviceShows:
    def test_is_cut_to_what_a_push_service_takes_however_long_the_words(self, letter: Letter) -> None:
        long = replace(letter, brief="Žofie 北京 " * 900, subject="Ω" * 2000)

        content = push_content(long)

        assert len(content) <= CONTENT_BYTES_MAX
        assert json.loads(content)["body"].endswith("…")
        assert json.loads(content)["tag"] == "delivery_01"

    def test_is_left_as_it_is_where_it_fits(self, letter: Letter) -> None:
        assert json.loads(push_content(letter))["body"].endswith("Add funds by hand.")
