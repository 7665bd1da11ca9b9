"""The page of notifications over HTTP: browsers that subscribe and are removed, and notices that are turned off."""

import hashlib
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from sqlmodel import select

from adapters.postgres.claims import Claims
from adapters.postgres.database import Database
from adapters.postgres.deliveries import wants_low_balance_notices
from adapters.postgres.push_list import push_key
from adapters.postgres.push_subscriptions import SUBSCRIPTIONS_MAX
from adapters.postgres.tables import PushSubscriptionRow
from console.visitors import COOKIE, CSRF_HEADER
from tests.builders import Household, open_household
from tests.console.conftest import Browser, sign_in
from tests.devices import Device

pytestmark = pytest.mark.rule("R23")

ENDPOINT = "https://fcm.googleapis.com/fcm/send/abc:DEF-123"


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner who has signed in, and their household."""

    browser: Browser
    home: Household

    async def subscribe(self, body: Any = None, *, csrf: str | None = None) -> httpx2.Response:
        """What push.js sends."""
        return await self.browser.client.post(
            "/push/subscriptions",
            json=Device().toJSON(ENDPOINT) if body is None else body,
            headers={
                "Cookie": f"{COOKIE}={self.browser.token}",
                "Origin": self.browser.origin,
                "Accept": "application/json",
                CSRF_HEADER: self.browser.csrf if csrf is None else csrf,
            },
        )

    async def known(self) -> list[PushSubscriptionRow]:
        async with self.home.database.read() as session:
            rows = await session.exec(select(PushSubscriptionRow))
            return [row for row in rows if row.owner_id == self.home.owner_id]

    async def wants_notices(self) -> bool:
        async with self.home.database.read() as session:
            return await wants_low_balance_notices(session, self.home.owner_id)


@pytest_asyncio.fixture
async def owner(stranger: Browser, database: Database) -> Owner:
    home = await open_household(database, balance="80")
    return Owner(await sign_in(stranger, database, owner_id=home.owner_id), home)


class TestSubscribing:
    async def test_keeps_what_is_needed_to_write_to_the_browser(self, owner: Owner) -> None:
        device = Device()

        answer = await owner.subscribe(device.toJSON(ENDPOINT))

        (row,) = await owner.known()
        assert (answer.status_code, answer.json()) == (201, {"id": row.id})
        assert (row.endpoint, row.p256dh, row.auth) == (ENDPOINT, device.p256dh, device.auth)

    async def test_a_second_time_keeps_the_entry(self, owner: Owner) -> None:
        first, again = await owner.subscribe(), await owner.subscribe()

        assert (first.json(), again.status_code) == (again.json(), 200)
        assert len(await owner.known()) == 1

    async def test_takes_the_browser_from_who_used_it_before(self, owner: Owner, database: Database) -> None:
        before = await open_household(database, name="Eve")
        other = Owner(await sign_in(owner.browser, database, owner_id=before.owner_id), before)
        await other.subscribe()

        await owner.subscribe()

        assert (len(await owner.known()), await other.known()) == (1, [])

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"endpoint": "https://evil.example/push"}, "push service that is allowed here"),
            ({"endpoint": "http://fcm.googleapis.com/x"}, "begins with https://"),
            ({"endpoint": "https://fcm.googleapis.com:8443/x"}, "without user, port or fragment"),
            ({"keys": {"p256dh": "AAAA", "auth": "AAAA"}}, "did not come in whole"),
            ({"keys": {}}, "did not come in whole"),
            ({"expirationTime": 1e300}, "did not come in whole"),
        ],
    )
    async def test_refuses_what_cannot_be_written_to_in_a_sentence(
        self, owner: Owner, change: dict[str, Any], said: str
    ) -> None:
        answer = await owner.subscribe({**Device().toJSON(ENDPOINT), **change})

        assert answer.status_code == 422
        assert said in answer.json()["message"]
        assert await owner.known() == []

    async def test_has_an_end_to_it(self, owner: Owner) -> None:
        for number in range(SUBSCRIPTIONS_MAX):
            await owner.subscribe(Device().toJSON(f"{ENDPOINT}{number}"))

        answer = await owner.subscribe()

        assert answer.status_code == 409
        assert "Remove one" in answer.json()["message"]

    @pytest.mark.parametrize("token", ["", "guessed"])
    async def test_needs_the_token_of_the_page(self, owner: Owner, token: str) -> None:
        answer = await owner.subscribe(csrf=token)

        assert answer.status_code == 403
        assert await owner.known() == []

    async def test_is_for_those_who_are_signed_in(self, stranger: Browser) -> None:
        answer = await stranger.client.post("/push/subscriptions", json=Device().toJSON(ENDPOINT))

        assert answer.status_code in (303, 401)


class TestThePage:
    async def test_lists_browsers_by_service_and_date_without_their_addresses(self, owner: Owner) -> None:
        await owner.subscribe()

        page = (await owner.browser.get("/push")).text

        assert "fcm.googleapis.com" in page
        assert hashlib.sha256(ENDPOINT.encode()).hexdigest() in page
        assert "abc:DEF-123" not in page

    async def test_is_for_owners(self, stranger: Browser, database: Database) -> None:
        operator = await sign_in(stranger, database, owner_id=None)

        assert (await operator.get("/push")).status_code == 403
        assert (await stranger.get("/push")).headers["location"] == "/sign-in?next=%2Fpush"

    async def test_has_every_sentence_that_its_script_may_need(self, owner: Owner) -> None:
        page = (await owner.browser.get("/push")).text
        names = ("on", "off", "unsupported", "home", "insecure", "denied", "dismissed", "service", "broken")

        assert all(f'data-{name}="' in page for name in names)


class TestRemoving:
    async def test_forgets_the_browser(self, owner: Owner) -> None:
        await owner.subscribe()
        (row,) = await owner.known()

        answer = await owner.browser.send(f"/push/subscriptions/{row.id}/remove")

        assert (answer.status_code, answer.headers["location"]) == (303, "/push?done=push-off")
        assert await owner.known() == []

    async def test_leaves_the_browsers_of_others_alone(self, owner: Owner, database: Database) -> None:
        await owner.subscribe()
        (row,) = await owner.known()
        eve = await open_household(database, name="Eve")
        other = await sign_in(owner.browser, database, owner_id=eve.owner_id)

        answer = await other.send(f"/push/subscriptions/{row.id}/remove")

        assert answer.headers["location"] == "/push"
        assert len(await owner.known()) == 1


class TestWhatABrowserNeeds:
    async def test_is_the_key_that_pushes_are_signed_with(self, owner: Owner, database: Database) -> None:
        told = (await owner.browser.get("/push/key")).json()

        assert told == {"key": (await push_key(database)).public_key, "csrf": owner.browser.csrf}

    async def test_has_no_token_for_strangers(self, stranger: Browser) -> None:
        assert (await stranger.get("/push/key")).json()["csrf"] is None

    async def test_is_a_script_at_the_top_that_is_asked_for_anew_each_time(self, stranger: Browser) -> None:
        answer = await stranger.get("/service-worker.js")

        assert answer.headers["content-type"].startswith("text/javascript")
        assert answer.headers["cache-control"] == "no-cache"
        assert "showNotification" in answer.text

    async def test_is_a_manifest_whose_pictures_are_there(self, stranger: Browser) -> None:
        answer = await stranger.get("/manifest.webmanifest")

        assert answer.headers["content-type"].startswith("application/manifest+json")
        manifest = answer.json()
        assert manifest["display"] == "standalone"
        for picture in manifest["icons"]:
            shown = await stranger.get(picture["src"])
            assert (shown.status_code, shown.headers["content-type"].split(";")[0]) == (200, picture["type"])


@pytest.mark.rule("R25")
class TestLowBalanceNotices:
    async def test_are_turned_off_and_on_again(self, owner: Owner) -> None:
        off = await owner.browser.send("/push/low-balance", wanted="false")
        was_off = not await owner.wants_notices()
        on = await owner.browser.send("/push/low-balance", wanted="true")

        assert off.headers["location"] == "/push?done=low-balance-off"
        assert on.headers["location"] == "/push?done=low-balance-on"
        assert (was_off, await owner.wants_notices()) == (True, True)

    async def test_are_turned_off_in_one_click_by_a_program_that_reads_mail(
        self, owner: Owner, stranger: Browser
    ) -> None:
        token = await _token(owner.home)

        answer = await stranger.client.post(f"/unsubscribe/{token}", data={"List-Unsubscribe": "One-Click"})

        assert answer.status_code == 200
        assert not await owner.wants_notices()

    async def test_are_not_turned_off_by_opening_the_link(self, owner: Owner, stranger: Browser) -> None:
        token = await _token(owner.home)

        answer = await stranger.get(f"/unsubscribe/{token}")

        assert answer.status_code == 200
        assert f'action="/unsubscribe/{token}"' in answer.text
        assert await owner.wants_notices()

    async def test_are_turned_off_by_the_links_form(self, owner: Owner, stranger: Browser) -> None:
        token = await _token(owner.home)

        answer = await stranger.send(f"/unsubscribe/{token}")

        assert "You get no more of them" in answer.text
        assert not await owner.wants_notices()

    async def test_are_not_turned_off_with_a_guess(self, owner: Owner, stranger: Browser) -> None:
        await _token(owner.home)

        assert (await stranger.send("/unsubscribe/guessed")).status_code == 404
        assert await owner.wants_notices()


async def _token(home: Household) -> str:
    """What a low-balance mail can be turned off with."""
    await home.draw_up_rule(threshold="50", enabled=False)
    await home.spend("45")
    await Claims(home.database).judge_waiting()
    mail = next(row for row in await home.deliveries() if row.channel == "email")
    assert mail.stop_token
    return mail.stop_token
