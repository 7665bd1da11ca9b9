"""Streams of events: each reader has its own place in the feed, and one watch for all tells which of them have news."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from adapters.postgres.database import EVENT_CHANNEL, OUTAGES, Database
from adapters.postgres.events import (
    EventRecord,
    Following,
    KeyEnded,
    Position,
    find_position,
    read_events,
    read_news,
)
from adapters.postgres.wakes import Wakes

READ_AT_ONCE = 100

_SOON = timedelta(milliseconds=10)
_WAITS_MAX = 10
_log = structlog.get_logger(__name__)


class StreamsTooMany(Exception):
    """The key has as many streams open as one may have."""


@dataclass(slots=True)
class Reader:
    """One stream: whose events, and how far it has come."""

    streams: "Streams"
    following: Following
    position: Position
    ear: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when its owner may have news."""

    async def follow(self) -> AsyncIterator[EventRecord | None]:
        """Events in their order, as they come; None now and then, as a sign of life.

        Ends when the key is no longer valid, when the stream has lasted its time, and when the program stops. A
        database out of reach is waited for.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.streams.lifetime.total_seconds()
        while not self.streams.ended.is_set() and clock() < deadline:
            self.ear.clear()
            try:
                events = await self._read()
            except KeyEnded:
                return
            for event in events:
                self.position = event.position
                yield event
            left = timedelta(seconds=max(0, deadline - clock()))
            if len(events) < READ_AT_ONCE and not await self._wait(min(self.streams.heartbeat, left)):
                yield None

    async def _read(self) -> tuple[EventRecord, ...]:
        try:
            return await read_events(
                self.streams.database, self.following, after=self.position, most=READ_AT_ONCE
            )
        except OUTAGES as unreachable:
            _log.warning("stream.out_of_reach", cause=type(unreachable).__name__)
            return ()

    async def _wait(self, within: timedelta) -> bool:
        """Whether something happened meanwhile."""
        return await _first_of(self.ear, self.streams.ended, within=within)


@dataclass(slots=True)
class Streams:
    """All streams of this program. The watch runs while there are any: one look, however many read."""

    database: Database
    database_url: str
    per_key: int
    lifetime: timedelta
    poll_interval: timedelta
    heartbeat: timedelta = timedelta(seconds=10)
    """How often a stream shows a sign of life, and looks whether its key is still valid."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _readers: dict[int, Reader] = field(default_factory=dict)
    _by_key: Counter[str] = field(default_factory=Counter)
    _watch: asyncio.Task[None] | None = None
    _ending: set[asyncio.Task[None]] = field(default_factory=set)
    """Watches that have been cancelled: held until they have given their connections back."""

    @asynccontextmanager
    async def open(self, following: Following, position: Position) -> AsyncIterator[Reader]:
        """A reader from this place on, until the block ends. Raises StreamsTooMany."""
        if self._by_key[following.reader_id] >= self.per_key:
            message = f"This key has {self.per_key} streams open here, and may have no more: close one first."
            raise StreamsTooMany(message)
        reader = Reader(self, following, position)
        self._readers[id(reader)] = reader
        self._by_key[following.reader_id] += 1
        self._watch = self._watch or asyncio.create_task(self._look_out())
        try:
            yield reader
        finally:
            del self._readers[id(reader)]
            self._by_key -= Counter([following.reader_id])
            if not self._readers and self._watch is not None:
                watch, self._watch = self._watch, None
                watch.cancel()
                self._ending.add(watch)
                watch.add_done_callback(self._ending.discard)
                await asyncio.wait([watch])

    def end(self) -> None:
        """End every stream, and each that is opened from now on; their readers go on elsewhere."""
        self.ended.set()

    async def _look_out(self) -> None:
        """Listen and look until cancelled."""
        wake = asyncio.Event()
        wakes = Wakes(self.database_url, {EVENT_CHANNEL: (wake,)})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wakes.listen())
            tasks.create_task(self._look(wake))

    async def _look(self, wake: asyncio.Event) -> None:
        """Call whoever has news; look again soon while events are held up by an older commit still under way."""
        since: int | None = None
        waits = 0
        while True:
            wake.clear()
            try:
                since, held_up = await self._call_from(since)
                waits = min(waits + 1, _WAITS_MAX) if held_up else 0
            except OUTAGES as unreachable:
                _log.warning("stream.out_of_reach", cause=type(unreachable).__name__)
                waits = 0
            soon = _SOON * 2**waits if waits else self.poll_interval
            await _first_of(wake, within=min(soon, self.poll_interval))

    async def _call_from(self, since: int | None) -> tuple[int, bool]:
        """Call the readers with events from there on; up to where was looked, and whether more are held up."""
        if since is None:
            here = await find_position(self.database, None)
            self._call(lambda _reader: True)
            return here.xact, False
        news = await read_news(self.database, since=since)
        self._call(lambda reader: reader.following.owner_id in news.owners)
        return news.settled, news.more

    def _call(self, concerned: Callable[[Reader], bool]) -> None:
        for reader in self._readers.values():
            if concerned(reader):
                reader.ear.set()


async def _first_of(*events: asyncio.Event, within: timedelta) -> bool:
    """Whether one of them was set in time."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(
            waits, timeout=within.total_seconds(), return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        for wait in waits:
            wait.cancel()
    return bool(done)
