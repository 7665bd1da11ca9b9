"""The public events: written in the commit of the change they tell of, read so that none is ever passed over."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from sqlalchemy import Row, text
from sqlalchemy.dialects.postgresql import insert
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import Database, run_sql
from adapters.postgres.ids import new_id
from adapters.postgres.tables import EventRow

DROPPED_AT_ONCE = 2000
"""How many old events one commit drops at most."""

_POSITION = re.compile(r"(?P<xact>[0-9a-f]{1,16})-(?P<seq>[0-9a-f]{1,15})", re.ASCII)
_HERE = text(
    "SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS settled, "
    "pg_snapshot_xmax(pg_current_snapshot())::text AS ahead, m.xact::text AS xact, m.seq "
    "FROM event_mark m WHERE m.name = 'dropped'"
)
_READ = text(
    "SELECT e.xact::text AS xact, e.seq, e.id, e.type, e.at, e.payload FROM ("
    "SELECT id FROM api_key WHERE id = :reader_id AND revoked_at IS NULL "
    "AND (expires_at IS NULL OR expires_at > now()) "
    "UNION ALL SELECT id FROM page_session WHERE id = :reader_id AND expires_at > now()) k LEFT JOIN LATERAL ("
    "SELECT * FROM event WHERE owner_id = :owner_id AND type = ANY(:kinds) "
    "AND (xact, seq) > (CAST(CAST(:xact AS text) AS xid8), :seq) "
    "AND xact < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xact, seq LIMIT :most) e ON true "
    "ORDER BY e.xact, e.seq"
)
_MORE = text(
    "SELECT EXISTS (SELECT 1 FROM event WHERE owner_id = :owner_id "
    "AND (xact, seq) > (CAST(CAST(:xact AS text) AS xid8), :seq))"
)
_NEWS = text(
    "SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS settled, "
    "array_agg(DISTINCT owner_id) FILTER (WHERE xact < pg_snapshot_xmin(pg_current_snapshot())) AS owners, "
    "coalesce(bool_or(xact >= pg_snapshot_xmin(pg_current_snapshot())), false) AS more "
    "FROM event WHERE xact >= CAST(CAST(:since AS text) AS xid8)"
)
_DROP = text("SELECT drop_events(:before, :most)")
_MEND = text("SELECT mend_events()")


class EventKind(StrEnum):
    """What an event tells of; the closed list of API.md."""

    TOP_UP_STARTED = "top_up.started"
    DRAW_SETTLED = "top_up.draw_settled"
    TOP_UP_ENDED = "top_up.ended"
    BALANCE_CHANGED = "wallet.balance_changed"
    RULE_CHANGED = "rule.changed"


class PositionUnreadable(ValueError):
    """This is no place in the feed."""


class EventsGone(LookupError):
    """The place in the feed lies before what is still kept, or in another database's feed."""


class KeyEnded(Exception):
    """The API key has been revoked or has expired, or the session of the pages has ended."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the feed: behind the event that the commit `xact` wrote as number `seq`."""

    xact: int
    seq: int

    @classmethod
    def parse(cls, token: str) -> Self:
        """Read what `str` wrote. Raises PositionUnreadable."""
        match = _POSITION.fullmatch(token)
        if match is None:
            message = "must be an id that this stream gave out, unchanged"
            raise PositionUnreadable(message)
        return cls(int(match["xact"], 16), int(match["seq"], 16))

    def __str__(self) -> str:
        """The place as it travels: short, and no business of the reader's."""
        return f"{self.xact:x}-{self.seq:x}"


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One event, and its place in the feed."""

    position: Position
    id: str
    kind: EventKind
    at: datetime
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Following:
    """Whose events are read, which kinds of them, and by whom: an API key, or a session of the pages."""

    owner_id: str
    kinds: Sequence[EventKind]
    reader_id: str


@dataclass(frozen=True, slots=True)
class News:
    """Which owners have new events, up to where that is certain, and whether more are about to be."""

    settled: int
    owners: frozenset[str]
    more: bool
    """Events are committed that can be read only once an older commit has ended."""


async def write_event(
    session: AsyncSession, kind: EventKind, *, owner_id: str, payload: Mapping[str, Any]
) -> None:
    """Tell of a change in the very commit that makes it; amounts are text."""
    values = {"id": new_id("evt"), "owner_id": owner_id, "type": kind.value, "payload": dict(payload)}
    await session.exec(insert(EventRow).values(values))


def moment_text(at: datetime) -> str:
    """A moment as the API writes it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


async def find_position(database: Database, wanted: Position | None) -> Position:
    """Where reading begins: behind `wanted`, or with what is committed from now on.

    Raises EventsGone when events behind it are no longer kept.
    """
    async with database.call() as connection:
        row = (await connection.execute(_HERE)).one()
    if wanted is None:
        return Position(int(row.settled), 0)
    if wanted < Position(int(row.xact), row.seq) or wanted.xact > int(row.ahead):
        message = (
            "Events behind this id are no longer kept: read from the API how things stand, then follow the events "
            "without an id."
        )
        raise EventsGone(message)
    return wanted


async def read_events(
    database: Database, following: Following, *, after: Position, most: int
) -> tuple[EventRecord, ...]:
    """The next events behind this place; none of them can ever be joined by an earlier one.

    The key or session is looked at in the same moment: raises KeyEnded when it is no longer valid. Raises
    DatabaseOutOfReach.
    """
    wanted = {
        "owner_id": following.owner_id,
        "kinds": [kind.value for kind in following.kinds],
        "reader_id": following.reader_id,
        "xact": str(after.xact),
        "seq": after.seq,
        "most": most,
    }
    async with database.call() as connection:
        rows = (await connection.execute(_READ, wanted)).all()
    if not rows:
        message = "the API key has been revoked or has expired, or the session has ended"
        raise KeyEnded(message)
    return tuple(_record(row) for row in rows if row.id is not None)


async def has_more(session: AsyncSession, owner_id: str, *, after: Position) -> bool:
    """Whether the owner has events behind this place, those included that cannot be read before older commits end."""
    found = await run_sql(session, _MORE, owner_id=owner_id, xact=str(after.xact), seq=after.seq)
    return bool(found.scalar_one())


async def read_news(database: Database, *, since: int) -> News:
    """Which owners have events of commits numbered `since` or later. Raises DatabaseOutOfReach."""
    async with database.call() as connection:
        row = (await connection.execute(_NEWS, {"since": str(since)})).one()
    return News(int(row.settled), frozenset(row.owners or ()), row.more)


async def drop_old_events(database: Database, *, now: datetime, kept_for: timedelta) -> int:
    """Drop events older than they are kept for, some in each commit; how many they were."""
    dropped = 0
    while True:
        async with database.call() as connection:
            arguments = {"before": now - kept_for, "most": DROPPED_AT_ONCE}
            some = int((await connection.execute(_DROP, arguments)).scalar_one())
        dropped += some
        if some < DROPPED_AT_ONCE:
            return dropped


async def mend_events(database: Database) -> bool:
    """Put the feed right in a database that was restored from a dump into another server; True when it was needed."""
    async with database.call() as connection:
        return bool((await connection.execute(_MEND)).scalar_one())


def _record(row: Row[Any]) -> EventRecord:
    return EventRecord(Position(int(row.xact), row.seq), row.id, EventKind(row.type), row.at, row.payload)
