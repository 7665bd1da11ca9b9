"""Push subscriptions: a browser known once, at a push service that is allowed, with keys that can be used."""

import base64
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx2 import Response
from sqlalchemy import text
from sqlmodel import select

from adapters.notify.push_services import PushHosts, endpoint_fault, read_auth, read_point
from adapters.postgres.database import Database, run_sql
from adapters.postgres.push_subscriptions import SUBSCRIPTIONS_MAX
from adapters.postgres.tables import PushSubscriptionRow
from tests.api.conftest import Caller, MakeCaller, build, client_of

# The base point of P-256, and the same with its last bit turned.
POINT = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
OFF_THE_CURVE = POINT[:-1] + bytes([POINT[-1] ^ 1])
AUTH = bytes(range(16))
ENDPOINT = "https://fcm.googleapis.com/fcm/send/abc:DEF-123"


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def browser(endpoint: str = ENDPOINT, **changed: Any) -> dict[str, Any]:
    keys = {"p256dh": base64url(POINT), "auth": base64url(AUTH)}
    return {"endpoint": endpoint, "keys": keys, **changed}


async def subscribe(caller: Caller, owner_id: str, endpoint: str = ENDPOINT, **changed: Any) -> Response:
    return await caller.post("/v1/push-subscriptions", {"owner_id": owner_id, **browser(endpoint, **changed)})


async def listed(caller: Caller, **params: str) -> list[str]:
    answer = await caller.get("/v1/push-subscriptions", **params)
    return [subscription["id"] for subscription in answer.json()["data"]]


class TestSubscribingABrowser:
    async def test_gives_the_subscription_without_its_address_or_keys(self, caller: Caller) -> None:
        owner_id = await caller.register_owner()
        answer = await subscribe(caller, owner_id)

        assert answer.status_code == 201
        subscription = answer.json()
        assert subscription == {
            "id": subscription["id"],
            "owner_id": owner_id,
            "host": "fcm.googleapis.com",
            "created_at": subscription["created_at"],
            "expires_at": None,
        }
        assert subscription["id"].startswith("push_")

    async def test_keeps_what_is_needed_to_write_to_it(self, caller: Caller, database: Database) -> None:
        padded = base64.urlsafe_b64encode(AUTH).decode()
        keys = {"p256dh": base64url(POINT), "auth": padded}
        await subscribe(caller, await caller.register_owner(), keys=keys)

        async with database.read() as session:
            (row,) = (await session.exec(select(PushSubscriptionRow))).all()
        assert (row.endpoint, row.p256dh, row.auth) == (ENDPOINT, base64url(POINT), base64url(AUTH))

    async def test_a_second_time_renews_the_same_subscription(
        self, caller: Caller, database: Database
    ) -> None:
        owner_id = await caller.register_owner()
        first = await subscribe(caller, owner_id)
        keys = {"p256dh": base64url(POINT), "auth": base64url(AUTH[::-1])}
        again = await subscribe(caller, owner_id, keys=keys, expires_at="2100-01-01T00:00:00Z")

        assert (first.status_code, again.status_code) == (201, 200)
        assert again.json() == {**first.json(), "expires_at": "2100-01-01T00:00:00Z"}
        async with database.read() as session:
            (row,) = (await session.exec(select(PushSubscriptionRow))).all()
        assert row.auth == base64url(AUTH[::-1])

    async def test_of_two_owners_makes_two(self, caller: Caller) -> None:
        ids = {
            (await subscribe(caller, await caller.register_owner(name))).json()["id"]
            for name in ("Ada", "Bo")
        }

        assert len(ids) == 2

    async def test_for_an_unknown_owner_is_not_found(self, steady: Caller) -> None:
        answer = await subscribe(steady, "owner_unknown")

        assert answer.status_code == 404
        assert answer.json()["code"] == "not_found"

    async def test_beyond_the_most_is_refused_until_one_is_deleted(self, caller: Caller) -> None:
        owner_id = await caller.register_owner()
        made = [await subscribe(caller, owner_id, f"{ENDPOINT}{n}") for n in range(SUBSCRIPTIONS_MAX)]
        refused = await subscribe(caller, owner_id, f"{ENDPOINT}more")
        known = await subscribe(caller, owner_id, f"{ENDPOINT}0")
        await caller.change("DELETE", f"/v1/push-subscriptions/{made[0].json()['id']}")
        taken = await subscribe(caller, owner_id, f"{ENDPOINT}more")

        assert {answer.status_code for answer in made} == {201}
        assert (refused.status_code, refused.json()["code"]) == (409, "too_many_subscriptions")
        assert known.status_code == 200
        assert taken.status_code == 201

    async def test_makes_room_where_one_has_expired(self, caller: Caller, database: Database) -> None:
        owner_id = await caller.register_owner()
        for number in range(SUBSCRIPTIONS_MAX):
            await subscribe(caller, owner_id, f"{ENDPOINT}{number}", expires_at="2100-01-01T00:00:00Z")
        async with database.commit() as session:
            await run_sql(session, text("UPDATE push_subscription SET expires_at = now() - interval '1 s'"))

        assert await listed(caller) == []
        answer = await subscribe(caller, owner_id, f"{ENDPOINT}more")
        assert answer.status_code == 201
        assert await listed(caller) == [answer.json()["id"]]

    async def test_is_done_once_for_a_key(self, caller: Caller) -> None:
        body = {"owner_id": await caller.register_owner(), **browser()}
        first = await caller.post("/v1/push-subscriptions", body, key="k")
        again = await caller.post("/v1/push-subscriptions", body, key="k")

        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["Idempotency-Replayed"] == "true"


