"""Web Push to a push service on a real TLS socket, which reads what it gets as a browser would."""

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
import trustme
from structlog.testing import capture_logs

from activities.ports import Letter, NotDeliveredYet, PushBrowser, PushList, Undeliverable
from adapters.notify.push_services import PushHosts
from adapters.notify.web_push import PAUSE_WHEN_REFUSED, WebPushSender
from tests.devices import Device, base64url, claims_of
from tests.receiver import Receiver, open_receiver, reply

KEY = base64url(bytes(31) + b"\x07")
CREATED = reply(201)
HOST = "push.example.com"


@dataclass
class RecordedBrowsers:
    """The store's part, remembering what was recorded."""

    known: list[PushBrowser] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)

    async def list_for(self, delivery_id: str, *, owner_id: str) -> PushList:
        del delivery_id, owner_id
        return PushList(
            tuple(browser for browser in self.known if browser.id not in self.reached), len(self.reached)
        )

    async def signing_key(self) -> str:
        return KEY

    async def record_reached(self, delivery_id: str, browser: PushBrowser) -> None:
        assert delivery_id == "delivery_01"
        self.reached.append(browser.id)

    async def forget(self, browser: PushBrowser) -> None:
        self.forgotten.append(browser.id)
        self.known.remove(browser)


@dataclass
class Post:
    """A push service, a sender that trusts it, and browsers that have subscribed there."""

    service: Receiver
    sender: WebPushSender
    browsers: RecordedBrowsers

    def subscribe(self, browser: Device, name: str = "push_01", host: str = HOST) -> None:
        endpoint = f"https://{host}:{self.service.port}/send/{name}"
        self.browsers.known.append(PushBrowser(name, endpoint, browser.p256dh, browser.auth))

    async def refused(self, letter: Letter) -> NotDeliveredYet:
        with pytest.raises(NotDeliveredYet) as failure:
            await self.sender.send(letter)
        return failure.value


