"""The description of the API: whole, valid, closed in itself, the same as the committed file, and shown as a page."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from httpx2 import AsyncClient
from jsonschema_rs import validator_for
from openapi_spec_validator import OpenAPIV31SpecValidator

from adapters.postgres.database import Database
from adapters.postgres.events import EventKind
from api.authentication import OPEN_PATHS
from api.cases import REFUSED
from api.description import as_text
from api.examples import CURSOR, FIELDS, UNTOLD
from api.field_words import FIELD_WORDS
from api.refusals import COMMON, REFUSALS
from api.scopes import Scope
from tests.api.conftest import build
from tests.house.building import ROOT

UNREACHED = Database.open("postgresql:///unused", pool_size=1)
COMMITTED = ROOT / "docs" / "openapi.json"
Operation = tuple[str, str, dict[str, Any]]


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(child)
    if isinstance(node, dict):
        yield node


def resolve(document: Any, node: Any) -> Any:
    """The node, or what it refers to."""
    if "$ref" not in node:
        return node
    for name in node["$ref"].removeprefix("#/").split("/"):
        document = document[name]
    return document


def operations_of(document: Any) -> list[Operation]:
    return [
        (path, method, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def media_of(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body there is, of requests, answers and webhooks, and where it stands."""
    calls = [(kind, "post", methods["post"]) for kind, methods in document["webhooks"].items()]
    for path, method, operation in [*operations_of(document), *calls]:
        holders = {"request": operation.get("requestBody", {}), **operation["responses"]}
        for name, holder in holders.items():
            for media in resolve(document, holder).get("content", {}).values():
                yield f"{method} {path} {name}", media


def accepts(document: Any, schema: Any, value: Any) -> bool:
    """Whether the value is one of the schema."""
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "components": document["components"],
    }
    return validator_for(whole, validate_formats=True).is_valid(value)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """The application, of which only what needs no database is asked."""
    return build(UNREACHED)


@pytest.fixture(scope="module")
def document(app: FastAPI) -> Any:
    """The description as a caller gets it."""
    return json.loads(json.dumps(app.openapi()))


class TestTheDescription:
    async def test_is_served_to_anybody(self, nobody: AsyncClient) -> None:
        answer = await nobody.get("/v1/openapi.json")

        assert answer.status_code == 200
        assert answer.json()["openapi"].startswith("3.1")

    async def test_is_committed_as_production_serves_it(self) -> None:
        text = as_text(build(UNREACHED, environment="production").openapi())

        assert COMMITTED.read_text(encoding="utf-8") == text, "run `make openapi`"

    async def test_is_valid(self, document: Any) -> None:
        OpenAPIV31SpecValidator(document).validate()

    async def test_is_the_same_at_every_start(self) -> None:
        first, second = build(UNREACHED).openapi(), build(UNREACHED).openapi()

        assert as_text(first) == as_text(second)

    async def test_refers_only_to_what_it_holds_and_holds_only_what_is_referred_to(
        self, document: Any
    ) -> None:
        references = {node["$ref"] for node in walk(document) if isinstance(node.get("$ref"), str)}
        held = {
            f"#/components/{kind}/{name}"
            for kind in ("schemas", "responses", "headers")
            for name in document["components"][kind]
        }

        assert references == held

    async def test_names_every_schema_as_people_do(self, document: Any) -> None:
        assert not [name for name in document["components"]["schemas"] if re.search(r"View|_", name)]

    async def test_says_of_every_field_what_it_is(self, document: Any) -> None:
        schemas = document["components"]["schemas"]
        fields = {
            f"{name}.{field}": kind.get("description", "")
            for name, schema in schemas.items()
            for field, kind in schema.get("properties", {}).items()
        }

        assert not [field for field, words in fields.items() if not words], (
            "give them words in api/field_words.py"
        )
        assert fields["RuleOrder.threshold"].startswith("The line: ")
        assert {name for name in FIELD_WORDS if "." in name} <= set(fields), "words that nobody reads"

    async def test_tells_of_no_other_errors_than_ours(self, document: Any) -> None:
        assert "ValidationError" not in json.dumps(document)

    async def test_has_no_marks_of_its_making_left(self, document: Any) -> None:
        assert not [name for node in walk(document) for name in node if name.startswith("x-")]