class TestAnAddress:
    @pytest.mark.parametrize(
        "endpoint",
        [
            ENDPOINT,
            "https://updates.push.services.mozilla.com/wpush/v2/gAAAA",
            "https://web.push.apple.com/QGuQyavXutnMH",
            "https://wns2-par02p.notify.windows.com/w/?token=BQYAAA%3d",
            "https://FCM.googleapis.com:443/x",
        ],
    )
    async def test_of_a_push_service_is_taken(self, caller: Caller, endpoint: str) -> None:
        assert (await subscribe(caller, await caller.register_owner(), endpoint)).status_code == 201

    @pytest.mark.parametrize(
        "endpoint",
        [
            "",
            "fcm.googleapis.com/x",
            "http://fcm.googleapis.com/x",
            "https://fcm.googleapis.com.evil.example/x",
            "https://evil.example/fcm.googleapis.com",
            "https://evilfcm.googleapis.com/x",
            "https://push.apple.com/x",
            "https://evilpush.apple.com/x",
            "https://fcm.googleapis.com@evil.example/x",
            "https://user:pass@fcm.googleapis.com/x",
            "https://fcm.googleapis.com:8443/x",
            "https://fcm.googleapis.com/x#fragment",
            "https://fcm.googleapis.com\\@evil.example/x",
            "https://evil.example\\.push.apple.com/x",
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "https://fcm.googleapis.com:port/x",
            "https://fcm.googleapis.com/a b",
            "https://fcm.googleapis.com/\r\nHost: evil.example",
            "https://fcm.googleapis.com/é",
            "https://fcm.googleapis.com/" + "x" * 2000,
            "https://[fcm.googleapis.com/x",
            "https:///x",
        ],
    )
    async def test_of_anything_else_is_refused_naming_the_field(self, steady: Caller, endpoint: str) -> None:
        answer = await subscribe(steady, await steady.register_owner(), endpoint)

        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/endpoint"]

    async def test_may_be_of_a_service_that_the_setting_names(
        self, caller: Caller, database: Database
    ) -> None:
        owner_id = await caller.register_owner()
        key = caller.client.headers["Authorization"].removeprefix("Bearer ")
        app = build(database, push_hosts="push.example.com")
        async with client_of(app, key) as client:
            own = Caller(client, database)
            taken = await subscribe(own, owner_id, "https://push.example.com/x")
            refused = await subscribe(own, owner_id)

        assert (taken.status_code, refused.status_code) == (201, 422)

    def test_is_matched_by_whole_labels(self) -> None:
        hosts = PushHosts.read("a.example, *.B.example")

        assert hosts.allow("a.example")
        assert hosts.allow("x.b.example")
        assert hosts.allow("y.x.b.example")
        for host in ("b.example", "xa.example", "x.a.example", "xb.example", ""):
            assert not hosts.allow(host)
        assert endpoint_fault("https://x.b.example/", hosts) is None


