"""Who may ask for what: keys, scopes, and keys bound to one owner."""

from datetime import UTC, datetime, timedelta

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from httpx2 import AsyncClient
from sqlmodel import select

from adapters.postgres.database import Database
from adapters.postgres.keys import revoke_key
from adapters.postgres.tables import ApiKey
from api.authentication import OPEN_PATHS
from api.scopes import Scope
from tests.api.conftest import TERMS, Caller, MakeCaller, client_of, make_key

UNGUARDED = {"/livez", "/readyz"}


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    routes = [route for route in app.state.given.routes if isinstance(route, APIRoute)]
    return [(method, route.path) for route in routes for method in route.methods or ()]


class TestEveryRoute:
    async def test_declares_the_scope_it_needs(self, app: FastAPI) -> None:
        for path, operations in app.openapi()["paths"].items():
            for operation in operations.values():
                if path not in UNGUARDED:
                    (scheme,) = operation["security"]
                    assert set(scheme["api_key"]) <= set(Scope)
                    assert scheme["api_key"]

    async def test_is_described(self, app: FastAPI) -> None:
        paths = app.openapi()["paths"]
        assert {(method, path) for method, path in routes_of(app)} == {
            (method.upper(), path) for path, operations in paths.items() for method in operations
        }

    async def test_refuses_a_caller_without_a_key(self, app: FastAPI, nobody: AsyncClient) -> None:
        for method, path in routes_of(app):
            if path in UNGUARDED | OPEN_PATHS:
                continue
            answer = await nobody.request(method, path, json={"not": "read"})
            assert answer.status_code == 401, path
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tidemark"'
            assert answer.json()["code"] == "unauthenticated"

    async def test_refuses_a_key_without_any_scope_it_could_need(
        self, app: FastAPI, caller_with: MakeCaller
    ) -> None:
        caller = await caller_with()
        for method, path in routes_of(app):
            if path in UNGUARDED | OPEN_PATHS:
                continue
            answer = await caller.client.request(method, path.replace("{", "").replace("}", ""), json={})
            assert answer.status_code in (403, 404), path


class TestAKey:
    @pytest.mark.parametrize("header", ["", "Basic abc", "Bearer", "Bearer tm_wrong", "Bearer " + "x" * 5000])
    async def test_that_is_no_key_is_refused_before_the_body_is_read(
        self, nobody: AsyncClient, header: str
    ) -> None:
        answer = await nobody.post(
            "/v1/rules",
            content=b"{broken",
            headers={"Authorization": header, "Content-Type": "application/json"},
        )

        assert answer.status_code == 401
        assert answer.headers["Content-Type"] == "application/problem+json"

    async def test_that_is_unknown_is_told_apart_from_a_missing_one(self, nobody: AsyncClient) -> None:
        answer = await nobody.get("/v1/rules", headers={"Authorization": f"Bearer tm_{'a' * 43}"})

        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tidemark", error="invalid_token"'

    async def test_that_has_expired_is_refused(self, caller_with: MakeCaller) -> None:
        caller = await caller_with(*Scope, expires_at=datetime.now(UTC) - timedelta(seconds=1))

        assert (await caller.get("/v1/rules")).status_code == 401

    async def test_that_expires_later_is_taken(self, caller_with: MakeCaller) -> None:
        caller = await caller_with(*Scope, expires_at=datetime.now(UTC) + timedelta(days=1))

        assert (await caller.get("/v1/rules")).status_code == 200

    async def test_that_is_revoked_is_refused_from_the_next_request_on(
        self, caller: Caller, database: Database
    ) -> None:
        assert (await caller.get("/v1/rules")).status_code == 200
        async with database.commit() as session:
            key_id = (await session.exec(select(ApiKey.id))).one()
            await revoke_key(session, key_id, at=datetime.now(UTC))

        assert (await caller.get("/v1/rules")).status_code == 401

    async def test_is_kept_only_as_its_hash(self, app: FastAPI, database: Database) -> None:
        key = await make_key(database, ["rules:read"])
        async with database.read() as session:
            kept = (await session.exec(select(ApiKey))).one().model_dump_json()

        assert key not in kept
        async with client_of(app, key) as client:
            assert (await client.get("/v1/rules")).status_code == 200

    async def test_lacking_the_scope_is_told_which_one(self, caller_with: MakeCaller) -> None:
        caller = await caller_with("rules:read")
        answer = await caller.post("/v1/rules", {})

        assert answer.status_code == 403
        assert answer.json()["code"] == "forbidden"
        assert "rules:write" in answer.json()["detail"]
        assert 'scope="rules:write"' in answer.headers["WWW-Authenticate"]

    async def test_for_administration_may_not_write_rules(self, caller_with: MakeCaller) -> None:
        assert (await (await caller_with("admin")).post("/v1/rules", {})).status_code == 403