class TestEveryOperation:
    async def test_is_described(self, app: FastAPI, document: Any) -> None:
        routes = {
            (method, route.path)
            for route in app.state.given.routes
            if isinstance(route, APIRoute) and route.include_in_schema
            for method in route.methods or ()
        }

        assert routes == {(method.upper(), path) for path, method, _ in operations_of(document)}

    async def test_has_a_name_of_its_own_a_known_tag_and_words(self, document: Any) -> None:
        operations = operations_of(document)
        names = [operation["operationId"] for _, _, operation in operations]
        tags = {tag["name"] for tag in document["tags"]}

        assert len(set(names)) == len(names)
        for path, _, operation in operations:
            assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"]), path
            assert set(operation["tags"]) <= tags, (
                f"{path}: give {operation['tags']} words in api/description.py"
            )
            assert operation["summary"], path
            assert operation["description"], path

    async def test_says_what_key_it_needs(self, document: Any) -> None:
        for path, _, operation in operations_of(document):
            if path.startswith("/v1/"):
                ((scheme, scopes),) = operation["security"][0].items()
                assert scheme == "api_key"
                assert scopes, path
                assert set(scopes) <= set(Scope), path

    async def test_says_how_it_refuses(self, document: Any) -> None:
        for path, method, operation in operations_of(document):
            statuses = set(operation["responses"])
            taken = {parameter["name"] for parameter in operation.get("parameters", ())}
            wanted = {"401", "403", "429", "500", "503"} if path.startswith("/v1/") else set()
            wanted |= {"404"} if "{" in path else set()
            wanted |= {"400", "413", "415", "422"} if "requestBody" in operation else set()
            wanted |= {"400", "409", "422"} if "Idempotency-Key" in taken else set()
            wanted |= {"412", "428"} if "If-Match" in taken else set()
            assert wanted <= statuses, f"{method} {path}"
            assert any(status.startswith("2") for status in statuses), path

    async def test_names_the_codes_of_each_refusal_with_a_case(self, document: Any) -> None:
        for path, _, operation in operations_of(document):
            for status, reference in operation["responses"].items():
                if int(status) < 400:
                    continue
                media = resolve(document, reference)["content"]["application/problem+json"]
                cases = [example["value"] for example in media["examples"].values()]
                codes = media["schema"]["properties"]["code"]["enum"]
                assert sorted({case["code"] for case in cases}) == codes, path
                assert {case["status"] for case in cases} == {int(status)}, path

    async def test_that_refuses_in_its_own_words_has_them_in_the_examples(self, document: Any) -> None:
        told = {kind for kind in (*REFUSALS, *COMMON) if REFUSALS.get(kind) and not REFUSALS[kind].detail}
        cases = json.dumps(document["components"]["responses"])

        missing = {
            kind.__name__ for kind in told if f'"{REFUSALS[kind].code}"' in cases and kind not in REFUSED
        }
        assert not missing, f"give {missing} a case in api/cases.py"

    async def test_takes_a_key_against_repetition_if_it_is_a_post(self, document: Any) -> None:
        for path, method, operation in operations_of(document):
            taken = {found["name"]: found for found in operation.get("parameters", ())}
            assert ("Idempotency-Key" in taken) == (method == "post"), path
            if path in ("/v1/ledger/deposits", "/v1/ledger/payments"):
                assert taken["Idempotency-Key"]["required"], path

    async def test_tells_of_the_headers_it_answers_with(self, document: Any) -> None:
        for path, method, operation in operations_of(document):
            for status, reference in operation["responses"].items():
                headers = set(resolve(document, reference)["headers"])
                assert "X-Request-Id" in headers, path
                if path.startswith("/v1/"):
                    assert {"RateLimit", "RateLimit-Policy"} <= headers, path
                if status in ("429", "503"):
                    assert "Retry-After" in headers, path
                if status == "401":
                    assert "WWW-Authenticate" in headers, path
                if method == "post" and status.startswith("2"):
                    assert "Idempotency-Replayed" in headers, path
        assert "ETag" in document["paths"]["/v1/rules/{rule_id}"]["get"]["responses"]["200"]["headers"]


class TestEveryExample:
    async def test_is_there(self, document: Any) -> None:
        for where, media in media_of(document):
            assert "example" in media or media.get("examples"), where
        for path, _, operation in operations_of(document):
            for parameter in operation.get("parameters", ()):
                assert "example" in parameter, f"{path} {parameter['name']}"

    async def test_is_one_that_the_schema_allows(self, document: Any) -> None:
        for where, media in media_of(document):
            examples = [media["example"]] if "example" in media else []
            examples += [example["value"] for example in media.get("examples", {}).values()]
            for example in examples:
                assert accepts(document, media["schema"], example), f"{where}: {example}"
        for path, _, operation in operations_of(document):
            for parameter in operation.get("parameters", ()):
                where = f"{path} {parameter['name']}"
                assert accepts(document, parameter["schema"], parameter["example"]), where

    async def test_tells_a_part_of_the_story(self, document: Any) -> None:
        untold = set(re.findall(rf"{UNTOLD}[ \w]*", json.dumps(document)))

        assert not untold, f"give these fields their part in api/examples.py: {untold}"


