"""A receiver of webhooks and pushes: a real HTTP server that keeps what it gets and answers as told."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook

Reply = bytes | None
"""What is written back; None never answers."""


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    target: str
    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> str:
        """What came, where it is text."""
        return self.content.decode()

    def verified_with(self, secret: str) -> Any:
        """The body, if this secret signed it, by the reckoning of the receivers' own library."""
        return Webhook(secret).verify(self.body, dict(self.headers))


def reply(status: int, *, body: bytes = b"", **headers: str) -> bytes:
    """An HTTP answer."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(slots=True)
class Receiver:
    """What came, oldest first; `answers` are used up one by one, the last one stays."""

    port: int = 0
    answers: list[Reply] = field(default_factory=lambda: [reply(204)])
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    on_received: Callable[[], None] = lambda: None
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}/hooks"

    async def wait_for(self, count: int) -> list[Received]:
        """All requests, once there are this many."""
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request and answer it."""
        self.connections += 1
        self._open.add(writer)
        try:
            await self._take(reader)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # Whoever connected went away.
        finally:
            self._open.discard(writer)
            writer.close()

    def hang_up(self) -> None:
        """Close every connection that still waits for its answer."""
        for writer in self._open:
            writer.close()

    async def _take(self, reader: asyncio.StreamReader) -> None:
        request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        self.received.append(Received(request, headers, content))
        self.on_received()
        async with self._news:
            self._news.notify_all()


@asynccontextmanager
async def open_receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver on a free port of this machine."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver
        server.close()
        receiver.hang_up()
