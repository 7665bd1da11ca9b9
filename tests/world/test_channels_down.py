"""Mail and push down for an hour: top-ups go on as ever, and afterwards each message arrives once (R23, R24).

The hour is scaled down. What makes up an hour's outage is not its length but that every attempt fails in every way
there is, that the top-up's own run gives telling up to a run of its own meanwhile, and that pauses have grown. So a
run goes on trying for 0.3 seconds here in place of 30, the outage goes through four ways of being down with a top-up
in each, and ends once every message has failed in the last of them; pauses double from 0.25 to 15 seconds as they
always do.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
import trustme
from temporalio.api.enums.v1 import EventType

from adapters.notify.email import EmailSender
from adapters.notify.push_services import PushHosts
from adapters.notify.web_push import WebPushSender
from adapters.postgres.push_list import OwnersBrowsers
from adapters.postgres.push_subscriptions import Browser, subscribe
from tests.adapters.notify.conftest import PostOffice
from tests.builders import Household
from tests.devices import Device
from tests.outages.invariants import assert_invariants
from tests.outages.product import until
from tests.receiver import Receiver, reply
from tests.stories.town import Town
from topup.keys import telling_id
from workflows.policies import BOOKKEEPING

HOST = "push.example.com"
SLOTS = 4
"""How much a worker does at once: fewer than there are messages that hang."""


@dataclass(slots=True)
class Channels:
    """A mail server and a push service that can be down in every way."""

    authority: trustme.CA
    office: PostOffice = field(default_factory=PostOffice)
    service: Receiver = field(default_factory=Receiver)
    _servers: list[asyncio.Server] = field(default_factory=list)
    _conversations: list[Any] = field(default_factory=list)

    async def open(self) -> None:
        """Listen, on the ports of before if there were any."""
        mail = await asyncio.get_running_loop().create_server(self._converse, "127.0.0.1", self.office.port)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert(HOST).configure_cert(context)
        push = await asyncio.start_server(self.service.serve, "127.0.0.1", self.service.port, ssl=context)
        self.office.port, self.service.port = (server.sockets[0].getsockname()[1] for server in (mail, push))
        self._servers = [mail, push]

    async def shut(self) -> None:
        """Refuse every connection, and end those that are open."""
        for server in self._servers:
            server.close()
        self.hang_up()

    def be_busy(self) -> None:
        """Ask to be tried later, mail at the same word as ever, so that none slips through, push after a second."""
        self.office.answers = {"MAIL": "451 4.3.0 try again later"}
        self.service.answers = [reply(429, Retry_After="1")]

    def be_broken(self) -> None:
        """Refuse for good, for no fault of the owner's."""
        self.office.answers = {"MAIL": "554 5.7.1 not from you"}
        self.service.answers = [reply(503)]

    def hang(self) -> None:
        """Take every connection and say nothing."""
        self.office.deeds = {"MAIL": _say_nothing}
        self.service.answers = [None]

    def be_well(self) -> None:
        """Take everything; what waits for an answer is cut off."""
        self.office.answers, self.office.deeds = {}, {}
        self.service.answers = [reply(201)]
        self.service.received.clear()
        self.hang_up()

    def hang_up(self) -> None:
        """End what is open."""
        self.service.hang_up()
        for conversation in self._conversations:
            if conversation.transport is not None:
                conversation.transport.abort()

    def _converse(self) -> Any:
        conversation = self.office.connection()
        self._conversations.append(conversation)
        return conversation


async def _say_nothing(_server: Any) -> None:
    await asyncio.Event().wait()


