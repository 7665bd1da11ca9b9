"""Notifications in a real browser: the service worker shows each push once, the page says what stands in the way."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import CDPSession, expect
from sqlmodel import select

from activities.ports import Letter
from adapters.notify.push import push_content
from adapters.postgres.database import Database
from adapters.postgres.tables import PushSubscriptionRow
from tests.builders import Household, open_household
from tests.console.browser import Window, assert_accessible, assert_fits
from tests.console.conftest import Browser, sign_in
from tests.devices import Device

pytestmark = pytest.mark.rule("R23")

EARLIER = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
LATER = EARLIER + timedelta(microseconds=1)
ENDPOINT = "https://fcm.googleapis.com/fcm/send/stubbed"
_SHOWN = """async () => {
    const registration = await navigator.serviceWorker.ready;
    const shown = await registration.getNotifications();
    return shown.map(({title, body, tag, data}) => ({title, body, tag, url: data.url}));
}"""
_HOLD_FIRST = """() => {
    let heard = 0;
    const allHeard = new Promise((resolve) => {
        self.addEventListener("push", () => { heard += 1; if (heard === 3) resolve(); });
    });
    const show = ServiceWorkerRegistration.prototype.showNotification;
    let isFirst = true;
    ServiceWorkerRegistration.prototype.showNotification = async function (...words) {
        if (isFirst) {
            isFirst = false;
            await allHeard;
            // Whoever does not wait in turn has been shown by the time these are answered.
            for (let asked = 0; asked < 3; asked += 1) await this.getNotifications();
        }
        await show.apply(this, words);
    };
}"""
_REGISTER = """async () => {
    await navigator.serviceWorker.register("/service-worker.js");
    await navigator.serviceWorker.ready;
}"""
_STUB = """({subscription, failure, permission}) => {
    Notification.requestPermission = async () => permission;
    const key = {};
    PushManager.prototype.subscribe = async (options) => {
        if (failure) throw new DOMException("no", failure);
        window.askedWith = btoa(String.fromCharCode(...options.applicationServerKey));
        return {...key, toJSON: () => subscription};
    };
}"""


@pytest_asyncio.fixture
async def home(phone: Window, stranger: Browser, database: Database) -> Household:
    """The household of the owner who is signed in on the phone."""
    home = await open_household(database)
    owner = await sign_in(stranger, database, owner_id=home.owner_id)
    assert owner.token
    await phone.sign_in(owner.token)
    await phone.page.context.grant_permissions(["notifications"], origin=phone.origin)
    return home


@pytest_asyncio.fixture
async def worker(phone: Window, home: Household) -> Callable[[Letter], Any]:
    """Delivers a push to the service worker of an owner's page, as a push service would."""
    del home
    await phone.go("/push")
    devtools = await phone.devtools()
    registrations: list[str] = []
    devtools.on("ServiceWorker.workerRegistrationUpdated", _noting(registrations))
    await devtools.send("ServiceWorker.enable")
    await phone.page.evaluate(_REGISTER)

    async def deliver(letter: Letter) -> None:
        await _deliver(devtools, phone.origin, registrations[-1], push_content(letter).decode())

    return deliver


def letter(**changes: Any) -> Letter:
    words: dict[str, Any] = {
        "delivery_id": "delivery_01",
        "channel": "push",
        "kind": "ended",
        "about": "topup_01",
        "queued_at": EARLIER,
        "to_name": "Ada",
        "to_address": "owner_01",
        "subject": "Your Pay wallet was topped up with 100.00 USDT",
        "why": "",
        "brief": "The full amount arrived.",
        "lines": ("1. USDT: gave 100.00 USDT.",),
        "next_step": None,
        "page": "/top-ups/topup_01",
        "rule_page": "/wallets/wallet_01/auto-top-up",
    }
    return Letter(**{**words, **changes})


class TestTheServiceWorker:
    async def test_shows_a_push_however_often_it_comes_as_one_notification(
        self, phone: Window, worker: Callable[[Letter], Any]
    ) -> None:
        await worker(letter())
        await worker(letter())
        await worker(letter(brief="The last one of three."))

        shown = await _shown_once(phone, lambda shown: "The last one of three." in str(shown))
        assert shown == [
            {
                "title": "Your Pay wallet was topped up with 100.00 USDT",
                "body": "The last one of three.\n1. USDT: gave 100.00 USDT.",
                "tag": "delivery_01",
                "url": "/top-ups/topup_01",
            }
        ]

    async def test_shows_the_last_one_though_the_first_one_took_longest_to_be_shown(
        self, phone: Window, worker: Callable[[Letter], Any]
    ) -> None:
        (running,) = phone.page.context.service_workers
        await running.evaluate(_HOLD_FIRST)

        await worker(letter(brief="The first one of three."))
        await worker(letter(brief="The second one of three."))
        await worker(letter(delivery_id="delivery_02", about="topup_02"))

        shown = await _shown_once(phone, lambda shown: _tags(shown) == ["delivery_01", "delivery_02"])
        assert [each["body"].splitlines()[0] for each in shown if each["tag"] == "delivery_01"] == [
            "The second one of three."
        ]

    @pytest.mark.parametrize("first", ["older", "newer"])
    async def test_keeps_of_two_about_one_top_up_the_newer_one_whichever_comes_first(
        self, phone: Window, worker: Callable[[Letter], Any], first: str
    ) -> None:
        older = letter(delivery_id="delivery_00", kind="being_checked", subject="Being checked")
        newer = letter(queued_at=LATER)
        together = [older, newer] if first == "older" else [newer, older]

        for each in [*together, letter(delivery_id="delivery_02", about="topup_02")]:
            await worker(each)

        shown = await _shown_once(phone, lambda shown: "delivery_02" in _tags(shown))
        assert {each["tag"]: each["title"] for each in shown} == {
            "delivery_01": newer.subject,
            "delivery_02": newer.subject,
        }

    async def test_shows_what_is_about_different_top_ups_side_by_side(
        self, phone: Window, worker: Callable[[Letter], Any]
    ) -> None:
        await worker(letter())
        await worker(letter(delivery_id="delivery_02", about="topup_02"))

        await _shown_once(phone, lambda shown: _tags(shown) == ["delivery_01", "delivery_02"])

    async def test_takes_back_that_a_top_up_is_being_checked_once_it_has_ended(
        self, phone: Window, worker: Callable[[Letter], Any]
    ) -> None:
        await worker(letter(delivery_id="delivery_00", kind="being_checked", subject="Being checked"))
        await _shown_once(phone, lambda shown: _tags(shown) == ["delivery_00"])
        await worker(letter(queued_at=LATER))

        await _shown_once(phone, lambda shown: _tags(shown) == ["delivery_01"])


