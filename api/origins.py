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
_CODEC_PREFLIGHT: Mapping[str, str] = MappingProxyType(
    {
        "Access-Control-Allow-Methods": "POST",
        "Access-Control-Allow-Headers": "Authorization, Authorization-Extras, Content-Type, X-Namespace",
        "Access-Control-Max-Age": "600",
    }
)
_EXPOSED = "Allow, ETag, Idempotency-Replayed, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"


class Origins:
    """Tells browsers that pages of the named origins may read answers; others are told nothing at all.

    Where any is named, every answer varies with the origin, so that no cache gives one's answer to another. The codec
    protocol is for the page of one origin alone, Temporal's Web UI, which may send the cookie of an operator.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed: frozenset[str],
        codec_origin: str | None = None,
        codec_paths: frozenset[str] = frozenset(),
    ) -> None:
        """Wrap the application; origins as browsers send them, such as https://app.example."""
        self._app = app
        self._allowed = allowed
        self._codec_origin = codec_origin
        self._codec_paths = codec_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight of a named origin, and mark every other answer to one."""
        if scope["type"] != "http" or not (self._allowed or self._codec_paths):
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        of_codec = scope["path"] in self._codec_paths
        shared = self._shared(asked.get("origin"), of_codec=of_codec)

        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(shared)
                headers.add_vary_header("Origin")
            await send(message)

        if shared and scope["method"] == "OPTIONS" and "access-control-request-method" in asked:
            preflight = _CODEC_PREFLIGHT if of_codec else _PREFLIGHT
            await Response(status_code=204, headers=preflight)(scope, receive, mark)
        else:
            await self._app(scope, receive, mark)

    def _shared(self, origin: str | None, *, of_codec: bool) -> Mapping[str, str]:
        if origin is None:
            return {}
        if of_codec:
            with_cookie = {"Access-Control-Allow-Credentials": "true"}
            return {**_shared_with(origin), **with_cookie} if origin == self._codec_origin else {}
        return _shared_with(origin) if origin in self._allowed else {}


def _shared_with(origin: str) -> Mapping[str, str]:
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED}
