"""Once only: a POST repeated with its Idempotency-Key gets the first answer, and has no second effect."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Header, Request
from pydantic import BaseModel, JsonValue
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.background import BackgroundTask
from starlette.responses import Response

from adapters.postgres.answers import Answer, Asked, claim_key, keep_answer
from adapters.postgres.database import Database
from api.given import DatabaseDep
from api.wire import REQUIRED, View

if TYPE_CHECKING:
    from adapters.postgres.keys import KeyHolder

REPLAYED = "Idempotency-Replayed"
KEY_FORM = r'^([!#-~][!-~]*|"[!-~]+")$'
_LENGTH_MAX = 255
_DESCRIBED: dict[str, JsonValue] = {"minLength": 1, "maxLength": _LENGTH_MAX, "pattern": KEY_FORM}
_KEY = re.compile(KEY_FORM, re.ASCII)
_ERROR_FROM = 400

Deed = Callable[[AsyncSession], Awaitable[Answer]]
Reveal = Callable[[Answer], Answer]
"""Puts a secret into an answer that goes out; what is kept of it has none."""


class KeyMissing(ValueError):
    """The request moves money and has no Idempotency-Key."""


class KeyUnusable(ValueError):
    """The Idempotency-Key is empty, too long, or not plain ASCII."""


class Once:
    """One POST, done in one commit together with the memory of its answer."""

    def __init__(self, request: Request, database: Database, key: str | None) -> None:
        """`key` None: the caller did not ask for a memory."""
        self._database = database
        self._key = key
        self._route = f"{request.method} {request.url.path}"
        self._holder: KeyHolder | None = getattr(request.state, "holder", None)

    async def answer(
        self,
        deed: Deed,
        *,
        body: BaseModel | None = None,
        wakes: bool = False,
        reveal: Reveal = lambda answer: answer,
    ) -> Response:
        """Do the deed, or give the answer it got before under this key and body.

        What the deed raises leaves no trace, so the request can be sent again with the same key; what it returns,
        refusals too, is kept. `wakes`: the deed may write balance events.
        """
        asked = self._asked(body)
        async with self._database.commit() as session:
            first = await claim_key(session, asked) if asked else None
            if first is not None:
                return _respond(reveal(first), replayed=True)
            answer = await deed(session)
            if asked:
                await keep_answer(session, asked, answer)
        woken = self._database if wakes and answer.status < _ERROR_FROM else None
        return _respond(reveal(answer), wakes=woken)

    async def remember(self, answer: Answer, *, body: BaseModel | None = None) -> Response:
        """Keep an answer that has been found already, or give the first one under this key."""

        async def found(_session: AsyncSession) -> Answer:
            return answer

        return await self.answer(found, body=body) if self._key else _respond(answer)

    def _asked(self, body: BaseModel | None) -> Asked | None:
        if self._key is None or self._holder is None:
            return None
        text = body.model_dump_json() if body else ""
        request_hash = hashlib.sha256(text.encode()).hexdigest()
        return Asked(self._holder.id, self._route, self._key, request_hash)


def _once(
    request: Request,
    database: DatabaseDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="The same key and body within 7 days get the same answer, and one effect.",
            json_schema_extra=_DESCRIBED,
        ),
    ] = None,
) -> Once:
    return Once(request, database, None if idempotency_key is None else _read_key(idempotency_key))


def _once_required(
    request: Request,
    database: DatabaseDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="The same key and body within 7 days get the same answer, and one effect.",
            json_schema_extra={**_DESCRIBED, REQUIRED: True},
        ),
    ] = None,
) -> Once:
    if idempotency_key is None:
        message = (
            "This moves money, so it needs an Idempotency-Key: send a fresh random one with each new request, "
            "and the same one when repeating a request."
        )
        raise KeyMissing(message)
    return Once(request, database, _read_key(idempotency_key))


OnceDep = Annotated[Once, Depends(_once)]
OnceRequired = Annotated[Once, Depends(_once_required)]


def answered(view: View, *, status: int = 200, etag: str | None = None) -> Answer:
    """The view as an answer."""
    headers = {"Content-Type": "application/json"} | ({"ETag": etag} if etag else {})
    return Answer(status, view.model_dump_json(), headers)


def _read_key(text: str) -> str:
    """The key itself; the quotes of a structured header are not part of it."""
    if len(text) > _LENGTH_MAX or not _KEY.fullmatch(text):
        message = "An Idempotency-Key is 1 to 255 visible ASCII characters; a random UUID is a good one."
        raise KeyUnusable(message)
    return text[1:-1] if text.startswith('"') else text


def _respond(answer: Answer, *, replayed: bool = False, wakes: Database | None = None) -> Response:
    return Response(
        answer.body,
        status_code=answer.status,
        headers={**answer.headers, **({REPLAYED: "true"} if replayed else {})},
        background=BackgroundTask(wakes.wake_watchers) if wakes else None,
    )
