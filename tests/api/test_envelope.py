"""What surrounds every request: ids, sizes, media types, methods, careful headers, and problems in one shape."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from httpx2 import AsyncClient, Response
from structlog.testing import capture_logs

from adapters.postgres.database import Database
from api.bodies import BODY_BYTES_MAX
from tests.api.conftest import TERMS, Caller, build, client_of

JSON = {"Content-Type": "application/json"}


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

        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "Access-Control-Allow-Origin" not in headers

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


REFUSED: dict[str, tuple[int, str, dict[str, Any]]] = {
    "no key": (
        401,
        "unauthenticated",
        {"method": "GET", "url": "/v1/rules", "headers": {"Authorization": ""}},
    ),
    "no path": (404, "not_found", {"method": "GET", "url": "/v1/nowhere"}),
    "no path at all": (404, "not_found", {"method": "GET", "url": "/nowhere"}),
    "a slash too many": (404, "not_found", {"method": "GET", "url": "/v1/rules/"}),
    "no such id": (404, "not_found", {"method": "GET", "url": "/v1/rules/rule_unknown"}),
    "no such method": (405, "method_not_allowed", {"method": "PATCH", "url": "/v1/wallets", "json": {}}),
    "an unheard of method": (405, "method_not_allowed", {"method": "BREW", "url": "/v1/rules"}),
    "too large": (
        413,
        "too_large",
        {"method": "POST", "url": "/v1/rules", "content": b" " * (BODY_BYTES_MAX + 1), "headers": JSON},
    ),
    "not JSON": (415, "media_type_unsupported", {"method": "POST", "url": "/v1/rules", "content": b"a=b"}),
    "malformed": (
        400,
        "malformed",
        {"method": "POST", "url": "/v1/rules", "content": b'{"a": }', "headers": JSON},
    ),
    "not UTF-8": (
        400,
        "malformed",
        {"method": "POST", "url": "/v1/rules", "content": b'{"a": "\xff"}', "headers": JSON},
    ),
    "too deep": (
        400,
        "malformed",
        {"method": "POST", "url": "/v1/rules", "content": b"[" * 100_000, "headers": JSON},
    ),
    "no field": (422, "invalid", {"method": "POST", "url": "/v1/rules", "json": {}}),
    "a bad cursor": (422, "invalid", {"method": "GET", "url": "/v1/rules?after=x"}),
    "an unknown parameter": (422, "invalid", {"method": "GET", "url": "/v1/rules?page=1"}),
    "no version": (428, "version_required", {"method": "DELETE", "url": "/v1/rules/rule_unknown"}),
    "no Idempotency-Key": (
        400,
        "idempotency_key_required",
        {"method": "POST", "url": "/v1/ledger/payments", "json": {"wallet_id": "wallet_1", "amount": "1"}},
    ),
}


class TestARefusal:
    @pytest.mark.parametrize("why", REFUSED)
    async def test_is_a_problem_with_the_id_that_its_answer_and_its_log_line_carry(
        self, steady: Caller, why: str
    ) -> None:
        status, code, asked = REFUSED[why]
        with capture_logs([structlog.contextvars.merge_contextvars]) as lines:
            answer = await steady.client.request(**asked)

        problem = answer.json()
        assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert {"type", "title", "detail"} <= set(problem)
        (line,) = [line for line in lines if line["event"] == "request.answered"]
        assert problem["request_id"] == answer.headers["X-Request-Id"] == line["request_id"]
        assert line["status"] == status
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


PREFLIGHT = {
    "Origin": "https://app.example",
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


class TestTheDevelopmentSwitch:
    async def test_does_not_exist_in_production(self, database: Database, caller: Caller) -> None:
        key = caller.client.headers["Authorization"].removeprefix("Bearer ")
        async with client_of(build(database, environment="production"), key) as client:
            answer = await client.put("/v1/ledger/faults", json={})

        assert answer.status_code == 404
