"""What operators look at first: what is open and what it waits for, what failed, and what did not get through."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import run_sql
from adapters.postgres.deliveries import SUPERSEDED
from adapters.postgres.figures import Figures, figures_in
from topup.money import Money
from topup.outcome import Outcome, Reason

SHOWN_MAX = 50
"""At most this many of each kind are listed; the figures count them all."""

_OPEN = text(
    "SELECT t.id, t.wallet_id, o.id AS owner_id, o.name AS owner_name, t.amount, t.currency, t.sources, t.started_at, "
    "t.handed_over_at IS NOT NULL AS handed_over, t.checked->'finding'->>'kind' AS finding, "
    "ARRAY(SELECT d.asset FROM draw d WHERE d.top_up_id = t.id AND d.status = 'being_checked' ORDER BY d.rank) "
    "AS being_checked, "
    "(SELECT count(*) FROM generate_series(1, cardinality(t.sources)) rank JOIN transfer m "
    "ON m.id = t.id || ':' || rank) AS answered "
    "FROM top_up t JOIN owner o ON o.id = t.owner_id WHERE t.state = 'in_progress' "
    "ORDER BY EXISTS (SELECT FROM draw d WHERE d.top_up_id = t.id AND d.status = 'being_checked') DESC, t.id "
    "LIMIT :most"
)
_FAILURES = text(
    "SELECT t.id, t.wallet_id, o.id AS owner_id, o.name AS owner_name, t.outcome, t.reason, t.ended_at "
    "FROM top_up t JOIN owner o ON o.id = t.owner_id WHERE t.state = 'ended' "
    "AND t.ended_at > now() - interval '1 day' AND t.outcome IN ('failed', 'partial') "
    "ORDER BY t.ended_at DESC LIMIT :most"
)
_UNDELIVERED = text(
    "SELECT d.id, d.channel, d.kind, d.status, d.attempts, d.last_failure, d.created_at, d.top_up_id, "
    "o.id AS owner_id, o.name AS owner_name FROM delivery d JOIN owner o ON o.id = d.owner_id "
    "WHERE (d.status = 'pending' AND d.created_at <= now() - interval '1 minute') "
    "OR (d.status = 'undeliverable' AND d.created_at > now() - interval '1 day' "
    "AND d.last_failure IS DISTINCT FROM :superseded) "
    "ORDER BY d.created_at DESC LIMIT :most"
)
_ENDPOINTS = text(
    "SELECT e.id, e.url, e.enabled, e.disabled_reason, e.failing_since, o.id AS owner_id, o.name AS owner_name, "
    "(SELECT count(*) FROM webhook_delivery d WHERE d.endpoint_id = e.id AND d.status = 'pending') AS waiting "
    "FROM webhook_endpoint e JOIN owner o ON o.id = e.owner_id "
    "WHERE NOT e.enabled OR e.failing_since IS NOT NULL ORDER BY e.enabled, e.failing_since, e.id LIMIT :most"
)
_UNJUDGED = text(
    "SELECT e.wallet_id, e.recorded_at, o.id AS owner_id, o.name AS owner_name FROM balance_event e "
    "JOIN wallet w ON w.id = e.wallet_id JOIN owner o ON o.id = w.owner_id "
    "WHERE NOT e.judged ORDER BY e.recorded_at LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Whose:
    """An owner, as operators know them."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class OpenOne:
    """A top-up in progress, and how far it is."""

    id: str
    wallet_id: str
    owner: Whose
    amount: Money
    started_at: datetime
    handed_over: bool
    """Whether Temporal has it."""
    checked: bool
    """Whether the check has found something."""
    sources: Sequence[str]
    answered: int
    """How many sources the ledger has an answer of."""
    being_checked: Sequence[str]
    """The sources of which nobody knows what became of their draw (R21)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A top-up that has lately failed, or come up short."""

    id: str
    wallet_id: str
    owner: Whose
    outcome: Outcome
    reason: Reason
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A notification that has not got through."""

    id: str
    channel: str
    kind: str
    given_up: bool
    attempts: int
    failure: str | None
    since: datetime
    top_up_id: str | None
    owner: Whose


@dataclass(frozen=True, slots=True)
class EndpointInTrouble:
    """A webhook endpoint that fails, or that has been switched off."""

    id: str
    url: str
    owner: Whose
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None
    waiting: int
    """How many events wait for it."""


@dataclass(frozen=True, slots=True)
class Unjudged:
    """The oldest balance event that no watcher has judged."""

    wallet_id: str
    owner: Whose
    since: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it, as it stood at one moment."""

    figures: Figures
    open: Sequence[OpenOne]
    failures: Sequence[Failure]
    undelivered: Sequence[Undelivered]
    endpoints: Sequence[EndpointInTrouble]
    unjudged: Unjudged | None


async def read_overview(session: AsyncSession) -> Overview:
    """As it stands: what is being checked first, then the oldest."""
    return Overview(
        figures=await figures_in(session),
        open=await _open(session),
        failures=await _failures(session),
        undelivered=await _undelivered(session),
        endpoints=await _endpoints(session),
        unjudged=await _unjudged(session),
    )


async def _open(session: AsyncSession) -> list[OpenOne]:
    return [
        OpenOne(
            id=row.id,
            wallet_id=row.wallet_id,
            owner=Whose(row.owner_id, row.owner_name),
            amount=Money(row.currency, int(row.amount)),
            started_at=row.started_at,
            handed_over=row.handed_over,
            checked=row.finding is not None,
            sources=tuple(row.sources),
            answered=row.answered,
            being_checked=tuple(row.being_checked),
        )
        for row in await run_sql(session, _OPEN, most=SHOWN_MAX)
    ]


async def _failures(session: AsyncSession) -> list[Failure]:
    return [
        Failure(
            id=row.id,
            wallet_id=row.wallet_id,
            owner=Whose(row.owner_id, row.owner_name),
            outcome=Outcome(row.outcome),
            reason=Reason(row.reason),
            ended_at=row.ended_at,
        )
        for row in await run_sql(session, _FAILURES, most=SHOWN_MAX)
    ]


async def _undelivered(session: AsyncSession) -> list[Undelivered]:
    return [
        Undelivered(
            id=row.id,
            channel=row.channel,
            kind=row.kind,
            given_up=row.status == "undeliverable",
            attempts=row.attempts,
            failure=row.last_failure,
            since=row.created_at,
            top_up_id=row.top_up_id,
            owner=Whose(row.owner_id, row.owner_name),
        )
        for row in await run_sql(session, _UNDELIVERED, superseded=SUPERSEDED, most=SHOWN_MAX)
    ]


async def _endpoints(session: AsyncSession) -> list[EndpointInTrouble]:
    return [
        EndpointInTrouble(
            id=row.id,
            url=row.url,
            owner=Whose(row.owner_id, row.owner_name),
            enabled=row.enabled,
            disabled_reason=row.disabled_reason,
            failing_since=row.failing_since,
            waiting=row.waiting,
        )
        for row in await run_sql(session, _ENDPOINTS, most=SHOWN_MAX)
    ]


async def _unjudged(session: AsyncSession) -> Unjudged | None:
    row = (await run_sql(session, _UNJUDGED)).one_or_none()
    return Unjudged(row.wallet_id, Whose(row.owner_id, row.owner_name), row.recorded_at) if row else None
