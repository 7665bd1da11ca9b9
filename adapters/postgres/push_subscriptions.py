"""Push subscriptions: the browsers an owner's push notifications go to, each known once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import text
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from adapters.postgres.database import run_sql
from adapters.postgres.ids import new_id
from adapters.postgres.owners import require_owner
from adapters.postgres.tables import PushSubscriptionRow

SUBSCRIPTIONS_MAX = 20
"""How many browsers one owner may have told of; those that have expired do not count."""

_HOLD_OWNER = text("SELECT id FROM owner WHERE id = :owner_id FOR NO KEY UPDATE")
_FORGET_EXPIRED = text("DELETE FROM push_subscription WHERE owner_id = :owner_id AND expires_at <= now()")
_DELETE = text(
    "DELETE FROM push_subscription WHERE id = :id AND (CAST(:bound_to AS text) IS NULL OR owner_id = :bound_to) "
    "RETURNING id"
)

_FORGET_OF_OTHERS = text("DELETE FROM push_subscription WHERE endpoint = :endpoint AND owner_id <> :owner_id")


class SubscriptionUnknown(LookupError):
    """There is no such subscription, or none that the caller may know of."""


class SubscriptionsTooMany(Exception):
    """The owner has as many subscriptions as are allowed."""


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser as it gives itself out: where to write to it, and its keys, in unpadded base64url."""

    endpoint: str = field(repr=False)
    p256dh: str = field(repr=False)
    auth: str = field(repr=False)
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class SubscriptionRecord:
    """A subscription as it stands. Endpoint and keys stay here: whoever has them can write to the browser."""

    id: str
    owner_id: str
    endpoint: str = field(repr=False)
    created_at: datetime
    expires_at: datetime | None


async def subscribe(
    session: AsyncSession, *, owner_id: str, browser: Browser, bound_to: str | None
) -> tuple[SubscriptionRecord, bool]:
    """Remember the browser in the caller's commit; and whether it is new. One that is known keeps its id.

    What a known one says of its keys and its end is taken over. Raises OwnerUnknown and SubscriptionsTooMany.
    """
    await require_owner(session, owner_id, bound_to=bound_to)
    await run_sql(session, _HOLD_OWNER, owner_id=owner_id)
    await run_sql(session, _FORGET_EXPIRED, owner_id=owner_id)
    known = await _known(session, owner_id, browser.endpoint)
    if known is None:
        await _require_room(session, owner_id)
    row = known or await _new_row(session, owner_id, browser)
    row.p256dh, row.auth, row.expires_at = browser.p256dh, browser.auth, browser.expires_at
    session.add(row)
    await session.flush()
    return _record(row), known is None


async def unsubscribe(session: AsyncSession, subscription_id: str, *, bound_to: str | None) -> None:
    """Forget the browser for good. Raises SubscriptionUnknown."""
    gone = await run_sql(session, _DELETE, id=subscription_id, bound_to=bound_to)
    if gone.one_or_none() is None:
        message = f"There is no push subscription {subscription_id!r}; it may have ended, so check the id."
        raise SubscriptionUnknown(message)


async def forget_browser_of_others(session: AsyncSession, *, owner_id: str, browser: Browser) -> None:
    """Forget it where somebody else had subscribed it: whoever uses it now is not to read what is told to them."""
    await run_sql(session, _FORGET_OF_OTHERS, owner_id=owner_id, endpoint=browser.endpoint)


async def list_subscriptions(
    session: AsyncSession, *, owner_id: str | None, bound_to: str | None, after: str | None, most: int
) -> Sequence[SubscriptionRecord]:
    """Subscriptions that have not expired, newest first, from behind the one named `after`."""
    ends = col(PushSubscriptionRow.expires_at)
    statement = select(PushSubscriptionRow).where(ends.is_(None) | (ends > func.now()))
    for wanted in (owner_id, bound_to):
        if wanted is not None:
            statement = statement.where(col(PushSubscriptionRow.owner_id) == wanted)
    if after is not None:
        statement = statement.where(col(PushSubscriptionRow.id) < after)
    rows = await session.exec(statement.order_by(col(PushSubscriptionRow.id).desc()).limit(most))
    return tuple(map(_record, rows))


async def _known(session: AsyncSession, owner_id: str, endpoint: str) -> PushSubscriptionRow | None:
    statement = select(PushSubscriptionRow).where(
        col(PushSubscriptionRow.owner_id) == owner_id, col(PushSubscriptionRow.endpoint) == endpoint
    )
    return (await session.exec(statement)).first()


async def _require_room(session: AsyncSession, owner_id: str) -> None:
    statement = select(func.count()).where(col(PushSubscriptionRow.owner_id) == owner_id)
    if (await session.exec(statement)).one() >= SUBSCRIPTIONS_MAX:
        message = (
            f"An owner may have {SUBSCRIPTIONS_MAX} push subscriptions: delete one that is not used any more."
        )
        raise SubscriptionsTooMany(message)


async def _new_row(session: AsyncSession, owner_id: str, browser: Browser) -> PushSubscriptionRow:
    return PushSubscriptionRow(
        id=new_id("push"),
        owner_id=owner_id,
        endpoint=browser.endpoint,
        p256dh=browser.p256dh,
        auth=browser.auth,
        created_at=(await run_sql(session, text("SELECT now()"))).scalar_one(),
    )


def _record(row: PushSubscriptionRow) -> SubscriptionRecord:
    return SubscriptionRecord(row.id, row.owner_id, row.endpoint, row.created_at, row.expires_at)