FORMS: list[tuple[str, str, str, list[str], list[str]]] = [
    ("pay", "Idempotency-Key", "", ["k", '"k"', 'k"', "x" * 255], ["", '""', '"', '"k', "ä", "a b", "x" * 256]),
    ("edit_rule", "If-Match", "", ['"3"', 'W/"3"', "3"], ["", '"', '"3', '"x"', "*", '"1", "2"']),
    ("list_rules", "after", "", [CURSOR], ["", "42", "YWZ0ZXI6", CURSOR + "="]),
    ("stream_events", "after", "", ["2f1-9"], ["", "2f1", "2F1-9", CURSOR]),
    ("stream_events", "Last-Event-Id", "", ["2f1-9"], ["", "2f1", "2F1-9", CURSOR]),
    ("", "CapOrder", "amount", ["1", "0.5"], ["", "-1", "1e3", "1,000", "1" * 13]),
    ("", "BacktestOrder", "assume_available", ["0", "0.5"], ["", "-1", "1e3", "1,000", "1" * 13]),
    ("", "BrowserKeys", "p256dh", [FIELDS["p256dh"]], ["", "B" * 86, "A" * 87, "B" * 88, "+" * 87]),
    ("", "BrowserKeys", "auth", [FIELDS["auth"], FIELDS["auth"] + "=="], ["", "A" * 21, "A" * 23]),
    ("", "SubscriptionOrder", "endpoint", ["https://push.example/1"], ["", "https://", "http://a.example/", "x"]),
    (
        "", "EndpointOrder", "url",
        ["https://a.example", "https://a.example:8443/b?c@d", "https://[2606:4700::1111]/", "https://8.8.8.8?q"],
        ["", "https://", "http://a.example/", "https://a@b.example/", "https://a.example/#b", "https://a b/"],
    ),
]  # fmt: skip
"""A parameter of an operation or a field of a schema, with what has its form and what has not."""


class TestAForm:
    @pytest.mark.parametrize(("operation", "name", "inner", "taken", "refused"), FORMS)
    async def test_is_told_exactly_enough_to_make_up_a_value(
        self, document: Any, operation: str, name: str, inner: str, taken: list[str], refused: list[str]
    ) -> None:
        schema = form_of(document, operation, name, inner)

        assert [text for text in taken if not accepts(document, schema, text)] == []
        assert [text for text in refused if accepts(document, schema, text)] == []


def form_of(document: Any, operation: str, name: str, inner: str) -> Any:
    """The schema of a parameter, of a field, or of the values of a field."""
    if operation:
        (found,) = [told for _, _, told in operations_of(document) if told["operationId"] == operation]
        return next(taken["schema"] for taken in found["parameters"] if taken["name"] == name)
    field = document["components"]["schemas"][name]["properties"][inner]
    told = field["anyOf"][0] if "anyOf" in field else field
    return told.get("additionalProperties", told)


class TestTheWebhooks:
    async def test_are_all_told_of(self, document: Any) -> None:
        assert set(document["webhooks"]) == {kind.value for kind in EventKind}

    async def test_name_the_headers_that_sign_them(self, document: Any) -> None:
        for methods in document["webhooks"].values():
            names = {parameter["name"] for parameter in methods["post"]["parameters"]}
            assert names == {"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"}
            assert set(methods["post"]["responses"]) == {"2XX", "410", "default"}


class _Page(HTMLParser):
    """What a page refers to, what can be referred to in it, and whether it holds anything a policy forbids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if found := given.get("id"):
            self.ids.append(found)
        if tag == "a":
            self.links.add(given["href"] or "")
        if loaded := given.get("src") or (given.get("href") if tag == "link" else None):
            self.loaded.add(loaded)
        if tag in ("script", "style", "iframe", "form") or any(
            n == "style" or n.startswith("on") for n in given
        ):
            self.inline.append(tag)


class TestTheReferencePage:
    async def test_is_for_anybody_and_loads_nothing_from_elsewhere(self, nobody: AsyncClient) -> None:
        answer = await nobody.get("/v1/reference")
        page = _Page(answer.text)

        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'self';")
        assert "unsafe" not in policy
        assert not page.inline
        assert page.loaded <= OPEN_PATHS
        for path in page.loaded:
            style = await nobody.get(path)
            assert style.status_code == 200
            assert style.headers["Content-Type"] == "text/css; charset=utf-8"
            assert "url(" not in style.text
            assert "@import" not in style.text

    async def test_has_a_place_for_every_operation_schema_and_webhook(
        self, nobody: AsyncClient, document: Any
    ) -> None:
        page = _Page((await nobody.get("/v1/reference")).text)
        calls = [methods["post"]["operationId"] for methods in document["webhooks"].values()]
        wanted = {operation["operationId"] for _, _, operation in operations_of(document)} | set(calls)
        wanted |= {f"schema-{name}" for name in document["components"]["schemas"]}

        assert wanted <= set(page.ids)
        assert len(set(page.ids)) == len(page.ids)

    async def test_leads_nowhere_that_is_not_there(self, nobody: AsyncClient) -> None:
        page = _Page((await nobody.get("/v1/reference")).text)

        for link in page.links:
            assert (link[1:] in page.ids) if link.startswith("#") else link in OPEN_PATHS, link

    async def test_is_the_only_one(self, nobody: AsyncClient) -> None:
        for path in ("/docs", "/redoc", "/v1/reference/", "/v1/reference/other.css"):
            assert (await nobody.get(path)).status_code in (401, 404), path