async def _nearby(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def certified(authority: trustme.CA, *hosts: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*hosts).configure_cert(context)
    return context


@pytest_asyncio.fixture
async def post(authority: trustme.CA) -> AsyncIterator[Post]:
    async with open_receiver(certified(authority, HOST, "other.example.com")) as service:
        service.answers = [CREATED]
        browsers = RecordedBrowsers()
        sender = WebPushSender(
            browsers=browsers,
            hosts=PushHosts.read("*.example.com"),
            contact="mailto:t@pay.example",
            allow_private=True,
            resolver=_nearby,
            trust=trusting(authority),
        )
        yield Post(service, sender, browsers)


@pytest.mark.rule("R23")
class TestAPush:
    async def test_is_read_by_the_browser_it_was_encrypted_for(self, post: Post, letter: Letter) -> None:
        browser = Device()
        post.subscribe(browser)

        await post.sender.send(letter)

        (received,) = post.service.received
        assert browser.read(received) == {
            "title": letter.subject,
            "body": "\n".join([letter.brief, *letter.lines, str(letter.next_step)]),
            "tag": "delivery_01",
            "about": "topup_01",
            "at": "2026-03-01T09:30:00.000000+00:00",
            "url": "/top-ups/topup_01",
        }
        assert received.target == "POST /send/push_01 HTTP/1.1"
        assert post.browsers.reached == ["push_01"]

    async def test_is_signed_for_its_service_with_our_key(self, post: Post, letter: Letter) -> None:
        post.subscribe(Device())

        await post.sender.send(letter)

        claims = claims_of(post.service.received[0])
        left = datetime.fromtimestamp(claims["exp"], UTC) - datetime.now(UTC)
        assert claims["aud"] == f"https://{HOST}:{post.service.port}"
        assert claims["sub"] == "mailto:t@pay.example"
        assert timedelta(hours=11) < left < timedelta(hours=24)

    async def test_waits_a_day_for_its_browser_and_gives_way_to_a_newer_one(
        self, post: Post, letter: Letter
    ) -> None:
        post.subscribe(Device())

        await post.sender.send(letter)
        post.browsers.reached.clear()
        await post.sender.send(replace(letter, kind="being_checked", outcome=None))

        ended, checked = (received.headers for received in post.service.received)
        assert ended["ttl"] == "86400"
        assert ended["topic"] == checked["topic"]
        assert len(ended["topic"]) == 32
        assert ended["topic"].replace("-", "").replace("_", "").isalnum()

    @pytest.mark.parametrize(
        ("outcome", "urgency"),
        [("completed", "normal"), ("partial", "high"), ("failed", "high"), (None, "high")],
    )
    async def test_is_urgent_where_somebody_may_have_to_do_something(
        self, post: Post, letter: Letter, outcome: str | None, urgency: str
    ) -> None:
        post.subscribe(Device())

        await post.sender.send(replace(letter, outcome=outcome))

        assert post.service.received[0].headers["urgency"] == urgency

    async def test_goes_to_every_browser_of_the_owner(self, post: Post, letter: Letter) -> None:
        phone, laptop = Device(), Device()
        post.subscribe(phone, "push_01")
        post.subscribe(laptop, "push_02")

        await post.sender.send(letter)

        by_target = {received.target.split()[1]: received for received in post.service.received}
        assert phone.read(by_target["/send/push_01"]) == laptop.read(by_target["/send/push_02"])

    async def test_keeps_address_and_keys_to_itself(self, post: Post) -> None:
        post.subscribe(Device())

        assert repr(post.browsers.known[0]) == "PushBrowser(id='push_01')"


@pytest.mark.rule("R24")
class TestAPushThatFails:
    async def test_in_one_browser_is_sent_again_there_alone(self, post: Post, letter: Letter) -> None:
        post.subscribe(Device(), "push_01")
        post.subscribe(Device(), "push_02")
        post.service.answers = [reply(503), CREATED]

        failure = await post.refused(letter)
        await post.sender.send(letter)

        targets = [received.target.split()[1] for received in post.service.received]
        assert str(failure) == "1 of 2 browsers could not be reached: its push service answered 503"
        assert sorted(targets[:2]) == ["/send/push_01", "/send/push_02"]
        assert len(targets) == 3
        assert sorted(post.browsers.reached) == ["push_01", "push_02"]

    @pytest.mark.parametrize("status", [404, 410])
    async def test_because_the_browser_is_gone_forgets_it(
        self, post: Post, letter: Letter, status: int
    ) -> None:
        post.subscribe(Device())
        post.service.answers = [reply(status)]

        with pytest.raises(Undeliverable, match="no push subscription"):
            await post.sender.send(letter)

        assert post.browsers.forgotten == ["push_01"]

    async def test_in_a_browser_that_is_gone_is_sent_all_the_same_where_another_has_it(
        self, post: Post, letter: Letter
    ) -> None:
        post.subscribe(Device(), "push_01")
        post.subscribe(Device(), "push_02")
        post.service.answers = [reply(410), CREATED]

        await post.sender.send(letter)

        assert len(post.browsers.forgotten) == len(post.browsers.reached) == 1

    @pytest.mark.parametrize(("status", "asked"), [(429, "90"), (503, "90"), (500, None), (429, None)])
    async def test_for_now_is_tried_again_no_sooner_than_asked(
        self, post: Post, letter: Letter, status: int, asked: str | None
    ) -> None:
        post.subscribe(Device())
        post.service.answers = [reply(status, Retry_After=asked or "")]

        failure = await post.refused(letter)

        assert failure.pause == (timedelta(seconds=90) if asked else None)
        assert post.browsers.forgotten == []

    @pytest.mark.parametrize("status", [400, 401, 403, 413])
    async def test_because_the_service_refuses_us_is_an_operators_matter(
        self, post: Post, letter: Letter, status: int
    ) -> None:
        post.subscribe(Device())
        post.service.answers = [reply(status, body=b'{"reason": "BadJwtToken"}')]

        with capture_logs() as logs:
            failure = await post.refused(letter)

        (line,) = (line for line in logs if line["event"] == "push_service.refused_us")
        assert (line["log_level"], line["status"], line["host"]) == ("error", status, HOST)
        assert "BadJwtToken" in line["said"]
        assert failure.pause == PAUSE_WHEN_REFUSED
        assert "BadJwtToken" not in str(failure)

    async def test_by_silence_is_tried_again(self, post: Post, letter: Letter) -> None:
        post.subscribe(Device())
        post.service.answers = [None]
        post.sender = replace(post.sender, timeout=timedelta(milliseconds=300))

        failure = await post.refused(letter)

        assert "no answer within 0.3 seconds" in str(failure)

    async def test_in_one_browser_that_is_silent_does_not_keep_it_from_another(
        self, post: Post, letter: Letter
    ) -> None:
        post.subscribe(Device(), "push_01")
        post.subscribe(Device(), "push_02")
        post.service.answers = [None, CREATED]
        post.sender = replace(post.sender, timeout=timedelta(seconds=2))

        await post.refused(letter)

        assert len(post.browsers.reached) == 1

    async def test_by_leading_elsewhere_is_not_followed(
        self, post: Post, letter: Letter, authority: trustme.CA
    ) -> None:
        post.subscribe(Device())
        async with open_receiver(certified(authority, HOST)) as elsewhere:
            post.service.answers = [reply(307, Location=f"https://{HOST}:{elsewhere.port}/")]
            await post.refused(letter)

        assert elsewhere.connections == 0


@pytest.mark.rule("R24")
class TestAPushToNobody:
    async def test_is_given_up_saying_that_there_is_no_subscription(self, post: Post, letter: Letter) -> None:
        with pytest.raises(Undeliverable, match="no push subscription"):
            await post.sender.send(letter)

    async def test_new_is_sent_where_all_browsers_have_had_it(self, post: Post, letter: Letter) -> None:
        post.subscribe(Device())

        await post.sender.send(letter)
        await post.sender.send(letter)

        assert len(post.service.received) == 1


class TestWhereAPushMayGo:
    async def test_is_asked_again_at_sending(self, post: Post, letter: Letter) -> None:
        post.subscribe(Device(), host="push.elsewhere.example")

        failure = await post.refused(letter)

        assert "not one of those that may be written to" in str(failure)
        assert post.service.connections == 0

    async def test_is_a_public_address_alone(self, post: Post, letter: Letter) -> None:
        post.browsers.known = [PushBrowser("push_01", f"https://{HOST}/send/1", *_keys())]
        post.sender = replace(post.sender, allow_private=False)

        failure = await post.refused(letter)

        assert "does not lead to a public address" in str(failure)
        assert post.service.connections == 0

    async def test_is_whoever_holds_the_certificate_of_its_name(self, post: Post, letter: Letter) -> None:
        post.subscribe(Device(), host="forged.example.com")

        failure = await post.refused(letter)

        assert "is the certificate valid" in str(failure)
        assert post.service.received == []


def _keys() -> tuple[str, str]:
    browser = Device()
    return browser.p256dh, browser.auth