class TestAKeyBoundToOneOwner:
    async def test_sees_its_own_owner_and_nothing_of_any_other(
        self, caller: Caller, caller_with: MakeCaller
    ) -> None:
        own, other = await caller.register_owner("Own"), await caller.register_owner("Other")
        own_wallet, other_wallet = await caller.open_wallet(own), await caller.open_wallet(other)
        own_rule, other_rule = await caller.create_rule(own_wallet), await caller.create_rule(other_wallet)
        bound = await caller_with(*Scope, owner_id=own)

        for path in (f"/v1/wallets/{other_wallet}", f"/v1/rules/{other_rule['id']}"):
            assert (await bound.get(path)).status_code == 404
        for part in ("decisions", "revisions"):
            assert (await bound.get(f"/v1/rules/{other_rule['id']}/{part}")).status_code == 404
        for part in ("accounts", "notifications"):
            assert (await bound.get(f"/v1/owners/{other}/{part}")).status_code == 404
            assert (await bound.get(f"/v1/owners/{own}/{part}")).status_code == 200
        assert [wallet["id"] for wallet in (await bound.get("/v1/wallets")).json()["data"]] == [own_wallet]
        assert [rule["id"] for rule in (await bound.get("/v1/rules")).json()["data"]] == [own_rule["id"]]

    async def test_changes_nothing_of_any_other(self, caller: Caller, caller_with: MakeCaller) -> None:
        own, other = await caller.register_owner("Own"), await caller.register_owner("Other")
        wallet = await caller.open_wallet(other, balance="100")
        empty = await caller.open_wallet(other)
        rule = await caller.create_rule(wallet)
        bound = await caller_with(*Scope, owner_id=own)
        path = f"/v1/rules/{rule['id']}"

        answers = [
            await bound.change("PATCH", path, {"amount": "1"}, version=1),
            await bound.change("DELETE", path, version=1),
            await bound.change("POST", f"{path}/enable", version=1),
            await bound.change("POST", f"{path}/disable", version=1),
            await bound.post(f"{path}/preview"),
            await bound.post("/v1/rules", {"wallet_id": empty, **TERMS}),
            await bound.post("/v1/wallets", {"owner_id": other, "currency": "USDT"}),
            await bound.deposit(wallet_id=wallet, amount="1"),
            await bound.deposit(owner_id=other, account="funding", asset="USDT", amount="1"),
            await bound.pay(wallet, "1"),
        ]

        assert {answer.status_code for answer in answers} == {404}
        assert (await caller.get(path)).json() == rule
        assert await caller.balance(wallet) == "100.00"

    async def test_does_not_see_the_top_ups_of_any_other(
        self, caller: Caller, caller_with: MakeCaller
    ) -> None:
        _, top_up_id = await caller.fire()
        bound = await caller_with(*Scope, owner_id=await caller.register_owner())

        assert (await bound.get(f"/v1/top-ups/{top_up_id}")).status_code == 404
        assert (await bound.get("/v1/top-ups")).json()["data"] == []
        assert (await caller.get(f"/v1/top-ups/{top_up_id}")).status_code == 200

    async def test_may_not_do_what_concerns_every_owner(
        self, caller: Caller, caller_with: MakeCaller
    ) -> None:
        bound = await caller_with(*Scope, owner_id=await caller.register_owner())
        rate = {"asset": "BTC", "currency": "USDT", "rate": "1"}

        answers = [
            await bound.post("/v1/owners", {"name": "Eve", "email": "eve@example.com"}),
            await bound.change("PUT", "/v1/ledger/rates", rate),
        ]

        assert [answer.status_code for answer in answers] == [403, 403]
        assert "bound to one owner" in answers[0].json()["detail"]
