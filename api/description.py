"""The description of the API, OpenAPI 3.1: what the routes say of themselves, completed for generators and readers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from itertools import chain
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError

from adapters.postgres.answers import FirstStillRunning, KeyReused
from adapters.postgres.rules import VersionStale
from api.answers import ALWAYS, COUNTED, HEADERS, describe_problems, header_references, name_answer
from api.examples import PARAMETERS, STREAMS, UNTOLD, example_of, told_otherwise
from api.field_words import FIELD_WORDS, PARAMETER_WORDS
from api.once import REPLAYED, KeyMissing, KeyUnusable
from api.problems import Problem
from api.refusals import KINDS, Kind, kind_named, only_refusals
from api.schemas import (
    Schema,
    drop_noise,
    rename_views,
    resolve,
    share_enumerations,
    without_null,
)
from api.scopes import WORDS
from api.versions import VersionForeign, VersionMissing
from api.webhook_calls import TAG, add_webhook_calls, complete_webhook_calls
from api.wire import REQUIRED

_ABOUT = """Keeps a Pay wallet from running dry: when its balance falls below a line its owner has drawn, a fixed
amount is moved into it, once, from up to three ranked assets of the owner's exchange account.

**Amounts** are decimal strings in plain notation, such as `"50.00"`; a JSON number is refused. **Times** are RFC 3339
in UTC. **Ids** are prefixed and sort by creation. Unknown fields are refused. Fields may be added to answers, never
renamed or removed within version 1.

**Lists** come in pages, newest first: `limit` says how many, `after` takes the `next_cursor` of the page before.

**Errors** are `application/problem+json` (RFC 9457). Their `code` is stable, their `detail` says what to do next, and
`errors` names every field that is wrong. Codes may be added.

**Repeating** is safe: every POST takes an `Idempotency-Key`, and the same key and body within seven days get the same
answer, with one effect. Those that move money require it. What was refused with `unavailable` left nothing behind.

**Rules have versions**: send the `ETag` you have read in `If-Match`, and a change made meanwhile by someone else is not
lost.

**A key bound to one owner** sees nothing of any other: whatever belongs to someone else is not found."""

TAGS: Mapping[str, str] = MappingProxyType(
    {
        "owners": "Those whose wallets are kept topped up, what their exchange accounts hold, and what they were told.",
        "wallets": "Pay wallets, one asset each, and how they stand.",
        "rules": "When a wallet counts as low, how much moves then, and from which ranked sources.",
        "top-ups": "Each execution of a rule, from its trigger to its outcome, with the result of every source.",
        "balance events": "What an outside keeper of wallets reports about their balances.",
        "events": "What has happened, told live.",
        "webhook endpoints": "Where events are sent, signed as Standard Webhooks says, and what became of it.",
        TAG: "What your endpoints are sent: the same events as the stream tells, each by a POST of its own.",
        "push subscriptions": "The browsers an owner is told through.",
        "embedded ledger": "Money in and out of the ledger that comes with Tidemark, and the rates it reckons with.",
        "development": "What exists on a development machine only.",
        "health": "Whether this program lives, can serve, and how it fares.",
    }
)  # fmt: skip
"""Every tag with its words, in the order of reading."""

Operation = Schema
_SUCCESS = range(200, 300)
_FORM_WORDS = "A plain decimal"
"""How the words of an amount's form begin, which do not say what the amount is."""
_OF_THE_FRAMEWORK = ("HTTPValidationError", "ValidationError")


def install_description(app: FastAPI) -> None:
    """Let the application describe itself completely; the document is put together once."""
    draft = app.openapi

    @cache
    def describe() -> Schema:
        add_webhook_calls(app)
        return complete(draft())

    app.openapi = describe  # type: ignore[method-assign]


def as_text(document: Schema) -> str:
    """The document as it is kept in a file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def complete(document: Schema) -> Schema:
    """Complete the framework's draft, in place."""
    _describe_all(document)
    _forget_own_problems(document)
    _add_problem(document)
    rename_views(document)
    share_enumerations(document)
    _describe_fields(document)
    for operation in _operations(document):
        _describe_parameters(document, operation)
        _refuse_by_form(operation)
        _describe_answers(document, operation)
        _give_examples(document, operation)
    _share_problems(document)
    _tell_streams(document)
    complete_webhook_calls(document)
    drop_noise(document)
    return _in_order(document)


