"""What surrounds every request: ids, sizes, media types, methods, careful headers, and problems in one shape."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
import structlog
from fastapi import FastAPI
from httpx2 import AsyncClient, Response
from structlog.testing import capture_logs

from adapters.postgres.database import Database
from adapters.postgres.revisions import current_revision, newest_revision
from api.bodies import BODY_BYTES_MAX
from api.patience import Patience
from api.scopes import Scope
from tests.api.conftest import TERMS, Caller, build, client_of, make_key

JSON = {"Content-Type": "application/json"}
NO_KEY = "tm_" + "a" * 43
ORIGIN = "https://app.example"
CAREFUL = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class TestARequest:
    async def test_gets_an_id_that_its_answer_its_problem_and_its_log_line_carry(
        self, caller: Caller
    ) -> None:
        with capture_logs() as lines:
            answer = await caller.get("/v1/rules/rule_unknown")

        request_id = answer.headers["X-Request-Id"]
        assert answer.json()["request_id"] == request_id
        (line,) = [line for line in lines if line["event"] == "request.answered"]
        assert line["status"] == 404
        assert line["key_id"].startswith("key_")

    async def test_keeps_the_id_its_caller_gave_it(self, nobody: AsyncClient) -> None:
        answer = await nobody.get("/livez", headers={"X-Request-Id": "mine-1"})

        assert answer.headers["X-Request-Id"] == "mine-1"

    @pytest.mark.parametrize("sent", ["a b", "x" * 200, "näh", '"; drop'])
    async def test_gets_a_new_id_for_one_that_cannot_be_used(self, nobody: AsyncClient, sent: str) -> None:
        answer = await nobody.get("/livez", headers={b"X-Request-Id": sent.encode()})

        assert answer.headers["X-Request-Id"].startswith("req_")

    async def test_is_answered_with_headers_that_keep_browsers_careful(self, nobody: AsyncClient) -> None:
        headers = (await nobody.get("/v1/rules", headers={"Origin": "https://evil.example"})).headers

        assert {name: headers[name] for name in CAREFUL} == CAREFUL
        assert "Strict-Transport-Security" not in headers
        assert "Access-Control-Allow-Origin" not in headers

    async def test_is_answered_with_strict_transport_where_owners_come_by_https(
        self, database: Database
    ) -> None:
        async with client_of(build(database, public_url="https://tidemark.example")) as client:
            answers = [await client.get(path) for path in ("/livez", "/v1/rules", "/nowhere")]

        assert {answer.headers["Strict-Transport-Security"] for answer in answers} == {"max-age=31536000"}

    async def test_that_breaks_something_is_told_so_without_any_inside(
        self, app: FastAPI, nobody: AsyncClient
    ) -> None:
        @app.get("/broken")
        async def break_it() -> None:
            message = "secret inside"
            raise ZeroDivisionError(message)

        with capture_logs() as lines:
            answer = await nobody.get("/broken")

        assert answer.status_code == 500
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "internal"
        assert "secret" not in answer.text
        assert "request.broken" in [line["event"] for line in lines]

    async def test_is_logged_with_its_status_as_a_number(self, nobody: AsyncClient) -> None:
        with capture_logs() as lines:
            await nobody.get("/", headers={"Host": "localhost:8080"})

        (line,) = [line for line in lines if line["event"] == "request.answered"]
        assert repr(line["status"]) == "303"


class TestABody:
    async def test_that_is_not_json_is_refused_naming_what_is_wrong(self, steady: Caller) -> None:
        answer = await steady.client.post("/v1/rules", content=b'{"wallet_id": oops}', headers=JSON)

        assert answer.status_code == 400
        assert answer.json()["code"] == "malformed"
        assert "character 14" in answer.json()["errors"][0]["message"]

    @pytest.mark.parametrize("body", [b"[" * 30_000, b"\xff\xfe\x00", b'{"amount": ' + b"9" * 20_000 + b"}"])
    async def test_that_no_parser_likes_is_refused_cleanly(self, steady: Caller, body: bytes) -> None:
        answer = await steady.client.post("/v1/rules", content=body, headers=JSON)

        assert answer.status_code in (400, 422)
        assert answer.headers["Content-Type"] == "application/problem+json"

    @pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"5", b""])
    async def test_that_is_no_object_is_refused(self, steady: Caller, body: bytes) -> None:
        for path in ("/v1/rules", "/v1/ledger/deposits"):
            answer = await steady.client.post(path, content=body, headers={**JSON, "Idempotency-Key": "1"})
            assert answer.status_code == 422, answer.text

    async def test_that_says_it_is_too_large_is_refused(self, steady: Caller) -> None:
        answer = await steady.client.post("/v1/rules", content=b" " * (BODY_BYTES_MAX + 1), headers=JSON)

        assert answer.status_code == 413
        assert answer.json()["code"] == "too_large"

    async def test_that_turns_out_too_large_is_refused(self, steady: Caller) -> None:
        async def endless() -> AsyncIterator[bytes]:
            for _ in range(BODY_BYTES_MAX // 1024 + 1):
                yield b" " * 1024

        answer = await steady.client.post("/v1/rules", content=endless(), headers=JSON)

        assert answer.status_code == 413

    @pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
    async def test_of_another_media_type_is_refused(self, steady: Caller, media_type: str) -> None:
        answer = await steady.client.post("/v1/rules", content=b"{}", headers={"Content-Type": media_type})

        assert answer.status_code == 415
        assert answer.json()["code"] == "media_type_unsupported"

    async def test_with_unknown_fields_is_refused_naming_each(self, steady: Caller) -> None:
        body = {"wallet_id": "wallet_1", **TERMS, "treshold": "1", "a/b~c": "1"}
        answer = await steady.post("/v1/rules", body)

        assert answer.status_code == 422
        assert {error["pointer"] for error in answer.json()["errors"]} == {"/treshold", "/a~1b~0c"}


class TestAPath:
    async def test_that_leads_nowhere_is_a_problem(self, steady: Caller) -> None:
        answer = await steady.get("/v1/nowhere")

        assert answer.status_code == 404
        assert answer.json()["code"] == "not_found"

    @pytest.mark.parametrize("rule_id", ["rule_nothing", "x", "%00", "rule_%00", "a" * 5000, "wallet_1", "-"])
    async def test_with_an_id_that_cannot_be_is_not_found(self, steady: Caller, rule_id: str) -> None:
        for answer in (
            await steady.get(f"/v1/rules/{rule_id}"),
            await steady.change("PATCH", f"/v1/rules/{rule_id}", {"amount": "1"}, version=1),
            await steady.get(f"/v1/rules/{rule_id}/decisions"),
            await steady.get(f"/v1/top-ups/{rule_id}"),
        ):
            assert answer.status_code == 404
            assert answer.json()["code"] == "not_found"

    async def test_asked_with_another_method_names_those_it_has(self, steady: Caller) -> None:
        answer = await steady.change("PUT", "/v1/rules")

        assert answer.status_code == 405
        assert answer.headers["Allow"] == "GET, POST"
        assert answer.json()["code"] == "method_not_allowed"


async def endless() -> AsyncIterator[bytes]:
    """A body that does not say how long it is, and is too long."""
    for _ in range(BODY_BYTES_MAX // 1024 + 1):
        yield b" " * 1024


PAYMENT = {"wallet_id": "wallet_1", "amount": "1.00"}
PAYING = {"method": "POST", "url": "/v1/ledger/payments", "headers": {"Idempotency-Key": "1"}}
RULING = {"method": "POST", "url": "/v1/rules"}
EDITING = {"method": "PATCH", "url": "/v1/rules/{rule}", "json": {"amount": "1"}}

REFUSED: dict[str, tuple[int, str, dict[str, Any]]] = {
    "no key": (
        401,
        "unauthenticated",
        {"method": "GET", "url": "/v1/rules", "headers": {"Authorization": ""}},
    ),
    "no scope": (
        403,
        "forbidden",
        {"method": "GET", "url": "/v1/rules", "headers": {"Authorization": "Bearer {poor}"}},
    ),
    "no path": (404, "not_found", {"method": "GET", "url": "/v1/nowhere"}),
    "no path at all": (404, "not_found", {"method": "GET", "url": "/nowhere"}),
    "a slash too many": (404, "not_found", {"method": "GET", "url": "/v1/rules/"}),
    "no such id": (404, "not_found", {"method": "GET", "url": "/v1/rules/rule_unknown"}),
    "no such wallet": (404, "not_found", {**PAYING, "json": PAYMENT}),
    "no such method": (405, "method_not_allowed", {"method": "PATCH", "url": "/v1/wallets", "json": {}}),
    "an unheard of method": (405, "method_not_allowed", {"method": "BREW", "url": "/v1/rules"}),
    "a second rule": (409, "rule_exists", {**RULING, "json": {"wallet_id": "{wallet}", **TERMS}}),
    "an empty wallet": (
        409,
        "insufficient_balance",
        {**PAYING, "json": {**PAYMENT, "wallet_id": "{wallet}"}},
    ),
    "a stale version": (412, "version_stale", {**EDITING, "headers": {"If-Match": '"7"'}}),
    "too large": (
        413,
        "too_large",
        {**RULING, "content": b" " * (BODY_BYTES_MAX + 1), "headers": JSON},
    ),
    "too large in pieces": (413, "too_large", {**RULING, "content": endless, "headers": JSON}),
    "not JSON": (415, "media_type_unsupported", {**RULING, "content": b"a=b"}),
    "malformed": (400, "malformed", {**RULING, "content": b'{"a": }', "headers": JSON}),
    "not UTF-8": (400, "malformed", {**RULING, "content": b'{"a": "\xff"}', "headers": JSON}),
    "too deep": (400, "malformed", {**RULING, "content": b"[" * 100_000, "headers": JSON}),
    "no field": (422, "invalid", {**RULING, "json": {}}),
    "a number as an amount": (422, "invalid", {**PAYING, "json": {**PAYMENT, "amount": 1.5}}),
    "an unknown field": (422, "invalid", {**PAYING, "json": {**PAYMENT, "memo": "x"}}),
    "a bad cursor": (422, "invalid", {"method": "GET", "url": "/v1/rules?after=x"}),
    "a bad limit": (422, "invalid", {"method": "GET", "url": "/v1/rules?limit=0"}),
    "an unknown parameter": (422, "invalid", {"method": "GET", "url": "/v1/rules?page=1"}),
    "no version": (428, "version_required", EDITING),
    "no Idempotency-Key": (
        400,
        "idempotency_key_required",
        {"method": "POST", "url": "/v1/ledger/payments", "json": PAYMENT},
    ),
}


@dataclass(frozen=True, slots=True)
class Wall:
    """The application, open to one origin, and what the requests to it name."""

    client: AsyncClient
    named: Mapping[str, str]

    async def ask(self, asked: Mapping[str, Any]) -> tuple[Response, list[Any]]:
        """The answer to a page of that origin, and the log lines."""
        content = asked.get("content")
        request = self._filled({**asked, "content": None}) | {
            "content": content() if callable(content) else content
        }
        request["headers"] = {"Origin": ORIGIN, **request.get("headers", {})}
        with capture_logs([structlog.contextvars.merge_contextvars]) as lines:
            answer = await self.client.request(**request)
        return answer, lines

    def _filled(self, value: Any) -> Any:
        """The value with what it names in braces filled in."""
        match value:
            case str():
                return re.sub(r"{(\w+)}", lambda found: self.named[found[1]], value)
            case dict():
                return {name: self._filled(item) for name, item in value.items()}
            case _:
                return value


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def wall(lasting_database: Database) -> AsyncIterator[Wall]:
    """A wall in front of one wallet with its rule, for refusals, which change nothing."""
    app = build(lasting_database, cors_origins=ORIGIN)
    async with client_of(app, await make_key(lasting_database, [*Scope])) as client:
        caller = Caller(client, lasting_database)
        wallet_id = await caller.open_wallet()
        rule = await caller.create_rule(wallet_id)
        poor = await make_key(lasting_database, [Scope.WALLETS_READ])
        yield Wall(client, {"wallet": wallet_id, "rule": rule["id"], "poor": poor})


def refused_whole(answer: Response, lines: Sequence[Mapping[str, Any]], *, status: int, code: str) -> bool:
    """Whether a refusal has all that every refusal has: one shape, one id in three places, careful headers."""
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert {"type", "title", "detail"} <= set(problem)
    (line,) = [line for line in lines if line["event"] == "request.answered"]
    assert problem["request_id"] == answer.headers["X-Request-Id"] == line["request_id"]
    assert line["status"] == status
    assert {name: answer.headers[name] for name in CAREFUL} == CAREFUL
    return True


class TestARefusal:
    @pytest.mark.parametrize("why", REFUSED)
    async def test_is_a_problem_with_the_id_that_its_answer_and_its_log_line_carry(
        self, wall: Wall, why: str
    ) -> None:
        status, code, asked = REFUSED[why]
        answer, lines = await wall.ask(asked)

        assert refused_whole(answer, lines, status=status, code=code)
        assert (status == 405) == ("Allow" in answer.headers)

    @pytest.mark.parametrize("why", REFUSED)
    async def test_can_be_read_by_a_page_of_a_named_origin(self, wall: Wall, why: str) -> None:
        answer, _ = await wall.ask(REFUSED[why][2])

        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Vary"] == "Origin"

    async def test_for_asking_too_often_says_when_to_ask_again(self, database: Database) -> None:
        app = build(database, cors_origins=ORIGIN, rate_limit_unauthenticated="1/minute")
        async with client_of(app) as client:
            wall = Wall(client, {})
            await wall.ask({"method": "GET", "url": "/v1/rules"})
            answer, lines = await wall.ask({"method": "GET", "url": "/v1/rules"})

        assert refused_whole(answer, lines, status=429, code="rate_limited")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN

    @pytest.mark.parametrize(("path", "code"), [("/v1/rules", "unavailable"), ("/readyz", "not_ready")])
    async def test_for_a_database_out_of_reach_says_when_to_ask_again(
        self, tmp_path: Path, path: str, code: str
    ) -> None:
        database = Database.open(f"postgresql://nobody@/nothing?host={tmp_path}", pool_size=2)
        async with client_of(build(database, cors_origins=ORIGIN), NO_KEY) as client:
            answer, lines = await Wall(client, {}).ask({"method": "GET", "url": path})
        await database.close()

        assert refused_whole(answer, lines, status=503, code=code)
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN

    async def test_has_words_of_our_own_for_each_field(self, wall: Wall) -> None:
        fault = {"owner_id": 5, "account": "x", "asset": "USDT", "fault": "x", "times": 1.5}
        asked: list[dict[str, Any]] = [
            {"method": "GET", "url": "/v1/rules?limit=x"},
            {"method": "GET", "url": "/v1/rules?limit=1.5"},
            {"method": "GET", "url": "/v1/top-ups?outcome=x&state=x"},
            {"method": "GET", "url": "/v1/webhook-endpoints/endpoint_1/deliveries?status=x"},
            {"method": "POST", "url": "/v1/balance-events", "json": {"events": []}},
            {"method": "PUT", "url": "/v1/ledger/faults", "json": fault},
        ]
        problems = [problem for one in asked for problem in (await wall.ask(one))[0].json()["errors"]]

        words = {problem["pointer"]: problem["message"] for problem in problems}
        assert words["/query/limit"] == "must be a whole number"
        assert words["/query/outcome"] == "must be 'completed', 'partial', 'failed' or 'not_needed'"
        assert words["/events"] == "must have at least 1 item"
        assert words["/owner_id"] == 'must be a string such as "5", not the number 5'
        assert len(problems) == 10
        assert all(message.startswith(("must ", "is ")) for message in words.values()), words


@dataclass(slots=True)
class Wire:
    """A way to the database that can be cut without anybody being told: what is sent arrives nowhere."""

    socket_path: str
    passing: asyncio.Event

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry what one connection sends, both ways, until either end is closed."""
        server_reader, server_writer = await asyncio.open_unix_connection(self.socket_path)
        ways = (self._pass_on(reader, server_writer), self._pass_on(server_reader, writer))
        await asyncio.gather(*ways, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            while piece := await reader.read(65536):
                await self.passing.wait()
                writer.write(piece)
                await writer.drain()


@asynccontextmanager
async def cuttable(database_url: str) -> AsyncIterator[tuple[Database, asyncio.Event]]:
    """The database by way of such a wire, and the event that lets it pass what is sent."""
    parts = urlsplit(database_url)
    (folder,) = parse_qs(parts.query)["host"]
    wire = Wire(f"{folder}/.s.PGSQL.5432", asyncio.Event())
    wire.passing.set()
    async with await asyncio.start_server(wire.carry, "127.0.0.1", 0) as relay:
        host, port = relay.sockets[0].getsockname()
        database = Database.open(f"postgresql://{parts.username}@{host}:{port}{parts.path}", pool_size=1)
        yield database, wire.passing
        wire.passing.set()
        await database.close()


class TestAnAnswerThatDoesNotBegin:
    async def test_for_a_database_that_keeps_silent_is_broken_off_and_told_as_unavailable(
        self, database_url: str, caller: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("api.app.PATIENCE_SECONDS", 0.2)
        key = caller.client.headers["Authorization"].removeprefix("Bearer ")
        async with (
            cuttable(database_url) as (database, passing),
            client_of(build(database, cors_origins=ORIGIN), key) as client,
        ):
            assert await current_revision(database) == newest_revision()
            passing.clear()
            answer, lines = await Wall(client, {}).ask({"method": "GET", "url": "/v1/rules"})
            passing.set()
            assert await current_revision(database) == newest_revision()

        assert refused_whole(answer, lines, status=503, code="unavailable")
        assert int(answer.headers["Retry-After"]) > 0

    async def test_is_not_what_a_slow_caller_or_a_long_stream_is(self) -> None:
        pieces, sent = 5, []

        async def echo(_scope: Any, receive: Any, send: Any) -> None:
            for _ in range(pieces):
                await send(await receive())

        async def pause() -> Any:
            await asyncio.sleep(0.1)
            return {}

        async def keep(message: Any) -> None:
            await asyncio.sleep(0.1)
            sent.append(message)

        await Patience(echo, seconds=0.05)({"type": "http"}, pause, keep)

        assert len(sent) == pieces


PREFLIGHT = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


def allowing(answer: Response) -> set[str]:
    return {name.lower() for name in answer.headers if name.lower().startswith("access-control-")}


class TestAPageOfAnotherOrigin:
    @pytest.mark.parametrize("path", ["/v1/rules", "/livez", "/v1/openapi.json", "/nowhere"])
    async def test_is_told_nothing_at_all(self, steady: Caller, nobody: AsyncClient, path: str) -> None:
        for client in (steady.client, nobody):
            preflight = await client.options(path, headers=PREFLIGHT)
            answer = await client.get(path, headers={"Origin": "https://app.example"})

            assert not preflight.is_success
            assert preflight.headers["Content-Type"] == "application/problem+json"
            assert allowing(preflight) | allowing(answer) == set()

    async def test_may_ask_when_an_operator_names_it(self, database: Database, caller: Caller) -> None:
        app = build(database, cors_origins="https://app.example, http://localhost:5173")
        key = caller.client.headers["Authorization"].removeprefix("Bearer ")
        async with client_of(app) as browser:
            preflight = await browser.options("/v1/rules", headers=PREFLIGHT)
            own = {"Origin": "https://app.example", "Authorization": f"Bearer {key}"}
            answer = await browser.get("/v1/rules", headers=own)
            refused = await browser.get("/v1/rules", headers={"Origin": "http://localhost:5173"})

        assert preflight.status_code == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
        assert "Idempotency-Key" in preflight.headers["Access-Control-Allow-Headers"]
        assert preflight.headers["X-Request-Id"]
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
        assert answer.headers["Vary"] == "Origin"
        assert refused.status_code == 401
        assert refused.headers["Access-Control-Allow-Origin"] == "http://localhost:5173"
        assert not {"access-control-allow-credentials"} & (allowing(preflight) | allowing(answer))

    @pytest.mark.parametrize(
        "origin",
        ["https://evil.example", "http://app.example", "https://app.example.evil.example", "null", "*"],
    )
    async def test_is_told_nothing_when_an_operator_names_another(
        self, database: Database, origin: str
    ) -> None:
        async with client_of(build(database, cors_origins="https://app.example")) as browser:
            preflight = await browser.options("/v1/rules", headers={**PREFLIGHT, "Origin": origin})
            answer = await browser.get("/livez", headers={"Origin": origin})

        assert preflight.status_code == 401
        assert allowing(preflight) | allowing(answer) == set()
        assert preflight.headers["Vary"] == answer.headers["Vary"] == "Origin"


class TestTheDevelopmentSwitch:
    async def test_does_not_exist_in_production(self, database: Database, caller: Caller) -> None:
        key = caller.client.headers["Authorization"].removeprefix("Bearer ")
        async with client_of(build(database, environment="production"), key) as client:
            answer = await client.put("/v1/ledger/faults", json={})

        assert answer.status_code == 404
