"""Push while no browser can subscribe: into the development inbox, or honestly nowhere."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from activities.ports import Letter, Undeliverable
from adapters.notify.push_inbox import InboxRefused, PushInboxSender
from adapters.notify.push_nowhere import PushNowhere


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
            "body": "\n".join([letter.why, *letter.lines, str(letter.next_step)]),
            "tag": "delivery_01",
            "url": "/v1/top-ups/topup_01",
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


@pytest.mark.rule("R24")
class TestPushToNobody:
    async def test_is_given_up_saying_that_there_is_no_subscription(self, letter: Letter) -> None:
        with pytest.raises(Undeliverable, match="no push subscription"):
            await PushNowhere().send(letter)
