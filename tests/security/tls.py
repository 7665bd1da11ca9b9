"""Servers that speak TLS in front of servers that do not, with certificates made on the spot."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trustme
from hpack import Decoder

_HEADERS, _CONTINUATION = 0x1, 0x9
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")

Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@dataclass(slots=True)
class Front:
    """Where it listens, and what went through to the server behind it, by connection."""

    port: int = 0
    sent: list[bytearray] = field(default_factory=list)

    @property
    def words(self) -> list[dict[str, str]]:
        """The header of each HTTP/2 request that went through."""
        return [header for sent in self.sent for header in _headers_in(bytes(sent))]


def server_side(authority: trustme.CA, *names: str, clients: trustme.CA | None = None) -> ssl.SSLContext:
    """The context of a server that this authority vouches for under these names, and whose clients another does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    context.set_alpn_protocols(["h2"])
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def in_front_of(open_behind: Open, context: ssl.SSLContext) -> AsyncIterator[Front]:
    """TLS from the first byte on, as Temporal speaks it."""
    front = Front()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pass_on(front, reader, writer, await open_behind())

    async with _listening(front, serve, context):
        yield front


@asynccontextmanager
async def in_front_of_postgres(open_behind: Open, context: ssl.SSLContext | None) -> AsyncIterator[Front]:
    """TLS after PostgreSQL's own question for it; without a context it is answered with no."""
    front = Front()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        begun = b""
        if first != _SSL_REQUEST:
            begun = first
        elif context is None:
            writer.write(b"N")
        else:
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(context)
        behind = await open_behind()
        behind[1].write(begun)
        await _pass_on(front, reader, writer, behind)

    async with _listening(front, serve):
        yield front


@asynccontextmanager
async def _listening(
    front: Front,
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    under_way: set[asyncio.Task[None]] = set()

    async def carefully(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        plain = writer.transport
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()
            plain.abort()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.ensure_future(carefully(reader, writer))
        under_way.add(serving)
        serving.add_done_callback(under_way.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=context)
    front.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        for serving in list(under_way):
            serving.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await asyncio.sleep(0)  # Aborted transports close in the next round of the loop.


async def _pass_on(
    front: Front,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    behind: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    sent = bytearray()
    front.sent.append(sent)
    try:
        await asyncio.gather(_copy(reader, behind[1], sent), _copy(behind[0], writer, bytearray()))
    finally:
        behind[1].transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    while read := await reader.read(65536):
        kept += read
        writer.write(read)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _headers_in(sent: bytes) -> Iterable[dict[str, str]]:
    """The headers of a client's side of an HTTP/2 connection (RFC 9113, section 4)."""
    decoder, place = Decoder(), len(_PREFACE)
    while place + 9 <= len(sent):
        length, kind, flags = int.from_bytes(sent[place : place + 3], "big"), sent[place + 3], sent[place + 4]
        block = sent[place + 9 : place + 9 + length]
        place += 9 + length
        if kind in (_HEADERS, _CONTINUATION) and place <= len(sent):
            start = (1 if flags & 0x8 else 0) + (5 if flags & 0x20 else 0)
            padding = block[0] if flags & 0x8 else 0
            decoded = decoder.decode(block[start : len(block) - padding])
            yield {str(name): str(value) for name, value in decoded}
