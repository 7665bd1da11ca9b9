"""Wires: TCP between a program and a server, that can be cut, or hold back what goes one way."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[], Awaitable[Streams]]

_RESET = struct.pack("ii", 1, 0)
_CHUNK = 65536


@dataclass(eq=False, slots=True)
class Hold:
    """What is held back: replies after a pattern was seen in the requests, or all requests."""

    pattern: bytes | None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False, slots=True)
class _Connection:
    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    tail: bytes = b""
    holds_replies: Hold | None = None


class Wire:
    """One address that leads to a server."""

    def __init__(self, dial: Dial) -> None:
        """`dial` connects to the server. Use `Wire.open`."""
        self._dial = dial
        self._connections: set[_Connection] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._holds: list[Hold] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    @classmethod
    async def open(cls, dial: Dial) -> Self:
        """Listen on a free port."""
        wire = cls(dial)
        wire._server = await asyncio.start_server(wire._connect, "127.0.0.1", 0)
        wire.port = wire._server.sockets[0].getsockname()[1]
        return wire

    def cut(self) -> int:
        """Reset every connection, at both ends; how many there were."""
        cut = len(self._connections)
        for connection in list(self._connections):
            for end in (connection.near, connection.far):
                _reset(end)
        return cut

    def hold_replies(self, pattern: bytes) -> Hold:
        """Hold back the replies of the connection on which this pattern is sent."""
        return self._hold(pattern)

    def hold_requests(self) -> Hold:
        """Hold back everything that is sent from now on."""
        return self._hold(None)

    async def close(self) -> None:
        """Cut everything and listen no more."""
        assert self._server is not None
        self._server.close()
        self.cut()
        for hold in self._holds:
            hold.released.set()
        if self._pumps:
            await asyncio.wait(self._pumps)

    def _hold(self, pattern: bytes | None) -> Hold:
        hold = Hold(pattern)
        self._holds = [*[held for held in self._holds if not held.released.is_set()], hold]
        return hold

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._keep(self._lead(reader, writer))

    def _keep(self, pumping: Awaitable[None]) -> None:
        pump = asyncio.ensure_future(pumping)
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await self._dial()
        except OSError:
            _reset(writer)
            return
        connection = _Connection(writer, far_writer)
        self._connections.add(connection)
        try:
            await asyncio.gather(
                self._pump_requests(reader, connection), self._pump_replies(far_reader, connection)
            )
        finally:
            self._connections.discard(connection)

    async def _pump_requests(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while sent := await reader.read(_CHUNK):
                for hold in self._holds:
                    if hold.pattern is None and not hold.released.is_set():
                        hold.reached.set()
                        await hold.released.wait()
                self._look_for_patterns(connection, sent)
                connection.far.write(sent)
                await connection.far.drain()
        connection.far.close()

    async def _pump_replies(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        with contextlib.suppress(OSError):
            while sent := await reader.read(_CHUNK):
                if connection.holds_replies is not None:
                    connection.holds_replies.reached.set()
                    await connection.holds_replies.released.wait()
                connection.near.write(sent)
                await connection.near.drain()
        connection.near.close()

    def _look_for_patterns(self, connection: _Connection, sent: bytes) -> None:
        seen = connection.tail + sent
        for hold in self._holds:
            if hold.pattern is not None and not hold.released.is_set() and hold.pattern in seen:
                connection.holds_replies = hold
        connection.tail = seen[-200:]


def tcp(port: int) -> Dial:
    """Lead to a port of this machine."""
    return lambda: asyncio.open_connection("127.0.0.1", port)


def unix(path: str) -> Dial:
    """Lead to a socket in a folder."""
    return lambda: asyncio.open_unix_connection(path)


def _reset(end: asyncio.StreamWriter) -> None:
    connection = end.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_INET:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.transport.abort()
