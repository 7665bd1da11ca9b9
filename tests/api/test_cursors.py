"""Cursors: pages stay whole while rows arrive and go, in every list there is."""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import text

from adapters.postgres.database import run_sql
from tests.api.conftest import TERMS, Caller, MakeCaller
from tests.api.test_push_subscriptions import ENDPOINT, browser

Make = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class List:
    """A list that grows: where it is, how its items are told apart, and how one more is made."""

    path: str
    name: str
    make: Make

    async def page(self, caller: Caller, **params: Any) -> dict[str, Any]:
        """One page."""
        answer = await caller.get(self.path, **params)
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    async def names(self, caller: Caller, **params: Any) -> list[str]:
        """What one page holds."""
        return [str(item[self.name]) for item in (await self.page(caller, **params))["data"]]


@dataclass(frozen=True, slots=True)
class Town:
    """An owner with a wallet and a rule, and ways to make more of everything."""

    caller: Caller
    owner_id: str
    wallet_id: str
    rule: Any
    endpoint_id: str
    numbers: Any

    async def write(self, statement: str, **more: Any) -> str:
        """Write one row; its name."""
        names = {"owner_id": self.owner_id, "wallet_id": self.wallet_id, "rule_id": self.rule["id"], **more}
        used = {name: value for name, value in names.items() if f":{name}" in statement}
        async with self.caller.database.commit() as session:
            return str((await run_sql(session, text(statement), **used)).scalar_one())

    async def top_up(self) -> str:
        return await self.write(
            "INSERT INTO top_up (id, rule_id, rule_version, wallet_id, owner_id, currency, threshold, amount, account, "
            "sources, trigger_event_id, trigger_balance, state, outcome, reason) "
            "VALUES (new_id('topup'), :rule_id, 1, :wallet_id, :owner_id, 'USDT', 1, 1, 'funding', '{USDT}', "
            "new_id('event'), 0, 'ended', 'completed', 'full') RETURNING id"
        )

    async def delivery(self) -> str:
        return await self.write(
            "INSERT INTO delivery (id, top_up_id, owner_id, kind, channel, subject, status) VALUES "
            "(new_id('delivery'), :top_up_id, :owner_id, 'ended', 'push', 's', 'sent') RETURNING id",
            top_up_id=await self.top_up(),
        )

    async def decision(self) -> str:
        return await self.write(
            "INSERT INTO decision (rule_id, wallet_id, event_id, balance, threshold, currency, fired, reason) VALUES "
            "(:rule_id, :wallet_id, new_id('event'), 1, 1, 'USDT', false, 'not_below') RETURNING event_id"
        )

    async def revision(self) -> str:
        path = f"/v1/rules/{self.rule['id']}"
        version = (await self.caller.get(path)).json()["version"]
        answer = await self.caller.change("PATCH", path, {"amount": "100"}, version=version)
        return str(answer.json()["version"])

    async def wallet(self) -> str:
        return await self.caller.open_wallet(self.owner_id)

    async def another_rule(self) -> str:
        body = {"wallet_id": await self.wallet(), **TERMS, "enabled": False}
        return str((await self.caller.post("/v1/rules", body)).json()["id"])

    async def subscription(self) -> str:
        body = {"owner_id": self.owner_id, **browser(f"{ENDPOINT}{next(self.numbers)}")}
        return str((await self.caller.post("/v1/push-subscriptions", body)).json()["id"])

    async def endpoint(self) -> str:
        return await open_endpoint(self.caller, self.owner_id, next(self.numbers))

    async def message(self) -> str:
        return await self.write(
            "INSERT INTO webhook_delivery "
            "(id, event_id, endpoint_id, type, body, status, queued_at, next_attempt_at) "
            "VALUES (new_id('msg'), new_id('evt'), :endpoint_id, 'rule.changed', '{}', 'delivered', now(), now()) "
            "RETURNING id",
            endpoint_id=self.endpoint_id,
        )

    def lists(self) -> dict[str, List]:
        """Every list, by its route."""
        rule, owner, endpoint = (
            f"/v1/rules/{self.rule['id']}",
            f"/v1/owners/{self.owner_id}",
            f"/v1/webhook-endpoints/{self.endpoint_id}",
        )
        return {
            "/v1/wallets": List("/v1/wallets", "id", self.wallet),
            "/v1/rules": List("/v1/rules", "id", self.another_rule),
            "/v1/rules/{rule_id}/decisions": List(f"{rule}/decisions", "event_id", self.decision),
            "/v1/rules/{rule_id}/revisions": List(f"{rule}/revisions", "version", self.revision),
            "/v1/top-ups": List("/v1/top-ups", "id", self.top_up),
            "/v1/owners/{owner_id}/notifications": List(f"{owner}/notifications", "id", self.delivery),
            "/v1/push-subscriptions": List("/v1/push-subscriptions", "id", self.subscription),
            "/v1/webhook-endpoints": List("/v1/webhook-endpoints", "id", self.endpoint),
            "/v1/webhook-endpoints/{endpoint_id}/deliveries": List(
                f"{endpoint}/deliveries", "id", self.message
            ),
        }


LISTS = [
    "/v1/wallets",
    "/v1/rules",
    "/v1/rules/{rule_id}/decisions",
    "/v1/rules/{rule_id}/revisions",
    "/v1/top-ups",
    "/v1/owners/{owner_id}/notifications",
    "/v1/push-subscriptions",
    "/v1/webhook-endpoints",
    "/v1/webhook-endpoints/{endpoint_id}/deliveries",
]

NO_CURSORS = ["", "nonsense", "%00", "YWZ0ZXI6", "🪙", "YWZ0ZXI6Jyc", "YWZ0ZXI6" + "x" * 300, "YWZ0ZXI6/+"]


