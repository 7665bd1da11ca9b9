"""Serving the API until told to stop, and describing it."""

import asyncio
import contextlib
import errno
import signal
import socket
import sys
from collections.abc import Iterator
from datetime import timedelta

import structlog
import uvicorn
from fastapi import FastAPI

from adapters.postgres.database import Database
from api.app import build_app
from api.description import as_text
from api.streams import Streams
from runtime.settings import Settings
from runtime.temporal import TemporalSettingsInvalid, connect

_BACKLOG = 2048
_GRACE_SECONDS = 10
_HEALTH_PATIENCE = timedelta(seconds=2)

_log = structlog.get_logger(__name__)


class Server(uvicorn.Server):
    """Ends in good order at SIGTERM and SIGINT, with exit code 0, so that what it uses can be closed after it."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        """Serve this application, whose streams these are."""
        super().__init__(config)
        self._streams = streams

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say where."""
        await super().startup(sockets)
        for listener in sockets or ():
            host, port, *_ = listener.getsockname()
            _log.info("api.listening", host=host, port=port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams of events first: they would not end by themselves."""
        self._streams.end()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop serving at the first signal; at the second, stop waiting for answers under way."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)


async def serve(settings: Settings) -> int:
    """Serve until told to stop. Temporal and the database may come later: /readyz tells."""
    try:
        client = await connect(settings, lazy=True)
    except TemporalSettingsInvalid as invalid:
        sys.stderr.write(f"{invalid}\n")
        return 2

    async def reach_temporal() -> None:
        await client.service_client.check_health(timeout=_HEALTH_PATIENCE)

    try:
        listener = listen(settings.api_host, settings.api_port)
    except OSError as taken:
        sys.stderr.write(_taken(settings, taken))
        return 1
    database = Database.open(settings.database_url, pool_size=settings.database_pool_size)
    app = build_app(
        settings, database=database, reach_temporal=reach_temporal, temporal_namespace=client.namespace
    )
    try:
        await Server(_config(settings, app), app.state.given.streams).serve(sockets=[listener])
    finally:
        await database.close()
        listener.close()
    return 0


def listen(host: str, port: int) -> socket.socket:
    """Listen there, with answers sent at once. Raises OSError where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    # The loop sets this for sockets it makes itself. Without it, answers on kept connections come 40 ms late.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _taken(settings: Settings, error: OSError) -> str:
    where = f"{settings.api_host}:{settings.api_port}"
    why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be listened on ({error.strerror})"
    return f"{where} {why}: set TIDEMARK_API_PORT or TIDEMARK_API_HOST to what is free.\n"


def _config(settings: Settings, app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        forwarded_allow_ips=settings.trusted_proxies,
        ws="none",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


async def describe() -> str:
    """The description as production serves it. Nothing is reached for it."""
    settings = Settings.model_validate({"database_url": "postgresql:///unused"})
    database = Database.open(settings.database_url, pool_size=1)

    async def reach_nothing() -> None:
        """Nobody asks whether this program is ready."""

    app = build_app(settings, database=database, reach_temporal=reach_nothing)
    await database.close()
    return as_text(app.openapi())
