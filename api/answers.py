"""Answers as the description tells of them: their headers, and each problem with its code and one case of it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from api.cases import REFUSED
from api.examples import REQUEST_ID
from api.once import REPLAYED
from api.problems import MEDIA_TYPE, Problem
from api.refusals import Kind, name_of, refusal_of, refused
from api.schemas import PREFIX, Schema

HEADERS: Mapping[str, Schema] = MappingProxyType(
    {
        "X-Request-Id": {
            "description": "The id under which this request is logged: the one the caller sent, or a new one.",
            "schema": {"type": "string"},
            "example": REQUEST_ID,
        },
        "ETag": {
            "description": "The version of the rule; a change of it needs this in `If-Match`.",
            "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
            "example": '"3"',
        },
        REPLAYED: {
            "description": "There when this is the first answer again, kept under the `Idempotency-Key`.",
            "schema": {"type": "string", "const": "true"},
            "example": "true",
        },
        "Retry-After": {
            "description": "Seconds after which asking again makes sense.",
            "schema": {"type": "string", "pattern": "^[0-9]+$"},
            "example": "2",
        },
        "RateLimit": {
            "description": "What is left of the quota: `r` requests, for `t` more seconds.",
            "schema": {"type": "string"},
            "example": '"key";r=599;t=60',
        },
        "RateLimit-Policy": {
            "description": "The quota: `q` requests in `w` seconds, for each key or address.",
            "schema": {"type": "string"},
            "example": '"key";q=600;w=60',
        },
        "WWW-Authenticate": {
            "description": "What a request needs to be let in.",
            "schema": {"type": "string"},
            "example": 'Bearer realm="tidemark", error="invalid_token"',
        },
    }
)
"""Every header that an answer may carry and a caller may care for."""

ALWAYS = ("X-Request-Id",)
COUNTED = ("RateLimit", "RateLimit-Policy")
_CHALLENGED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def header_references(*names: str) -> Schema:
    """The headers by their names, for one answer."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def name_answer(kinds: Iterable[Kind]) -> str:
    """The name under which the problem answers of one status are shared between operations."""
    return "Or".join(sorted({_part(kind) for kind in kinds}))


def describe_problems(kinds: Sequence[Kind], *headers: str) -> Schema:
    """One answer that is a problem: its codes, a case of each, and its headers."""
    cases = {_case_name(kind, kinds): kind for kind in sorted(kinds, key=_part)}
    status = refusal_of(kinds[0]).status
    codes = sorted({refusal_of(kind).code for kind in kinds})
    return {
        "description": " ".join(_line(kind) for kind in cases.values()),
        "headers": header_references(*ALWAYS, *headers, *_further_headers(status, kinds)),
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "$ref": PREFIX + Problem.__name__,
                    "properties": {"status": {"const": status}, "code": {"enum": codes}},
                },
                "examples": {
                    name: {"summary": refusal_of(kind).title, "value": case_of(kind)}
                    for name, kind in cases.items()
                },
            }
        },
    }


def case_of(kind: Kind) -> Mapping[str, Any]:
    """The document that one case of the refusal is answered with."""
    refusal = refusal_of(kind)
    error = REFUSED.get(kind) or HTTPException(refusal.status, refusal.title)
    request = Request({"type": "http", "headers": [], "state": {"request_id": REQUEST_ID}})
    found: Mapping[str, Any] = json.loads(refused(error, request).body)
    told = {name: getattr(refusal, name) for name in ("status", "title", "code")}
    return {**found, **told, "type": f"urn:tidemark:problem:{refusal.code}"}


def _further_headers(status: int, kinds: Iterable[Kind]) -> tuple[str, ...]:
    waits = status == HTTPStatus.TOO_MANY_REQUESTS or any(refusal_of(kind).retry_after for kind in kinds)
    return (*(("Retry-After",) if waits else ()), *(("WWW-Authenticate",) if status in _CHALLENGED else ()))


def _case_name(kind: Kind, among: Iterable[Kind]) -> str:
    """The code, or the kind's own name where several kinds have the same code."""
    code = refusal_of(kind).code
    shared = [other for other in set(among) if refusal_of(other).code == code]
    return code if len(shared) == 1 else str(name_of(kind))


def _line(kind: Kind) -> str:
    refusal = refusal_of(kind)
    return f"`{refusal.code}`: {refusal.title}."


def _part(kind: Kind) -> str:
    """Our own exceptions say what is so; a library's is named by its code."""
    own = not isinstance(kind, int) and not kind.__name__.endswith("Error")
    code = refusal_of(kind).code
    return str(name_of(kind)) if own else "".join(word.capitalize() for word in code.split("_"))
