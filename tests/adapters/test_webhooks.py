"""The courier on a real PostgreSQL and real sockets: each event once to each endpoint, tried over days if need be."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import col, select
from structlog.testing import capture_logs

from adapters.notify.webhook import NotTaken, WebhookSender
from adapters.postgres.database import EVENT_CHANNEL, Database
from adapters.postgres.events import EventKind, write_event
from adapters.postgres.tables import WebhookDelivery, WebhookEndpoint
from adapters.postgres.wakes import Wakes
from adapters.postgres.webhooks import (
    LEASE,
    Attempted,
    DeliveryStatus,
    Parcel,
    claim_parcels,
    create_endpoint,
    delete_endpoint,
    enable_endpoint,
    hand_out,
    record_attempt,
    resend,
    rotate_secret,
)
from starter.courier import Courier, Persistence
from tests.builders import Household, events_readable, open_household
from tests.receiver import Receiver, open_receiver, reply

START = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
BODY_BYTES_MAX = 20_000


@dataclass(slots=True)
class Clock:
    """A clock that a test turns."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@dataclass(slots=True)
class Post:
    """A household, a receiver its events are sent to, and couriers."""

    database: Database
    home: Household
    receiver: Receiver
    clock: Clock = field(default_factory=Clock)
    persistence: Persistence = field(default_factory=Persistence)

    def courier(self, **changed: object) -> Courier:
        """One more courier."""
        courier = Courier(
            database=self.database,
            sender=WebhookSender(allow_private=True),
            poll_interval=timedelta(milliseconds=20),
            kept_for=timedelta(days=30),
            persistence=self.persistence,
            clock=self.clock,
            chance=lambda: 0.5,
        )
        for name, value in changed.items():
            setattr(courier, name, value)
        return courier

    async def open_endpoint(
        self, url: str = "", *, kinds: Sequence[EventKind] = tuple(EventKind)
    ) -> tuple[str, str]:
        """An endpoint, by default at the receiver; its id and secret."""
        async with self.database.commit() as session:
            endpoint, secret = await create_endpoint(
                session,
                owner_id=self.home.owner_id,
                url=url or self.receiver.url,
                events=kinds,
                description=None,
                bound_to=None,
            )
        return endpoint.id, secret

    async def tell(self, kind: EventKind = EventKind.RULE_CHANGED, **payload: object) -> None:
        """Something happens to the owner, and is in the feed."""
        await self.write(kind, **payload)
        await events_readable(self.database)

    async def write(self, kind: EventKind = EventKind.RULE_CHANGED, **payload: object) -> None:
        """Something happens to the owner; it may not be in the feed yet."""
        async with self.database.commit() as session:
            await write_event(session, kind, owner_id=self.home.owner_id, payload=payload)

    async def deliver(self) -> None:
        """Hand out and send all that is due."""
        await self.courier().deliver_due()

    async def deliveries(self) -> Sequence[WebhookDelivery]:
        """What was made, oldest first."""
        async with self.database.read() as session:
            return (await session.exec(select(WebhookDelivery).order_by(col(WebhookDelivery.id)))).all()

    async def delivery(self) -> WebhookDelivery:
        """The only one."""
        (delivery,) = await self.deliveries()
        return delivery

    async def endpoint(self) -> WebhookEndpoint:
        """The only one."""
        async with self.database.read() as session:
            return (await session.exec(select(WebhookEndpoint))).one()


async def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for what no event tells of."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def post(database: Database) -> AsyncIterator[Post]:
    """An owner nothing is sent of yet."""
    async with open_receiver() as receiver:
        yield Post(database, await open_household(database), receiver)


