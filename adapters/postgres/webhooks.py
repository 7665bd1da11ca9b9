"""Webhook endpoints and their deliveries: one for each event and endpoint, claimed by one courier at a time."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, text
from sqlmodel import col, delete, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import Database, run_sql
from adapters.postgres.events import EventKind
from adapters.postgres.ids import new_id
from adapters.postgres.owners import require_owner
from adapters.postgres.tables import WebhookDelivery, WebhookEndpoint

ENDPOINTS_MAX = 16
"""How many endpoints one owner may have."""
OLD_SECRET_SIGNS_FOR = timedelta(hours=24)
LEASE = timedelta(minutes=1)
"""For how long a claimed delivery is left to its courier; longer than any attempt takes."""
AT_ONCE_PER_ENDPOINT = 4
HANDED_OUT_AT_ONCE = 1000
FORGOTTEN_AT_ONCE = 2000

_SECRET_BYTES = 32
_HOLD_OWNER = text("SELECT id FROM owner WHERE id = :owner_id FOR NO KEY UPDATE")
_HAND_OUT = text("SELECT hand_out_events(:most, :now)")
_CLAIM = text(
    "WITH waiting AS MATERIALIZED ("
    "SELECT DISTINCT endpoint_id FROM webhook_delivery "
    "WHERE status = 'pending' AND next_attempt_at <= :now AND endpoint_id <> ALL(:busy)"
    "), due AS MATERIALIZED ("
    "SELECT d.id FROM waiting w JOIN webhook_endpoint e ON e.id = w.endpoint_id AND e.enabled "
    "CROSS JOIN LATERAL (SELECT id FROM webhook_delivery "
    "WHERE endpoint_id = e.id AND status = 'pending' AND next_attempt_at <= :now "
    "ORDER BY next_attempt_at, id LIMIT CASE WHEN e.failing_since IS NULL THEN :at_once ELSE 1 END "
    "FOR UPDATE SKIP LOCKED) d LIMIT :most"
    ") UPDATE webhook_delivery d SET attempts = attempts + 1, last_attempt_at = :now, "
    "next_attempt_at = :leased_until FROM due, webhook_endpoint e "
    "WHERE d.id = due.id AND e.id = d.endpoint_id "
    "RETURNING d.id, d.endpoint_id, d.attempts, d.body, d.queued_at, e.url, e.secret, e.previous_secret, "
    "e.previous_secret_until, e.failing_since"
)
_HOLD = text("SELECT failing_since FROM webhook_endpoint WHERE id = :endpoint_id FOR NO KEY UPDATE")
_RECORD = text(
    "UPDATE webhook_delivery SET status = :status, last_status = :last_status, last_failure = :failure, "
    "next_attempt_at = :next_attempt_at, "
    "delivered_at = CASE WHEN :status = 'delivered' THEN CAST(:now AS timestamptz) END "
    "WHERE id = :id AND attempts = :attempts RETURNING id"
)
_SWITCH_OFF = text(
    "UPDATE webhook_endpoint SET enabled = false, disabled_reason = :reason WHERE id = :endpoint_id AND enabled"
)
_MARK_FAILING = text("UPDATE webhook_endpoint SET failing_since = :since WHERE id = :endpoint_id")
_GIVE_UP_PAUSED = text(
    "UPDATE webhook_delivery d SET status = 'failed', "
    "last_failure = concat_ws('; before that: ', 'given up, as the endpoint was off', d.last_failure) "
    "FROM webhook_endpoint e WHERE e.id = d.endpoint_id AND NOT e.enabled "
    "AND d.status = 'pending' AND d.queued_at <= :before"
)
_FORGET = text(
    "WITH gone AS (DELETE FROM webhook_delivery WHERE id IN (SELECT id FROM webhook_delivery "
    "WHERE created_at < :before AND status <> 'pending' LIMIT :most) RETURNING true) SELECT count(*) FROM gone"
)


class DeliveryStatus(StrEnum):
    """What has become of one event at one endpoint."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class EndpointUnknown(LookupError):
    """There is no such endpoint, or none that the caller may know of."""