def operation_title(name: str) -> str:
    """How an operation is called among people: create_rule is "Create rule"."""
    return name.replace("_", " ").replace("top up", "top-up").capitalize()


def _describe_all(document: Schema) -> None:
    document["info"] |= {
        "description": _ABOUT,
        "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
    }
    document["servers"] = [{"url": "/", "description": "This server."}]
    used = {TAG} | {tag for operation in _operations(document) for tag in operation.get("tags", ())}
    document["tags"] = [{"name": name, "description": words} for name, words in TAGS.items() if name in used]
    document["components"]["headers"] = dict(HEADERS)
    key = document["components"]["securitySchemes"]["api_key"]
    key["bearerFormat"] = "tm_..."
    scopes = "\n".join(f"- `{scope.value}`: {words}" for scope, words in WORDS.items())
    key["description"] = (
        f"An API key: `Authorization: Bearer tm_...`. Each has some of these scopes:\n\n{scopes}"
    )


def _forget_own_problems(document: Schema) -> None:
    """Leave out the framework's word for invalid requests, which are told of as problems."""
    for paths in (document["paths"], document["webhooks"]):
        for operation in chain.from_iterable(operations.values() for operations in paths.values()):
            if KINDS not in operation["responses"].get("422", {KINDS: ()}):
                del operation["responses"]["422"]
    for name in _OF_THE_FRAMEWORK:
        document["components"]["schemas"].pop(name, None)