class TestAnEvent:
    async def test_is_sent_signed_with_what_it_tells(self, post: Post) -> None:
        _, secret = await post.open_endpoint()
        await post.home.add("60")
        post.clock.now = datetime.now(UTC)

        await post.deliver()

        (received,) = post.receiver.received
        delivery = await post.delivery()
        body = received.verified_with(secret)
        assert list(body) == ["type", "timestamp", "data"]
        assert (body["type"], body["data"]["balance"]) == ("wallet.balance_changed", "60.00")
        assert body["timestamp"].endswith("Z")
        assert len(received.body) < BODY_BYTES_MAX
        assert received.headers["webhook-id"] == delivery.id
        assert (delivery.status, delivery.attempts, delivery.last_status) == ("delivered", 1, 204)

    async def test_goes_to_each_endpoint_that_wants_its_kind_and_to_no_other_owners(self, post: Post) -> None:
        other = await open_household(post.database)
        elsewhere = Post(post.database, other, post.receiver)
        await post.open_endpoint(f"{post.receiver.url}/all")
        await post.open_endpoint(f"{post.receiver.url}/rules", kinds=[EventKind.RULE_CHANGED])
        await post.open_endpoint(f"{post.receiver.url}/balances", kinds=[EventKind.BALANCE_CHANGED])
        await elsewhere.open_endpoint(f"{post.receiver.url}/other")
        await post.tell()

        await post.deliver()

        targets = sorted(received.target.split(" ")[1] for received in post.receiver.received)
        assert targets == ["/hooks/all", "/hooks/rules"]

    async def test_goes_once_to_an_endpoint_however_many_couriers_run(self, post: Post) -> None:
        await post.open_endpoint()
        for number in range(12):
            await post.tell(number=number)

        await asyncio.gather(*[post.courier().deliver_due() for _ in range(5)])
        await post.deliver()

        sent = [received.headers["webhook-id"] for received in post.receiver.received]
        assert len(sent) == len(set(sent)) == 12

    async def test_from_before_an_endpoint_is_not_sent_to_it(self, post: Post) -> None:
        await post.tell(told="before")
        await post.open_endpoint()
        await post.tell(told="after")

        await post.deliver()

        assert ["after" in received.body for received in post.receiver.received] == [True]

    async def test_that_was_rolled_back_is_sent_to_nobody(self, post: Post) -> None:
        await post.open_endpoint()
        async with post.database.commit() as session:
            await write_event(session, EventKind.RULE_CHANGED, owner_id=post.home.owner_id, payload={})
            await session.rollback()

        await post.deliver()

        assert post.receiver.received == []

    async def test_waits_for_an_older_commit_under_way_and_is_not_passed_over(self, post: Post) -> None:
        await post.open_endpoint()
        async with post.database.commit() as session:
            await write_event(
                session, EventKind.RULE_CHANGED, owner_id=post.home.owner_id, payload={"told": "early"}
            )
            await post.write(told="late")
            await post.deliver()
            meanwhile = len(post.receiver.received)
        await events_readable(post.database)
        await post.deliver()

        assert meanwhile == 0
        assert sorted("early" in received.body for received in post.receiver.received) == [False, True]


