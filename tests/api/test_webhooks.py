"""Webhook endpoints through the API: named, shown without their secret, kept to their owner, and their mail re-sent."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from adapters.notify.webhook import WebhookSender
from adapters.postgres.database import Database
from adapters.postgres.webhooks import ENDPOINTS_MAX
from api.scopes import Scope
from starter.courier import Courier
from tests.api.conftest import Caller, MakeCaller, build, client_of
from tests.builders import events_readable
from tests.receiver import Receiver, open_receiver, reply

Json = Any
PATH = "/v1/webhook-endpoints"
URL = "https://example.com/tidemark"
EVERYTHING = [
    "top_up.started",
    "top_up.draw_settled",
    "top_up.ended",
    "wallet.balance_changed",
    "rule.changed",
]


async def create(caller: Caller, owner_id: str = "", **changed: Json) -> Json:
    """A new endpoint, with its secret."""
    owner_id = owner_id or await caller.register_owner()
    answer = await caller.post(PATH, {"owner_id": owner_id, "url": URL, **changed})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def carry(database: Database) -> None:
    """One round of a courier that may go anywhere."""
    courier = Courier(
        database=database,
        sender=WebhookSender(allow_private=True),
        poll_interval=timedelta(seconds=1),
        kept_for=timedelta(days=30),
    )
    await events_readable(database)
    await courier.deliver_due()


@pytest_asyncio.fixture
async def lax(database: Database, caller: Caller) -> AsyncIterator[Caller]:
    """A caller of an API that allows private addresses."""
    key = caller.client.headers["Authorization"].removeprefix("Bearer ")
    async with client_of(build(database, webhooks_allow_private=True), key) as client:
        yield Caller(client, database)


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with open_receiver() as receiver:
        yield receiver


class TestAnEndpoint:
    async def test_is_made_with_a_secret_that_is_shown_this_once(self, caller: Caller) -> None:
        made = await create(caller, description="  the shop  ")
        shown = (await caller.get(f"{PATH}/{made['id']}")).json()
        listed = (await caller.get(PATH)).json()["data"]

        secret = made.pop("secret")
        assert secret.startswith("whsec_")
        assert made["id"].startswith("endpoint_")
        assert (made["url"], made["events"], made["enabled"]) == (URL, EVERYTHING, True)
        assert made["description"] == "the shop"
        assert [made["disabled_reason"], made["failing_since"], made["previous_secret_until"]] == [None] * 3
        assert shown == made
        assert listed == [made]

    async def test_wants_the_events_it_was_made_for(self, caller: Caller) -> None:
        made = await create(caller, events=["rule.changed", "top_up.ended", "rule.changed"])

        assert made["events"] == ["rule.changed", "top_up.ended"]

    async def test_is_made_once_for_one_idempotency_key(self, caller: Caller) -> None:
        body = {"owner_id": await caller.register_owner(), "url": URL}
        first = await caller.post(PATH, body, key="once")
        again = await caller.post(PATH, body, key="once")

        assert first.json() == again.json()
        assert again.headers["Idempotency-Replayed"] == "true"
        assert len((await caller.get(PATH)).json()["data"]) == 1

    async def test_can_be_deleted_with_all_that_was_sent_to_it(self, caller: Caller) -> None:
        made = await create(caller)

        assert (await caller.change("DELETE", f"{PATH}/{made['id']}")).status_code == 204
        for answer in (
            await caller.get(f"{PATH}/{made['id']}"),
            await caller.get(f"{PATH}/{made['id']}/deliveries"),
            await caller.change("DELETE", f"{PATH}/{made['id']}"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    async def test_gets_a_new_secret_and_keeps_the_old_one_for_a_day(self, caller: Caller) -> None:
        made = await create(caller)
        rotated = (await caller.post(f"{PATH}/{made['id']}/rotate-secret")).json()

        assert rotated["secret"] != made["secret"]
        until = datetime.fromisoformat(rotated["previous_secret_until"])
        assert until - datetime.fromisoformat(made["created_at"]) >= timedelta(hours=24)
        assert "secret" not in (await caller.get(f"{PATH}/{made['id']}")).json()

    async def test_comes_in_pages_and_by_owner(self, caller: Caller) -> None:
        owner_id = await caller.register_owner()
        made = [(await create(caller, owner_id))["id"] for _ in range(3)]
        await create(caller)
        first = (await caller.get(PATH, limit=2, owner_id=owner_id)).json()
        second = (await caller.get(PATH, limit=2, owner_id=owner_id, after=first["next_cursor"])).json()

        assert [row["id"] for row in first["data"] + second["data"]] == made[::-1]
        assert (first["has_more"], second["has_more"]) == (True, False)

    async def test_is_one_of_a_bounded_number(self, caller: Caller) -> None:
        owner_id = await caller.register_owner()
        for _ in range(ENDPOINTS_MAX):
            await create(caller, owner_id)
        refused = await caller.post(PATH, {"owner_id": owner_id, "url": URL})

        assert (refused.status_code, refused.json()["code"]) == (409, "too_many_endpoints")
        await create(caller)

    async def test_leaves_its_secret_out_of_the_logs(self, caller: Caller) -> None:
        with capture_logs() as lines:
            made = await create(caller)
            await caller.post(f"{PATH}/{made['id']}/rotate-secret")

        assert "whsec_" not in str(lines)


class TestAnOrder:
    @pytest.mark.parametrize(
        "url",
        [
            "http://example.com",
            "https://10.0.0.1/x",
            "https://[::1]/x",
            "https://2130706433",
            "https://user:secret@example.com",
            "https://example.com:25",
            "https://example.com/#x",
            "https://exa mple.com",
            "nonsense",
            "",
            "https://example.com/" + "x" * 2000,
        ],
    )
    async def test_for_a_url_that_nothing_may_be_sent_to_is_refused_naming_the_field(
        self, caller: Caller, url: str
    ) -> None:
        answer = await caller.post(PATH, {"owner_id": await caller.register_owner(), "url": url})

        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/url"]

    @pytest.mark.parametrize(
        ("changed", "pointer"),
        [
            ({"events": []}, "/events"),
            ({"events": ["top_up.paused"]}, "/events/0"),
            ({"events": "rule.changed"}, "/events"),
            ({"events": ["rule.changed"] * 50}, "/events"),
            ({"description": "x" * 201}, "/description"),
            ({"description": "a\nb"}, "/description"),
            ({"secret": "whsec_mine"}, "/secret"),
            ({"url": 5}, "/url"),
            ({"owner_id": "nobody"}, "/owner_id"),
        ],
    )
    async def test_with_a_wrong_field_is_refused_naming_it(
        self, steady: Caller, changed: Json, pointer: str
    ) -> None:
        answer = await steady.post(PATH, {"owner_id": "owner_1", "url": URL, **changed})

        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]

    async def test_may_name_a_private_address_where_the_setting_allows_it(self, lax: Caller) -> None:
        made = await create(lax, url="http://127.0.0.1:3000/hooks")

        assert made["url"] == "http://127.0.0.1:3000/hooks"

    async def test_for_an_owner_who_does_not_exist_is_refused(self, caller: Caller) -> None:
        answer = await caller.post(PATH, {"owner_id": "owner_nobody", "url": URL})

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


class TestAKey:
    async def test_needs_the_scope_for_rules(self, caller: Caller, caller_with: MakeCaller) -> None:
        made = await create(caller)
        reader = await caller_with(Scope.RULES_READ, Scope.WALLETS_READ)
        writer = await caller_with(Scope.RULES_WRITE)

        assert (await reader.post(PATH, {})).status_code == 403
        for path in ("rotate-secret", "enable", "deliveries/msg_1/resend"):
            assert (await reader.post(f"{PATH}/{made['id']}/{path}")).status_code == 403
        assert (await reader.change("DELETE", f"{PATH}/{made['id']}")).status_code == 403
        assert (await writer.get(PATH)).status_code == 403
        assert (await reader.get(f"{PATH}/{made['id']}")).status_code == 200

    async def test_has_nobody_sent_what_it_could_not_read(
        self, caller: Caller, caller_with: MakeCaller
    ) -> None:
        owner_id = await caller.register_owner()
        rules = await caller_with(Scope.RULES_WRITE, Scope.RULES_READ)
        wallets = await caller_with(Scope.RULES_WRITE, Scope.WALLETS_READ)
        blind = await caller_with(Scope.RULES_WRITE)
        balances = {"owner_id": owner_id, "url": URL, "events": ["wallet.balance_changed"]}

        assert (await create(rules, owner_id))["events"] == [
            kind for kind in EVERYTHING if kind != "wallet.balance_changed"
        ]
        assert (await create(wallets, owner_id))["events"] == ["wallet.balance_changed"]
        refused = await rules.post(PATH, balances)
        assert refused.status_code == 403
        assert "wallets:read" in refused.json()["detail"]
        assert (await blind.post(PATH, {"owner_id": owner_id, "url": URL})).status_code == 403

    async def test_bound_to_one_owner_finds_no_other_owners_endpoints(
        self, caller: Caller, caller_with: MakeCaller
    ) -> None:
        own, other = await caller.register_owner(), await caller.register_owner()
        mine, theirs = await create(caller, own), await create(caller, other)
        bound = await caller_with(*Scope, owner_id=own)
        path = f"{PATH}/{theirs['id']}"

        answers = [
            await bound.get(path),
            await bound.get(f"{path}/deliveries"),
            await bound.change("DELETE", path),
            await bound.post(f"{path}/rotate-secret"),
            await bound.post(f"{path}/enable"),
            await bound.post(f"{path}/deliveries/msg_1/resend"),
            await bound.post(PATH, {"owner_id": other, "url": URL}),
        ]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "not_found")}
        assert [row["id"] for row in (await bound.get(PATH)).json()["data"]] == [mine["id"]]
        assert (await bound.get(PATH, owner_id=other)).json()["data"] == []
        assert (await caller.get(path)).json()["previous_secret_until"] is None


class TestADelivery:
    async def test_is_shown_from_its_making_to_its_end_and_can_be_sent_again(
        self, lax: Caller, receiver: Receiver
    ) -> None:
        owner_id = await lax.register_owner()
        wallet_id = await lax.open_wallet(owner_id)
        made = await create(lax, owner_id, url=receiver.url)
        path = f"{PATH}/{made['id']}/deliveries"
        receiver.answers = [reply(500), reply(204)]
        await lax.deposit(wallet_id=wallet_id, amount="60")
        await carry(lax.database)
        (waiting,) = (await lax.get(path)).json()["data"]
        failing = (await lax.get(f"{PATH}/{made['id']}")).json()
        queued = (await lax.post(f"{path}/{waiting['id']}/resend", key="again")).json()
        await carry(lax.database)
        (delivered,) = (await lax.get(path)).json()["data"]

        assert (waiting["type"], waiting["status"], waiting["attempts"]) == (
            "wallet.balance_changed",
            "pending",
            1,
        )
        assert (waiting["last_status"], waiting["last_failure"]) == (500, "answered 500")
        assert waiting["event_id"].startswith("evt_")
        assert waiting["next_attempt_at"] > waiting["last_attempt_at"]
        assert failing["failing_since"]
        assert queued["status"] == "pending"
        assert (delivered["id"], delivered["status"], delivered["attempts"]) == (
            waiting["id"],
            "delivered",
            2,
        )
        assert (delivered["last_status"], delivered["last_failure"]) == (204, None)
        assert delivered["next_attempt_at"] is None
        assert delivered["delivered_at"]
        first, second = receiver.received
        assert first.verified_with(made["secret"]) == second.verified_with(made["secret"])
        assert first.headers["webhook-id"] == second.headers["webhook-id"] == waiting["id"]

    async def test_is_found_by_what_became_of_it(self, lax: Caller, receiver: Receiver) -> None:
        owner_id = await lax.register_owner()
        wallet_id = await lax.open_wallet(owner_id)
        made = await create(lax, owner_id, url=receiver.url)
        path = f"{PATH}/{made['id']}/deliveries"
        for _ in range(3):
            await lax.deposit(wallet_id=wallet_id, amount="1")
        await carry(lax.database)
        first = (await lax.get(path, status="delivered", limit=2)).json()
        second = (await lax.get(path, status="delivered", limit=2, after=first["next_cursor"])).json()

        ids = [row["id"] for row in first["data"] + second["data"]]
        assert len(ids) == 3
        assert ids == sorted(ids, reverse=True)
        assert (await lax.get(path, status="failed")).json()["data"] == []
        assert (await lax.get(path, status="lost")).status_code == 422

    async def test_of_an_endpoint_that_is_off_waits_until_it_is_enabled(
        self, lax: Caller, receiver: Receiver
    ) -> None:
        owner_id = await lax.register_owner()
        wallet_id = await lax.open_wallet(owner_id)
        made = await create(lax, owner_id, url=receiver.url)
        receiver.answers = [reply(410), reply(204)]
        await lax.deposit(wallet_id=wallet_id, amount="60")
        await carry(lax.database)
        off = (await lax.get(f"{PATH}/{made['id']}")).json()
        (failed,) = (await lax.get(f"{PATH}/{made['id']}/deliveries")).json()["data"]
        refused = await lax.post(f"{PATH}/{made['id']}/deliveries/{failed['id']}/resend")
        on = (await lax.post(f"{PATH}/{made['id']}/enable")).json()
        again = await lax.post(f"{PATH}/{made['id']}/deliveries/{failed['id']}/resend")
        await carry(lax.database)

        assert (off["enabled"], "410" in off["disabled_reason"]) == (False, True)
        assert failed["status"] == "failed"
        assert (refused.status_code, refused.json()["code"]) == (409, "endpoint_off")
        assert (on["enabled"], on["disabled_reason"]) == (True, None)
        assert again.status_code == 200
        assert len(receiver.received) == 2

    async def test_that_does_not_exist_cannot_be_sent_again(self, caller: Caller) -> None:
        one, other = await create(caller), await create(caller)
        for path in (f"{one['id']}/deliveries/msg_nothing", f"{one['id']}/deliveries/{other['id']}"):
            answer = await caller.post(f"{PATH}/{path}/resend")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