class TestThePage:
    async def test_subscribes_the_browser_after_a_tap_and_knows_it_again(
        self, phone: Window, home: Household, database: Database
    ) -> None:
        device = Device()
        await _stub(phone, subscription=device.toJSON(ENDPOINT))
        await phone.go("/push")

        await phone.page.get_by_role("button", name="Turn on notifications").click()
        await phone.page.wait_for_url("**/push?done=push-on")

        async with database.read() as session:
            (row,) = (await session.exec(select(PushSubscriptionRow))).all()
        assert (row.owner_id, row.endpoint, row.p256dh) == (home.owner_id, ENDPOINT, device.p256dh)
        await expect(phone.page.get_by_text("Chrome, or a browser like it", exact=True)).to_be_visible()

    @pytest.mark.parametrize(
        ("stub", "said"),
        [
            ({"permission": "denied"}, "does not let Tidemark show notifications"),
            ({"permission": "default"}, "You have not allowed notifications"),
            ({"failure": "AbortError"}, "could not reach its push service"),
            ({"failure": "NotAllowedError"}, "does not let Tidemark show notifications"),
            ({"failure": "InvalidStateError"}, "did not work in this browser"),
        ],
    )
    async def test_says_in_a_sentence_what_went_wrong(
        self, phone: Window, home: Household, stub: dict[str, str], said: str
    ) -> None:
        del home
        await _stub(phone, subscription={}, **stub)
        await phone.go("/push")

        await phone.page.get_by_role("button", name="Turn on notifications").click()

        await expect(phone.page.get_by_role("alert")).to_contain_text(said)

    async def test_says_what_a_browser_without_pushes_can_do(self, phone: Window, home: Household) -> None:
        del home
        await phone.page.add_init_script("delete window.PushManager")

        await phone.go("/push")

        await expect(phone.page.get_by_text("This browser cannot show notifications")).to_be_visible()
        await expect(phone.page.get_by_role("button", name="Turn on notifications")).to_be_hidden()

    async def test_says_to_an_iphone_that_the_home_screen_comes_first(
        self, phone: Window, home: Household
    ) -> None:
        del home
        await phone.page.add_init_script(
            "delete window.PushManager;"
            "Object.defineProperty(navigator, 'userAgent', {get: () => 'Mozilla/5.0 (iPhone; CPU iPhone OS 19_0)'})"
        )

        await phone.go("/push")

        await expect(phone.page.get_by_text("first add Tidemark to your Home Screen")).to_be_visible()

    async def test_asks_for_nothing_before_it_is_tapped(self, phone: Window, home: Household) -> None:
        del home
        await phone.page.add_init_script(
            "Notification.requestPermission = () => { throw new Error('asked too soon'); }"
        )

        await phone.go("/push")

        await expect(phone.page.get_by_role("button", name="Turn on notifications")).to_be_visible()

    async def test_is_there_for_everybody(self, small: Window, stranger: Browser, database: Database) -> None:
        home = await open_household(database)
        owner = await sign_in(stranger, database, owner_id=home.owner_id)
        assert owner.token
        await small.sign_in(owner.token)

        await small.go("/push")

        await assert_accessible(small.page)
        await assert_fits(small.page)


async def _stub(window: Window, *, subscription: dict[str, Any], **how: str) -> None:
    """Have the browser's own push service answer so: a real one cannot be reached from here."""
    given = {"subscription": subscription, "failure": None, "permission": "granted", **how}
    await window.page.add_init_script(f"({_STUB})({json.dumps(given)})")


async def _shown_once(
    window: Window, satisfied: Callable[[list[dict[str, str]]], bool]
) -> list[dict[str, str]]:
    """The notifications, once they are as wanted. The browser tells nobody when it shows one, so it is asked."""
    async with asyncio.timeout(90):
        while not satisfied(shown := await window.page.evaluate(_SHOWN)):  # noqa: ASYNC110 as it is told nothing
            await asyncio.sleep(0.05)
    return list(shown)


def _tags(shown: list[dict[str, str]]) -> list[str]:
    return sorted(each["tag"] for each in shown)


async def _deliver(devtools: CDPSession, origin: str, registration: str, content: str) -> None:
    await devtools.send(
        "ServiceWorker.deliverPushMessage",
        {"origin": origin, "registrationId": registration, "data": content},
    )


def _noting(registrations: list[str]) -> Callable[[Any], None]:
    def note(event: dict[str, Any]) -> None:
        registrations.extend(each["registrationId"] for each in event["registrations"])

    return note
