"""Who is asking, and whether they may: bearer keys, scopes, and keys bound to one owner."""

import re
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from adapters.postgres.keys import KeyHolder
from adapters.postgres.rules import Author
from api.limits import Limits
from api.scopes import Scope

OPEN_PATHS = frozenset({"/v1/openapi.json", "/v1/reference", "/v1/reference/reference.css"})
UNCOUNTED_PATHS = frozenset({"/livez", "/readyz"})
"""Health has no limit: whoever watches over the program asks as often as it needs."""
METRICS_PATH = "/metrics"

_BEARER = re.compile(r"bearer +(?P<key>\S+)", re.IGNORECASE)
_KEY = re.compile(r"tm_[A-Za-z0-9_-]{20,200}")
_SHOWN = HTTPBearer(auto_error=False, scheme_name="api_key", description="An API key: `Bearer tm_...`.")

FindHolder = Callable[[str], Awaitable[KeyHolder | None]]


class Unauthenticated(Exception):
    """No key was sent, or one that is not valid."""

    def __init__(self, message: str, *, key_sent: bool) -> None:
        """Tell a missing key from a bad one."""
        super().__init__(message)
        self.key_sent = key_sent


class ScopeMissing(Exception):
    """The key is valid but lacks the scope this route needs."""

    def __init__(self, scope: Scope) -> None:
        """Name the scope."""
        super().__init__(
            f"This key lacks the scope {scope.value}: use one that has it, or ask for a new key."
        )
        self.scope = scope


class KeyBound(Exception):
    """The key is bound to one owner, and this concerns all of them."""


class Authentication:
    """Refuses everything under /v1 without a valid key, and whoever asks too often, before a body is read."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        find_holder: FindHolder,
        limits: Limits,
        open_paths: frozenset[str] = OPEN_PATHS,
        counted_elsewhere: Callable[[str], bool] = lambda _path: False,
    ) -> None:
        """Wrap the application. What is `counted_elsewhere`, the pages, looks after its own callers."""
        self._app = app
        self._find_holder = find_holder
        self._limits = limits
        self._open_paths = open_paths
        self._counted_elsewhere = counted_elsewhere

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Put the key's holder and their limit into the request's state. Raises Unauthenticated and TooMany."""
        if connection["type"] == "http" and not self._is_uncounted(connection["path"]):
            await self._admit(connection)
        await self._app(connection, receive, send)

    async def _admit(self, connection: Connection) -> None:
        """A valid key counts by itself, so that no neighbor behind the same address can use up its quota."""
        state = connection.setdefault("state", {})
        address, _ = connection.get("client") or (None, None)
        if not self._is_guarded(connection["path"]):
            state["standing"] = self._limits.admit_stranger(address)
            return
        try:
            holder = await self._holder_of(_key_in(Headers(scope=connection).get("authorization")))
        except Unauthenticated:
            state["standing"] = self._limits.admit_stranger(address)
            raise
        state["holder"] = holder
        state["standing"] = self._limits.admit_key(holder.id)

    def _is_uncounted(self, path: str) -> bool:
        return path in UNCOUNTED_PATHS or self._counted_elsewhere(path)

    def _is_guarded(self, path: str) -> bool:
        within = path in ("/v1", METRICS_PATH) or path.startswith("/v1/")
        return within and path not in self._open_paths

    async def _holder_of(self, key: str) -> KeyHolder:
        holder = await self._find_holder(key) if _KEY.fullmatch(key) else None
        if holder is None:
            message = "This API key is unknown, expired or revoked: use a valid one."
            raise Unauthenticated(message, key_sent=True)
        return holder


def needs(scope: Scope, *, unbound: bool = False) -> Callable[..., KeyHolder]:
    """The dependency by which a route declares its scope; `unbound`: a key bound to one owner will not do."""

    def holder_with_scope(
        request: Request, _shown: Annotated[object, Security(_SHOWN, scopes=[scope.value])]
    ) -> KeyHolder:
        holder: KeyHolder = request.state.holder
        if scope.value not in holder.scopes:
            raise ScopeMissing(scope)
        if unbound and holder.owner_id is not None:
            message = (
                "This key is bound to one owner, and this concerns all of them: use a key without owner."
            )
            raise KeyBound(message)
        return holder

    return holder_with_scope


def key_of(request: Request) -> str:
    """The key of a caller who is known by it. Nothing is to keep it."""
    return _key_in(request.headers.get("authorization"))


def author_of(holder: KeyHolder) -> Author:
    """The holder, as the history of a rule names them."""
    return Author(name=f"{holder.name} ({holder.id})", bound_to=holder.owner_id)


EventsWriter = Annotated[KeyHolder, Depends(needs(Scope.EVENTS_WRITE))]
RulesReader = Annotated[KeyHolder, Depends(needs(Scope.RULES_READ))]
RulesWriter = Annotated[KeyHolder, Depends(needs(Scope.RULES_WRITE))]
WalletsReader = Annotated[KeyHolder, Depends(needs(Scope.WALLETS_READ))]
Admin = Annotated[KeyHolder, Depends(needs(Scope.ADMIN))]
AdminOfAll = Annotated[KeyHolder, Depends(needs(Scope.ADMIN, unbound=True))]


def _key_in(authorization: str | None) -> str:
    match = _BEARER.fullmatch(authorization or "")
    if match is None:
        message = "Send an API key in the header `Authorization: Bearer tm_...`."
        raise Unauthenticated(message, key_sent=False)
    return match["key"]