async def _nearby(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


@dataclass(slots=True)
class Told:
    """An owner with a browser, and the channels that lead to them."""

    home: Household
    device: Device


@pytest_asyncio.fixture
async def channels() -> AsyncIterator[Channels]:
    """Both channels, well."""
    channels = Channels(trustme.CA())
    channels.service.answers = [reply(201)]
    await channels.open()
    yield channels
    await channels.shut()


@asynccontextmanager
async def town_told_by(town: Town, channels: Channels) -> AsyncIterator[Town]:
    """The town at work, with senders as the product's own."""
    trust = ssl.create_default_context()
    channels.authority.configure_trust(trust)
    town.settings = town.with_settings(
        draw_timeout=timedelta(seconds=10), database_pool_size=SLOTS, notify_patience=timedelta(seconds=0.3)
    )
    patience = {"draw": timedelta(seconds=10), "notify": timedelta(seconds=0.3)}
    town.watcher.patience = town.watcher.patience.model_copy(update=patience)
    senders: dict[str, Any] = {
        "email": EmailSender(
            host="127.0.0.1", port=channels.office.port, security="none", sender="Tidemark <t@pay.example>"
        ),
        "push": WebPushSender(
            browsers=OwnersBrowsers(town.database),
            hosts=PushHosts.read("*.example.com"),
            contact="mailto:t@pay.example",
            allow_private=True,
            resolver=_nearby,
            trust=trust,
        ),
    }
    town.channels = senders
    async with town.worker():
        yield town


async def top_up(town: Town, channels: Channels) -> Told:
    """A top-up of an owner with one browser; it has ended and its rule is free when this returns."""
    home, device = await town.open_household(balance="80"), Device()
    await home.fund("500", "USDT")
    await home.draw_up_rule()
    endpoint = f"https://{HOST}:{channels.service.port}/send/{home.owner_id}"
    async with town.database.commit() as session:
        browser = Browser(endpoint, device.p256dh, device.auth, None)
        await subscribe(session, owner_id=home.owner_id, browser=browser, bound_to=None)
    await home.spend("45")
    ended = await asyncio.wait_for(town.see_through(home), timeout=90)
    assert (ended.outcome, ended.reason) == ("completed", "full")
    assert (await home.rule()).locked_by is None
    return Told(home, device)


async def failed_so_often(told: Told, attempts: int) -> None:
    """Wait until each of the owner's messages has failed this often."""

    async def enough() -> bool:
        return all(row.attempts >= attempts for row in await told.home.deliveries())

    await until(enough)


class TestAnHourWithoutChannels:
    @pytest.mark.rule("R23")
    @pytest.mark.rule("R24")
    async def test_holds_no_top_up_up_and_every_message_arrives_once_after_it(
        self, idle_town: Town, channels: Channels
    ) -> None:
        async with town_told_by(idle_town, channels) as town:
            await channels.shut()
            refused = await top_up(town, channels)
            await failed_so_often(refused, 1)
            channels.be_busy()
            await channels.open()
            busy = await top_up(town, channels)
            await failed_so_often(busy, 1)
            channels.be_broken()
            broken = await top_up(town, channels)
            await failed_so_often(broken, 1)
            channels.hang()
            hanging = [await top_up(town, channels) for _ in range(SLOTS)]
            everyone = [refused, busy, broken, *hanging]
            unsent = [row.status for told in everyone for row in await told.home.deliveries()]
            channels.be_well()

            tellings = [
                town.client.get_workflow_handle(telling_id((await told.home.top_ups())[0].id, "ended"))
                for told in everyone
            ]
            await asyncio.gather(*[telling.result() for telling in tellings])

        assert unsent == ["pending"] * 2 * len(everyone)
        await assert_invariants(town.database)
        mails = [mail["Message-ID"] for mail in channels.office.mails]
        pushes = {post.target.split()[1].rpartition("/")[2]: post for post in channels.service.received}
        assert len(mails) == len(channels.service.received) == len(pushes) == len(everyone)
        for told in everyone:
            sent = {row.channel: row for row in await told.home.deliveries()}
            assert {row.status for row in sent.values()} == {"sent"}
            assert mails.count(f"<{sent['email'].id}@pay.example>") == 1
            assert told.device.read(pushes[told.home.owner_id])["tag"] == sent["push"].id
        await assert_pauses_bounded(await tellings[0].fetch_history())


async def assert_pauses_bounded(history: Any) -> None:
    """However long a channel is down, it is tried again at least every quarter of a minute, and never given up."""
    scheduled = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    policies = [
        event.activity_task_scheduled_event_attributes.retry_policy
        for event in history.events
        if event.event_type == scheduled
    ]
    assert len(policies) == 2
    for policy in policies:
        assert policy.maximum_interval.ToTimedelta() == BOOKKEEPING.maximum_interval
        assert policy.maximum_interval.ToTimedelta() <= timedelta(seconds=15)
        assert policy.maximum_attempts == 0
