"""Parts of pages that keep themselves up to date: shown anew whenever something has happened to what they show."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import structlog
from fastapi import Request
from fastapi.sse import ServerSentEvent
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import OUTAGES, Database
from adapters.postgres.events import (
    EventKind,
    EventRecord,
    EventsGone,
    Following,
    Position,
    PositionUnreadable,
    find_position,
    has_more,
)
from adapters.postgres.sessions import Visitor, is_signed_in
from console.page import render_part
from console.visitors import owner_of
from console.wiring import Reader, Wiring
from topup.money import Money
from topup.outcome import DrawReason, DrawResult, DrawStatus, Ending, Outcome, Reason
from topup.words import draw_line, headline

RETRY_MILLISECONDS = 1000
"""How long a browser waits before it comes back."""
PAUSE_SECONDS = 0.25
"""A part is shown at most once in this time; what happens meanwhile is shown together."""
LOOK_AGAIN_SECONDS = 1.0
"""How often to look while something is under way of which no event tells."""
STOP = "stop"
"""The message after which a browser is not to come back."""

_HEARD_MAX = 200
_log = structlog.get_logger(__name__)


class _Ended(Enum):
    """The stream of events has ended."""

    NOW = "now"


_Heard = EventRecord | _Ended | None


@dataclass(frozen=True, slots=True)
class Now:
    """A part of a page as it stands."""

    part: str
    """Its HTML."""
    currency: str
    top_ups: frozenset[str] = frozenset()
    """The top-ups it shows: what happens to them is said aloud."""
    balance_of: str | None = None
    """The wallet whose balance it shows, if it shows one."""
    aside: str | None = None
    """What else is to be said aloud, once, when it has become so."""
    moving: bool = False
    """Something is under way of which no event tells: look again soon."""
    over: bool = False
    """Nothing of it will change any more."""


Look = Callable[[AsyncSession, str], Awaitable[Now]]
"""Shows this owner the part as it stands."""


class _SignedOut(Exception):
    """The session of the pages has ended."""


@dataclass(frozen=True, slots=True)
class _Watched:
    """What is looked at, and by whom."""

    database: Database
    owner_id: str
    session_id: str
    show: Look

    async def look(self, told: Position) -> Now:
        """As it stands; not over before all is told, as an event may become readable after what it tells of.

        Raises _SignedOut.
        """
        async with self.database.read() as session:
            now = await self._show(session)
            if now.over and await has_more(session, self.owner_id, after=told):
                return replace(now, over=False)
            return now

    async def first_look(self) -> Now | None:
        """As it stands; None for one who has been signed out since the request came."""
        with contextlib.suppress(_SignedOut):
            async with self.database.read() as session:
                return await self._show(session)
        return None

    async def _show(self, session: AsyncSession) -> Now:
        if not await is_signed_in(session, self.session_id):
            raise _SignedOut
        return await self.show(session, self.owner_id)


@dataclass(frozen=True, slots=True)
class Live:
    """The messages that keep one part of an open page up to date."""

    request: Request
    watched: _Watched
    first: Now
    reader: Reader
    position: Position
    """The place in the feed that the first message stands for."""
    resumed: bool
    """Whether the browser comes back: then what it has missed is said aloud."""

    async def messages(self) -> AsyncIterator[ServerSentEvent]:
        """The part as it stands, at once, and again whenever it has changed; ends with the session."""
        yield ServerSentEvent(raw_data=self.first.part, id=str(self.position), retry=RETRY_MILLISECONDS)
        async with _hearing(self.reader) as heard:
            async for message in self._news(heard):
                yield message

    async def _news(self, heard: "asyncio.Queue[_Heard]") -> AsyncIterator[ServerSentEvent]:
        shown, untold, catching_up = self.first, list[EventRecord](), self.resumed
        told = self.position
        while catching_up or not shown.over:
            within = LOOK_AGAIN_SECONDS if shown.moving else None
            burst = await _burst(heard, within=PAUSE_SECONDS if catching_up else within)
            catching_up = False
            untold += [event for event in burst if isinstance(event, EventRecord)]
            told = untold[-1].position if untold else told
            try:
                now = await self.watched.look(told)
            except _SignedOut:
                yield self._signed_out()
                break
            except OUTAGES as unreachable:
                _log.warning("live.out_of_reach", cause=type(unreachable).__name__)
                now = shown
            else:
                yield self._told(shown, now, untold)
                untold = []
            if _Ended.NOW in burst:
                return
            shown = now
            await asyncio.sleep(PAUSE_SECONDS)
        yield ServerSentEvent(event=STOP, raw_data="")

    def _told(self, shown: Now, now: Now, events: Sequence[EventRecord]) -> ServerSentEvent:
        """What a browser is to know: the part if it has changed, else at most how far it has read."""
        place = str(events[-1].position) if events else None
        said = [sentence for event in events if (sentence := _sentence(event, now))]
        said += [now.aside] if now.aside and now.aside != shown.aside else []
        if said or now.part != shown.part:
            aloud = render_part(self.request, "parts/aloud.html", said=said) if said else ""
            return ServerSentEvent(raw_data=now.part + aloud, id=place)
        return ServerSentEvent(id=place) if place else ServerSentEvent(comment="still here")

    def _signed_out(self) -> ServerSentEvent:
        return ServerSentEvent(raw_data=_signed_out_part(self.request))


@asynccontextmanager
async def open_live(
    request: Request, wiring: Wiring, visitor: Visitor | None, show: Look
) -> AsyncIterator[Live | None]:
    """What keeps a part up to date that `show` shows to this visitor; None for nobody known.

    Whatever `show` refuses is refused here, before anything is sent. Raises NotForYou.
    """
    if visitor is None or visitor.recovering:
        yield None
        return
    owner_id = owner_of(visitor)
    last_event_id = request.headers.get("last-event-id")
    position = await _place(wiring.database, last_event_id)
    watched = _Watched(wiring.database, owner_id, visitor.session_id, show)
    first = await watched.first_look()
    if first is None:
        yield None
        return
    following = Following(owner_id, tuple(EventKind), visitor.session_id)
    async with wiring.streams.open(following, position) as reader:
        yield Live(request, watched, first, reader, position, resumed=bool(last_event_id))


async def live_messages(request: Request, live: Live | None) -> AsyncIterator[ServerSentEvent]:
    """The messages; to nobody known, that they have been signed out, and not to come back."""
    if live is None:
        yield ServerSentEvent(raw_data=_signed_out_part(request))
        yield ServerSentEvent(event=STOP, raw_data="")
        return
    async for message in live.messages():
        yield message


def _signed_out_part(request: Request) -> str:
    return render_part(request, "parts/signed_out.html")


async def _place(database: Database, last_event_id: str | None) -> Position:
    """Where the browser left off; if that is not kept any more, from now on: it is shown how things stand anyway."""
    if last_event_id:
        with contextlib.suppress(PositionUnreadable, EventsGone):
            return await find_position(database, Position.parse(last_event_id))
    return await find_position(database, None)


@asynccontextmanager
async def _hearing(reader: Reader) -> "AsyncIterator[asyncio.Queue[_Heard]]":
    """What the reader hears, while the block lasts."""
    heard: asyncio.Queue[_Heard] = asyncio.Queue(_HEARD_MAX)

    async def hear() -> None:
        async for event in reader.follow():
            await heard.put(event)
        await heard.put(_Ended.NOW)

    hearing = asyncio.create_task(hear())
    try:
        yield heard
    finally:
        hearing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await hearing


async def _burst(heard: "asyncio.Queue[_Heard]", *, within: float | None) -> list[_Heard]:
    """The next thing heard, and all that has come with it; nothing when the time runs out first."""
    try:
        async with asyncio.timeout(within):
            burst = [await heard.get()]
    except TimeoutError:
        return []
    while not heard.empty():
        burst.append(heard.get_nowait())
    return burst


def _sentence(event: EventRecord, now: Now) -> str | None:
    """An event in a sentence for those who hear the page; None for one that this part does not speak of."""
    told = event.payload
    match event.kind:
        case EventKind.TOP_UP_STARTED if told["id"] in now.top_ups:
            return f"A top-up of {Money.parse(told['amount'], now.currency)} has started."
        case EventKind.DRAW_SETTLED if told["top_up_id"] in now.top_ups:
            return draw_line(_draw(told, now.currency))
        case EventKind.TOP_UP_ENDED if told["id"] in now.top_ups:
            credited = Money.parse(told["credited"], now.currency)
            ending = Ending(Outcome(told["outcome"]), Reason(told["reason"]), credited)
            return f"{headline(ending, Money.parse(told['amount'], now.currency))}."
        case EventKind.BALANCE_CHANGED if told["wallet_id"] == now.balance_of:
            return f"The balance is {Money.parse(told['balance'], now.currency)}."
        case _:
            return None


def _draw(told: Any, currency: str) -> DrawResult:
    return DrawResult(
        rank=told["rank"],
        asset=told["asset"],
        status=DrawStatus(told["status"]),
        reason=DrawReason(told["reason"]) if told["reason"] else None,
        debited=Money.parse(told["debited"], told["asset"]),
        credited=Money.parse(told["credited"], currency),
    )
