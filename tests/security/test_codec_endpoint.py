"""The codec protocol: who may have what is encrypted shown, from which page, and what everybody else is told."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict, ParseDict
from temporalio.api.common.v1 import Payload, Payloads

from adapters.postgres.database import Database
from api.codec import PATHS, origin_of
from api.scopes import Scope
from console.visitors import COOKIE
from runtime.payloads import PayloadEncryption
from tests.api.conftest import build, client_of, lasting, make_key
from tests.console.conftest import Browser, sign_in
from tests.security.keys import NEW, OLD, keys

UI = "https://temporal.example.com"
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"100.00 USDT"')
SITE = {"payload_keys": f"{NEW},{OLD}", "temporal_ui_url": UI}


def body_of(*payloads: Payload) -> dict[str, Any]:
    """What Temporal's programs send."""
    return MessageToDict(Payloads(payloads=payloads))


def payloads_of(answer: httpx2.Response) -> list[Payload]:
    """What they read."""
    assert answer.status_code == 200, answer.text
    return list(ParseDict(answer.json(), Payloads()).payloads)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_url: str, template: str) -> AsyncIterator[Database]:
    """One database for all of these tests: none of them looks at what another wrote."""
    async with lasting(postgres_url, template, "codec_endpoint") as database:
        yield database


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a site with keys."""
    async with client_of(build(database, **SITE)) as client:
        yield client


@pytest.fixture
async def sealed() -> dict[str, Any]:
    """An encrypted payload, as it is sent."""
    return body_of(*await PayloadEncryption(keys("2026"), workflow_id="top-up/1").encode([PLAIN]))


async def bearer(database: Database, *scopes: str, owner_id: str | None = None) -> dict[str, str]:
    """The header of a new key."""
    return {"Authorization": f"Bearer {await make_key(database, scopes, owner_id=owner_id)}"}


async def cookie_of(
    client: httpx2.AsyncClient, database: Database, *, owner_id: str | None
) -> dict[str, str]:
    """The header by which the pages know somebody who has signed in."""
    visitor = await sign_in(Browser(client, "http://tidemark.test"), database, owner_id=owner_id)
    return {"Cookie": f"{COOKIE}={visitor.token}"}


class TestTheCodecEndpoint:
    async def test_decodes_for_a_key_of_an_administrator(
        self, client: httpx2.AsyncClient, database: Database, sealed: dict[str, Any]
    ) -> None:
        answer = await client.post("/codec/decode", json=sealed, headers=await bearer(database, Scope.ADMIN))

        assert payloads_of(answer) == [PLAIN]
        assert answer.headers["Cache-Control"] == "no-store"

    async def test_encodes_with_the_first_key_what_it_decodes_again(
        self, client: httpx2.AsyncClient, database: Database
    ) -> None:
        admin = await bearer(database, Scope.ADMIN)

        encoded = payloads_of(await client.post("/codec/encode", json=body_of(PLAIN), headers=admin))
        decoded = await client.post("/codec/decode", json=body_of(*encoded), headers=admin)

        assert encoded[0].metadata["encryption-key-id"] == b"2027"
        assert payloads_of(decoded) == [PLAIN]

    async def test_passes_on_what_is_not_encrypted(
        self, client: httpx2.AsyncClient, database: Database
    ) -> None:
        admin = await bearer(database, Scope.ADMIN)

        assert payloads_of(await client.post("/codec/decode", json=body_of(PLAIN), headers=admin)) == [PLAIN]

    async def test_decodes_for_an_operator_who_is_signed_in_from_the_web_uis_origin_alone(
        self, client: httpx2.AsyncClient, database: Database, sealed: dict[str, Any]
    ) -> None:
        cookie = await cookie_of(client, database, owner_id=None)

        decoded = await client.post("/codec/decode", json=sealed, headers={**cookie, "Origin": UI})
        others = [
            await client.post("/codec/decode", json=sealed, headers={**cookie, **origin})
            for origin in (
                {},
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Origin": f"{UI}.evil.example"},
            )
        ]

        assert payloads_of(decoded) == [PLAIN]
        assert decoded.headers["Access-Control-Allow-Origin"] == UI
        assert decoded.headers["Access-Control-Allow-Credentials"] == "true"
        assert {answer.status_code for answer in others} == {401}
        assert not any("Access-Control-Allow-Origin" in answer.headers for answer in others)


class TestTheCodecEndpointRefuses:
    @pytest.mark.parametrize("path", sorted(PATHS))
    async def test_whoever_sends_nothing(
        self, client: httpx2.AsyncClient, sealed: dict[str, Any], path: str
    ) -> None:
        answer = await client.post(path, json=sealed)

        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")

    @pytest.mark.parametrize("path", sorted(PATHS))
    @pytest.mark.parametrize("scope", [scope for scope in Scope if scope is not Scope.ADMIN])
    async def test_keys_of_any_other_scope(
        self, client: httpx2.AsyncClient, database: Database, sealed: dict[str, Any], path: str, scope: Scope
    ) -> None:
        answer = await client.post(path, json=sealed, headers=await bearer(database, scope))

        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")

    async def test_an_administrators_key_that_is_bound_to_one_owner(
        self, client: httpx2.AsyncClient, database: Database, sealed: dict[str, Any]
    ) -> None:
        owner_id = await an_owner(client, database)

        headers = await bearer(database, Scope.ADMIN, owner_id=owner_id)
        answer = await client.post("/codec/decode", json=sealed, headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")

    async def test_an_owner_who_is_signed_in(
        self, client: httpx2.AsyncClient, database: Database, sealed: dict[str, Any]
    ) -> None:
        cookie = await cookie_of(client, database, owner_id=await an_owner(client, database))

        answer = await client.post("/codec/decode", json=sealed, headers={**cookie, "Origin": UI})

        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")

    @pytest.mark.parametrize("key", ["nonsense", "tm_" + "x" * 43, "tm_\x7f"])
    async def test_keys_that_are_none(
        self, client: httpx2.AsyncClient, sealed: dict[str, Any], key: str
    ) -> None:
        answer = await client.post("/codec/decode", json=sealed, headers={"Authorization": f"Bearer {key}"})

        assert answer.status_code == 401
        assert key not in answer.text

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b'{"payloads": 1}', b"\xff", b'{"other": []}', b"[" * 100_000],
    )
    async def test_bodies_that_are_none(
        self, client: httpx2.AsyncClient, database: Database, body: bytes
    ) -> None:
        headers = {**await bearer(database, Scope.ADMIN), "Content-Type": "application/json"}

        answer = await client.post("/codec/decode", content=body, headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")

    async def test_bodies_that_are_no_json(self, client: httpx2.AsyncClient, database: Database) -> None:
        headers = {**await bearer(database, Scope.ADMIN), "Content-Type": "text/plain"}

        assert (await client.post("/codec/decode", content=b"{}", headers=headers)).status_code == 415

    async def test_payloads_of_a_key_it_lacks_with_the_keys_name(
        self, client: httpx2.AsyncClient, database: Database
    ) -> None:
        foreign = body_of(*await PayloadEncryption(keys("1999")).encode([PLAIN]))

        answer = await client.post("/codec/decode", json=foreign, headers=await bearer(database, Scope.ADMIN))

        assert (answer.status_code, answer.json()["code"]) == (422, "payload_key_missing")
        assert "'1999'" in answer.json()["detail"]

    async def test_payloads_that_were_changed(
        self, client: httpx2.AsyncClient, database: Database, sealed: dict[str, Any]
    ) -> None:
        sealed["payloads"][0]["metadata"]["encryption-bound-to"] = ""

        answer = await client.post("/codec/decode", json=sealed, headers=await bearer(database, Scope.ADMIN))

        assert (answer.status_code, answer.json()["code"]) == (422, "payload_not_genuine")

    async def test_strangers_who_ask_too_often(self, database: Database, sealed: dict[str, Any]) -> None:
        async with client_of(build(database, **SITE, rate_limit_unauthenticated="2/minute")) as client:
            answers = [(await client.post("/codec/decode", json=sealed)).status_code for _ in range(3)]

        assert answers == [401, 401, 429]


class TestBrowsers:
    @pytest.mark.parametrize("path", sorted(PATHS))
    async def test_may_ask_for_the_web_uis_page(self, client: httpx2.AsyncClient, path: str) -> None:
        answer = await client.options(path, headers=preflight(UI))

        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == UI
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert {"Authorization", "Content-Type", "X-Namespace"} <= set(
            answer.headers["Access-Control-Allow-Headers"].split(", ")
        )
        assert answer.headers["Vary"] == "Origin"

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "http://temporal.example.com", f"{UI}:8443", "null"]
    )
    async def test_may_not_ask_for_any_other_page(self, client: httpx2.AsyncClient, origin: str) -> None:
        answer = await client.options("/codec/decode", headers=preflight(origin))

        assert "Access-Control-Allow-Origin" not in answer.headers

    async def test_may_not_ask_for_a_page_that_may_only_call_the_api(self, database: Database) -> None:
        app = "https://app.example"
        async with client_of(build(database, **SITE, cors_origins=app)) as client:
            answers = [
                await client.options(path, headers=preflight(app))
                for path in ("/v1/wallets", "/codec/decode")
            ]

        assert [answer.headers.get("Access-Control-Allow-Origin") for answer in answers] == [app, None]

    async def test_may_send_the_cookie_to_no_other_route(self, client: httpx2.AsyncClient) -> None:
        answer = await client.options("/v1/wallets", headers=preflight(UI))

        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "Access-Control-Allow-Credentials" not in answer.headers

    @pytest.mark.parametrize(
        ("address", "origin"),
        [
            ("https://temporal.example.com", "https://temporal.example.com"),
            ("https://Temporal.example.com:443/ui", "https://temporal.example.com"),
            ("http://localhost:8233", "http://localhost:8233"),
            ("http://[::1]:8233", "http://[::1]:8233"),
            (None, None),
        ],
    )
    def test_name_the_origin_of_an_address_like_this(self, address: str | None, origin: str | None) -> None:
        assert origin_of(address) == origin


class TestWithoutKeys:
    @pytest.mark.parametrize("path", sorted(PATHS))
    async def test_there_is_no_codec_endpoint(
        self, database: Database, sealed: dict[str, Any], path: str
    ) -> None:
        async with client_of(build(database, temporal_ui_url=UI)) as client:
            answer = await client.post(path, json=sealed, headers=await bearer(database, Scope.ADMIN))
            asked = await client.options(path, headers=preflight(UI))

        assert answer.status_code == 404
        assert "Access-Control-Allow-Origin" not in asked.headers


def preflight(origin: str) -> dict[str, str]:
    """What a browser asks before a page of this origin may."""
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-namespace,authorization",
    }


async def an_owner(client: httpx2.AsyncClient, database: Database) -> str:
    """A new owner's id."""
    body = {"name": "Ada", "email": "ada@example.com"}
    answer = await client.post("/v1/owners", json=body, headers=await bearer(database, Scope.ADMIN))
    return str(answer.json()["id"])
