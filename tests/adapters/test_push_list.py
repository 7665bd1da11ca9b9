"""The store's part of Web Push on a real PostgreSQL: one key for all, one receipt for each browser, none lost."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from py_vapid import Vapid02

from activities.messages import Delivery
from activities.ports import PushBrowser
from adapters.postgres.database import Database
from adapters.postgres.deliveries import REACHED_SOME, DeliveryRecords, queue_low_balance
from adapters.postgres.ids import new_id
from adapters.postgres.push_list import OwnersBrowsers, push_key
from adapters.postgres.push_subscriptions import Browser, subscribe
from tests.builders import Household, open_household
from tests.devices import Device, read_base64url
from topup.money import Money


class Desk:
    """An owner with browsers, and a delivery to push."""

    def __init__(self, home: Household, delivery: Delivery) -> None:
        self.home, self.delivery_id = home, delivery.delivery_id
        self.browsers = OwnersBrowsers(home.database)

    async def subscribe(self, name: str, *, expires_at: datetime | None = None) -> str:
        device = Device()
        browser = Browser(f"https://push.example/{name}", device.p256dh, device.auth, expires_at)
        async with self.home.database.commit() as session:
            record, _ = await subscribe(
                session, owner_id=self.home.owner_id, browser=browser, bound_to=self.home.owner_id
            )
        return record.id

    async def unreached(self) -> tuple[PushBrowser, ...]:
        return (await self.browsers.list_for(self.delivery_id, owner_id=self.home.owner_id)).unreached


@pytest_asyncio.fixture
async def desk(database: Database) -> Desk:
    home = await open_household(database)
    async with database.commit() as session:
        push, _ = await queue_low_balance(
            session,
            event_id=new_id("event"),
            owner_id=home.owner_id,
            threshold=Money.parse("50", "USDT"),
        )
    return Desk(home, push)


class TestTheKey:
    async def test_is_made_once_however_many_ask_at_the_same_time(self, database: Database) -> None:
        keys = await asyncio.gather(*[push_key(database) for _ in range(8)])

        assert len({(key.private_key, key.public_key) for key in keys}) == 1
        assert (await push_key(database)).public_key == keys[0].public_key

    async def test_signs_as_the_public_one_that_browsers_subscribe_with(self, database: Database) -> None:
        key = await push_key(database)
        signed = Vapid02.from_raw(key.private_key.encode()).sign(
            {"aud": "https://push.example", "sub": "mailto:t@pay.example"}
        )

        assert signed["Authorization"].endswith(f"k={key.public_key}")
        assert len(read_base64url(key.public_key)) == 65


@pytest.mark.rule("R24")
class TestTheList:
    async def test_leaves_out_who_has_had_it_and_who_has_ended(self, desk: Desk) -> None:
        reached, waiting = await desk.subscribe("1"), await desk.subscribe("2")
        await desk.subscribe("3", expires_at=datetime.now(UTC) - timedelta(seconds=1))
        first = next(browser for browser in await desk.unreached() if browser.id == reached)

        await desk.browsers.record_reached(desk.delivery_id, first)
        await desk.browsers.record_reached(desk.delivery_id, first)
        listed = await desk.browsers.list_for(desk.delivery_id, owner_id=desk.home.owner_id)

        assert ([browser.id for browser in listed.unreached], listed.reached) == ([waiting], 1)

    async def test_is_of_one_owner_alone(self, desk: Desk, database: Database) -> None:
        await desk.subscribe("1")
        stranger = await open_household(database, name="Eve")

        listed = await desk.browsers.list_for(desk.delivery_id, owner_id=stranger.owner_id)

        assert listed.unreached == ()

    async def test_remembers_a_reached_browser_that_is_gone_since(self, desk: Desk) -> None:
        await desk.subscribe("1")
        (browser,) = await desk.unreached()
        await desk.browsers.record_reached(desk.delivery_id, browser)

        await desk.browsers.forget(browser)
        listed = await desk.browsers.list_for(desk.delivery_id, owner_id=desk.home.owner_id)

        assert (listed.unreached, listed.reached) == ((), 1)

    async def test_keeps_a_browser_that_has_subscribed_anew_meanwhile(self, desk: Desk) -> None:
        await desk.subscribe("1")
        (tried,) = await desk.unreached()
        await desk.subscribe("1")

        await desk.browsers.forget(tried)

        (renewed,) = await desk.unreached()
        assert (renewed.id, renewed.endpoint) == (tried.id, tried.endpoint)
        assert renewed.p256dh != tried.p256dh


@pytest.mark.rule("R24")
class TestGivingUp:
    async def test_a_push_that_reached_one_browser_says_that_it_was_sent(self, desk: Desk) -> None:
        await desk.subscribe("1")
        (browser,) = await desk.unreached()
        records = DeliveryRecords(desk.home.database)
        await desk.browsers.record_reached(desk.delivery_id, browser)

        await records.record_undeliverable(desk.delivery_id, failure="given up")

        push = next(row for row in await desk.home.deliveries() if row.channel == "push")
        assert (push.status, push.last_failure) == ("sent", f"{REACHED_SOME}: given up")
        assert push.sent_at is not None
