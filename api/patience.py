"""How long an answer may take to begin: a database that neither answers nor refuses holds nobody up."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATIENCE_SECONDS = 30.0
"""Longer than a wait for a connection and a statement at its bound take together."""


class NoAnswerInTime(Exception):
    """The answer had not begun in time; what was under way is broken off."""


class Patience:
    """Breaks off a request whose answer does not begin in time; waiting for the caller's body does not count."""

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        """Wrap the application."""
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. Raises NoAnswerInTime."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        waiting = _Waiting(self._seconds, receive, send)
        try:
            async with waiting.limit:
                await self._app(scope, waiting.receive, waiting.send)
        except TimeoutError as passed:
            if waiting.limit.expired():
                raise NoAnswerInTime from passed
            raise


class _Waiting:
    """One request whose answer is waited for."""

    def __init__(self, seconds: float, receive: Receive, send: Send) -> None:
        self._seconds = seconds
        self._receive = receive
        self._send = send
        self._begun = False
        self.limit = asyncio.timeout(seconds)

    async def receive(self) -> Message:
        """Pass on what the caller sends; the wait for the answer begins anew with it."""
        self._allow(None)
        message = await self._receive()
        if not self._begun:
            self._allow(self._seconds)
        return message

    async def send(self, message: Message) -> None:
        """Pass on; an answer that has begun may take as long as it likes, as streams do."""
        self._begun = True
        self._allow(None)
        await self._send(message)

    def _allow(self, seconds: float | None) -> None:
        if not self.limit.expired():
            now = asyncio.get_running_loop().time()
            self.limit.reschedule(None if seconds is None else now + seconds)
