"""Web pages of other origins: closed to all of them, but for those an operator names."""

from collections.abc import Mapping
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PREFLIGHT: Mapping[str, str] = MappingProxyType(
    {
        "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
        "Access-Control-Allow-Headers": (
            "Authorization, Content-Type, Idempotency-Key, If-Match, Last-Event-ID, X-Request-Id"
        ),
        "Access-Control-Max-Age": "600",
    }
)
_EXPOSED = "Allow, ETag, Idempotency-Replayed, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"


class Origins:
    """Tells browsers that pages of the named origins may read answers; others are told nothing at all."""

    def __init__(self, app: ASGIApp, *, allowed: frozenset[str]) -> None:
        """Wrap the application; `allowed` as browsers send them, such as https://app.example."""
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight of a named origin, and mark every other answer to one."""
        origin = Headers(scope=scope).get("origin") if scope["type"] == "http" else None
        if origin not in self._allowed:
            await self._app(scope, receive, send)
            return
        shared = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}

        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update({**shared, "Access-Control-Expose-Headers": _EXPOSED})
            await send(message)

        if scope["method"] == "OPTIONS" and "access-control-request-method" in Headers(scope=scope):
            await Response(status_code=204, headers={**shared, **_PREFLIGHT})(scope, receive, send)
        else:
            await self._app(scope, receive, mark)
