"""Webhooks on real sockets: signed as the standard says, to checked addresses alone, and every failure in words."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
import pytest_asyncio
import trustme
from standardwebhooks import WebhookVerificationError

from adapters.notify.addresses import is_public, resolve, url_fault
from adapters.notify.webhook import Message, NotTaken, Taken, WebhookSender, headers_of
from tests.house.building import ROOT
from tests.receiver import Receiver, open_receiver, reply

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
NOW = datetime.now(UTC)
BODY = '{"type":"rule.changed","timestamp":"2026-11-21T04:00:00Z","data":{"rule_id":"rule_1"}}'


@dataclass(slots=True)
class Names:
    """A resolver that knows what a test tells it, and keeps what it was asked."""

    known: dict[str, list[str]] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        if host not in self.known:
            raise OSError(host)
        return self.known[host]


def message(url: str, *secrets: str) -> Message:
    return Message(id="msg_1", url=url, body=BODY, secrets=secrets or (SECRET,))


def strict(names: Names) -> WebhookSender:
    """The sender as it is in production, with names of a test's own."""
    return WebhookSender(allow_private=False, resolver=names.resolve)


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with open_receiver() as receiver:
        yield receiver


@pytest.fixture
def lax() -> WebhookSender:
    """A sender that may go anywhere."""
    return WebhookSender(allow_private=True)


class TestTheSignature:
    def test_is_the_one_of_the_standards_own_example(self) -> None:
        example = Message(
            id="msg_p5jXN8AQM9LWM0D4loKWxJek",
            url="https://example.com",
            body='{"test": 2432232314}',
            secrets=(SECRET,),
        )

        headers = headers_of(example, datetime.fromtimestamp(1614265330, UTC))

        assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
        assert headers["webhook-timestamp"] == "1614265330"
        assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    def test_is_of_the_moment_whatever_its_time_zone(self) -> None:
        elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))

        assert headers_of(message("https://a.example"), elsewhere) == headers_of(
            message("https://a.example"), NOW
        )

    async def test_is_taken_by_the_receivers_library_and_no_other_secret_is(
        self, receiver: Receiver, lax: WebhookSender
    ) -> None:
        answer = await lax.send(message(receiver.url), now=datetime.now(UTC))

        (received,) = receiver.received
        assert answer == Taken(204)
        assert received.verified_with(SECRET)["data"] == {"rule_id": "rule_1"}
        assert received.body == BODY
        assert received.headers["content-type"] == "application/json"
        with pytest.raises(WebhookVerificationError):
            received.verified_with(OTHER)

    async def test_comes_once_for_each_secret_while_they_rotate(
        self, receiver: Receiver, lax: WebhookSender
    ) -> None:
        await lax.send(message(receiver.url, OTHER, SECRET), now=datetime.now(UTC))

        (received,) = receiver.received
        assert len(received.headers["webhook-signature"].split(" ")) == 2
        assert received.verified_with(SECRET) == received.verified_with(OTHER)

    def test_and_the_secret_are_not_shown_with_the_message(self) -> None:
        shown = repr(message("https://a.example/token"))

        assert "whsec" not in shown
        assert "token" not in shown