class TestTheKeys:
    @pytest.mark.parametrize(
        "p256dh",
        [
            "",
            "not base64url!",
            base64url(POINT[:-1]),
            base64url(POINT + b"\x00"),
            base64url(OFF_THE_CURVE),
            base64url(b"\x04" + bytes(64)),
            base64url(b"\x04" + b"\xff" * 64),
            base64url(b"\x02" + POINT[1:33]),
            base64url(b"\x05" + POINT[1:]),
            base64.b64encode(POINT).decode().replace("A", "+"),
            base64url(POINT)[:-2],
            "é" * 88,
            5,
            None,
        ],
    )
    async def test_without_a_point_of_the_curve_are_refused(self, steady: Caller, p256dh: Any) -> None:
        keys = {"p256dh": p256dh, "auth": base64url(AUTH)}
        answer = await subscribe(steady, await steady.register_owner(), keys=keys)

        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/keys/p256dh"]

    @pytest.mark.parametrize(
        "auth", ["", base64url(AUTH[:-1]), base64url(AUTH + b"\x00"), "A", "=", None, []]
    )
    async def test_without_sixteen_secret_bytes_are_refused(self, steady: Caller, auth: Any) -> None:
        keys = {"p256dh": base64url(POINT), "auth": auth}
        answer = await subscribe(steady, await steady.register_owner(), keys=keys)

        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/keys/auth"]

    def test_are_kept_in_one_form(self) -> None:
        auth = secrets.token_bytes(16)

        assert read_auth(base64.urlsafe_b64encode(auth).decode()) == base64url(auth)
        assert read_point(base64.urlsafe_b64encode(POINT).decode()) == base64url(POINT)


class TestItsEnd:
    @pytest.mark.parametrize("moment", ["yesterday", "2026-11-21", 1795258800000, "2026-11-21T00:00:00"])
    async def test_is_a_moment_with_its_offset(self, steady: Caller, moment: Any) -> None:
        answer = await subscribe(steady, await steady.register_owner(), expires_at=moment)

        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/expires_at"]

    async def test_lies_ahead(self, steady: Caller) -> None:
        passed = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        answer = await subscribe(steady, await steady.register_owner(), expires_at=passed)

        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/expires_at"


class TestASubscription:
    async def test_that_is_deleted_is_gone(self, caller: Caller) -> None:
        subscription = (await subscribe(caller, await caller.register_owner())).json()
        path = f"/v1/push-subscriptions/{subscription['id']}"

        assert (await caller.change("DELETE", path)).status_code == 204
        assert await listed(caller) == []
        assert (await caller.change("DELETE", path)).status_code == 404

    async def test_is_listed_newest_first_and_by_owner(self, caller: Caller) -> None:
        ada, bo = await caller.register_owner("Ada"), await caller.register_owner("Bo")
        ids = [
            (await subscribe(caller, owner_id, f"{ENDPOINT}{n}")).json()["id"]
            for n, owner_id in enumerate((ada, bo, ada))
        ]

        assert await listed(caller) == ids[::-1]
        assert await listed(caller, owner_id=ada) == [ids[2], ids[0]]
        assert await listed(caller, owner_id="owner_unknown") == []

    async def test_of_another_owner_does_not_exist_for_a_bound_key(
        self, caller: Caller, caller_with: MakeCaller
    ) -> None:
        own, other = await caller.register_owner("Own"), await caller.register_owner("Other")
        hidden = (await subscribe(caller, other)).json()["id"]
        bound = await caller_with("rules:read", "rules:write", owner_id=own)

        shown = (await subscribe(bound, own)).json()["id"]
        assert (await subscribe(bound, other)).status_code == 404
        assert await listed(bound) == [shown]
        assert await listed(bound, owner_id=other) == []
        assert (await bound.change("DELETE", f"/v1/push-subscriptions/{hidden}")).status_code == 404
        assert await listed(caller, owner_id=other) == [hidden]
