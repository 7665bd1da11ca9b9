"""What a body may be: JSON, and of a bounded size; refused only after the caller was counted and known."""

import re

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX = 256 * 1024
"""Room for a batch of 500 balance events."""

_JSON = re.compile(r"application/([a-z0-9.-]+\+)?json(\s*;.*)?", re.IGNORECASE)
_OF_JSON = ("/v1/", "/codec/")
_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Bodies:
    """Refuses a body before it is read where its headers say enough, else as soon as it is too large."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. Raises HTTPException."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        _refuse_body(scope)
        await self._app(scope, _Bounded(receive).receive, send)


class _Bounded:
    """The body as it comes in."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = 0

    async def receive(self) -> Message:
        """Pass on and count. Raises HTTPException."""
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > BODY_BYTES_MAX:
            raise _too_large()
        return message


def _refuse_body(scope: Scope) -> None:
    """Refuse a body that says it is too large, or where JSON is taken that it is none."""
    headers = Headers(scope=scope)
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > BODY_BYTES_MAX:
        raise _too_large()
    has_body = length != "0" or "transfer-encoding" in headers
    takes_json = scope["method"] in _METHODS_WITH_BODY and scope["path"].startswith(_OF_JSON)
    if has_body and takes_json and not _JSON.fullmatch(headers.get("content-type", "")):
        raise HTTPException(415)


def _too_large() -> HTTPException:
    return HTTPException(413, f"A body may have at most {BODY_BYTES_MAX} bytes: send less.")
