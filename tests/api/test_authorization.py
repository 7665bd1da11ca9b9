"""Who may ask for what: every route, times every kind of key, times whose things they are; no route is named here."""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from starlette.routing import BaseRoute

from adapters.postgres.database import Database
from adapters.postgres.keys import create_key, revoke_key
from api import examples
from api.authentication import OPEN_PATHS
from api.scopes import Scope
from console.rooms import is_page
from tests.api.conftest import Caller, build, client_of, make_key
from tests.api.households import Household, furnish
from tests.served import serve

OPEN = OPEN_PATHS | {"/livez", "/readyz"}
"""What anybody may ask for, without a key."""

ALSO_NEEDED: Mapping[str, Scope] = {"create_webhook_endpoint": Scope.RULES_READ}
"""What a key needs besides the declared scope: nobody is sent what they could not read."""

WALLETS: Mapping[str, str] = {"create_rule": "bare", "report_balance": "elsewhere"}
"""Which of a household's wallets an operation is tried with, where any will not do."""

STORY: Mapping[str, str] = {
    examples.OWNER_ID: "owner_id",
    examples.WALLET_ID: "wallet_id",
    examples.RULE_ID: "rule_id",
    examples.TOP_UP_ID: "top_up_id",
    examples.ENDPOINT_ID: "endpoint_id",
    examples.DELIVERY_ID: "delivery_id",
    examples.SUBSCRIPTION_ID: "subscription_id",
}
"""The ids in the examples of the description, and what they stand for."""

FORGED = "tm_" + "x" * 43


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as the description shows it."""

    operation: Mapping[str, Any]
    method: str
    path: str
    body: Any = None

    @property
    def name(self) -> str:
        return str(self.operation["operationId"])

    @property
    def scope(self) -> str:
        """What a key needs; fails where a route declares nothing."""
        ((_, (scope,)),) = self.operation["security"][0].items()
        return str(scope)

    @property
    def concerns_all(self) -> bool:
        """Whether a key that is bound to one owner is told that it will not do."""
        shared = self.operation["responses"]["403"]["$ref"]
        return "KeyBound" in shared

    @property
    def names_something(self) -> bool:
        """Whether path or body hold an id of somebody's."""
        return "{" in self.path or any(known in json.dumps(self.body) for known in STORY)

    def at(self, household: Household) -> dict[str, Any]:
        """The request about this household's things, for httpx."""
        ids = {**household, "wallet_id": household[WALLETS.get(self.name, "wallet_id")]}
        taken = self.operation.get("parameters", ())
        texts = {known: ids[name] for known, name in STORY.items()}
        path = re.sub(r"{(\w+)}", lambda match: ids[match[1]], self.path)
        query = {
            found["name"]: ids[found["name"]]
            for found in taken
            if found["in"] == "query" and found["name"] in ids
        }
        headers = {"Idempotency-Key": str(uuid4()), "If-Match": '"1"'}
        sent = {found["name"]: headers[found["name"]] for found in taken if found["name"] in headers}
        return {
            "method": self.method,
            "url": path,
            "params": query,
            "headers": sent,
            **({"json": _replaced(self.body, texts)} if self.body is not None else {}),
        }


def _replaced(body: Any, texts: Mapping[str, str]) -> Any:
    text = json.dumps(body)
    for known, found in texts.items():
        text = text.replace(known, found)
    return json.loads(text)


def asks(document: Mapping[str, Any]) -> Iterator[Ask]:
    """Every operation that needs a key, once for each shape its body may have."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path in OPEN:
                continue
            media = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            shapes = [media.get("example"), *(found["value"] for found in media.get("examples", {}).values())]
            bodies = [shape for shape in shapes if shape is not None] or [None]
            for body in bodies:
                yield Ask(operation, method.upper(), path, body)


def flat(routes: Sequence[BaseRoute]) -> Iterator[Any]:
    """Every route that the application really serves, however deep."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from flat(inner.routes)
        else:
            yield route


def api_routes() -> list[Any]:
    """Every route but the pages', whose visitors have no keys; tests/console/test_visitors.py tries those."""
    return [route for route in flat(UNREACHED.routes) if not is_page(route.path)]


UNREACHED = build(Database.open("postgresql:///unused", pool_size=1))
ASKS = [*asks(UNREACHED.openapi())]


