"""Figures of the whole: how top-ups end, and what is open, waiting or undelivered; nothing of any one owner."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import OUTAGES, Database, run_sql
from topup.outcome import Outcome

_BOUND = text("SET LOCAL statement_timeout = '2s'")
_ENDED = text(
    "SELECT outcome, reason, count(*) AS number FROM top_up "
    "WHERE state = 'ended' AND ended_at > now() - interval '1 day' GROUP BY outcome, reason"
)
_WAITING = text(
    "SELECT kind, number, coalesce(extract(epoch FROM now() - since), 0) AS seconds FROM ("
    "SELECT 'open' AS kind, count(*) AS number, min(started_at) AS since FROM top_up WHERE state = 'in_progress' "
    "UNION ALL SELECT 'not_handed_over', count(*), min(started_at) FROM top_up "
    "WHERE handed_over_at IS NULL AND state = 'in_progress' "
    "UNION ALL SELECT 'being_checked', count(*), min(t.started_at) FROM top_up t JOIN draw d ON d.top_up_id = t.id "
    "WHERE t.state = 'in_progress' AND d.status = 'being_checked' "
    "UNION ALL SELECT 'unjudged', count(*), min(recorded_at) FROM balance_event WHERE NOT judged "
    "UNION ALL SELECT 'undelivered', count(*), min(created_at) FROM delivery WHERE status = 'pending' "
    "UNION ALL SELECT 'unsent', count(*), min(queued_at) FROM webhook_delivery WHERE status = 'pending'"
    ") AS waiting"
)
_FUNDED = (Outcome.COMPLETED, Outcome.PARTIAL)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many of one kind wait, and for how long the oldest has; nothing when there is none."""

    count: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What stood in the database at one moment."""

    ended: Mapping[tuple[str, str], int]
    """Top-ups that ended within a day, by outcome and reason."""
    open: Waiting
    not_handed_over: Waiting
    """Top-ups that Temporal does not have yet."""
    being_checked: Waiting
    """Draws whose outcome is unknown."""
    unjudged: Waiting
    """Balance events that no watcher has judged."""
    undelivered: Waiting
    """Notifications that are still to be delivered."""
    unsent: Waiting
    """Webhooks that are still to be delivered."""

    @property
    def attempted(self) -> int:
        """Top-ups of the day that were to move money; one that was not needed was none of them."""
        return sum(count for (outcome, _), count in self.ended.items() if outcome != Outcome.NOT_NEEDED)

    @property
    def funded(self) -> int:
        """Those of them that moved some."""
        return sum(count for (outcome, _), count in self.ended.items() if outcome in _FUNDED)


async def read_figures(database: Database) -> Figures | None:
    """The figures as they stand, each from an index of its own and within two seconds; None when they cannot be had."""
    try:
        async with database.read() as session:
            return await figures_in(session)
    except OUTAGES:
        return None


async def figures_in(session: AsyncSession) -> Figures:
    """The same in the caller's session, each statement of which is bounded from then on."""
    await run_sql(session, _BOUND)
    ended = {(row.outcome, row.reason): int(row.number) for row in await run_sql(session, _ENDED)}
    waiting = {row.kind: _waiting(row) for row in await run_sql(session, _WAITING)}
    return Figures(ended=ended, **waiting)


def _waiting(row: Row[Any]) -> Waiting:
    return Waiting(count=int(row.number), oldest_seconds=max(0.0, float(row.seconds)))