class TestAFailure:
    async def test_is_tried_again_with_growing_pauses_until_it_is_given_up(self, post: Post) -> None:
        await post.open_endpoint()
        await post.tell()
        post.receiver.answers = [reply(500)]
        moments = []
        await post.deliver()
        while (delivery := await post.delivery()).status == "pending":
            moments.append(post.clock.now)
            post.clock.now = delivery.next_attempt_at
            await post.deliver()

        pauses = [later - earlier for earlier, later in pairwise(moments)]
        assert pauses[0] == timedelta(seconds=5)
        assert all(later >= earlier for earlier, later in pairwise(pauses[:-1]))
        assert max(pauses) <= timedelta(hours=12)
        assert post.clock.now - START == timedelta(days=3)
        assert 10 <= delivery.attempts <= 20
        assert (delivery.status, delivery.last_failure) == ("failed", "answered 500")
        assert len({received.headers["webhook-id"] for received in post.receiver.received}) == 1

    async def test_is_forgotten_when_the_next_attempt_is_taken(self, post: Post) -> None:
        await post.open_endpoint()
        await post.tell()
        post.receiver.answers = [reply(503), reply(200)]
        await post.deliver()
        failing = await post.endpoint()
        post.clock.now += timedelta(seconds=5)
        await post.deliver()

        delivery = await post.delivery()
        assert failing.failing_since == START
        assert (await post.endpoint()).failing_since is None
        assert (delivery.status, delivery.attempts, delivery.last_failure) == ("delivered", 2, None)
        assert delivery.delivered_at == post.clock.now

    async def test_may_ask_for_a_longer_pause(self, post: Post) -> None:
        await post.open_endpoint()
        await post.tell()
        post.receiver.answers = [reply(429, Retry_After="3600")]
        await post.deliver()

        assert (await post.delivery()).next_attempt_at == START + timedelta(hours=1)

    async def test_may_not_ask_for_days(self, post: Post) -> None:
        await post.open_endpoint()
        await post.tell()
        post.receiver.answers = [reply(503, Retry_After="99999999")]
        await post.deliver()

        assert (await post.delivery()).next_attempt_at == START + timedelta(hours=12)

    async def test_of_410_turns_the_endpoint_off_and_what_waits_comes_when_it_is_on_again(
        self, post: Post
    ) -> None:
        endpoint_id, _ = await post.open_endpoint()
        await post.tell(told="gone")
        post.receiver.answers = [reply(410)]
        await post.deliver()
        off = await post.endpoint()
        await post.tell(told="meanwhile")
        await post.deliver()
        async with post.database.commit() as session:
            on = await enable_endpoint(session, endpoint_id, bound_to=None)
        post.receiver.answers = [reply(204)]
        await post.tell(told="afterwards")
        await post.deliver()

        assert not off.enabled
        assert off.disabled_reason is not None
        assert "410" in off.disabled_reason
        assert (on.enabled, on.disabled_reason, on.failing_since) == (True, None, None)
        assert ["gone" in post.receiver.received[0].body, "afterwards" in post.receiver.received[1].body] == [
            True,
            True,
        ]
        assert [delivery.status for delivery in await post.deliveries()] == ["failed", "delivered"]

    async def test_for_days_without_any_success_turns_the_endpoint_off_with_the_reason(
        self, post: Post
    ) -> None:
        await post.open_endpoint()
        post.receiver.answers = [reply(500)]
        for _ in range(7):
            await post.tell()
            await post.deliver()
            post.clock.now += timedelta(days=1)

        endpoint = await post.endpoint()
        assert not endpoint.enabled
        assert endpoint.disabled_reason == "every attempt has failed since 2026-11-21 09:30 UTC: answered 500"
        # Off, it is left alone.
        before = len(post.receiver.received)
        await post.tell()
        await post.deliver()
        assert len(post.receiver.received) == before

    async def test_of_one_endpoint_holds_up_no_other(self, post: Post) -> None:
        async with open_receiver() as silent:
            silent.answers = [None]
            await post.open_endpoint(silent.url)
            await post.open_endpoint()
            for _ in range(5):
                await post.tell()
            stop = asyncio.Event()
            carrying = asyncio.create_task(post.courier().carry(stop))
            await post.receiver.wait_for(5)
            under_way = silent.connections
            stop.set()
            silent.answers = [reply(500)]
            silent.hang_up()
            await carrying

        assert under_way <= 4

    async def test_at_an_endpoint_that_fails_is_probed_with_one_message_at_a_time(self, post: Post) -> None:
        await post.open_endpoint()
        post.receiver.answers = [reply(500)]
        await post.tell()
        await post.deliver()
        for _ in range(5):
            await post.tell()
        await hand_out(post.database, now=post.clock.now)

        claimed = await claim_parcels(post.database, now=post.clock.now, most=32, busy=[])

        assert len(claimed) == 1


class TestPersistence:
    parcel = Parcel(
        id="msg_1",
        endpoint_id="endpoint_1",
        attempts=1,
        queued_at=START,
        failing_since=None,
        url="https://example.com",
        body="{}",
        secrets=("whsec_AAAA",),
    )

    @given(st.integers(0, 3 * 86_400 - 1), st.floats(0, 1), st.none() | st.integers(0, 10**8))
    def test_always_comes_back_later_and_never_after_the_end(
        self, age: int, chance: float, asked: int | None
    ) -> None:
        now = START + timedelta(seconds=age)
        answer = NotTaken("answered 500", 500, None if asked is None else timedelta(seconds=asked))

        attempted = Persistence().after_failure(self.parcel, answer, now=now, chance=chance)

        assert attempted.status is DeliveryStatus.PENDING
        assert now < attempted.next_attempt_at <= min(now + timedelta(hours=12), START + timedelta(days=3))

    @given(st.floats(0, 1))
    def test_spreads_its_pauses_by_a_fifth(self, chance: float) -> None:
        now = START + timedelta(hours=1)
        attempted = Persistence().after_failure(self.parcel, NotTaken("no"), now=now, chance=chance)
        middle = timedelta(seconds=5, hours=1.5)

        assert 0.79 * middle <= attempted.next_attempt_at - now <= 1.21 * middle

    def test_ends_with_the_time_it_has(self) -> None:
        now = START + timedelta(days=3)
        attempted = Persistence().after_failure(self.parcel, NotTaken("no"), now=now, chance=0.5)

        assert attempted.status is DeliveryStatus.FAILED