class MessageUnknown(LookupError):
    """The endpoint has no such delivery."""


class EndpointsTooMany(Exception):
    """The owner has as many endpoints as are allowed."""


class EndpointOff(Exception):
    """The endpoint is off: nothing is sent to it."""


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """An endpoint as it stands; its secret is told when it is made, and never again."""

    id: str
    owner_id: str
    url: str
    events: tuple[EventKind, ...]
    description: str | None
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None
    """Since when every attempt has failed; None while they do not."""
    previous_secret_until: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One event for one endpoint, and what has become of it."""

    id: str
    endpoint_id: str
    event_id: str
    kind: EventKind
    status: DeliveryStatus
    attempts: int
    last_status: int | None
    last_failure: str | None
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    """None when there will be none."""
    delivered_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery that one courier has claimed, with all it needs to be sent."""

    id: str
    endpoint_id: str
    attempts: int
    """This one included."""
    queued_at: datetime
    failing_since: datetime | None
    """Since when every attempt at its endpoint has failed."""
    url: str = field(repr=False)
    body: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attempted:
    """How an attempt ended."""

    status: DeliveryStatus
    http_status: int | None
    failure: str | None
    next_attempt_at: datetime
    switch_off: str | None = None
    """Why the endpoint is to be turned off, in words; None leaves it on."""


async def create_endpoint(
    session: AsyncSession,
    *,
    owner_id: str,
    url: str,
    events: Sequence[EventKind],
    description: str | None,
    bound_to: str | None,
) -> tuple[EndpointRecord, str]:
    """Make an endpoint in the caller's commit; it, and its secret, told this once.

    It gets the events of commits that begin after this one. Raises OwnerUnknown and EndpointsTooMany.
    """
    await require_owner(session, owner_id, bound_to=bound_to)
    await _refuse_too_many(session, owner_id)
    endpoint = WebhookEndpoint(
        id=new_id("endpoint"),
        owner_id=owner_id,
        url=url,
        events=[kind.value for kind in events],
        description=description,
        secret=_new_secret(),
    )
    session.add(endpoint)
    await session.flush()
    await session.refresh(endpoint)
    return _endpoint(endpoint), endpoint.secret


async def read_endpoint(session: AsyncSession, endpoint_id: str, *, bound_to: str | None) -> EndpointRecord:
    """The endpoint as it stands. Raises EndpointUnknown."""
    return _endpoint(await _find(session, endpoint_id, bound_to=bound_to))


async def list_endpoints(
    session: AsyncSession, *, owner_id: str | None, after: str | None, most: int
) -> tuple[EndpointRecord, ...]:
    """Endpoints, newest first, from behind the one named `after`; of one owner, or of all."""
    statement = select(WebhookEndpoint)
    if owner_id is not None:
        statement = statement.where(col(WebhookEndpoint.owner_id) == owner_id)
    if after is not None:
        statement = statement.where(col(WebhookEndpoint.id) < after)
    rows = await session.exec(statement.order_by(col(WebhookEndpoint.id).desc()).limit(most))
    return tuple(_endpoint(row) for row in rows)


async def delete_endpoint(session: AsyncSession, endpoint_id: str, *, bound_to: str | None) -> None:
    """Delete the endpoint and its deliveries, in the caller's commit. Raises EndpointUnknown."""
    endpoint = await _hold(session, endpoint_id, bound_to=bound_to)
    await session.exec(delete(WebhookEndpoint).where(col(WebhookEndpoint.id) == endpoint.id))


async def rotate_secret(
    session: AsyncSession, endpoint_id: str, *, now: datetime, bound_to: str | None
) -> tuple[EndpointRecord, str]:
    """Give the endpoint a new secret, told this once; the one before goes on signing beside it for a day.

    Only one before does: rotating again drops the oldest at once. Raises EndpointUnknown.
    """
    endpoint = await _hold(session, endpoint_id, bound_to=bound_to)
    endpoint.previous_secret = endpoint.secret
    endpoint.previous_secret_until = now + OLD_SECRET_SIGNS_FOR
    endpoint.secret = _new_secret()
    await session.flush()
    return _endpoint(endpoint), endpoint.secret


