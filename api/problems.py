"""Problem documents (RFC 9457): every error answer, in one shape."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.postgres.answers import Answer
from api.wire import View

MEDIA_TYPE = "application/problem+json"
_TYPE_PREFIX = "urn:tidemark:problem:"


class FieldProblem(View):
    """What is wrong with one field; `pointer` is a JSON pointer into the body, or /query/... for a parameter."""

    pointer: str
    message: str


class Problem(View):
    """Why a request was not done; `code` is stable, `detail` says what to do next."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldProblem] | None = None
    top_up_id: str | None = None
    rule_id: str | None = None


def problem(
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    request_id: str,
    errors: Sequence[FieldProblem] = (),
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """The document as an answer; members without a value are left out."""
    document: dict[str, Any] = {
        "type": _TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }
    if errors:
        document["errors"] = [error.model_dump() for error in errors]
    document.update(extra or {})
    body = json.dumps(document, ensure_ascii=False)
    return Answer(status, body, {"Content-Type": MEDIA_TYPE, **(headers or {})})