class TestAClaim:
    async def test_of_a_courier_that_is_killed_passes_to_the_next_when_its_lease_is_over(
        self, post: Post
    ) -> None:
        await post.open_endpoint()
        await post.tell()
        await hand_out(post.database, now=post.clock.now)
        (killed,) = await claim_parcels(post.database, now=post.clock.now, most=32, busy=[])
        await post.deliver()
        meanwhile = len(post.receiver.received)
        post.clock.now += LEASE
        await post.deliver()

        assert meanwhile == 0
        assert [received.headers["webhook-id"] for received in post.receiver.received] == [killed.id]

    async def test_that_has_passed_to_another_records_nothing_any_more(self, post: Post) -> None:
        await post.open_endpoint()
        await post.tell()
        await hand_out(post.database, now=post.clock.now)
        (late,) = await claim_parcels(post.database, now=post.clock.now, most=32, busy=[])
        post.clock.now += LEASE
        await post.deliver()
        failure = Attempted(DeliveryStatus.FAILED, 500, "too late", post.clock.now, switch_off="too late")
        await record_attempt(post.database, late, failure, now=post.clock.now)

        assert (await post.delivery()).status == "delivered"
        assert (await post.endpoint()).enabled

    async def test_survives_a_courier_that_is_cut_off_in_the_middle_of_sending(self, post: Post) -> None:
        await post.open_endpoint()
        await post.tell()
        post.receiver.answers = [None]
        cut_off = asyncio.create_task(post.courier().deliver_due())
        await post.receiver.wait_for(1)
        cut_off.cancel()
        await asyncio.gather(cut_off, return_exceptions=True)
        post.receiver.answers = [reply(204)]
        post.clock.now += LEASE
        await post.deliver()

        first, second = post.receiver.received
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert (await post.delivery()).attempts == 2

    async def test_of_an_endpoint_that_was_deleted_meanwhile_ends_quietly(self, post: Post) -> None:
        endpoint_id, _ = await post.open_endpoint()
        await post.tell()
        await hand_out(post.database, now=post.clock.now)
        (parcel,) = await claim_parcels(post.database, now=post.clock.now, most=32, busy=[])
        async with post.database.commit() as session:
            await delete_endpoint(session, endpoint_id, bound_to=None)
        success = Attempted(DeliveryStatus.DELIVERED, 204, None, post.clock.now)
        await record_attempt(post.database, parcel, success, now=post.clock.now)

        assert await post.deliveries() == []