async def enable_endpoint(session: AsyncSession, endpoint_id: str, *, bound_to: str | None) -> EndpointRecord:
    """Turn the endpoint on again: it gets new events, and what was waiting. Raises EndpointUnknown."""
    endpoint = await _hold(session, endpoint_id, bound_to=bound_to)
    if not endpoint.enabled:
        endpoint.since = (await run_sql(session, text("SELECT pg_current_xact_id()::text"))).scalar_one()
    endpoint.enabled, endpoint.disabled_reason, endpoint.failing_since = True, None, None
    await session.flush()
    return _endpoint(endpoint)


async def list_messages(
    session: AsyncSession, endpoint_id: str, *, status: DeliveryStatus | None, after: str | None, most: int
) -> tuple[DeliveryRecord, ...]:
    """The endpoint's deliveries, newest first, from behind the one named `after`."""
    statement = select(WebhookDelivery).where(col(WebhookDelivery.endpoint_id) == endpoint_id)
    if status is not None:
        statement = statement.where(col(WebhookDelivery.status) == status.value)
    if after is not None:
        statement = statement.where(col(WebhookDelivery.id) < after)
    rows = await session.exec(statement.order_by(col(WebhookDelivery.id).desc()).limit(most))
    return tuple(_delivery(row) for row in rows)


async def resend(
    session: AsyncSession, endpoint_id: str, delivery_id: str, *, now: datetime, bound_to: str | None
) -> DeliveryRecord:
    """Send it again, now, whatever became of it; it is tried as long as a new one, under the id it had.

    Raises EndpointUnknown, EndpointOff and MessageUnknown.
    """
    endpoint = await _hold(session, endpoint_id, bound_to=bound_to)
    if not endpoint.enabled:
        message = "The endpoint is off, so nothing is sent to it: enable it first."
        raise EndpointOff(message)
    statement = select(WebhookDelivery).where(
        col(WebhookDelivery.endpoint_id) == endpoint_id, col(WebhookDelivery.id) == delivery_id
    )
    row = (await session.exec(statement.with_for_update())).first()
    if row is None:
        message = f"This endpoint has no delivery {delivery_id!r}; it may be too old to be kept."
        raise MessageUnknown(message)
    row.status, row.next_attempt_at, row.queued_at = DeliveryStatus.PENDING.value, now, now
    await session.flush()
    return _delivery(row)


async def hand_out(database: Database, *, now: datetime) -> int:
    """Make the deliveries of new events, all that can be read by now; how many events were looked at."""
    looked_at = 0
    while True:
        async with database.call() as connection:
            some = int(
                (await connection.execute(_HAND_OUT, {"most": HANDED_OUT_AT_ONCE, "now": now})).scalar_one()
            )
        looked_at += some
        if some < HANDED_OUT_AT_ONCE:
            return looked_at


async def claim_parcels(
    database: Database, *, now: datetime, most: int, busy: Sequence[str]
) -> tuple[Parcel, ...]:
    """Claim deliveries that are due, a few for each endpoint, one where attempts fail; none for the `busy` ones.

    A claim counts as an attempt and lasts for LEASE: a courier that is killed leaves it to the next.
    """
    arguments = {
        "now": now,
        "busy": list(busy),
        "at_once": AT_ONCE_PER_ENDPOINT,
        "most": most,
        "leased_until": now + LEASE,
    }
    async with database.call() as connection:
        rows = (await connection.execute(_CLAIM, arguments)).all()
    return tuple(_parcel(row, now) for row in rows)


async def record_attempt(database: Database, parcel: Parcel, attempted: Attempted, *, now: datetime) -> None:
    """Write down how it went, unless the claim has passed to another courier; the endpoint is held first."""
    async with database.commit() as session:
        held = (await run_sql(session, _HOLD, endpoint_id=parcel.endpoint_id)).one_or_none()
        recorded = await run_sql(
            session,
            _RECORD,
            id=parcel.id,
            attempts=parcel.attempts,
            status=attempted.status.value,
            last_status=attempted.http_status,
            failure=attempted.failure,
            next_attempt_at=attempted.next_attempt_at,
            now=now,
        )
        if held is None or recorded.one_or_none() is None:
            return
        since = None if attempted.failure is None else held.failing_since or now
        if since != held.failing_since:
            await run_sql(session, _MARK_FAILING, endpoint_id=parcel.endpoint_id, since=since)
        if attempted.switch_off is not None:
            await run_sql(session, _SWITCH_OFF, endpoint_id=parcel.endpoint_id, reason=attempted.switch_off)


