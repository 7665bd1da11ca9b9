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
    """Tells browsers that pages of the named origins may read answers; others are told nothing at all.

    Where any is named, every answer varies with the origin, so that no cache gives one's answer to another.
    """

    def __init__(self, app: ASGIApp, *, allowed: frozenset[str]) -> None:
        """Wrap the application; `allowed` as browsers send them, such as https://app.example."""
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight of a named origin, and mark every other answer to one."""
        if scope["type"] != "http" or not self._allowed:
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        origin = asked.get("origin")
        shared = {} if origin is None or origin not in self._allowed else _shared_with(origin)

        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(shared)
                headers.add_vary_header("Origin")
            await send(message)

        if shared and scope["method"] == "OPTIONS" and "access-control-request-method" in asked:
            await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, mark)
        else:
            await self._app(scope, receive, mark)


def _shared_with(origin: str) -> Mapping[str, str]:
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED}