class TestTheCourier:
    async def test_sends_what_it_is_woken_for_and_finishes_what_is_under_way_when_told_to_stop(
        self, post: Post, database_url: str
    ) -> None:
        await post.open_endpoint()
        courier, stop = post.courier(poll_interval=timedelta(minutes=1)), asyncio.Event()
        post.receiver.on_received = stop.set
        wakes = Wakes(database_url, {EVENT_CHANNEL: (courier.events_waiting,)})
        listening = asyncio.create_task(wakes.listen())
        await wakes.connected.wait()
        carrying = asyncio.create_task(courier.carry(stop))
        await post.tell()
        await post.database.wake_followers()
        await asyncio.wait_for(carrying, 10)
        listening.cancel()

        assert (await post.delivery()).status == "delivered"

    async def test_waits_for_a_database_out_of_reach(self, post: Post) -> None:
        broken = Database.open("postgresql://nobody@127.0.0.1:1/nothing", pool_size=1)
        courier, stop = post.courier(database=broken), asyncio.Event()
        with capture_logs() as lines:
            carrying = asyncio.create_task(courier.carry(stop))
            await asyncio.wait_for(wait_until(lambda: bool(lines)), 10)
            stop.set()
            await asyncio.wait_for(carrying, 10)
        await broken.close()

        assert {line["event"] for line in lines} == {"courier.out_of_reach"}

    async def test_writes_neither_secret_nor_address_into_its_log(self, post: Post) -> None:
        url = f"{post.receiver.url}/token-in-path?key=token-in-query"
        _, secret = await post.open_endpoint(url)
        post.receiver.answers = [reply(500, body=b"inside"), reply(410, body=b"inside")]
        await post.tell()
        with capture_logs() as lines:
            await post.deliver()
            post.clock.now += timedelta(minutes=1)
            await post.deliver()

        shown = str(lines) + str(await post.deliveries())
        assert [line["event"] for line in lines] == [
            "webhook.attempted",
            "webhook.attempted",
            "webhook.endpoint_off",
        ]
        assert not [word for word in (secret, secret[6:], "token", "127.0.0.1", "inside") if word in shown]

    async def test_tidies_up_what_is_old_and_gives_up_what_waits_for_an_endpoint_that_is_off(
        self, post: Post
    ) -> None:
        await post.open_endpoint()
        post.clock.now = datetime.now(UTC)
        post.receiver.answers = [reply(204), reply(500), reply(410)]
        for _ in range(3):
            await post.tell()
            await post.deliver()
        post.clock.now += timedelta(days=4)
        await post.courier().tidy_up()
        statuses = sorted(delivery.status for delivery in await post.deliveries())
        failures = [str(delivery.last_failure) for delivery in await post.deliveries()]
        post.clock.now += timedelta(days=27)
        await post.courier().tidy_up()

        assert statuses == ["delivered", "failed", "failed"]
        assert "given up, as the endpoint was off; before that: answered 500" in failures
        assert await post.deliveries() == []


class TestASecret:
    async def test_signs_beside_its_successor_for_a_day(self, post: Post) -> None:
        post.clock.now = datetime.now(UTC)
        endpoint_id, old = await post.open_endpoint()
        async with post.database.commit() as session:
            endpoint, new = await rotate_secret(session, endpoint_id, now=post.clock.now, bound_to=None)
        await post.tell()
        await post.deliver()
        post.clock.now += timedelta(hours=24)
        await post.tell()
        await post.deliver()

        both, one = post.receiver.received
        assert endpoint.previous_secret_until == post.clock.now
        assert both.verified_with(old) == both.verified_with(new)
        assert len(both.headers["webhook-signature"].split()) == 2
        assert len(one.headers["webhook-signature"].split()) == 1

    async def test_is_dropped_at_once_by_rotating_twice(self, post: Post) -> None:
        endpoint_id, leaked = await post.open_endpoint()
        for _ in range(2):
            async with post.database.commit() as session:
                await rotate_secret(session, endpoint_id, now=post.clock.now, bound_to=None)
        await post.tell()
        await hand_out(post.database, now=post.clock.now)
        (parcel,) = await claim_parcels(post.database, now=post.clock.now, most=1, busy=[])

        assert leaked not in parcel.secrets
        assert len(parcel.secrets) == 2
        assert "whsec" not in repr(parcel)


class TestResending:
    async def test_sends_the_same_message_again_and_tries_as_long_as_with_a_new_one(self, post: Post) -> None:
        endpoint_id, _ = await post.open_endpoint()
        await post.tell()
        await post.deliver()
        first = await post.delivery()
        post.clock.now += timedelta(days=10)
        async with post.database.commit() as session:
            queued = await resend(session, endpoint_id, first.id, now=post.clock.now, bound_to=None)
        post.receiver.answers = [reply(500)]
        await post.deliver()

        delivery = await post.delivery()
        assert queued.status is DeliveryStatus.PENDING
        assert (delivery.status, delivery.attempts) == ("pending", 2)
        assert delivery.next_attempt_at == post.clock.now + timedelta(seconds=5)
        one, other = post.receiver.received
        assert one.body == other.body
        assert one.headers["webhook-id"] == other.headers["webhook-id"]