def _add_problem(document: Schema) -> None:
    """Put the problem document, which no route returns as its model, among the schemas."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = document["components"]["schemas"]
    schemas |= schema.pop("$defs", {})
    schema["properties"] = {name: _left_out(kind) for name, kind in schema["properties"].items()}
    schemas[Problem.__name__] = schema


def _left_out(schema: Schema) -> Schema:
    optional = without_null(schema)
    return {name: value for name, value in optional.items() if name != "default"}


def _operations(document: Schema) -> Iterator[Operation]:
    for operations in document["paths"].values():
        yield from operations.values()


def _describe_parameters(document: Schema, operation: Operation) -> None:
    operation["summary"] = operation_title(operation["operationId"])
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"] = _left_out(parameter["schema"])
        schema.pop("title", None)
        schema.pop("description", None)
        parameter["required"] = bool(schema.pop(REQUIRED, parameter.get("required", False)))
        examples = schema.pop("examples", None)
        name = parameter["name"]
        if parameter["in"] == "header":
            parameter["name"] = "-".join(part.capitalize() for part in name.split("-"))
        if words := parameter.get("description") or PARAMETER_WORDS.get(name) or _words_for(name):
            parameter["description"] = words
        told = (examples or [None])[0] or PARAMETERS.get(name)
        parameter["example"] = example_of(document, schema, field=name) if told is None else told


def _words_for(name: str) -> str:
    return f"The id of the {name.removesuffix('_id').replace('_', '-')}." if name.endswith("_id") else ""


def _describe_fields(document: Schema) -> None:
    """Say what a field is where its schema does not, or says only of what form it is."""
    for name, schema in document["components"]["schemas"].items():
        for field, kind in schema.get("properties", {}).items():
            told = FIELD_WORDS.get(f"{name}.{field}") or FIELD_WORDS.get(field)
            form = kind.get("description", "")
            if told and (not form or form.startswith(_FORM_WORDS)):
                kind["description"] = f"{told} {form}".strip()


def _refuse_by_form(operation: Operation) -> None:
    """Add the refusals that follow from what the operation takes."""
    for status, answer in only_refusals(*_kinds_by_form(operation)).items():
        answers = operation["responses"]
        known = answers.setdefault(str(status), {"description": answer["description"]})
        known[KINDS] = [*known.get(KINDS, ()), *answer[KINDS]]
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _kinds_by_form(operation: Operation) -> Iterator[Kind]:
    taken = {parameter["name"]: parameter for parameter in operation.get("parameters", ())}
    places = {parameter["in"] for parameter in taken.values()}
    if "requestBody" in operation:
        yield from (400, 413, 415)
    if "requestBody" in operation or "query" in places:
        yield RequestValidationError
    if "path" in places and "404" not in operation["responses"]:
        yield 404
    if key := taken.get("Idempotency-Key"):
        yield from (KeyUnusable, FirstStillRunning, KeyReused)
        yield from (KeyMissing,) if key["required"] else ()
    if "If-Match" in taken:
        yield from (VersionMissing, VersionForeign, VersionStale)


def _describe_answers(document: Schema, operation: Operation) -> None:
    counted = COUNTED if "429" in operation["responses"] else ()
    for status, answer in operation["responses"].items():
        if KINDS in answer:
            continue
        headers = (*ALWAYS, *counted, *_further_headers(document, operation, answer))
        answer["headers"] = answer.get("headers", {}) | header_references(*headers)
        if answer["description"] == "Successful Response":
            answer["description"] = _words_of(document, answer) or HTTPStatus(int(status)).phrase + "."


def _further_headers(document: Schema, operation: Operation, answer: Schema) -> Iterator[str]:
    taken = {parameter["name"] for parameter in operation.get("parameters", ())}
    if "Idempotency-Key" in taken:
        yield REPLAYED
    versioned = [
        _schema_of(found)
        for other in _operations(document)
        if any(parameter["name"].lower() == "if-match" for parameter in other.get("parameters", ()))
        for found in other["responses"].values()
        if KINDS not in found and _schema_of(found)
    ]
    if _schema_of(answer) in versioned:
        yield "ETag"


def _words_of(document: Schema, answer: Schema) -> str:
    words = resolve(document, _schema_of(answer)).get("description", "")
    return str(words)


def _schema_of(answer: Mapping[str, Any]) -> Schema:
    schema: Schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return schema


def _give_examples(document: Schema, operation: Operation) -> None:
    for media in _json_of(operation.get("requestBody", {})):
        _give_request_examples(document, media)
    for status, answer in operation["responses"].items():
        if int(status) in _SUCCESS:
            for media in _json_of(answer):
                told = example_of(document, media["schema"])
                media.setdefault("example", told_otherwise(operation["operationId"], told))


def _give_request_examples(document: Schema, media: Schema) -> None:
    """One example, or one for each shape that the body may have."""
    shapes = media["schema"].get("oneOf") or media["schema"].get("anyOf") or ()
    if not shapes:
        media.setdefault("example", example_of(document, media["schema"]))
        return
    media["examples"] = {
        shape["$ref"].rpartition("/")[2]: {"value": example_of(document, shape)}
        for shape in shapes
        if "$ref" in shape
    }


def _json_of(holder: Mapping[str, Any]) -> Sequence[Schema]:
    return [media for kind, media in holder.get("content", {}).items() if kind == "application/json"]


def _tell_streams(document: Schema) -> None:
    """A stream is text as far as OpenAPI 3.1 can tell; the framework's word for its items is of a later version."""
    for operation in _operations(document):
        for answer in operation["responses"].values():
            for media_type in answer.get("content", {}):
                if media_type.startswith("text/"):
                    example = STREAMS.get(operation["operationId"], UNTOLD)
                    answer["content"][media_type] = {"schema": {"type": "string"}, "example": example}


def _share_problems(document: Schema) -> None:
    """Tell of each problem answer once, and refer to it from the operations."""
    shared: Schema = {}
    document["components"]["responses"] = shared
    for operation in _operations(document):
        counted = COUNTED if "429" in operation["responses"] else ()
        for status, answer in operation["responses"].items():
            if KINDS not in answer:
                continue
            kinds = tuple(dict.fromkeys(kind_named(name) for name in answer[KINDS]))
            name = name_answer(kinds) + ("" if counted else "Uncounted")
            shared.setdefault(name, describe_problems(kinds, *counted))
            operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}


def _in_order(document: Schema) -> Schema:
    """The same document with its components by name, whatever order the routes came in."""
    for kind, members in document["components"].items():
        document["components"][kind] = dict(sorted(members.items()))
    return {
        name: document[name]
        for name in ("openapi", "info", "servers", "tags", "paths", "webhooks", "components")
        if name in document
    }