class TestEveryRoute:
    def test_is_open_on_purpose_or_declares_the_scope_it_needs(self) -> None:
        asked = {(ask.method, ask.path) for ask in ASKS}

        for route in api_routes():
            for method in {*(route.methods or ())} - {"HEAD"}:
                assert route.path in OPEN or (method, route.path) in asked, route.path
        for ask in ASKS:
            assert ask.scope in set(Scope)

    def test_is_tried_here(self) -> None:
        routes = {route.path for route in api_routes()}

        assert routes == OPEN | {ask.path for ask in ASKS}
        assert len(ASKS) >= len({(ask.method, ask.path) for ask in ASKS})


@dataclass(frozen=True, slots=True)
class Keys:
    """One key of each kind."""

    refused: Mapping[str, str | None]
    single: Mapping[Scope, str]
    all: str


@dataclass(frozen=True, slots=True)
class Gate:
    """The API on a real socket, its database, and the keys to it."""

    client: httpx2.AsyncClient
    caller: Caller
    keys: Keys
    looked_at: tuple[Household, Household]
    """Two households of which nothing is changed."""

    async def households(self, ask: Ask) -> tuple[Household, Household]:
        """Two households that are as they were furnished."""
        if ask.method == "GET":
            return self.looked_at
        return await furnish(self.caller), await furnish(self.caller)

    async def ask(self, ask: Ask, household: Household, key: str | None) -> tuple[int, str]:
        """Status and text of the answer; of a stream, that it has begun."""
        request = ask.at(household)
        if key:
            request["headers"]["Authorization"] = key if " " in key else f"Bearer {key}"
        async with self.client.stream(**request) as answer:
            if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
                return answer.status_code, ""
            return answer.status_code, (await answer.aread()).decode()

    async def bound(self, owner_id: str) -> str:
        return await make_key(self.caller.database, [*Scope], owner_id=owner_id)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gate(lasting_database: Database) -> AsyncIterator[Gate]:
    database = lasting_database
    everything = await make_key(database, [*Scope])
    yesterday = datetime.now(UTC) - timedelta(days=1)
    async with database.commit() as session:
        key_id, revoked = await create_key(session, name="revoked", scopes=[*Scope])
        await revoke_key(session, key_id, at=datetime.now(UTC))
    keys = Keys(
        refused={
            "none": None,
            "unknown": FORGED,
            "malformed": "Bearer not-a-key",
            "of another kind": "Basic YWRhOmFkYQ==",
            "expired": await make_key(database, [*Scope], expires_at=yesterday),
            "revoked": revoked,
        },
        single={scope: await make_key(database, [scope]) for scope in Scope},
        all=everything,
    )
    app = build(database)
    async with (
        serve(app) as url,
        httpx2.AsyncClient(base_url=url) as client,
        client_of(app, everything) as seeding,
    ):
        caller = Caller(seeding, database)
        yield Gate(client, caller, keys, (await furnish(caller), await furnish(caller)))


@pytest.mark.parametrize("ask", ASKS, ids=[f"{ask.method} {ask.path}" for ask in ASKS])
class TestTheMatrix:
    async def test_lets_nobody_in_without_a_valid_key(self, gate: Gate, ask: Ask) -> None:
        household, _ = gate.looked_at

        for kind, key in gate.keys.refused.items():
            status, text = await gate.ask(ask, household, key)
            assert status == 401, f"{kind}: {text}"
            assert json.loads(text)["code"] == "unauthenticated"

    async def test_lets_nobody_in_without_the_scope(self, gate: Gate, ask: Ask) -> None:
        household, _ = gate.looked_at

        for scope, key in gate.keys.single.items():
            if scope != ask.scope or ask.name in ALSO_NEEDED:
                status, text = await gate.ask(ask, household, key)
                assert status == 403, f"{scope}: {text}"
                assert json.loads(text)["code"] == "forbidden"

    async def test_lets_in_whoever_has_the_scope_to_what_is_theirs(self, gate: Gate, ask: Ask) -> None:
        own, other = await gate.households(ask)
        bound = await gate.bound(own["owner_id"])
        enough = gate.keys.all if ask.name in ALSO_NEEDED else gate.keys.single[Scope(ask.scope)]

        status, text = await gate.ask(ask, other, bound)
        if ask.concerns_all:
            assert status == 403, text
        elif ask.names_something:
            assert status == 404, text
            assert json.loads(text)["code"] == "not_found"
        else:
            assert status in (200, 404), text
        sent = json.dumps(ask.at(other))
        assert not [known for known in other.values() if known in text and known not in sent], text

        status, text = await gate.ask(ask, own, bound)
        assert (status == 403) if ask.concerns_all else (200 <= status < 300), text

        status, text = await gate.ask(ask, other, enough)
        assert 200 <= status < 300, text

        status, text = await gate.ask(ask, other, gate.keys.all)
        assert status not in (401, 403), text
        assert status < 500, text
