"""The development inbox takes real mail and pushes, keeps each once, and shows them safely."""

import json
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
import httpx2
import pytest
import pytest_asyncio

from runtime.inbox import create_inbox, open_smtp
from runtime.inbox_store import InboxStore
from runtime.ports import LOCALHOST

PUSH = {
    "to": "owner_1",
    "title": "Topped up",
    "body": "100 USDT",
    "tag": "delivery_1",
    "url": "/v1/top-ups/1",
}


def mail(*, message_id: str = "<delivery_1@tidemark>", html: str = "<p>Hello <b>Ada</b></p>") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Tidemark <tidemark@localhost>"
    message["To"] = "Ada Demo <ada@example.com>"
    message["Subject"] = "Topped up with 100 USDT ✓"
    message["Message-ID"] = message_id
    message.set_content("Hello Ada,\n100 USDT arrived.\n")
    message.add_alternative(html, subtype="html")
    return message


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class Inbox:
    """The inbox as others meet it: a mail server's port and an HTTP client."""

    def __init__(self, http: httpx2.AsyncClient, smtp_port: int) -> None:
        self.http = http
        self._smtp_port = smtp_port

    async def send(self, message: EmailMessage) -> None:
        await aiosmtplib.send(message, hostname=LOCALHOST, port=self._smtp_port, start_tls=False)

    async def messages(self, **query: str) -> list[dict[str, Any]]:
        answer = await self.http.get("/messages", params=query)
        return list(answer.json()["data"])


async def opened(folder: Path) -> AsyncIterator[Inbox]:
    store = InboxStore(folder)
    smtp = await open_smtp(store, host=LOCALHOST, port=0)
    transport = httpx2.ASGITransport(app=create_inbox(store))
    async with httpx2.AsyncClient(transport=transport, base_url="http://inbox") as http:
        yield Inbox(http, smtp.sockets[0].getsockname()[1])
    smtp.close()
    await smtp.wait_closed()


@pytest_asyncio.fixture
async def inbox(tmp_path: Path) -> AsyncIterator[Inbox]:
    async for one in opened(tmp_path):
        yield one


class TestTakingMessages:
    async def test_keeps_a_mail_with_both_bodies(self, inbox: Inbox) -> None:
        await inbox.send(mail())

        (message,) = await inbox.messages()
        assert message["channel"] == "email"
        assert message["to"] == ["ada@example.com"]
        assert message["from"] == "Tidemark <tidemark@localhost>"
        assert message["subject"] == "Topped up with 100 USDT ✓"
        assert message["text"] == "Hello Ada,\n100 USDT arrived.\n"
        assert message["html"].strip() == "<p>Hello <b>Ada</b></p>"
        assert message["message_id"] == "delivery_1@tidemark"
        assert message["headers"]["Subject"] == message["subject"]

    async def test_counts_a_repeated_mail_instead_of_keeping_it_twice(self, inbox: Inbox) -> None:
        for _ in range(3):
            await inbox.send(mail())
        await inbox.send(mail(message_id="<delivery_2@tidemark>"))

        assert [message["repeats"] for message in await inbox.messages()] == [0, 2]

    async def test_keeps_a_push_once_for_its_tag(self, inbox: Inbox) -> None:
        for _ in range(2):
            assert (await inbox.http.post("/pushes", json=PUSH)).status_code == httpx2.codes.CREATED

        (message,) = await inbox.messages()
        assert (message["channel"], message["subject"], message["text"]) == ("push", "Topped up", "100 USDT")
        assert (message["url"], message["repeats"]) == ("/v1/top-ups/1", 1)

    async def test_refuses_a_push_that_says_nothing(self, inbox: Inbox) -> None:
        assert (await inbox.http.post("/pushes", json={"to": "owner_1"})).status_code == 422

    async def test_lists_the_newest_first_and_by_channel_or_recipient(self, inbox: Inbox) -> None:
        await inbox.send(mail())
        await inbox.http.post("/pushes", json=PUSH)

        assert [message["channel"] for message in await inbox.messages()] == ["push", "email"]
        assert [message["channel"] for message in await inbox.messages(channel="email")] == ["email"]
        assert [message["channel"] for message in await inbox.messages(to="owner_1")] == ["push"]

    async def test_finds_everything_again_after_a_restart(self, inbox: Inbox, tmp_path: Path) -> None:
        await inbox.send(mail())
        before = await inbox.messages()
        (tmp_path / "broken.json").write_text("{")

        async for restarted in opened(tmp_path):
            assert await restarted.messages() == before
            await restarted.send(mail())
            assert [message["repeats"] for message in await restarted.messages()] == [1]

    async def test_forgets_all_when_asked(self, inbox: Inbox, tmp_path: Path) -> None:
        await inbox.send(mail())

        assert (await inbox.http.delete("/messages")).status_code == httpx2.codes.NO_CONTENT

        assert await inbox.messages() == []
        assert names_in(tmp_path) == []

    async def test_gives_one_message_and_404_for_none(self, inbox: Inbox) -> None:
        await inbox.send(mail())
        (message,) = await inbox.messages()

        assert (await inbox.http.get(f"/messages/{message['id']}")).json() == message
        assert (await inbox.http.get("/messages/none")).status_code == httpx2.codes.NOT_FOUND

    async def test_lives(self, inbox: Inbox) -> None:
        assert (await inbox.http.get("/livez")).status_code == httpx2.codes.OK


class TestShowingMessages:
    async def test_lists_them_and_leads_to_each(self, inbox: Inbox) -> None:
        assert "Nothing yet" in (await inbox.http.get("/")).text
        await inbox.send(mail())
        (message,) = await inbox.messages()

        page = (await inbox.http.get("/")).text

        assert f'href="/read/{message["id"]}"' in page
        assert "Topped up with 100 USDT ✓" in page

    async def test_shows_what_a_mail_says_without_letting_it_do_anything(self, inbox: Inbox) -> None:
        attack = "<script>fetch('/messages', {method: 'DELETE'})</script>"
        message = mail(html=f"<p>Hello</p>{attack}")
        message.replace_header("Subject", attack)
        await inbox.send(message)
        (kept,) = await inbox.messages()

        page = await inbox.http.get(f"/read/{kept['id']}")
        body = await inbox.http.get(f"/read/{kept['id']}/body")

        assert attack not in page.text
        assert " sandbox " in page.text
        assert "'unsafe-inline'" not in page.headers["content-security-policy"]
        assert body.headers["content-security-policy"].startswith("sandbox; default-src 'none'")

    @pytest.mark.parametrize("path", ["/", "/static/inbox.css", "/static/inbox.js", "/messages"])
    async def test_sends_a_strict_policy_with_every_page(self, inbox: Inbox, path: str) -> None:
        answer = await inbox.http.get(path)

        assert answer.status_code == httpx2.codes.OK
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["x-content-type-options"] == "nosniff"


class TestTheFilesOfTheInbox:
    async def test_are_json_that_others_can_read(self, inbox: Inbox, tmp_path: Path) -> None:
        await inbox.send(mail())
        (message,) = await inbox.messages()

        (name,) = names_in(tmp_path)

        assert json.loads((tmp_path / name).read_text()) == message