async def open_endpoint(caller: Caller, owner_id: str, number: int) -> str:
    body = {"owner_id": owner_id, "url": f"https://example.com/{number}"}
    answer = await caller.post("/v1/webhook-endpoints", body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest_asyncio.fixture
async def town(caller: Caller) -> AsyncIterator[Town]:
    """A town of one owner."""
    owner_id = await caller.register_owner()
    wallet_id = await caller.open_wallet(owner_id, balance="100")
    rule = await caller.create_rule(wallet_id)
    yield Town(caller, owner_id, wallet_id, rule, await open_endpoint(caller, owner_id, 0), count(1))


class TestTheLists:
    async def test_are_all_held_here(self, app: FastAPI) -> None:
        def pages(route: APIRoute) -> bool:
            return "next_cursor" in getattr(route.response_model, "model_fields", {})

        routes = [route for route in app.state.given.routes if isinstance(route, APIRoute)]
        assert {route.path for route in routes if pages(route)} == set(LISTS)

    async def test_are_each_of_a_route_that_exists(self, town: Town) -> None:
        assert list(town.lists()) == LISTS


@pytest.mark.parametrize("route", LISTS)
class TestPages:
    @pytest.mark.parametrize("limit", [1, 2, 3])
    async def test_hold_every_old_row_once_while_new_ones_arrive(
        self, town: Town, route: str, limit: int
    ) -> None:
        rows = town.lists()[route]
        for _ in range(4):
            await rows.make()
        old = await rows.names(town.caller, limit=100)
        found: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = await rows.page(town.caller, limit=limit, **after)
            found += [str(item[rows.name]) for item in page["data"]]
            await rows.make()
            if not page["has_more"]:
                break
            after = {"after": page["next_cursor"]}

        assert found == old
        assert page["next_cursor"] is None

    async def test_begin_with_the_newest(self, town: Town, route: str) -> None:
        rows = town.lists()[route]
        made = [await rows.make() for _ in range(3)]

        assert set(await rows.names(town.caller, limit=3)) == set(made)

    async def test_are_the_same_for_the_same_cursor_however_much_arrives(
        self, town: Town, route: str
    ) -> None:
        rows = town.lists()[route]
        for _ in range(4):
            await rows.make()
        cursor = (await rows.page(town.caller, limit=2))["next_cursor"]
        before = await rows.names(town.caller, limit=2, after=cursor)
        for _ in range(3):
            await rows.make()

        assert await rows.names(town.caller, limit=2, after=cursor) == before

    async def test_are_refused_for_a_cursor_or_a_parameter_that_is_none(self, town: Town, route: str) -> None:
        wrong = [("after", cursor) for cursor in NO_CURSORS]
        wrong += [("limit", "-1"), ("limit", "101"), ("page", "1"), ("offset", "1"), ("sort", "id")]
        for name, value in wrong:
            answer = await town.caller.get(town.lists()[route].path, **{name: value})

            assert answer.status_code == 422, (name, value)
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["errors"][0]["pointer"] == f"/query/{name}"


class TestACursor:
    async def test_goes_on_where_its_row_has_gone(self, town: Town) -> None:
        rows = town.lists()["/v1/push-subscriptions"]
        made = [await rows.make() for _ in range(4)]
        page = await rows.page(town.caller, limit=2)
        await town.caller.change("DELETE", f"/v1/push-subscriptions/{made[2]}")

        assert await rows.names(town.caller, after=page["next_cursor"]) == made[1::-1]

    async def test_says_nothing_that_a_caller_could_build_on(self, town: Town) -> None:
        rows = town.lists()["/v1/wallets"]
        await rows.make()
        cursor = (await rows.page(town.caller, limit=1))["next_cursor"]

        assert (
            base64.urlsafe_b64encode(base64.urlsafe_b64decode(cursor + "==")).decode().rstrip("=") == cursor
        )


class TestAFilter:
    async def test_names_an_owner_or_a_wallet(
        self, town: Town, caller: Caller, caller_with: MakeCaller
    ) -> None:
        other_id = await caller.register_owner("Other")
        other_wallet = await caller.open_wallet(other_id)
        other_rule = (await caller.create_rule(other_wallet))["id"]
        bound = await caller_with("rules:read", "wallets:read", owner_id=town.owner_id)

        async def ids(asking: Caller, path: str, **params: str) -> list[str]:
            return [item["id"] for item in (await asking.get(path, **params)).json()["data"]]

        assert await ids(caller, "/v1/wallets", owner_id=other_id) == [other_wallet]
        assert await ids(caller, "/v1/wallets", owner_id=town.owner_id) == [town.wallet_id]
        assert await ids(caller, "/v1/wallets", owner_id="owner_unknown") == []
        assert await ids(caller, "/v1/rules", owner_id=other_id) == [other_rule]
        assert await ids(caller, "/v1/rules", wallet_id=town.wallet_id) == [town.rule["id"]]
        assert await ids(caller, "/v1/rules", owner_id=other_id, wallet_id=town.wallet_id) == []
        assert await ids(bound, "/v1/wallets", owner_id=other_id) == []
        assert await ids(bound, "/v1/rules", owner_id=other_id) == []

    async def test_holds_on_every_page(self, town: Town, caller: Caller) -> None:
        own = [await town.wallet() for _ in range(3)] and (
            await caller.get("/v1/wallets", owner_id=town.owner_id)
        ).json()["data"]
        other_id = await caller.register_owner("Other")
        first = (await caller.get("/v1/wallets", owner_id=town.owner_id, limit=2)).json()
        await caller.open_wallet(other_id)
        rest = (await caller.get("/v1/wallets", owner_id=town.owner_id, after=first["next_cursor"])).json()

        assert [*first["data"], *rest["data"]] == own