async def give_up_paused(database: Database, *, before: datetime) -> None:
    """Give up what was queued before this moment for endpoints that are off."""
    async with database.commit() as session:
        await run_sql(session, _GIVE_UP_PAUSED, before=before)


async def forget_deliveries(database: Database, *, before: datetime) -> int:
    """Drop deliveries made before this moment that are over; how many they were."""
    forgotten = 0
    while True:
        async with database.commit() as session:
            some = int((await run_sql(session, _FORGET, before=before, most=FORGOTTEN_AT_ONCE)).scalar_one())
        forgotten += some
        if some < FORGOTTEN_AT_ONCE:
            return forgotten


async def _refuse_too_many(session: AsyncSession, owner_id: str) -> None:
    """Count under the owner's lock, so that two at the same time cannot both be the last."""
    await run_sql(session, _HOLD_OWNER, owner_id=owner_id)
    statement = select(func.count()).where(col(WebhookEndpoint.owner_id) == owner_id)
    if (await session.exec(statement)).one() >= ENDPOINTS_MAX:
        message = f"An owner may have {ENDPOINTS_MAX} endpoints: delete one that is not needed first."
        raise EndpointsTooMany(message)


async def _find(session: AsyncSession, endpoint_id: str, *, bound_to: str | None) -> WebhookEndpoint:
    statement = select(WebhookEndpoint).where(col(WebhookEndpoint.id) == endpoint_id)
    return _known((await session.exec(statement)).first(), endpoint_id, bound_to)


async def _hold(session: AsyncSession, endpoint_id: str, *, bound_to: str | None) -> WebhookEndpoint:
    statement = select(WebhookEndpoint).where(col(WebhookEndpoint.id) == endpoint_id)
    return _known((await session.exec(statement.with_for_update())).first(), endpoint_id, bound_to)


def _known(row: WebhookEndpoint | None, endpoint_id: str, bound_to: str | None) -> WebhookEndpoint:
    if row is None or bound_to not in (None, row.owner_id):
        message = f"There is no webhook endpoint {endpoint_id!r}; check the id."
        raise EndpointUnknown(message)
    return row


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _parcel(row: Row[Any], now: datetime) -> Parcel:
    both = row.previous_secret_until is not None and row.previous_secret_until > now
    signing = (row.secret, row.previous_secret) if both else (row.secret,)
    return Parcel(
        id=row.id,
        endpoint_id=row.endpoint_id,
        attempts=row.attempts,
        queued_at=row.queued_at,
        failing_since=row.failing_since,
        url=row.url,
        body=row.body,
        secrets=signing,
    )


def _endpoint(row: WebhookEndpoint) -> EndpointRecord:
    return EndpointRecord(
        id=row.id,
        owner_id=row.owner_id,
        url=row.url,
        events=tuple(EventKind(kind) for kind in row.events),
        description=row.description,
        enabled=row.enabled,
        disabled_reason=row.disabled_reason,
        failing_since=row.failing_since,
        previous_secret_until=row.previous_secret_until,
        created_at=row.created_at,
    )


def _delivery(row: WebhookDelivery) -> DeliveryRecord:
    status = DeliveryStatus(row.status)
    return DeliveryRecord(
        id=row.id,
        endpoint_id=row.endpoint_id,
        event_id=row.event_id,
        kind=EventKind(row.type),
        status=status,
        attempts=row.attempts,
        last_status=row.last_status,
        last_failure=row.last_failure,
        last_attempt_at=row.last_attempt_at,
        next_attempt_at=row.next_attempt_at if status is DeliveryStatus.PENDING else None,
        delivered_at=row.delivered_at,
        created_at=row.created_at,
    )
