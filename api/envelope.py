"""What surrounds every request: its id, its log line, its measure, and headers that keep browsers careful."""

import re
import secrets
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.measures import Answered
from api.refusals import find_refusal, refused, respond
from runtime.logs import redact_keys

if TYPE_CHECKING:
    from api.limits import Standing

_log = structlog.get_logger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_CAREFUL: Mapping[str, str] = MappingProxyType(
    {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
)
_STRICT_TRANSPORT = "max-age=31536000"


class Envelope:
    """The outermost layer: the request's id, and what is told of it."""

    def __init__(self, app: ASGIApp, *, encrypted: bool, count: Callable[[Answered], None]) -> None:
        """Wrap the application; `encrypted`: it is reached by https."""
        self._app = app
        self._count = count
        transport = {"Strict-Transport-Security": _STRICT_TRANSPORT} if encrypted else {}
        self._headers = {**_CAREFUL, **transport}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request.state.request_id = _request_id(request.headers.get("x-request-id"))
        answer = _Answering(send, request, self._headers)
        with structlog.contextvars.bound_contextvars(request_id=request.state.request_id):
            await self._app(scope, receive, answer.send)
            if answer.status is not None:
                self._count(_answered(request, answer.status, answer.waited))
            _log.info("request.answered", **_facts(request, answer))


class Refusing:
    """Whatever is raised inside becomes an answer; what no table knows is logged as a defect."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, unless an answer has begun already: then it is broken off."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def begin(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, begin)
        except Exception as error:
            request = Request(scope)
            if find_refusal(error) is None:
                _log.exception("request.broken", method=request.method, path=request.url.path)
            if begun:
                raise
            await respond(refused(error, request))(scope, receive, send)


class _Answering:
    """The answer as it goes out: headers are added, the status and the wait are remembered."""

    def __init__(self, send: Send, request: Request, headers: Mapping[str, str]) -> None:
        self._send = send
        self._request = request
        self._headers = headers
        self.status: int | None = None
        self.since = time.perf_counter()
        self.waited = 0.0

    async def send(self, message: Message) -> None:
        """Pass on; what a route has set itself stands."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])  # A member of HTTPStatus would be written out with its name.
            self.waited = time.perf_counter() - self.since
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request.state.request_id
            for name, value in {**self._headers, **_standing_headers(self._request)}.items():
                headers.setdefault(name, value)
        await self._send(message)


def _standing_headers(request: Request) -> Mapping[str, str]:
    standing: Standing | None = getattr(request.state, "standing", None)
    return standing.headers if standing else {}


def _request_id(sent: str | None) -> str:
    """The caller's own id where it is usable, so that both sides can find the request; never a key by mistake."""
    usable = sent and _REQUEST_ID.fullmatch(sent) and redact_keys(sent) == sent
    return sent if sent and usable else f"req_{secrets.token_hex(12)}"


def _answered(request: Request, status: int, waited: float) -> Answered:
    route = request.scope.get("route")
    return Answered(request.method, getattr(route, "path", None), status, waited)


def _facts(request: Request, answer: _Answering) -> dict[str, object]:
    holder = getattr(request.state, "holder", None)
    return {
        "method": request.method,
        "path": request.url.path,
        "status": answer.status,
        "milliseconds": round((time.perf_counter() - answer.since) * 1000, 1),
        "key_id": holder.id if holder else None,
    }
