"""Temporal's codec protocol: its Web UI and command line show an operator what is encrypted. Off without keys."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, Depends, Request, Response
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from temporalio.api.common.v1 import Payload, Payloads

from adapters.postgres.database import Database
from adapters.postgres.keys import KeyHolder, find_holder
from adapters.postgres.sessions import PersonKind, Visitor, find_visitor
from api.authentication import KeyBound, ScopeMissing, Unauthenticated, key_of
from api.limits import Limits
from api.scopes import Scope
from console.visitors import COOKIE
from runtime.payloads import PayloadEncryption

PATHS = frozenset({"/codec/decode", "/codec/encode"})

_log = structlog.get_logger(__name__)

Recode = Callable[[Sequence[Payload]], Awaitable[list[Payload]]]


class PayloadsUnreadable(ValueError):
    """The body is not what Temporal's codec protocol sends."""


class NotAnOperator(Exception):
    """Somebody is signed in, and is no operator."""


@dataclass(frozen=True, slots=True)
class Door:
    """Who may come in: a key of all owners with the scope `admin`, or an operator signed in with the pages.

    The pages' cookie counts only for a script of Temporal's Web UI at its own origin, which browsers name themselves.
    """

    database: Database
    limits: Limits
    origin: str | None

    async def admit(self, request: Request) -> str:
        """Count the caller, and name them. Raises TooMany and what refuses them."""
        try:
            if "authorization" in request.headers:
                return self._admit_key(await find_holder(self.database, key_of(request)))
            return self._admit_visitor(await self._visitor(request))
        except Unauthenticated:
            self.limits.admit_stranger(request.client.host if request.client else None)
            raise

    async def _visitor(self, request: Request) -> Visitor | None:
        token = request.cookies.get(COOKIE)
        if not token or self.origin is None or request.headers.get("origin") != self.origin:
            return None
        return await find_visitor(self.database, token)

    def _admit_key(self, holder: KeyHolder | None) -> str:
        if holder is None:
            message = "This API key is unknown, expired or revoked: use a valid one."
            raise Unauthenticated(message, key_sent=True)
        self.limits.admit_key(holder.id)
        if Scope.ADMIN.value not in holder.scopes:
            raise ScopeMissing(Scope.ADMIN)
        if holder.owner_id is not None:
            message = "This key is bound to one owner, and runs are everybody's: use a key without owner."
            raise KeyBound(message)
        return holder.id

    def _admit_visitor(self, visitor: Visitor | None) -> str:
        if visitor is None:
            message = (
                "Sign in to Tidemark's pages as an operator with this browser, or send an API key in the header "
                "`Authorization: Bearer tm_...`."
            )
            raise Unauthenticated(message, key_sent=False)
        self.limits.admit_key(visitor.session_id)
        if visitor.kind is not PersonKind.OPERATOR or visitor.recovering:
            message = "Only an operator, signed in with a passkey, reads what is encrypted."
            raise NotAnOperator(message)
        return visitor.person_id


def codec_router(encryption: PayloadEncryption, door: Door) -> APIRouter:
    """The routes of the protocol; no part of the API's description, as they speak to Temporal's own programs."""
    router = APIRouter(prefix="/codec", include_in_schema=False)

    @router.post("/decode")
    async def decode(request: Request, caller: Annotated[str, Depends(door.admit)]) -> Response:
        return await _recoded(request, encryption.decode, deed="codec.decoded", caller=caller)

    @router.post("/encode")
    async def encode(request: Request, caller: Annotated[str, Depends(door.admit)]) -> Response:
        return await _recoded(request, encryption.encode, deed="codec.encoded", caller=caller)

    return router


def origin_of(address: str | None) -> str | None:
    """The origin of a page at this address, as browsers name it."""
    if address is None:
        return None
    parts = urlsplit(address)
    usual = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, usual) else "")


async def _recoded(request: Request, recode: Recode, *, deed: str, caller: str) -> Response:
    payloads = await recode(_read(await request.body()))
    _log.info(deed, caller=caller, payloads=len(payloads))
    return Response(MessageToJson(Payloads(payloads=payloads)), media_type="application/json")


def _read(body: bytes) -> Sequence[Payload]:
    try:
        return Parse(body, Payloads()).payloads
    except (ParseError, UnicodeDecodeError, RecursionError) as unreadable:
        message = "Send the payloads as Temporal's codec protocol has them: JSON with a list `payloads`."
        raise PayloadsUnreadable(message) from unreadable