class TestAnAnswer:
    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    async def test_of_the_two_hundreds_is_taken(
        self, receiver: Receiver, lax: WebhookSender, status: int
    ) -> None:
        receiver.answers = [reply(status)]

        assert await lax.send(message(receiver.url), now=NOW) == Taken(status)

    @pytest.mark.parametrize("status", [400, 401, 404, 409, 429, 500, 503])
    async def test_of_another_kind_is_a_failure(
        self, receiver: Receiver, lax: WebhookSender, status: int
    ) -> None:
        receiver.answers = [reply(status, body=b"secret inside")]

        assert await lax.send(message(receiver.url), now=NOW) == NotTaken(f"answered {status}", status)

    async def test_of_410_wants_no_more(self, receiver: Receiver, lax: WebhookSender) -> None:
        receiver.answers = [reply(410)]

        answer = await lax.send(message(receiver.url), now=NOW)

        assert isinstance(answer, NotTaken)
        assert answer.gone

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_that_leads_elsewhere_is_not_followed(
        self, receiver: Receiver, lax: WebhookSender, status: int
    ) -> None:
        async with open_receiver() as elsewhere:
            receiver.answers = [reply(status, Location=elsewhere.url)]
            answer = await lax.send(message(receiver.url), now=NOW)

        assert elsewhere.connections == 0
        assert answer == NotTaken(f"answered {status}; redirects are not followed", status)

    @pytest.mark.parametrize(
        ("asked", "understood"),
        [
            ("120", timedelta(minutes=2)),
            (
                format_datetime(NOW.replace(microsecond=0) + timedelta(hours=1), usegmt=True),
                timedelta(hours=1),
            ),
            (format_datetime(NOW - timedelta(hours=1), usegmt=True), timedelta()),
            ("9" * 500, timedelta(seconds=999_999_999)),
            ("soon", None),
            ("-5", None),
            ("", None),
        ],
        ids=["seconds", "a moment", "a moment gone by", "for ever", "a word", "less than none", "nothing"],
    )
    async def test_may_ask_for_a_pause(
        self, receiver: Receiver, lax: WebhookSender, asked: str, understood: timedelta | None
    ) -> None:
        receiver.answers = [reply(503, Retry_After=asked)]

        answer = await lax.send(message(receiver.url), now=NOW.replace(microsecond=0))

        assert isinstance(answer, NotTaken)
        assert answer.retry_after == understood

    async def test_without_end_is_not_read(self, receiver: Receiver, lax: WebhookSender) -> None:
        receiver.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\nno more"]

        assert await lax.send(message(receiver.url), now=NOW) == Taken(200)

    async def test_that_does_not_come_is_waited_for_only_so_long(
        self, receiver: Receiver, lax: WebhookSender
    ) -> None:
        receiver.answers = [None]

        answer = await replace(lax, timeout=timedelta(milliseconds=100)).send(message(receiver.url), now=NOW)

        assert answer == NotTaken("no answer within 0.1 seconds")

    @pytest.mark.parametrize("said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000])
    async def test_that_is_none_is_a_failure(
        self, receiver: Receiver, lax: WebhookSender, said: bytes
    ) -> None:
        receiver.answers = [said]

        answer = await lax.send(message(receiver.url), now=NOW)

        assert answer == NotTaken("the connection ended before the answer")

    async def test_cannot_come_where_nobody_listens(self, lax: WebhookSender) -> None:
        async with open_receiver() as receiver:
            pass

        assert await lax.send(message(receiver.url), now=NOW) == NotTaken("no connection could be made")

    async def test_cannot_come_from_a_name_without_address(self) -> None:
        answer = await strict(Names()).send(message("https://nobody.example"), now=NOW)

        assert answer == NotTaken("the host name has no address")


class TestTheExampleOfThePage:
    """The code that docs/webhooks.md gives to receivers."""

    @staticmethod
    def is_from_tidemark(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
        page = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
        (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        names: dict[str, Any] = {}
        exec(code, names)  # noqa: S102 our own page
        return bool(names["is_from_tidemark"](secret, headers, body))

    def test_takes_what_we_send_while_secrets_rotate_too(self) -> None:
        headers = headers_of(message("https://a.example", OTHER, SECRET), datetime.now(UTC))

        assert self.is_from_tidemark(SECRET, headers, BODY.encode())
        assert self.is_from_tidemark(OTHER, headers, BODY.encode())

    def test_refuses_what_is_changed_old_or_signed_by_another(self) -> None:
        headers = headers_of(message("https://a.example"), datetime.now(UTC))
        old = headers_of(message("https://a.example"), datetime.now(UTC) - timedelta(minutes=6))

        assert not self.is_from_tidemark(SECRET, headers, BODY.encode() + b" ")
        assert not self.is_from_tidemark(OTHER, headers, BODY.encode())
        assert not self.is_from_tidemark(SECRET, old, BODY.encode())
        assert not self.is_from_tidemark(SECRET, {**headers, "webhook-id": "msg_2"}, BODY.encode())
        assert not self.is_from_tidemark(
            SECRET, {**headers, "webhook-signature": "v1 nonsense"}, BODY.encode()
        )


PRIVATE = [
    "0.0.0.0",  # noqa: S104
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.9",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1%eth0",
    "fec0::1",
    "ff02::1",
    "localhost",
    "",
]


class TestAnAddress:
    @pytest.mark.parametrize("address", PRIVATE)
    def test_that_is_not_public_is_told_apart(self, address: str) -> None:
        assert not is_public(address)

    @pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700:4700::1111"])
    def test_that_is_public_is_too(self, address: str) -> None:
        assert is_public(address)

    @pytest.mark.parametrize("address", PRIVATE)
    async def test_that_is_not_public_is_never_connected_to(self, address: str) -> None:
        names = Names({"hooks.example": [address]})

        answer = await strict(names).send(message("https://hooks.example/x"), now=NOW)

        assert answer == NotTaken("the URL does not lead to a public address")
        assert address not in answer.failure or not address

    async def test_that_is_not_public_taints_all_others_of_its_name(self) -> None:
        names = Names({"hooks.example": ["93.184.215.14", "127.0.0.1"]})

        answer = await strict(names).send(message("https://hooks.example/x"), now=NOW)

        assert answer == NotTaken("the URL does not lead to a public address")

    async def test_is_looked_up_once_and_connected_to_as_it_was_checked(self, receiver: Receiver) -> None:
        names = Names({"hooks.example": ["127.0.0.1"]})
        sender = WebhookSender(allow_private=True, resolver=names.resolve)

        answer = await sender.send(message(f"http://hooks.example:{receiver.port}/a?b=c"), now=NOW)

        (received,) = receiver.received
        assert answer == Taken(204)
        assert names.asked == [("hooks.example", receiver.port)]
        assert received.headers["host"] == f"hooks.example:{receiver.port}"
        assert received.target == "POST /a?b=c HTTP/1.1"

    async def test_that_does_not_answer_leaves_it_to_the_next_of_its_name(self, receiver: Receiver) -> None:
        names = Names({"hooks.example": ["127.0.0.2", "127.0.0.1"]})
        sender = WebhookSender(allow_private=True, resolver=names.resolve)

        assert await sender.send(message(f"http://hooks.example:{receiver.port}"), now=NOW) == Taken(204)

    async def test_is_what_the_machines_resolver_says(self) -> None:
        assert "127.0.0.1" in await resolve("127.0.0.1", 443)

    async def test_is_not_reached_by_way_of_a_proxy_of_the_environment(
        self, receiver: Receiver, lax: WebhookSender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_receiver() as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            monkeypatch.setenv("ALL_PROXY", proxy.url)
            answer = await lax.send(message(receiver.url), now=NOW)

        assert answer == Taken(204)
        assert proxy.connections == 0


class TestTls:
    @staticmethod
    def certified(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """A server's context for this name, and a client's that trusts its issuer."""
        issuer = trustme.CA()
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        issuer.issue_cert(name).configure_cert(server)
        issuer.configure_trust(client)
        return server, client

    async def test_asks_the_checked_address_for_the_host_of_the_url(self) -> None:
        server, trust = self.certified("hooks.example")
        asked: list[str | None] = []
        server.sni_callback = lambda _socket, name, _context: asked.append(name)
        names = Names({"hooks.example": ["127.0.0.1"]})
        async with open_receiver(server) as receiver:
            sender = WebhookSender(allow_private=True, resolver=names.resolve, trust=trust)
            answer = await sender.send(message(f"https://hooks.example:{receiver.port}"), now=NOW)

        assert answer == Taken(204)
        assert asked == ["hooks.example"]

    async def test_refuses_a_certificate_of_another_host_at_that_address(self) -> None:
        server, trust = self.certified("other.example")
        names = Names({"hooks.example": ["127.0.0.1"]})
        async with open_receiver(server) as receiver:
            sender = WebhookSender(allow_private=True, resolver=names.resolve, trust=trust)
            answer = await sender.send(message(f"https://hooks.example:{receiver.port}"), now=NOW)

        assert isinstance(answer, NotTaken)
        assert "certificate" in answer.failure
        assert receiver.received == []

    async def test_refuses_a_certificate_nobody_vouches_for(self) -> None:
        server, _ = self.certified("hooks.example")
        names = Names({"hooks.example": ["127.0.0.1"]})
        async with open_receiver(server) as receiver:
            sender = WebhookSender(allow_private=True, resolver=names.resolve)
            answer = await sender.send(message(f"https://hooks.example:{receiver.port}"), now=NOW)

        assert isinstance(answer, NotTaken)
        assert "certificate" in answer.failure


class TestAUrl:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "hooks.example",
            "//hooks.example/x",
            "http://hooks.example/x",
            "ftp://hooks.example/x",
            "file:///etc/passwd",
            "gopher://hooks.example",
            "https://",
            "https:///x",
            "https://user@hooks.example/x",
            "https://user:secret@hooks.example/x",
            "https://:@hooks.example/x",
            "https://hooks.example/x#part",
            "https://hooks.example:0/x",
            "https://hooks.example:25/x",
            "https://hooks.example:80/x",
            "https://hooks.example:99999/x",
            "https://hooks.example:port/x",
            "https://127.0.0.1/x",
            "https://169.254.169.254/latest/meta-data/",
            "https://[::1]/x",
            "https://[::ffff:127.0.0.1]/x",
            "https://[fe80::1%25eth0]/x",
            "https://[::1/x",
            "https://2130706433/x",
            "https://0x7f000001/x",
            "https://0x7f.1/x",
            "https://0177.0.0.1/x",
            "https://127.1/x",
            "https://127.0.0.1./x",
            "https://1.2.3.4.5/x",
            "https://hooks..example/x",
            "https://-hooks.example/x",
            "https://hooks.example\\@127.0.0.1/x",
            "https://hooks.example /x",
            "https://hooks.example/\r\nHost: evil",
            "https://hooks.example/\x00",
            "https://höoks.example/x",
            "https://127。0。0。1/x",
            "https://hooks.example/" + "x" * 2000,
        ],
    )
    async def test_that_nothing_may_be_sent_to_is_refused_in_words_and_never_asked_for(
        self, url: str
    ) -> None:
        fault = url_fault(url, allow_private=False)
        names = Names()

        assert fault
        assert fault.startswith(("must", "is not"))
        assert isinstance(await strict(names).send(message(url), now=NOW), NotTaken)
        assert names.asked == []

    @pytest.mark.parametrize(
        "url",
        [
            "https://hooks.example",
            "https://hooks.example:443/x?y=z",
            "https://hooks.example:8443/x",
            "https://HOOKS.Example./x",
            "https://a_b.hooks.example/%2e%2e/x",
            "https://xn--hks-sna.example/x",
            "https://93.184.215.14/x",
            "https://[2606:4700:4700::1111]/x",
        ],
    )
    def test_that_is_public_as_far_as_it_tells_is_taken(self, url: str) -> None:
        assert url_fault(url, allow_private=False) is None

    @pytest.mark.parametrize("url", ["http://localhost:3000/x", "http://127.0.0.1:80", "https://10.0.0.1"])
    def test_may_be_private_where_that_is_allowed(self, url: str) -> None:
        assert url_fault(url, allow_private=True) is None

    async def test_that_hangs_in_its_look_up_is_given_up(self) -> None:
        async def hang(_host: str, _port: int) -> list[str]:
            await asyncio.Event().wait()
            return []

        sender = WebhookSender(allow_private=False, resolver=hang, timeout=timedelta(milliseconds=50))

        assert await sender.send(message("https://hooks.example"), now=NOW) == NotTaken(
            "no answer within 0.05 seconds"
        )
