"""The ears of those who wait for news: PostgreSQL's notifications, as events that are set when there may be work."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
import structlog
from psycopg import sql

from adapters.postgres.database import CONNECTION_BOUNDS

_RECONNECT_PAUSE_SECONDS = 1
_LOG = structlog.get_logger()


@dataclass(slots=True)
class Wakes:
    """Sets the ears of a channel at each of its notifications, and all after each reconnect: some may be missed."""

    database_url: str
    ears: Mapping[str, tuple[asyncio.Event, ...]]
    """By channel."""
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self) -> None:
        """Listen until cancelled, reconnecting for ever; polling covers what is missed meanwhile."""
        while True:
            try:
                await self._listen_once()
            except psycopg.OperationalError as unreachable:
                _LOG.warning("watcher.notifications.lost", cause=type(unreachable).__name__)
            self.connected.clear()
            await asyncio.sleep(_RECONNECT_PAUSE_SECONDS)

    async def _listen_once(self) -> None:
        bounds: dict[str, Any] = dict(CONNECTION_BOUNDS)
        connection = await psycopg.AsyncConnection.connect(self.database_url, autocommit=True, **bounds)
        async with connection:
            for channel in self.ears:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            self.connected.set()
            for channel in self.ears:
                self._wake(channel)
            async for notification in connection.notifies():
                self._wake(notification.channel)

    def _wake(self, channel: str) -> None:
        for ear in self.ears[channel]:
            ear.set()
